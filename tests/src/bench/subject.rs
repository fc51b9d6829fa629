//! The data path under test: services of every family, protocol and forward mode, on one instance.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use aya::programs::ProgramFd;
use lb_common::flow::{self, Phase, Word};
use lb_common::hash::FlowHash;
use lb_common::layout::{
    Backend, BackendFlags, Control, Egress, FEATURE_GUE, FEATURE_NAT, FEATURE_PING, FEATURE_RANGES,
    FEATURE_TAGS, HostId, HostState, MODE_GUE, MODE_IPIP, MODE_L2, MODE_NAT, Policy, ServiceKey, Slot, Tuple,
    VipFlags,
};
use lb_common::parse::{TCP, UDP};
use lb_common::reason::Reason;
use lb_common::table::{BUCKET, MARK_OVERFLOW, MARKED};
use lb_userspace::dataplane::{
    Abilities, BackendTable, Dataplane, Options, Paths, ServiceTable, Sizes, Tables, Vip, detach_all,
};
use lb_userspace::ring::{Base, Member, SHARE_FULL, Slots};

use super::report::ProgramFacts;

/// Hosts behind each service.
pub const HOSTS: HostId = 4;
/// The service whose slots are all in handover.
pub const OPEN: &str = "203.0.113.9:80";
/// The services that track edges only.
pub const EDGES: [&str; 2] = ["203.0.113.8:80", "[2001:db8::8]:80"];
/// Addresses of nobody here.
pub const OTHER: [&str; 2] = ["198.51.100.1:80", "[2001:db8:ffff::1]:80"];
/// The interface that test runs come in by: `lo`.
pub const INGRESS: u32 = 1;
/// The default of a config.
pub const RING_SIZE: u32 = 65_537;
/// Key of rings and flow hash; any will do.
pub const KEY: [u8; 16] = *b"a key to measure";

/// How packets reach backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    L2 = MODE_L2 as isize,
    Ipip = MODE_IPIP as isize,
    Gue = MODE_GUE as isize,
    Nat = MODE_NAT as isize,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::L2, Mode::Ipip, Mode::Gue, Mode::Nat];

    pub fn name(self) -> &'static str {
        match self {
            Mode::L2 => "l2",
            Mode::Ipip => "ipip",
            Mode::Gue => "gue",
            Mode::Nat => "nat",
        }
    }
}

/// The virtual addresses.
pub struct Vips;

impl Vips {
    /// Of the service for a protocol, family and forward mode.
    pub fn of(is_udp: bool, is_v6: bool, mode: Mode) -> SocketAddr {
        let last = mode as u8;
        let address = if is_v6 {
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)])
        } else {
            IpAddr::from([203, 0, 113, last])
        };
        SocketAddr::new(address, if is_udp { 53 } else { 80 })
    }
}

/// Everything that the program may have to know.
pub fn everything() -> Abilities {
    Abilities {
        features: FEATURE_RANGES | FEATURE_GUE | FEATURE_NAT | FEATURE_TAGS | FEATURE_PING,
        mss: 1360,
        prefixes: vec![124, 120, 64],
        ..Abilities::default()
    }
}

/// A loaded instance; removed when dropped.
pub struct Subject {
    pub dataplane: Dataplane,
    key: [u64; 2],
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Err(error) = detach_all(&self.dataplane.paths) {
            eprintln!("cannot remove the instance that was measured: {error}");
        }
    }
}

impl Subject {
    /// Loads the program and publishes all services, whose backends are all next door on an interface of this thread's
    /// network namespace.
    pub fn open(instance: &str, pins: u32, ifindex: u32, abilities: Abilities) -> Result<Subject> {
        let mut subject = Subject::with(instance, Sizes::new(RING_SIZE, pins), abilities)?;
        let mut tables = tables();
        let backends = tables.services.values_mut().flat_map(|service| service.backends.values_mut());
        backends.for_each(|backend| backend.record.ifindex = ifindex);
        subject.dataplane.publish(&tables)?;
        Ok(subject)
    }

    /// Loads the program; nothing is published.
    pub fn empty(instance: &str, sizes: Sizes) -> Result<Subject> {
        Subject::with(instance, sizes, Abilities::default())
    }

    fn with(instance: &str, sizes: Sizes, abilities: Abilities) -> Result<Subject> {
        // What a benchmark with the same process number left when it was killed.
        detach_all(&Paths::of(instance))?;
        let (head, tail) = KEY.split_at(8);
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
        let key = [word(head), word(tail)];
        let mut timeouts = [u32::MAX; 8];
        for (phase, seconds) in [
            (Phase::HalfOpen, 64),
            (Phase::Established, 900),
            (Phase::Closing, 30),
            (Phase::Udp, 90),
            (Phase::Reset, 30),
        ] {
            timeouts[phase as usize] = seconds;
        }
        let options = Options {
            instance: instance.to_owned(),
            sizes,
            key,
            timeouts: flow::one_set(timeouts),
            udp_gap: [2; flow::TIMEOUT_SETS],
            flood_gate: 0,
            abilities,
            test_clock: false,
            records: false,
        };
        Ok(Subject { dataplane: Dataplane::open(options)?, key })
    }

    pub fn program(&mut self) -> Result<&ProgramFd> {
        Ok(self.dataplane.program()?.fd()?)
    }

    /// What the kernel says of the program.
    pub fn program_facts(&mut self) -> Result<ProgramFacts> {
        let info = self.dataplane.program()?.info()?;
        Ok(ProgramFacts {
            verified: info.verified_instruction_count().unwrap_or(0),
            instructions: info.size_translated().unwrap_or(0) / 8,
            jited: info.size_jitted(),
        })
    }

    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>> {
        Ok(self.dataplane.counters([])?.reasons)
    }

