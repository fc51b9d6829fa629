//! The real data path as the reference model's [`Datapath`].

use std::collections::{BTreeMap, HashMap};

use lb_common::layout::{self, HOST_NONE, HostId, Tuple};
use lb_common::reason::Class;
use lb_userspace::ring::model::{Datapath, Found, HostState, Packet, Pin, SLOTS, T};

use crate::client::{Client, Service};
use crate::rig::{Rig, all_timeouts, sizes};
use crate::rules::Policy;
use crate::table::Entry;

pub struct Kernel {
    pub rig: Rig,
    now: u64,
    clients: BTreeMap<u64, Client>,
    flows: HashMap<Tuple, u64>,
    /// SYNs of nobody in each second.
    flood: u32,
    flooded: u32,
    pub refused: u64,
}

/// Addresses of flows begin here, those of the flood there.
const CLIENTS: u32 = 0x0a00_0000;
const FLOOD: u32 = 0x6440_0000;

impl Kernel {
    /// A table that is never full.
    pub fn roomy() -> Kernel {
        Kernel::new(128, 64, 0)
    }

    /// A table with room for a part of the flows, under a flood of SYNs.
    pub fn crowded() -> Kernel {
        Kernel::new(16, 8, 6)
    }

    pub fn track_edges(&mut self) {
        let edges = Policy { edges: true, ..Policy::default() };
        self.rig.policies = Service::ALL.map(|service| (service, edges)).into();
    }

    fn new(buckets: u32, overflow: u32, flood: u32) -> Kernel {
        let rig = Rig::open(sizes(SLOTS, buckets, overflow), all_timeouts(T as u32));
        let (clients, flows) = (BTreeMap::new(), HashMap::new());
        Kernel { rig, now: 0, clients, flows, flood, flooded: 0, refused: 0 }
    }

    /// As new, for the next history.
    pub fn reset(&mut self) {
        self.rig.reset();
        self.clients.clear();
        self.flows.clear();
        (self.now, self.flooded, self.refused) = (0, 0, 0);
    }

    /// What no history may count.
    pub fn violations(&self) -> Vec<String> {
        let counted = self.rig.counted(Class::Violation);
        counted.into_iter().map(|(reason, count)| format!("{count} × {}", reason.name())).collect()
    }

    fn at(&mut self, now: u64) {
        if self.now == now {
            return;
        }
        self.now = now;
        self.rig.plane.set_clock(now as u32);
        for _ in 0..self.flood {
            self.flooded += 1;
            let client = Client { address: FLOOD + self.flooded, port: 4000, service: Service::Web };
            self.rig.send(&client.packet().syn(self.flooded));
        }
    }

    fn client(&mut self, packet: Packet) -> Client {
        *self.clients.entry(packet.flow).or_insert_with(|| {
            let client = Client::in_slot(CLIENTS + packet.flow as u32, Service::Web, packet.slot, SLOTS);
            self.flows.insert(client.tuple(), packet.flow);
            client
        })
    }

    fn entry(&self, flow: u64) -> Option<Entry> {
        let tuple = self.clients.get(&flow)?.tuple();
        self.rig.entries().into_iter().find(|entry| entry.tuple == tuple)
    }
}

impl Datapath for Kernel {
    fn publish(&mut self, words: &[u32], hosts: &BTreeMap<HostId, HostState>) {
        let state = |state: &HostState| match state {
            HostState::Up => layout::HostState::Up,
            HostState::Draining => layout::HostState::Draining,
            HostState::Down => layout::HostState::Down,
            HostState::Gone => layout::HostState::Drained,
        };
        self.rig.publish(words, &hosts.iter().map(|(&host, of)| (host, state(of))).collect());
    }

    /// A first packet is a whole handshake, as a flow is established for its client only when its ACK came through.
    fn packet(&mut self, packet: Packet, now: u64) -> HostId {
        self.at(now);
        let packet_of = self.client(packet).packet();
        if !packet.syn {
            return self.rig.send(&packet_of.seq(1001).ack(1));
        }
        let host = self.rig.send(&packet_of.clone().syn(1000));
        if host == HOST_NONE {
            self.refused += 1;
            return HOST_NONE;
        }
        let again = self.rig.send(&packet_of.clone().syn(1000));
        let established = self.rig.send(&packet_of.seq(1001).ack(1));
        assert_eq!(
            (again, established),
            (host, host),
            "the handshake of flow {} goes to one host",
            packet.flow
        );
        host
    }

    fn pins(&self) -> Vec<Pin> {
        let pin = |entry: Entry| {
            let idle = u64::from(entry.word.idle(self.now as u32));
            let (slot, host, seen) = (entry.cold.slot, entry.word.host(), self.now - idle);
            Some(Pin { flow: self.flows.get(&entry.tuple).copied()?, slot, host, seen })
        };
        let mut pins: Vec<Pin> = self.rig.entries().into_iter().filter_map(pin).collect();
        // The order of the table is not that of the history.
        pins.sort_unstable_by_key(|pin| pin.flow);
        pins
    }

    /// Its pin goes at once, as if it had been closed and been silent for long.
    fn end(&mut self, flow: u64) {
        if let Some(entry) = self.entry(flow) {
            self.rig.forget(&entry);
        }
    }

    fn evict(&mut self, flow: u64, now: u64) {
        if let Some(entry) = self.entry(flow) {
            self.rig.forget(&entry);
            self.rig.plane.maps.incomplete_since.store(u32::from(entry.word.host()), now);
        }
    }

    fn lose(&mut self, now: u64) {
        self.rig.lose(now);
    }

    fn sweep(&mut self, now: u64) -> Found {
        self.at(now);
        let (swept, foreign) = self.rig.sweep();
        for host in self.rig.hosts() {
            let live = swept.live[usize::from(host)].map(|pins| pins as i64);
            assert_eq!(self.rig.gauges(host), live, "gauges of host {host} and its pins as swept");
        }
        let live = self.rig.hosts().into_iter().map(|host| (host, swept.counted(host))).collect();
        Found { foreign, live }
    }

    fn incomplete_since(&self, host: HostId) -> u64 {
        self.rig.plane.incomplete_since(host)
    }

    fn lost_at(&self) -> u64 {
        self.rig.plane.lost_at()
    }
}
