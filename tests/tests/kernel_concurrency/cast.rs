//! The flows of a run, the hosts of each, and the table that is too small for them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use lb_common::hash::other_bucket;
use lb_common::layout::{HostId, Slot, Tuple};
use lb_common::table::LIMBO;
use lb_userspace::dataplane::Sizes;
use sluice_tests::packets::Packet;
use sluice_tests::rig::{Rig, Setup, l2, timeout, tuple};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// Buckets of the table: the fewest there can be.
const BUCKETS: u32 = 16;
/// Slots of a ring.
const RING: u32 = 251;
/// Home and second bucket of every flow, in either order.
const SHARED: [u32; 2] = [5, 8];
/// Hosts that are a flow's alone.
pub const HOSTS: u32 = 4;
/// Flows of each protocol. Together they have fewer than 256 hosts.
pub const TCP_FLOWS: u32 = 48;
pub const UDP_FLOWS: u32 = 12;

/// One flow. Its slot is its own, so that its owner can change without another flow's.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    pub number: u32,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub protocol: u8,
    pub slot: u32,
}

impl Flow {
    pub fn service(&self) -> u16 {
        u16::from(self.protocol == UDP)
    }

    pub fn tuple(&self) -> Tuple {
        tuple(self.from, self.to, self.protocol)
    }

    /// One of its four hosts.
    pub fn host(&self, which: u32) -> HostId {
        (self.number * HOSTS + which % HOSTS + 1) as HostId
    }

    pub fn has(&self, host: HostId) -> bool {
        (u32::from(host) - 1) / HOSTS == self.number
    }

    fn tcp(&self) -> Packet {
        assert_eq!(self.protocol, TCP);
        // As long as the feeder wants its frames.
        Packet::tcp(self.from, self.to).payload(b"10 bytes..")
    }

    pub fn syn(&self, sequence: u32) -> Vec<u8> {
        self.tcp().syn(sequence).build()
    }

    pub fn ack(&self, sequence: u32) -> Vec<u8> {
        self.tcp().seq(sequence).ack(1).build()
    }

    pub fn fin(&self, sequence: u32) -> Vec<u8> {
        self.tcp().seq(sequence).ack(1).fin().build()
    }

    pub fn rst(&self, sequence: u32) -> Vec<u8> {
        self.tcp().seq(sequence).rst().build()
    }

    pub fn datagram(&self) -> Vec<u8> {
        Packet::udp(self.from, self.to).payload(b"a datagram of 22 bytes").build()
    }
}

/// All flows, and the rig that they are to meet in.
pub struct Cast {
    pub rig: Rig,
    pub setup: Setup,
    /// TCP flows, then UDP flows; by number.
    pub flows: Vec<Flow>,
}

/// Where the members of pairs of flows with one tag come to be among the TCP flows: pairs of all roles.
const TWINS: [[usize; 2]; 4] = [[0, 16], [32, 40], [1, 41], [17, 33]];