    /// Takes the pins of these flows away, and those that share a bucket with them.
    pub fn forget(&mut self, tuples: &[Tuple]) -> Result<()> {
        let maps = &self.dataplane.maps;
        let mask = maps.sizes.buckets - 1;
        let mut overflow = Vec::new();
        for tuple in tuples {
            let hash = FlowHash::of(tuple, self.key);
            let home = hash.bucket(mask);
            for bucket in [home, lb_common::hash::other_bucket(home, hash.tag(), mask)] {
                maps.hot.set(bucket, [0; BUCKET as usize]);
            }
            if maps.marks.get(home / 16)[home as usize % 16] & MARKED >= MARK_OVERFLOW {
                overflow.push(*tuple);
            }
        }
        for tuple in tuples {
            let home = FlowHash::of(tuple, self.key).bucket(mask);
            maps.marks.set(home / 16, [0; 16]);
        }
        for tuple in overflow {
            // Most of them lie elsewhere.
            let _ = self.dataplane.maps.overflow.remove(&tuple);
        }
        Ok(())
    }

    /// Takes all pins away.
    pub fn forget_all(&mut self) -> Result<()> {
        let maps = &mut self.dataplane.maps;
        for bucket in 0..maps.hot.len() {
            maps.hot.set(bucket, [0; BUCKET as usize]);
        }
        for block in 0..maps.marks.len() {
            maps.marks.set(block, [0; 16]);
        }
        let keys: Vec<Tuple> = maps.overflow.keys().flatten().collect();
        for key in keys {
            maps.overflow.remove(&key)?;
        }
        Ok(())
    }

    /// Part of the hot array's words that are in use.
    pub fn load(&self) -> f64 {
        let hot = &self.dataplane.maps.hot;
        let used: usize = (0..hot.len())
            .map(|bucket| hot.get(bucket).iter().filter(|&&word| Word(word) != Word::EMPTY).count())
            .sum();
        used as f64 / f64::from(hot.len() * BUCKET)
    }

    pub fn hot_bytes(&self) -> u64 {
        u64::from(self.dataplane.maps.hot.len()) * 64
    }
}

/// The members of the rings, of which host `out` is out.
pub fn members(count: HostId, out: Option<HostId>) -> Vec<Member> {
    let share = |id| if Some(id) == out { 0 } else { SHARE_FULL };
    (1..=count).map(|id| Member { id, name: format!("host-{id}"), weight: 100, share: share(id) }).collect()
}

/// Every service, over rings 0 (settled) and 1 (all slots in handover).
pub fn tables() -> Tables {
    let members = members(HOSTS, None);
    let settled = Slots::settled(&Base::build(&KEY, RING_SIZE, &members).owners(&members));
    let settled: Vec<u32> = settled.words().collect();
    let open = settled.iter().map(|&slot| {
        let owner = Slot(slot).owner();
        Slot::open(owner % HOSTS + 1, owner).0
    });
    let rings = BTreeMap::from([(0, settled.clone()), (1, open.collect())]);
    let mut services = BTreeMap::new();
    for is_udp in [false, true] {
        for is_v6 in [false, true] {
            for mode in Mode::ALL {
                let number = services.len() as u16;
                let vip = Vips::of(is_udp, is_v6, mode);
                services.insert(number, service(number, HOSTS, vip, is_udp, mode, 0));
            }
        }
    }
    let number = services.len() as u16;
    services.insert(number, service(number, HOSTS, OPEN.parse().expect("an address"), false, Mode::L2, 1));
    for vip in EDGES {
        let number = services.len() as u16;
        let table = service(number, HOSTS, vip.parse().expect("an address"), false, Mode::L2, 0);
        services.insert(number, ServiceTable { policy: Policy(Policy::EDGES), ..table });
    }
    let vips = services.values().flat_map(|service: &ServiceTable| &service.keys);
    let vips = vips.map(|key| {
        let octets = key.address.map(u64::to_ne_bytes).concat().try_into().expect("16 bytes");
        ((octets, 128), Vip(VipFlags::VIP | VipFlags::ALONE))
    });
    let vips = vips.collect();
    Tables { services, clients: Default::default(), rings, vips }
}

/// A service with a backend on each host.
pub fn service(
    number: u16,
    hosts: HostId,
    vip: SocketAddr,
    is_udp: bool,
    mode: Mode,
    ring: u32,
) -> ServiceTable {
    let mapped = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let protocol = if is_udp { UDP } else { TCP };
    let keys = vec![ServiceKey::exact(Tuple::words(mapped(vip.ip())), vip.port(), protocol)];
    let backends = (1..=hosts).map(|host| {
        let [high, low] = host.to_be_bytes();
        let (mut address, mut source, mut outer) = ([0; 16], [0; 16], 0);
        if vip.is_ipv6() {
            address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host).octets();
            source = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 1, 1).octets();
            outer = BackendFlags::OUTER_V6;
        } else {
            address[..4].copy_from_slice(&[192, 0, high, low]);
            source[..4].copy_from_slice(&[192, 1, 0, 1]);
        }
        let record = Backend {
            control: Control::new(HostState::Up).0,
            stats: u32::from(number) * u32::from(hosts) + u32::from(host),
            ifindex: INGRESS,
            destination_mac: [2, 0, 0, 1, high, low],
            source_mac: [2, 0, 0, 0, 0, 2],
            address,
            mtu: 1500,
            mode: mode as u8,
            port: if mode == Mode::Gue { 6080u16.to_be() } else { 0 },
            flags: BackendFlags::REACHABLE | outer,
            ..Backend::default()
        };
        (host, BackendTable { record, egress: Egress { source: Tuple::words(source), ..Egress::default() } })
    });
    ServiceTable { keys, policy: Policy::default(), ring, backends: backends.collect() }
}
