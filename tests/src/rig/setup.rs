//! Builder of the tables that a rig publishes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_common::layout::{
    Backend, BackendFlags, Control, Egress, HostId, HostState, MODE_GUE, MODE_IPIP, MODE_L2, MODE_NAT,
    Policy, ServiceKey, Slot, Tuple,
};
use lb_userspace::dataplane::{BackendTable, ServiceTable, Tables, Vip};

use super::{INGRESS, Rig};

/// Services that a [`Setup`] may have, with hosts 0 to 127 each; the first 28 of them with hosts 128 to 255, too. As rows of counters, of
/// which there is no room for more.
const SERVICES: u32 = 100;
const ROW: u32 = 128;
const ROWS: u32 = 128;

/// Services, backends and rings in the making. The methods change it in place and can be chained.
#[derive(Debug, Clone)]
pub struct Setup {
    pub tables: Tables,
    ring_size: u32,
}

impl Setup {
    pub fn new(rig: &Rig) -> Self {
        Setup { tables: Tables::default(), ring_size: rig.dataplane.options.sizes.ring_size }
    }

    /// A service without backends, that goes by `ring`. `number` is below 100.
    pub fn service(&mut self, number: u16, vip: SocketAddr, protocol: u8, ring: u32) -> &mut Self {
        let keys = vec![ServiceKey::exact(words(vip.ip()), vip.port(), protocol)];
        self.tables.services.insert(
            number,
            ServiceTable { keys, policy: Policy::default(), ring, backends: BTreeMap::new() },
        );
        self
    }

    /// A further record of a service.
    pub fn key(&mut self, service: u16, key: ServiceKey) -> &mut Self {
        self.of(service).keys.push(key);
        self
    }

    /// What a service is known by, in place of what it was.
    pub fn keys(&mut self, service: u16, keys: Vec<ServiceKey>) -> &mut Self {
        self.of(service).keys = keys;
        self
    }

    /// `VipFlags` of an address, or of a prefix of so many bits as it is written with.
    pub fn vip(&mut self, address: IpAddr, prefix: u8, flags: u32) -> &mut Self {
        let (octets, more) = match address {
            IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), 96),
            IpAddr::V6(address) => (address.octets(), 0),
        };
        self.tables.vips.insert((octets, prefix + more), Vip(flags));
        self
    }

    /// The service that a flow is for, by the rules: of single addresses and of longer prefixes before others, and among those of one
    /// length of single ports before ranges.
    pub fn service_of(&self, tuple: &Tuple) -> Option<(u16, ServiceKey)> {
        let bits = |[upper, lower]: [u64; 2]| (u128::from(upper.to_be()) << 64) | u128::from(lower.to_be());
        let port = tuple.destination_port();
        let covers = |key: &ServiceKey| {
            let unlike = bits(key.address) ^ bits(tuple.destination);
            !key.is_reply
                && u32::from(key.protocol) == tuple.protocol
                && (key.first..=key.last).contains(&port)
                && unlike.leading_zeros() >= u32::from(key.prefix)
        };
        let services = self.tables.services.iter();
        let keys = services.flat_map(|(&number, service)| service.keys.iter().map(move |key| (number, *key)));
        keys.filter(|(_, key)| covers(key)).max_by_key(|(_, key)| (key.prefix, key.is_exact()))
    }

    /// How the flows of a service are treated.
    pub fn policy(&mut self, service: u16, policy: u8) -> &mut Self {
        self.of(service).policy = Policy(policy);
        self
    }

    /// A service's backend on a host, in place of the one that is there. The counters are those of the pair for ever.
    pub fn backend(&mut self, service: u16, host: HostId, backend: impl Into<BackendTable>) -> &mut Self {
        let mut backend = backend.into();
        backend.record.stats = Self::stats(service, host);
        self.of(service).backends.insert(host, backend);
        self
    }

    /// Takes a host out of every service.
    pub fn without(&mut self, host: HostId) -> &mut Self {
        for service in self.tables.services.values_mut() {
            service.backends.remove(&host);
        }
        self
    }

    /// Sets the state of a host in every service.
    pub fn state(&mut self, host: HostId, state: HostState) -> &mut Self {
        self.control(host, Control::new(state))
    }

    /// Sets the control word of a host in every service.
    pub fn control(&mut self, host: HostId, control: Control) -> &mut Self {
        for service in self.tables.services.values_mut() {
            if let Some(backend) = service.backends.get_mut(&host) {
                backend.record.control = control.0;
            }
        }
        self
    }

    /// A ring whose slots are all the same.
    pub fn ring(&mut self, ring: u32, slot: Slot) -> &mut Self {
        self.tables.rings.insert(ring, vec![slot.0; self.ring_size as usize]);
        self
    }

    /// One slot of a ring.
    pub fn slot(&mut self, ring: u32, index: u32, slot: Slot) -> &mut Self {
        self.tables.rings.get_mut(&ring).expect("the ring is there")[index as usize] = slot.0;
        self
    }

    /// Number of the counters of a pair.
    pub fn stats(service: u16, host: HostId) -> u32 {
        let row = u32::from(service) + SERVICES * (u32::from(host) / ROW);
        assert!(u32::from(service) < SERVICES && row < ROWS, "host {host} of service {service}");
        row * ROW + u32::from(host) % ROW
    }

    /// The pair whose counters have this number.
    pub fn pair(stats: u32) -> (u16, HostId) {
        let (row, host) = (stats / ROW, stats % ROW);
        ((row % SERVICES) as u16, (row / SERVICES * ROW + host) as HostId)
    }

    fn of(&mut self, service: u16) -> &mut ServiceTable {
        self.tables.services.get_mut(&service).expect("the service is there")
    }
}

