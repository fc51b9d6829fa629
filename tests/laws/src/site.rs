//! What the balancer is set up with where any frame may come in: services of every kind on neighbouring ports of two
//! addresses, so that a changed bit leads from one to another.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use lb_common::layout::{
    Backend, BackendFlags, Control, Egress, HOST_NONE, HostId, HostState, MODE_IPIP, MODE_L2, Policy,
    ServiceKey, Slot, Tuple,
};

use crate::parse::words;

pub const VIP_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);
/// Ports of the services: the same kind of service on a port for both addresses and protocols.
pub const PORTS: RangeInclusive<u16> = 80..=95;
/// Hosts of every service, unless its kind says otherwise.
pub const HOSTS: RangeInclusive<HostId> = 1..=3;
/// A host that slots name and no service has.
const NOBODY: HostId = 9;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Services, rings and backends.
#[derive(Debug, Clone)]
pub struct Site {
    /// By number.
    pub services: BTreeMap<u16, Service>,
    /// By number.
    pub rings: BTreeMap<u32, Vec<Slot>>,
}

#[derive(Debug, Clone)]
pub struct Service {
    pub key: ServiceKey,
    pub policy: Policy,
    pub ring: u32,
    pub backends: BTreeMap<HostId, BackendTable>,
}

/// A backend's record, and the way out to it.
#[derive(Debug, Clone, Copy)]
pub struct BackendTable {
    pub record: Backend,
    pub egress: Egress,
}

/// What a kind of service has of its own.
struct Kind {
    ring: u32,
    policy: u8,
    mode: Mode,
    /// Bytes that fit the way to the backends.
    mtu: u16,
    is_reachable: bool,
    /// States of hosts that are not up.
    states: &'static [(HostId, HostState)],
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    L2,
    IpipV4,
    IpipV6,
}

const SETTLED: u32 = 0;
const OPEN: u32 = 1;
const EMPTY: u32 = 2;
const THIRD: u32 = 3;
const MIXED: u32 = 4;
const NAMELESS: u32 = 5;

impl Site {
    /// All hosts are up, all slots settled on host 1; backends and policies are as in [`Self::stirred`].
    pub fn calm(ring_size: u32) -> Site {
        let mut site = Site::stirred(ring_size);
        for service in site.services.values_mut() {
            service.ring = SETTLED;
            for backend in service.backends.values_mut() {
                backend.record.control = Control::new(HostState::Up).0;
            }
        }
        site
    }

    /// Each kind of service in a state of its own: settled, in handover, without a host, with hosts that drain or are down.
    pub fn stirred(ring_size: u32) -> Site {
        let plain =
            |mode| Kind { ring: SETTLED, policy: 0, mode, mtu: 1500, is_reachable: true, states: &[] };
        let moving = |mode| Kind { ring: OPEN, ..plain(mode) };
        let kinds = [
            plain(Mode::L2),
            plain(Mode::IpipV4),
            plain(Mode::IpipV6),
            moving(Mode::IpipV4),
            Kind { policy: Policy::EDGES, ..plain(Mode::IpipV6) },
            Kind { policy: Policy::EDGES, ..moving(Mode::L2) },
            Kind { states: &[(1, HostState::Down)], ..moving(Mode::L2) },
            Kind { ring: EMPTY, ..plain(Mode::L2) },
            Kind { ring: THIRD, states: &[(3, HostState::Draining)], ..plain(Mode::IpipV4) },
            Kind { states: &[(1, HostState::Down)], policy: Policy::EDGES, ..plain(Mode::L2) },
            Kind { mtu: 60, ..plain(Mode::L2) },
            Kind { mtu: 90, ..plain(Mode::IpipV6) },
            Kind { is_reachable: false, states: &[(1, HostState::Lost)], ..moving(Mode::L2) },
            Kind { ring: MIXED, policy: Policy::CLIENT, ..plain(Mode::IpipV4) },
            Kind { policy: Policy::GAP, ..moving(Mode::IpipV6) },
            Kind {
                ring: NAMELESS,
                policy: Policy::IMMEDIATE,
                states: &[(1, HostState::Drained)],
                ..plain(Mode::L2)
            },
        ];
        let mut site = Site { services: BTreeMap::new(), rings: rings(ring_size) };
        for ((kind, port), number) in kinds.iter().zip(PORTS).zip(0u8..) {
            // Some go by timeouts of their own.
            let set = u8::from(number % 3 == 2);
            for (address, protocol) in
                [(VIP_V4.into(), TCP), (VIP_V4.into(), UDP), (VIP_V6.into(), TCP), (VIP_V6.into(), UDP)]
            {
                site.services.insert(site.services.len() as u16, service(kind, set, address, port, protocol));
            }
        }
        site
    }

