//! Two balancers with the same config and key, told the same: they answer alike. Each has its own journal, and other numbers for the
//! hosts. Flows may change from the first to the second at any time; the second may lose everything but its journal.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{HOST_NONE, HostId, HostState};
use sluice_tests::packets::Packet;
use sluice_tests::rig::Random;

use super::balancer::Balancer;
use super::setup::{GAP, HOSTS, Setup, T};
use crate::client::{Client, Service};
use crate::rules::{Moves, Policy};

/// Slots of the rings: a few for each host.
const RING: u32 = 251;
const START: u32 = 1_000_000;
const UNIX: u64 = 1_800_000_000;
/// Packets in each of the states that are looked at.
const PACKETS: usize = 10_000;

/// A TCP flow that goes by the first balancer.
struct Flow {
    client: Client,
    host: HostId,
    /// Counted over all flows.
    number: u64,
    /// Unix time at which the second one last saw it, or would have if it had been in the first one's place.
    seen: u64,
    /// The second one has a pin of it.
    is_known: bool,
}

struct Pair {
    one: Balancer,
    other: Balancer,
    setup: Setup,
    random: Random,
    flows: Vec<Flow>,
    next: u64,
    /// Slots of the second one that are in handover, with the number of the first flow that began after the opening.
    opened: BTreeMap<(Service, u32), u64>,
    /// The first address of clients that send anything.
    pool: u32,
    out: BTreeSet<HostId>,
    unplugged: BTreeSet<HostId>,
}

impl Pair {
    fn new(mut one: Balancer, mut other: Balancer, policies: BTreeMap<Service, Policy>) -> Pair {
        let setup = Setup::new(RING, policies);
        one.begin(&setup, START, UNIX).unwrap();
        other.begin(&setup, 700, UNIX).unwrap();
        let mut pair = Pair {
            one,
            other,
            setup,
            random: Random(0x5eed),
            flows: Vec::new(),
            next: 0,
            opened: BTreeMap::new(),
            pool: 0x0a10_0000,
            out: BTreeSet::new(),
            unplugged: BTreeSet::new(),
        };
        pair.note_handovers();
        pair
    }

    fn note_handovers(&mut self) {
        for (&service, slots) in &self.other.published().slots {
            for (number, slot) in (0..).zip(slots) {
                if slot.is_open() {
                    self.opened.entry((service, number)).or_insert(self.next);
                } else {
                    self.opened.remove(&(service, number));
                }
            }
        }
    }

    fn both(&mut self, packet: &Packet) -> HostId {
        let host = self.one.send(packet);
        assert_eq!(self.other.send(packet), host, "{packet:?}");
        host
    }

    /// Packets of any kind, of clients that speak to both.
    fn throw(&mut self, packets: usize) {
        for _ in 0..packets {
            let service = *self.random.one_of(&Service::ALL);
            let (address, port) = (self.pool + self.random.below(300), 1024 + self.random.below(8) as u16);
            let plain = Client { address, port, service }.packet();
            let sequence = 1000 + self.random.below(3);
            let packet = match self.random.below(10) {
                _ if service.is_udp() => plain.payload(b"?"),
                0..4 => plain.syn(sequence),
                4..8 => plain.seq(sequence).ack(1),
                8 => plain.seq(sequence).fin().ack(1),
                _ => plain.seq(sequence).rst(),
            };
            self.both(&packet);
        }
    }

    /// Flows that begin with the first balancer. The second one sees nothing of them, but of those that begin in a handover: they
    /// cannot change the balancer without a pin.
    fn begin(&mut self, flows: usize) {
        for _ in 0..flows {
            let number = self.next;
            self.next += 1;
            let service = [Service::Web, Service::Api][number as usize % 2];
            let client =
                Client { address: 0x0a80_0000 + number as u32 / 4, port: 2000 + number as u16, service };
            let host = self.one.send(&client.packet().syn(1000));
            if host == HOST_NONE {
                continue;
            }
            assert!(!self.out.contains(&host), "C2: {client:?} went to host {host}, which is out");
            let is_known = self.opened.contains_key(&(service, self.setup.slot_of(&client)));
            if is_known {
                assert_eq!(self.other.send(&client.packet().syn(1000)), host, "{client:?}");
            }
            let ack = client.packet().seq(1001).ack(1);
            assert_eq!(if is_known { self.both(&ack) } else { self.one.send(&ack) }, host, "{client:?}");
            let seen = self.other.unix();
            self.flows.push(Flow { client, host, number, seen, is_known });
        }
    }

    /// Flows speak: some by the first balancer alone, some by both. How many were promised their host at the second one, which did not
    /// know them, and how many of those in a handover.
    fn speak(&mut self, one_in: u32) -> (usize, usize) {
        let (mut promised, mut in_handover) = (0, 0);
        let states = self.other.published().hosts;
        // The second one may have ended a drain of which the first one has flows left: it knows of no flow then.
        self.flows.retain(|flow| flow.is_known || states.get(&flow.host) != Some(&HostState::Drained));
        for index in 0..self.flows.len() {
            let Flow { client, host, number, is_known, .. } = self.flows[index];
            let packet = client.packet().seq(1001).ack(1);
            let is_down = self.unplugged.contains(&host);
            let got = self.one.send(&packet);
            assert!(is_down || got == host, "C1: {client:?} of host {host} went to {got}");
            if self.random.below(one_in) != 0 {
                continue;
            }
            let at_other = self.other.send(&packet);
            let opened = self.opened.get(&(client.service, self.setup.slot_of(&client)));
            let now = self.other.unix();
            assert!(is_known || opened.is_none_or(|&opened| number < opened));
            if !is_known {
                promised += 1;
                in_handover += usize::from(opened.is_some());
            }
            assert_eq!(at_other, got, "C3: {client:?} of host {host} at the other balancer");
            self.flows[index].is_known = true;
            self.flows[index].seen = now;
        }
        // Who is silent for too long for the second one stays with the first.
        let now = self.other.unix();
        self.flows.retain(|flow| now - flow.seen < u64::from(T) - 8);
        (promised, in_handover)
    }

