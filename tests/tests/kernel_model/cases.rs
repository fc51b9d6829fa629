//! Sequences that once found the data path wrong; each stays. The first that failed came out of the random ones.

use lb_common::layout::{HOST_NONE, HostId, HostState, Slot};
use lb_common::reason::Class;

use crate::rig::{Client, Protocol, Rig, all_timeouts, sizes};
use crate::steps::{Flags, RING, Step, run, timeouts};

const fn tcp(flags: Flags, sequence: usize) -> Step {
    Step::Tcp { client: 0, flags, sequence, payload: false }
}

fn holds(rig: &mut Rig, name: &str, steps: &[Step]) {
    if let Err(error) = run(rig, steps) {
        panic!("{name}: {error}");
    }
}

/// Sequence numbers are given by their place in the list of [`crate::steps`]: 0 is 1000, 1 is 1001, 2 is 1002.
#[test]
fn what_once_went_wrong() {
    let mut rig = Rig::open(sizes(RING, 16, 16), timeouts());
    holds(
        &mut rig,
        "a port is used again after the closing timeout and before the sweep",
        &[tcp(Flags::FinAck, 0), Step::Wait(7), tcp(Flags::Syn, 3), tcp(Flags::Ack, 3)],
    );
    holds(
        &mut rig,
        "the same, in a handover, where a SYN without a pin would be dropped",
        &[
            tcp(Flags::Syn, 0),
            tcp(Flags::Ack, 1),
            tcp(Flags::FinAck, 1),
            Step::Drain(0),
            Step::Drain(1),
            Step::Drain(2),
            Step::Undrain(0),
            Step::Undrain(1),
            Step::Undrain(2),
            Step::Wait(7),
            tcp(Flags::Syn, 3),
            tcp(Flags::Ack, 3),
        ],
    );
    holds(
        &mut rig,
        "a second FIN in the same second says where the flow ends",
        &[
            tcp(Flags::FinAck, 0),
            Step::Tcp { client: 0, flags: Flags::FinAck, sequence: 0, payload: true },
            tcp(Flags::Ack, 2),
        ],
    );
    holds(
        &mut rig,
        "no acknowledgement is the last after a RST, not even one with the number of the SYN",
        &[tcp(Flags::Syn, 0), tcp(Flags::Ack, 1), tcp(Flags::Rst, 1), tcp(Flags::Ack, 0)],
    );
    holds(
        &mut rig,
        "nor one with the number of the packet that made the pin",
        &[tcp(Flags::Ack, 1), tcp(Flags::Rst, 1), tcp(Flags::Ack, 1)],
    );
    let mut steps = vec![tcp(Flags::Syn, 0), tcp(Flags::Ack, 1)];
    steps.extend((0..5).map(Step::Drain));
    steps.extend((0..5).map(Step::Down));
    // Three times shorter than the timeout, together longer.
    for _ in 0..3 {
        steps.extend([Step::Wait(20), tcp(Flags::Ack, 1)]);
    }
    steps.extend((0..5).map(Step::Up));
    steps.push(tcp(Flags::Ack, 1));
    holds(&mut rig, "a flow that nobody can serve for now keeps its pin", &steps);
}

/// Two flows whose words cannot be told apart.
struct Twins<'r> {
    rig: &'r mut Rig,
    one: Client,
    other: Client,
    slots: Vec<u32>,
    hosts: std::collections::BTreeMap<HostId, HostState>,
}

const TWIN_RING: u32 = 2;