/// Clients and slots of flows that share both buckets. TCP flows have pairs of one tag among them.
fn choose(to: SocketAddr, protocol: u8, count: usize) -> Vec<(SocketAddr, u32)> {
    let wanted = if protocol == TCP { TWINS.as_slice() } else { &[] };
    let (mut slots, mut seen, mut twins, mut single) =
        (HashSet::new(), HashMap::new(), Vec::new(), Vec::new());
    for n in 0u32.. {
        let client = std::net::Ipv4Addr::from(0x0a00_0000 + n / 50_000);
        let from = SocketAddr::new(client.into(), 1024 + (n % 50_000) as u16);
        let hash = Rig::hash(&tuple(from, to, protocol));
        let home = hash.bucket(BUCKETS - 1);
        let second = other_bucket(home, hash.tag(), BUCKETS - 1);
        if !SHARED.contains(&home) || !SHARED.contains(&second) {
            continue;
        }
        let slot = hash.slot(RING);
        let twin = seen.insert(hash.tag(), (from, slot));
        match twin {
            Some(twin) if twins.len() < wanted.len() && twin.1 != slot => {
                if !slots.contains(&slot) && !slots.contains(&twin.1) {
                    slots.extend([slot, twin.1]);
                    twins.push([twin, (from, slot)]);
                }
            }
            _ => single.push((from, slot)),
        }
        if twins.len() == wanted.len() && single.len() > 20 * count {
            break;
        }
    }
    let mut single = single.into_iter().filter(|(_, slot)| slots.insert(*slot));
    let mut flows: Vec<_> = single.by_ref().take(count - 2 * wanted.len()).collect();
    // In the order of their places, so that each insert is the last one there.
    let mut pairs: Vec<_> = wanted.iter().flatten().copied().zip(twins.into_iter().flatten()).collect();
    pairs.sort_by_key(|(place, _)| *place);
    for (place, flow) in pairs {
        flows.insert(place, flow);
    }
    assert_eq!(flows.len(), count);
    flows
}

/// Host that a frame was sent to, by the MAC address that `l2` wrote.
pub fn host_of(frame: &[u8]) -> HostId {
    HostId::from(frame[5])
}

impl Cast {
    /// A table whose two buckets have 16 places for 60 flows, and `overflow` places elsewhere. All slots are settled on
    /// the first of their flow's hosts.
    pub fn new(overflow: u32) -> Self {
        let sizes = Sizes { overflow, ring_copies: 64, ..Sizes::new(RING, 64) };
        assert_eq!(sizes.buckets, BUCKETS);
        let rig = Rig::open(sizes);
        let mut setup = Setup::new(&rig);
        let mut flows = Vec::new();
        for (service, protocol, count) in [(0, TCP, TCP_FLOWS), (1, UDP, UDP_FLOWS)] {
            let to: SocketAddr =
                if protocol == TCP { "198.51.100.1:80" } else { "198.51.100.1:53" }.parse().unwrap();
            setup.service(service, to, protocol, service.into());
            setup.ring(service.into(), Slot::settled(1));
            let first = flows.len() as u32;
            let found = choose(to, protocol, count as usize);
            flows.extend((first..).zip(found).map(|(number, (from, slot))| Flow {
                number,
                from,
                to,
                protocol,
                slot,
            }));
        }
        for flow in &flows {
            for which in 0..HOSTS {
                setup.backend(flow.service(), flow.host(which), l2(flow.host(which) as u8));
            }
            setup.slot(flow.service().into(), flow.slot, Slot::settled(flow.host(0)));
        }
        // Slots without a flow have an owner of each service, too.
        setup.backend(1, 1, l2(1));
        let mut cast = Cast { rig, setup, flows };
        cast.rig.publish(&cast.setup);
        cast
    }

    /// What must be so when all packets are through: the books agree with the table; nothing that must not happen did;
    /// and once everything has aged, nothing is left anywhere.
    pub fn ends(mut self) {
        self.rig.audit();
        let counts = self.rig.counts();
        for (reason, count) in &counts.reasons {
            let must_be_zero = reason.starts_with("violation_")
                || ["drop_internal", "drop_no_host", "drop_no_next_hop"].contains(reason);
            assert!(!must_be_zero || *count == 0, "{reason} is {count}");
        }
        self.rig.pass(timeout::ESTABLISHED + LIMBO + 1);
        self.rig.sweep();
        assert_eq!(self.rig.pins(), []);
        assert!(self.rig.marks().is_empty(), "{:?}", self.rig.marks());
        assert!(self.rig.counts().pairs.values().all(|counters| counters.live == [0; 4]));
        let stats: Vec<u32> = counts.pairs.keys().copied().collect();
        assert!(self.rig.dataplane.recount(&stats).expect("pins can be counted").is_empty());
        assert!(self.rig.counts().pairs.values().all(|counters| counters.live == [0; 4]), "recounted");
    }
}
