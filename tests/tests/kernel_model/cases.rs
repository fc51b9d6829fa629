//! Sequences that once found the data path wrong; each stays. The first that failed came out of the random ones.

use std::collections::BTreeMap;

use lb_common::layout::{AtDeadline, Deadline, HOST_NONE, HostId, HostState, Slot};
use lb_common::reason::{Class, Reason};

use crate::client::Flags;
use crate::client::{Client, Service};
use crate::rig::{Rig, all_timeouts, sizes};
use crate::steps::{HOSTS, RING, Step, UDP_CLIENTS, run, timeouts};

const fn tcp(flags: Flags, sequence: usize) -> Step {
    Step::Tcp { client: 0, flags, sequence, payload: false }
}

/// Sequence numbers are given by their place in the list of [`crate::steps`]: 0 is 1000, 1 is 1001, 2 is 1002.
#[test]
fn what_once_went_wrong() {
    let all = |step: fn(u16) -> Step| (0..HOSTS).map(step);
    let mut rig = Rig::open(sizes(RING, 16, 16), timeouts());
    let mut wrong = Vec::new();
    let mut holds = |name: &str, steps: &[Step]| {
        wrong.extend(run(&mut rig, &BTreeMap::new(), steps).err().map(|error| format!("{name}: {error}")));
    };
    holds(
        "a port is used again after the closing timeout and before the sweep",
        &[tcp(Flags::FinAck, 0), Step::Wait(7), tcp(Flags::Syn, 3), tcp(Flags::Ack, 3)],
    );
    let mut steps = vec![tcp(Flags::Syn, 0), tcp(Flags::Ack, 1), tcp(Flags::FinAck, 1)];
    steps.extend(all(Step::Drain).chain(all(Step::Undrain)));
    steps.extend([Step::Wait(7), tcp(Flags::Syn, 3), tcp(Flags::Ack, 3)]);
    holds("the same in a handover, where a SYN that finds no place is dropped", &steps);
    holds(
        "a second FIN in the same second says where the flow ends",
        &[
            tcp(Flags::FinAck, 0),
            Step::Tcp { client: 0, flags: Flags::FinAck, sequence: 0, payload: true },
            tcp(Flags::Ack, 2),
        ],
    );
    holds(
        "no acknowledgement is the last after a RST, not even one with the number of the SYN",
        &[tcp(Flags::Syn, 0), tcp(Flags::Ack, 1), tcp(Flags::Rst, 1), tcp(Flags::Ack, 0)],
    );
    holds(
        "nor one with the number of the packet that made the pin",
        &[tcp(Flags::Ack, 1), tcp(Flags::Rst, 1), tcp(Flags::Ack, 1)],
    );
    let mut steps = vec![tcp(Flags::Syn, 0), tcp(Flags::Ack, 1)];
    steps.extend(all(Step::Drain).chain(all(Step::Down)));
    // Each time shorter than the timeout, together longer.
    steps.extend([Step::Wait(20), tcp(Flags::Ack, 1), Step::Wait(20), tcp(Flags::Ack, 1)]);
    steps.extend(all(Step::Up));
    steps.push(tcp(Flags::Ack, 1));
    holds("a flow that nobody can serve for now keeps its pin", &steps);
    let datagrams = || (0..UDP_CLIENTS).map(|client| Step::Udp { client });
    let ends = |action| {
        let deadline = Deadline { at: 5, action, spread: 7 };
        (0..HOSTS - 1).map(move |host| Step::DrainUntil(host, deadline))
    };
    for action in [AtDeadline::Move, AtDeadline::Reset] {
        let mut steps: Vec<Step> = datagrams().collect();
        steps.extend(ends(action).chain(datagrams()));
        for _ in 0..13 {
            steps.extend([Step::Wait(1)].into_iter().chain(datagrams()));
        }
        holds("datagrams of hosts past their deadlines go on at another one, each from its turn on", &steps);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Two flows whose words cannot be told apart.
struct Twins<'r> {
    rig: &'r mut Rig,
    one: Client,
    other: Client,
    slots: Vec<u32>,
    hosts: BTreeMap<HostId, HostState>,
}

const TWIN_RING: u32 = 2;

impl<'r> Twins<'r> {
    /// Flows of slot 0 and 1 with the same tag, found by trying; `crossed`: each one's first bucket is the other's second.
    fn new(rig: &'r mut Rig, crossed: bool) -> Twins<'r> {
        rig.reset();
        let mask = rig.plane.maps.sizes.buckets - 1;
        let mut seen = std::collections::HashMap::new();
        for number in 0..u32::MAX {
            let client = Client { address: 0x0a02_0000 + number, port: 40_000, service: Service::Web };
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

/// When pins that must not go fill the table, the handover of a flow that gets none has to wait for it: only its slot
/// still knows where it is.
#[test]
fn a_flow_without_a_place_keeps_its_handover_open() {
    let mut rig = Rig::open(sizes(TWIN_RING, 16, 16), all_timeouts(30));
    let hosts = [1, 2].map(|host| (host, HostState::Up)).into();
    let ack = |rig: &mut Rig, number: u32| {
        let client = Client { address: 0x0a04_0000 + number, port: 40_000, service: Service::Web };
        rig.send(&client.packet().seq(1001).ack(1))
    };
    rig.publish(&[Slot::open(2, 1).0; TWIN_RING as usize], &hosts);
    rig.plane.set_clock(1_000_000);
    for number in 0..1000 {
        assert_eq!(ack(&mut rig, number), 1);
    }
    let full = rig.entries().len() as i64;
    assert_eq!((full, rig.gauges(1)), (16 * 8 + 16, [0, full, 0, 0]));
    let Some(&(Reason::NoteUnpinned, unpinned)) = rig.counted(Class::Note).first() else {
        panic!("all are pinned")
    };
    assert_eq!(unpinned as i64, 1000 - full);
    // Most of them are without a pin, and speak.
    rig.plane.set_clock(1_000_020);
    for number in 0..1000 {
        assert_eq!(ack(&mut rig, number), 1);
    }
    assert_eq!((rig.plane.lost_at(), rig.plane.incomplete_since(1)), (1_000_020, 1_000_020));
    // In a settled slot it does not matter.
    rig.publish(&[Slot::settled(1).0; TWIN_RING as usize], &hosts);
    rig.plane.set_clock(1_000_025);
    for number in 0..1000 {
        assert_eq!(ack(&mut rig, number), 1);
    }
    assert_eq!(rig.plane.lost_at(), 1_000_020);
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