    /// The service that a packet with this destination is for, and its number.
    pub fn find(&self, address: &[u64; 2], transport: u32) -> Option<(u16, &Service)> {
        let is_it = |service: &Service| service.key.place() == (*address, transport);
        self.services.iter().find(|(_, service)| is_it(service)).map(|(number, service)| (*number, service))
    }
}

/// Kinds of rings: the slots of one follow each other over and over.
fn rings(ring_size: u32) -> BTreeMap<u32, Vec<Slot>> {
    let kinds: [(u32, &[Slot]); 6] = [
        (SETTLED, &[Slot::settled(1)]),
        (OPEN, &[Slot::open(2, 1)]),
        (EMPTY, &[Slot::settled(HOST_NONE), Slot::open(HOST_NONE, 1)]),
        (THIRD, &[Slot::settled(3), Slot::open(3, 1)]),
        (MIXED, &[Slot::settled(1), Slot::settled(2), Slot::open(3, 2)]),
        (NAMELESS, &[Slot::settled(NOBODY), Slot::open(2, 1), Slot::open(NOBODY, 2), Slot::open(3, NOBODY)]),
    ];
    kinds
        .map(|(number, slots)| (number, slots.iter().copied().cycle().take(ring_size as usize).collect()))
        .into()
}

fn service(kind: &Kind, set: u8, address: IpAddr, port: u16, protocol: u8) -> Service {
    let key = ServiceKey::exact(words(address), port, protocol);
    let backends = HOSTS.map(|host| {
        let state = kind.states.iter().find(|(other, _)| *other == host);
        let state = state.map_or(HostState::Up, |(_, state)| *state);
        (host, backend(kind, host, state))
    });
    Service { key, policy: Policy(kind.policy).with_set(set), ring: kind.ring, backends: backends.collect() }
}

/// Interface that frames come in by, and by which all backends are reached: the loopback of a test run.
pub const INTERFACE: u32 = 1;

fn backend(kind: &Kind, host: HostId, state: HostState) -> BackendTable {
    let padded = |ip: Ipv4Addr| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&ip.octets());
        address
    };
    let (mode, outer, source, address) = match kind.mode {
        Mode::L2 => (MODE_L2, 0, [0; 16], [0; 16]),
        Mode::IpipV4 => {
            let of = |last| padded(Ipv4Addr::new(192, 0, 2, last));
            (MODE_IPIP, 0, of(1), of(100 + host as u8))
        }
        Mode::IpipV6 => {
            let of = |last| Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, last).octets();
            (MODE_IPIP, BackendFlags::OUTER_V6, of(1), of(100 + host))
        }
    };
    let record = Backend {
        control: Control::new(state).0,
        ifindex: INTERFACE,
        destination_mac: [0x02, 0xbe, 0, 0, 0, host as u8],
        source_mac: [0x02, 0x1b, 0, 0, 0, host as u8],
        address,
        mtu: kind.mtu,
        mode,
        flags: outer | if kind.is_reachable { BackendFlags::REACHABLE } else { 0 },
        ..Backend::default()
    };
    BackendTable { record, egress: Egress { source: Tuple::words(source), ..Egress::default() } }
}