impl<'r> Twins<'r> {
    /// Flows of slot 0 and 1 with the same tag, found by trying; `crossed`: each one's first bucket is the other's second.
    fn new(rig: &'r mut Rig, crossed: bool) -> Twins<'r> {
        rig.reset();
        let mask = rig.plane.maps.sizes.buckets - 1;
        let mut seen = std::collections::HashMap::new();
        for number in 0..u32::MAX {
            let client = Client { address: 0x0a02_0000 + number, port: 40_000, protocol: Protocol::Tcp };
            let (tag, home) = (client.hash().tag(), client.hash().bucket(mask));
            let slot = client.hash().slot(TWIN_RING);
            let twin_home = if crossed { lb_common::hash::other_bucket(home, tag, mask) } else { home };
            if let Some(&twin) = seen.get(&(tag, twin_home, 1 - slot)) {
                let (one, other) = if slot == 0 { (client, twin) } else { (twin, client) };
                let hosts = [1, 2, 3].map(|host| (host, HostState::Up)).into();
                let slots = vec![Slot::settled(1).0, Slot::settled(2).0];
                let mut twins = Twins { rig, one, other, slots, hosts };
                twins.at(0);
                twins.publish();
                return twins;
            }
            seen.insert((tag, home, slot), client);
        }
        unreachable!("there are twins among far fewer flows")
    }

    fn publish(&mut self) {
        self.rig.publish(&self.slots, &self.hosts);
    }

    fn at(&mut self, seconds: u32) {
        self.rig.plane.set_clock(1_000_000 + seconds);
    }

    fn syn(&mut self) -> [HostId; 2] {
        [self.one, self.other].map(|client| self.rig.send(&client.packet().syn(1000)))
    }

    fn ack(&mut self) -> [HostId; 2] {
        let hosts = [self.one, self.other].map(|client| self.rig.send(&client.packet().seq(1001).ack(1)));
        self.rig.check_gauges();
        hosts
    }

    fn end(self) {
        assert_eq!(self.rig.counted(Class::Violation), []);
    }
}

#[test]
fn flows_of_one_tag_are_two_flows() {
    let mut rig = Rig::open(sizes(TWIN_RING, 16, 16), all_timeouts(30));
    for crossed in [false, true] {
        they_keep_their_own_hosts(&mut rig, crossed);
        they_are_both_pinned_in_a_handover(&mut rig, crossed);
    }
    without_a_host_nothing_is_pinned(&mut rig);
}

fn they_keep_their_own_hosts(rig: &mut Rig, crossed: bool) {
    let mut twins = Twins::new(rig, crossed);
    assert_eq!(twins.syn(), [1, 2]);
    assert_eq!(twins.ack(), [1, 2]);
    assert_eq!([1, 2].map(|host| twins.rig.gauges(host)), [[0, 1, 0, 0]; 2], "crossed: {crossed}");
    // Their hosts are drained, each to the other and back: all that keeps them is their pins.
    twins.slots = vec![Slot::open(2, 2).0, Slot::open(1, 1).0];
    twins.publish();
    for seconds in [20, 40, 60] {
        twins.at(seconds);
        assert_eq!(twins.ack(), [1, 2], "crossed: {crossed}");
    }
    let (swept, foreign) = twins.rig.sweep();
    assert_eq!((swept.counted(1), swept.counted(2)), (1, 1));
    assert_eq!(foreign.count(), 2);
    // One ends; the other must not be taken for it.
    let last = twins.one.packet().seq(1001).rst();
    assert_eq!(twins.rig.send(&last), 1);
    twins.at(91);
    assert_eq!(twins.rig.send(&twins.other.packet().seq(1001).ack(1)), 1, "silent for too long: its owner's");
    twins.end();
}

/// Both flows are of one host. In a handover each needs a pin of its own, or the handover of one would wait for the other only.
fn they_are_both_pinned_in_a_handover(rig: &mut Rig, crossed: bool) {
    let mut twins = Twins::new(rig, crossed);
    twins.slots = vec![Slot::open(3, 1).0, Slot::open(2, 1).0];
    twins.publish();
    assert_eq!(twins.ack(), [1, 1]);
    assert_eq!(twins.ack(), [1, 1]);
    assert_eq!(twins.rig.gauges(1), [0, 2, 0, 0], "crossed: {crossed}");
    assert_eq!(twins.rig.sweep().1.count(), 2);
    twins.end();
}

/// A flow that can be sent nowhere does not begin.
fn without_a_host_nothing_is_pinned(rig: &mut Rig) {
    let mut twins = Twins::new(rig, false);
    twins.slots = vec![Slot::settled(HOST_NONE).0; 2];
    twins.publish();
    assert_eq!(twins.syn(), [HOST_NONE; 2]);
    assert_eq!(twins.ack(), [HOST_NONE; 2]);
    assert!(twins.rig.entries().is_empty());
    twins.end();
}
