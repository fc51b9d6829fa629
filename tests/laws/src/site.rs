//! What the balancer is set up with where any frame may come in: services of every kind on neighbouring ports of two
//! addresses, so that a changed bit leads from one to another.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use lb_common::layout::{
    AtDeadline, Backend, BackendFlags, Control, Deadline, Egress, HOST_NONE, HostId, HostState, MODE_GUE,
    MODE_IPIP, MODE_L2, MODE_NAT, Policy, ServiceKey, Slot, Tuple, VipFlags,
};

use crate::parse::words;

pub const VIP_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);
/// Ports of the services: the same kind of service on a port for both addresses and protocols. Three of them are one service's,
/// but for the middle one.
pub const PORTS: RangeInclusive<u16> = 80..=111;
/// An address in the longer prefix of VIPs, and one in the shorter alone, of each family.
pub const WITHIN: [[IpAddr; 2]; 2] = [
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5)), IpAddr::V4(Ipv4Addr::new(203, 0, 120, 5))],
    [
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 1, 0, 0, 0, 5)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 1, 0, 1, 0, 5)),
    ],
];
/// Lengths of the prefixes, as the data path has them: the longest first.
pub const PREFIXES: [u8; 4] = [96 + 28, 96 + 20, 112, 64];
/// Hosts of every service, unless its kind says otherwise.
pub const HOSTS: RangeInclusive<HostId> = 1..=3;
/// A host that slots name and no service has.
const NOBODY: HostId = 9;
/// Port of backends that packets are translated to.
pub const NAT_PORT: u16 = 8080;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Services, rings and backends.
#[derive(Debug, Clone)]
pub struct Site {
    /// By number.
    pub services: BTreeMap<u16, Service>,
    /// By number.
    pub rings: BTreeMap<u32, Vec<Slot>>,
    /// [`VipFlags`] of addresses and prefixes.
    pub vips: BTreeMap<([u8; 16], u8), u32>,
}

#[derive(Debug, Clone)]
pub struct Service {
    pub keys: Vec<ServiceKey>,
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
#[derive(Clone, Copy)]
struct Kind {
    place: Place,
    ring: u32,
    policy: u8,
    mode: Mode,
    /// Bytes that fit the way to the backends.
    mtu: u16,
    is_reachable: bool,
    /// VLAN IDs on the way out; 0: none.
    tags: [u8; 2],
    /// States of hosts that are not up.
    states: &'static [(HostId, HostState)],
    /// Of those.
    deadline: Deadline,
}

/// Where a kind of service is.
#[derive(Clone, Copy)]
enum Place {
    /// On so many ports, from this one on, of the VIP of each family.
    Ports(u16, u16),
    /// On such ports of prefixes of so many bits.
    Prefix([u8; 2], u16, u16),
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    L2,
    IpipV4,
    IpipV6,
    GueV4,
    GueV6,
    /// To a port, if it is another one than the service's.
    Nat(Option<u16>),
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
        let mut site = Site { services: BTreeMap::new(), rings: rings(ring_size), vips: BTreeMap::new() };
        for (kind, number) in kinds().iter().zip(0u8..) {
            // Some go by timeouts of their own.
            let set = u8::from(number % 3 == 2);
            for family in [0, 1] {
                let service = service(kind, number, set, family);
                if let Mode::Nat(_) = kind.mode {
                    let of_host = |host| (octets(nat_address(number, host, family)), 128);
                    site.vips.extend(HOSTS.map(|host| (of_host(host), VipFlags::NAT_HOST)));
                }
                site.services.insert(site.services.len() as u16, service);
            }
        }
        // Of unknown packets some VIPs let fragments pass, some do not.
        let passing = VipFlags::VIP | VipFlags::PASS_FRAGMENTS;
        site.vips.insert((octets(VIP_V4.into()), 128), VipFlags::VIP | VipFlags::ALONE);
        site.vips.insert((octets(VIP_V6.into()), 128), passing | VipFlags::ALONE);
        for (length, flags) in PREFIXES.into_iter().zip([passing, VipFlags::VIP, VipFlags::VIP, passing]) {
            let address = WITHIN[usize::from(length < 116)][0];
            site.vips.insert((within(octets(address), length), length), flags);
        }
        site
    }