    fn command(&mut self) {
        let host = 1 + self.random.below(u32::from(HOSTS)) as HostId;
        let one = BTreeSet::from([host]);
        match self.random.below(8) {
            0..3 => {
                let is_done = self.one.drain(&one).is_ok();
                assert_eq!(self.other.drain(&one).is_ok(), is_done);
                self.out.extend(one.iter().filter(|_| is_done));
            }
            3..5 => {
                self.out.remove(&host);
                self.one.undrain(&one).unwrap();
                self.other.undrain(&one).unwrap();
            }
            5 => {
                self.unplugged.insert(host);
            }
            6 => {
                self.unplugged.clear();
            }
            _ => {
                self.setup.weights.insert(host, 1 + self.random.below(3) as u16);
                self.one.restart(&self.setup).unwrap();
                self.other.restart(&self.setup).unwrap();
            }
        }
        for host in 1..=HOSTS {
            let is_plugged = !self.unplugged.contains(&host);
            self.one.set_reachable(host, is_plugged);
            self.other.set_reachable(host, is_plugged);
        }
        self.note_handovers();
    }

    fn round(&mut self) {
        self.one.engine().round().unwrap();
        self.other.engine().round().unwrap();
        self.note_handovers();
    }

    fn pass(&mut self, seconds: u32) {
        self.one.pass(seconds);
        self.other.pass(seconds);
    }

    /// Flows end until no handover is open: the two may have closed them at different times, as each closes what it needs no more.
    fn come_to_rest(&mut self) {
        for _ in 0..100 {
            self.pass(7);
            self.speak(1);
            self.round();
            let ends = self.flows.len().min(40);
            for flow in self.flows.drain(..ends).collect::<Vec<_>>() {
                self.both(&flow.client.packet().seq(1001).rst());
            }
            if self.opened.is_empty() && self.are_alike() {
                return;
            }
        }
        panic!("handovers do not end");
    }

    fn are_alike(&mut self) -> bool {
        self.one.published() == self.other.published()
    }

    /// The second one keeps its journal and nothing else.
    fn reboot_other(&mut self) {
        let before = self.other.published().slots;
        let unix = self.other.unix();
        self.other.reboot(&self.setup, 200, unix).unwrap();
        assert!(self.other.published().slots == before, "the slots come back out of the journal");
        // Without a pin, those that began in a handover that is still open stay with the first.
        let (setup, opened) = (&self.setup, &self.opened);
        self.flows.retain_mut(|flow| {
            flow.is_known = false;
            let slot = (flow.client.service, setup.slot_of(&flow.client));
            opened.get(&slot).is_none_or(|&opened| flow.number < opened)
        });
    }
}

fn they_agree(pair: &mut Pair) {
    assert!(pair.are_alike());
    pair.throw(PACKETS);
    let (mut promised, mut in_handover, mut thrown) = (0, 0, 0);
    let (mut taken_over, mut taken_over_in_handover) = (0, 0);
    while thrown < PACKETS || in_handover < 200 || taken_over_in_handover < 200 {
        assert!(thrown < 30 * PACKETS, "{promised} flows changed, {in_handover} of them in a handover");
        pair.begin(25);
        pair.command();
        pair.round();
        // Each keeps a handover for as long as it has pins that need it, and ends drains by its own pins.
        if !pair.opened.is_empty() && pair.are_alike() {
            pair.throw(PACKETS / 20);
            thrown += PACKETS / 20;
        }
        let (more, more_in_handover) = pair.speak(3);
        promised += more;
        in_handover += more_in_handover;
        let seconds = 1 + pair.random.below(6);
        pair.pass(seconds);
        // One that starts while it can reach nobody does not know who could not be reached before.
        if pair.random.below(6) == 0 && pair.unplugged.len() < usize::from(HOSTS) {
            pair.reboot_other();
            // All flows of the first one, mid-flow.
            let (more, more_in_handover) = pair.speak(1);
            taken_over += more;
            taken_over_in_handover += more_in_handover;
            // What the second one has forgotten of the others would show.
            pair.pool += 0x1000;
            if pair.are_alike() {
                pair.throw(PACKETS / 4);
            }
            pair.pool += 0x1000;
            pair.come_to_rest();
        }
    }
    eprintln!(
        "{promised} flows changed to the second balancer, {in_handover} of them in a handover; it took {taken_over} over after \
         reboots, {taken_over_in_handover} of them in a handover"
    );
}

#[test]
fn two_balancers_agree_under_any_policy() {
    let (one, other) = (Balancer::open(RING, 8192, false), Balancer::open(RING, 8192, true));
    let mut pair = Pair::new(one, other, BTreeMap::new());
    they_agree(&mut pair);
    let edges = Policy { edges: true, client: false, moves: Moves::Never };
    let client = Policy { edges: true, client: true, moves: Moves::Never };
    let gap = Policy { edges: false, client: true, moves: Moves::AfterSilenceOf(GAP) };
    let policies = [(Service::Web, edges), (Service::Api, client), (Service::Dns, gap)].into();
    they_agree(&mut Pair::new(pair.one, pair.other, policies));
}