/// An address as the data path has it.
pub fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => Tuple::words(address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => Tuple::words(address.octets()),
    }
}

/// The flow of a packet.
pub fn tuple(from: SocketAddr, to: SocketAddr, protocol: u8) -> Tuple {
    let ([a, b], [c, d]) = (from.port().to_be_bytes(), to.port().to_be_bytes());
    Tuple {
        source: words(from.ip()),
        destination: words(to.ip()),
        ports: u32::from_ne_bytes([a, b, c, d]),
        protocol: protocol.into(),
    }
}

/// A reachable backend that is up, next door on [`INGRESS`], with MAC addresses that tell hosts apart and an MTU of 1500.
pub fn l2(host: u8) -> Backend {
    Backend {
        control: Control::new(HostState::Up).0,
        ifindex: INGRESS,
        destination_mac: [0x02, 0xbe, 0, 0, 0, host],
        source_mac: [0x02, 0x1b, 0, 0, 0, host],
        mtu: 1500,
        mode: MODE_L2,
        flags: BackendFlags::REACHABLE | BackendFlags::ON_LINK,
        ..Backend::default()
    }
}

/// As [`l2`], but encapsulated from 192.0.2.1 to 192.0.2.(100 + host).
pub fn ipip_v4(host: u8) -> BackendTable {
    let padded = |octets: [u8; 4]| {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&octets);
        address
    };
    let record = Backend { mode: MODE_IPIP, address: padded([192, 0, 2, 100 + host]), ..l2(host) };
    BackendTable { record, egress: from(padded([192, 0, 2, 1])) }
}

/// As [`l2`], but encapsulated from 2001:db8:b::1 to 2001:db8:b::1(host).
pub fn ipip_v6(host: u8) -> BackendTable {
    let address = |last: u8, before: u8| {
        let mut address = [0; 16];
        address[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0x0b]);
        (address[14], address[15]) = (before, last);
        address
    };
    let record = Backend {
        mode: MODE_IPIP,
        flags: BackendFlags::REACHABLE | BackendFlags::OUTER_V6,
        address: address(host, 1),
        ..l2(host)
    };
    BackendTable { record, egress: from(address(1, 0)) }
}

/// The same with GUE to a port, in place of IP in IP.
pub fn gue(backend: BackendTable, port: u16) -> BackendTable {
    let record = Backend { mode: MODE_GUE, port: port.to_be(), ..backend.record };
    BackendTable { record, ..backend }
}

/// As [`l2`], but translated to an address and a port; 0: the service's.
pub fn nat(host: u8, to: SocketAddr) -> BackendTable {
    let mut address = [0; 16];
    let family = match to.ip() {
        IpAddr::V4(ip) => {
            address[..4].copy_from_slice(&ip.octets());
            0
        }
        IpAddr::V6(ip) => {
            address = ip.octets();
            BackendFlags::OUTER_V6
        }
    };
    let flags = BackendFlags::REACHABLE | family;
    Backend { mode: MODE_NAT, address, port: to.port().to_be(), flags, ..l2(host) }.into()
}

fn from(source: [u8; 16]) -> Egress {
    Egress { source: Tuple::words(source), ..Egress::default() }
}