    /// The service that a flow is for, its number and the key that it has found it by: a longer prefix before a shorter, and with it
    /// a single port before a range. `is_reply`: the service that a backend answers for.
    pub fn find(
        &self,
        address: &[u64; 2],
        port: u16,
        protocol: u8,
        is_reply: bool,
    ) -> Option<(u16, &Service, ServiceKey)> {
        let bits = |address| u128::from_be_bytes(octets_of(address));
        let sought = bits(*address);
        let is_it = |key: &ServiceKey| {
            key.is_reply == is_reply
                && key.protocol == protocol
                && (key.first..=key.last).contains(&port)
                && (bits(key.address) ^ sought).leading_zeros() >= u32::from(key.prefix)
        };
        let keys = self.services.iter().flat_map(|(&number, service)| {
            service.keys.iter().filter(|key| is_it(key)).map(move |key| (number, service, *key))
        });
        keys.max_by_key(|(.., key)| (key.prefix, key.is_exact()))
    }

    /// [`VipFlags`] of an address: those of the longest prefix that it is in.
    pub fn vip(&self, address: &[u64; 2]) -> u32 {
        let sought = u128::from_be_bytes(octets_of(*address));
        let is_in = |(prefix, length): &([u8; 16], u8)| {
            (u128::from_be_bytes(*prefix) ^ sought).leading_zeros() >= u32::from(*length)
        };
        let vips = self.vips.iter().filter(|(key, _)| is_in(key));
        vips.max_by_key(|((_, length), _)| *length).map_or(0, |(_, flags)| *flags)
    }
}

/// All kinds of services.
fn kinds() -> Vec<Kind> {
    let plain = |mode| Kind {
        place: Place::Ports(0, 1),
        ring: SETTLED,
        policy: 0,
        mode,
        mtu: 1500,
        is_reachable: true,
        tags: [0; 2],
        states: &[],
        deadline: Deadline::default(),
    };
    let moving = |mode| Kind { ring: OPEN, ..plain(mode) };
    // Host 1 drains, and its deadline has passed for all flows or, with the longest spread, for some.
    let over = |action, spread, kind| Kind {
        states: &[(1, HostState::Draining)],
        deadline: Deadline { at: 1, action, spread },
        ..kind
    };
    let mut kinds = vec![
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
        plain(Mode::GueV4),
        moving(Mode::GueV6),
        Kind { tags: [7, 8], ..plain(Mode::L2) },
        Kind { tags: [9, 0], ..plain(Mode::IpipV6) },
        plain(Mode::Nat(None)),
        Kind { policy: Policy::PORT, mtu: 1000, ..moving(Mode::Nat(Some(NAT_PORT))) },
        over(AtDeadline::Reset, 0, moving(Mode::L2)),
        over(AtDeadline::Reset, u16::MAX, Kind { policy: Policy::EDGES, ..moving(Mode::IpipV6) }),
        over(AtDeadline::Move, 0, moving(Mode::GueV4)),
        over(AtDeadline::Move, u16::MAX, Kind { policy: Policy::GAP, ..moving(Mode::L2) }),
        over(AtDeadline::Keep, 0, moving(Mode::L2)),
        over(AtDeadline::Reset, 0, moving(Mode::Nat(None))),
        Kind { ring: EMPTY, policy: Policy::PASS, ..plain(Mode::L2) },
    ];
    for (number, kind) in (0..).zip(&mut kinds) {
        kind.place = Place::Ports(PORTS.start() + number, 1);
    }
    let next = PORTS.start() + kinds.len() as u16;
    let in_prefix =
        |lengths, first, count, kind| Kind { place: Place::Prefix(lengths, first, count), ..kind };
    let by_client = |mode| Kind { ring: MIXED, policy: Policy::CLIENT, ..plain(mode) };
    kinds.extend([
        Kind { place: Place::Ports(next, 3), mtu: 100, ..by_client(Mode::GueV4) },
        Kind { place: Place::Ports(next + 1, 1), policy: Policy::EDGES, ..plain(Mode::L2) },
        in_prefix([28, 112], 80, 1, by_client(Mode::L2)),
        in_prefix([28, 112], 80, 6, plain(Mode::IpipV4)),
        in_prefix([20, 64], 80, 1, moving(Mode::L2)),
    ]);
    kinds
}

/// The first bits of an address; the others are 0.
fn within(address: [u8; 16], length: u8) -> [u8; 16] {
    let kept = |bit: usize| if bit < usize::from(length) { 0x80 >> (bit % 8) } else { 0 };
    std::array::from_fn(|at| address[at] & (at * 8..at * 8 + 8).map(kept).sum::<u8>())
}

fn octets(address: IpAddr) -> [u8; 16] {
    octets_of(words(address))
}

/// The 16 bytes of the two words of an address.
pub fn octets_of(words: [u64; 2]) -> [u8; 16] {
    std::array::from_fn(|at| words[at / 8].to_ne_bytes()[at % 8])
}

/// Address of the backend of a kind of service, by its number, whose packets are translated; `family` 0 is IPv4.
pub fn nat_address(kind: u8, host: HostId, family: usize) -> IpAddr {
    if family == 0 {
        Ipv4Addr::new(10, 9, kind, host as u8).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0xe, kind.into(), 0, 0, 0, host).into()
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

fn service(kind: &Kind, number: u8, set: u8, family: usize) -> Service {
    let vip = [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)][family];
    let (address, prefix, first, count) = match kind.place {
        Place::Ports(first, count) => (octets(vip), ServiceKey::WHOLE, first, count),
        Place::Prefix(lengths, first, count) => {
            let length = lengths[family] + [96, 0][family];
            (within(octets(WITHIN[family][0]), length), length, first, count)
        }
    };
    let key = |address, protocol| ServiceKey {
        address,
        prefix,
        first,
        last: first + count - 1,
        protocol,
        is_reply: false,
    };
    let mut keys = vec![key(Tuple::words(address), TCP), key(Tuple::words(address), UDP)];
    if let Mode::Nat(port) = kind.mode {
        for (host, protocol) in HOSTS.flat_map(|host| [(host, TCP), (host, UDP)]) {
            let (address, port) = (words(nat_address(number, host, family)), port.unwrap_or(first));
            keys.push(ServiceKey { is_reply: true, ..ServiceKey::exact(address, port, protocol) });
        }
    }
    let backends = HOSTS.map(|host| {
        let state = kind.states.iter().find(|(other, _)| *other == host);
        let state = state.map_or(HostState::Up, |(_, state)| *state);
        let deadline = if state == HostState::Up { Deadline::default() } else { kind.deadline };
        (host, backend(kind, number, family, host, Control::new(state).with_deadline(deadline)))
    });
    Service { keys, policy: Policy(kind.policy).with_set(set), ring: kind.ring, backends: backends.collect() }
}

/// Interface that frames come in by, and by which all backends are reached: the loopback of a test run.
pub const INTERFACE: u32 = 1;

/// MAC address of a backend's next hop.
pub const fn next_hop(host: HostId) -> [u8; 6] {
    [0x02, 0xbe, 0, 0, 0, host as u8]
}

fn backend(kind: &Kind, number: u8, family: usize, host: HostId, control: Control) -> BackendTable {
    let padded = |ip: Ipv4Addr| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&ip.octets());
        address
    };
    let v4 = |last| padded(Ipv4Addr::new(192, 0, 2, last));
    let v6 = |last| Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, last).octets();
    const V6: u8 = BackendFlags::OUTER_V6;
    let (to_v4, to_v6) = (v4(100 + host as u8), v6(100 + host));
    let (mode, flags, source, address, port) = match kind.mode {
        // Of some it is not known that they are the next hop.
        Mode::L2 if number.is_multiple_of(2) => (MODE_L2, BackendFlags::ON_LINK, [0; 16], [0; 16], 0),
        Mode::L2 => (MODE_L2, 0, [0; 16], [0; 16], 0),
        Mode::IpipV4 => (MODE_IPIP, BackendFlags::ON_LINK, v4(1), to_v4, 0),
        Mode::IpipV6 => (MODE_IPIP, V6, v6(1), to_v6, 0),
        Mode::GueV4 => (MODE_GUE, 0, v4(0), to_v4, 6080),
        Mode::GueV6 => (MODE_GUE, V6, v6(0), to_v6, 6081),
        Mode::Nat(port) => {
            let (flags, address) = match nat_address(number, host, family) {
                IpAddr::V4(address) => (0, padded(address)),
                IpAddr::V6(address) => (V6, address.octets()),
            };
            (MODE_NAT, flags | BackendFlags::ON_LINK, [0; 16], address, port.unwrap_or(0))
        }
    };
    // The last bytes of the outer source come from the hash.
    let mut spread = [0; 16];
    match kind.mode {
        Mode::GueV4 => spread[3] = 0xff,
        Mode::GueV6 => spread[12..].fill(0xff),
        _ => {}
    }
    let tag = |id: u8| if id == 0 { 0 } else { u32::from_ne_bytes([0x81, 0x00, 0x20, id]) };
    let tagged = if kind.tags[0] != 0 { BackendFlags::TAGGED } else { 0 };
    let reachable = if kind.is_reachable { BackendFlags::REACHABLE } else { 0 };
    let record = Backend {
        control: control.0,
        ifindex: INTERFACE,
        destination_mac: next_hop(host),
        source_mac: [0x02, 0x1b, 0, 0, 0, host as u8],
        address,
        mtu: kind.mtu,
        port: port.to_be(),
        mode,
        flags: flags | tagged | reachable,
        ..Backend::default()
    };
    let egress = Egress {
        source: Tuple::words(source),
        spread: Tuple::words(spread),
        tags: kind.tags.map(tag),
        ..Egress::default()
    };
    BackendTable { record, egress }
}
