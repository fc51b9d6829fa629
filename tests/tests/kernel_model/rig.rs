//! The real XDP program in the kernel without an interface: frames go in by `BPF_PROG_TEST_RUN`, and which host a frame went to
//! is read from the destination MAC address that it came out with.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::PerCpuValues;
use aya::programs::{TestRun, TestRunOptions};
use lb_common::flow::{self, Phase, TIMEOUT_SETS, Word};
use lb_common::hash::{FlowHash, Key};
use lb_common::layout::{
    Backend, BackendFlags, BackendStats, Cold, Control, HOST_NONE, HostId, HostState, MODE_L2, Overflow,
    PHASES_COUNTED, Policy, ServiceKey, Tuple, state,
};
use lb_common::reason::{Class, Reason};
use lb_common::table::BUCKET;
use lb_userspace::dataplane::{
    Dataplane, Options, PairCounters, RingView, ServiceTable, Sizes, SweepInput, Swept, Tables,
};
use lb_userspace::ring::SlotSet;
use sluice_tests::packets::Packet;

pub const KEY: Key = [0x5eed_fa11_71e5_0001, 0x0ddb_a110_fcaf_e001];
const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const XDP_DROP: u32 = 1;
const XDP_TX: u32 = 3;
/// A test run's frames come in by the loopback interface.
const LOOPBACK: u32 = 1;

/// The two services, which share one ring: their number is their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp = 0,
    Udp = 1,
}

impl Protocol {
    const ALL: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

    fn number(self) -> u8 {
        match self {
            Protocol::Tcp => lb_common::parse::TCP,
            Protocol::Udp => lb_common::parse::UDP,
        }
    }

    fn port(self) -> u16 {
        match self {
            Protocol::Tcp => 443,
            Protocol::Udp => 53,
        }
    }
}

/// A client's address and port, and the service that it speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client {
    pub address: u32,
    pub port: u16,
    pub protocol: Protocol,
}

impl Client {
    pub fn tuple(&self) -> Tuple {
        let [a, b] = self.port.to_be_bytes();
        let [c, d] = self.protocol.port().to_be_bytes();
        Tuple {
            source: Tuple::v4(self.address.to_be()),
            destination: Tuple::v4(u32::from(VIP).to_be()),
            ports: u32::from_ne_bytes([a, b, c, d]),
            protocol: u32::from(self.protocol.number()),
        }
    }

    pub fn hash(&self) -> FlowHash {
        FlowHash::of(&self.tuple(), KEY)
    }

    /// The first port of this address whose flow has the slot.
    pub fn in_slot(address: u32, protocol: Protocol, slot: u32, ring_size: u32) -> Client {
        (1024..=u16::MAX)
            .map(|port| Client { address, port, protocol })
            .find(|client| client.hash().slot(ring_size) == slot)
            .expect("64 512 ports reach every slot of a small ring")
    }

    /// A packet of this client; [`Packet::tcp`] and [`Packet::udp`] make the rest of it.
    pub fn packet(&self) -> Packet {
        let source = SocketAddr::new(Ipv4Addr::from(self.address).into(), self.port);
        let destination = SocketAddr::new(VIP.into(), self.protocol.port());
        match self.protocol {
            Protocol::Tcp => Packet::tcp(source, destination),
            Protocol::Udp => Packet::udp(source, destination),
        }
    }
}

/// A pin as it lies in the table, live or not.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub tuple: Tuple,
    pub word: Word,
    pub cold: Cold,
    /// Index of the word; `None`: it is in the overflow map.
    pub index: Option<u32>,
}

pub struct Rig {
    pub plane: Dataplane,
    /// What is in force.
    published: (Vec<u32>, BTreeMap<HostId, HostState>),
    /// Number of the counters of the host's first service.
    stats: BTreeMap<HostId, u32>,
}

/// For a ring of `ring_size` slots and hosts numbered within 64 of each other.
pub fn sizes(ring_size: u32, buckets: u32, overflow: u32) -> Sizes {
    Sizes { ring_size, ring_copies: 4, stats: 64, buckets, overflow }
}

impl Rig {
    pub fn open(sizes: Sizes, timeouts: [u32; 8]) -> Rig {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let instance = format!("kernel-model-{}-{number}", std::process::id());
        let options = Options {
            instance,
            sizes,
            key: KEY,
            timeouts: flow::one_set(timeouts),
            udp_gap: [2; TIMEOUT_SETS],
            flood_gate: 0,
            test_clock: true,
            records: false,
        };
        let plane = Dataplane::open(options).expect("the data path loads; needs root");
        let mut rig = Rig { plane, published: Default::default(), stats: BTreeMap::new() };
        rig.reset();
        rig
    }

    /// An empty table, counters at zero, and no loss of state on record.
    pub fn reset(&mut self) {
        self.empty_table();
        let maps = &mut self.plane.maps;
        maps.state.store(state::LOST_AT, 0);
        maps.state.store(state::HALF_OPEN_OVER_QUOTA, 0);
        for host in 0..maps.incomplete_since.len() {
            maps.incomplete_since.store(host, 0);
        }
        let cpus = aya::util::nr_cpus().unwrap();
        for index in 0..maps.sizes.stats {
            let zero = PerCpuValues::try_from(vec![BackendStats::default(); cpus]).unwrap();
            maps.backend_stats.set(index, zero, 0).unwrap();
            maps.user_stats.set(index, BackendStats::default());
        }
        for &reason in Reason::ALL {
            let zero = PerCpuValues::try_from(vec![0; cpus]).unwrap();
            maps.reason_counts.set(reason as u32, zero, 0).unwrap();
        }
    }

    /// All pins are gone, and their gauges with them.
    pub fn empty_table(&mut self) {
        for entry in self.entries() {
            self.forget(&entry);
        }
        let maps = &mut self.plane.maps;
        for bucket in 0..maps.hot.len() {
            maps.hot.set(bucket, [0; 8]);
        }
        for index in 0..maps.cold.len() {
            maps.cold.set(index, Cold::default());
        }
        for block in 0..maps.marks.len() {
            maps.marks.set(block, [0; 16]);
        }
    }

    /// All pins are lost, and the data path knows.
    pub fn lose(&mut self, now: u64) {
        self.empty_table();
        let maps = &self.plane.maps;
        maps.state.store(state::LOST_AT, now);
        for host in 0..maps.incomplete_since.len() {
            maps.incomplete_since.store(host, now);
        }
    }

    /// Takes a pin out of the table and books it, as the sweep does.
    pub fn forget(&mut self, entry: &Entry) {
        let maps = &mut self.plane.maps;
        let home = FlowHash::of(&entry.tuple, KEY).bucket(maps.sizes.buckets - 1);
        let mut marks = maps.marks.get(home / 16);
        match entry.index {
            Some(index) => {
                let mut words = maps.hot.get(index / BUCKET);
                words[(index % BUCKET) as usize] = 0;
                maps.hot.set(index / BUCKET, words);
                if entry.cold.kind & Cold::SECOND != 0 {
                    marks[home as usize % 16] -= lb_common::table::MARK_SECOND;
                }
            }
            None => {
                maps.overflow.remove(&entry.tuple).unwrap();
                marks[home as usize % 16] -= lb_common::table::MARK_OVERFLOW;
            }
        }
        maps.marks.set(home / 16, marks);
        if let Some(gauge) = BackendStats::gauge_of(entry.word.phase()) {
            let mut stats = maps.user_stats.get(entry.cold.stats);
            stats.left[gauge] += 1;
            maps.user_stats.set(entry.cold.stats, stats);
        }
    }

    /// Every word of the table that is a pin, live or not.
    pub fn entries(&self) -> Vec<Entry> {
        let maps = &self.plane.maps;
        let mut entries = Vec::new();
        for bucket in 0..maps.hot.len() {
            for (index, word) in (bucket * BUCKET..).zip(maps.hot.get(bucket).map(Word)) {
                if word != Word::EMPTY {
                    assert!(word.phase().is_pin(), "word {index} is left as {:?}", word.phase());
                    let cold = maps.cold.get(index);
                    entries.push(Entry { tuple: cold.tuple(), word, cold, index: Some(index) });
                }
            }
        }
        for entry in maps.overflow.iter() {
            let (tuple, Overflow { word, cold }) = entry.unwrap();
            entries.push(Entry { tuple, word: Word(word), cold, index: None });
        }
        entries
    }

    /// Publishes slots as in [`lb_common::layout::Slot`] and the states of hosts through the daemon's own code, unless
    /// they are in force already.
    pub fn publish(&mut self, words: &[u32], hosts: &BTreeMap<HostId, HostState>) {
        if self.published.0 == words && self.published.1 == *hosts {
            return;
        }
        for &host in hosts.keys() {
            let number = self.stats.len() as u32 * 2;
            self.stats.entry(host).or_insert(number);
        }
        let service = |protocol: Protocol| {
            let key = ServiceKey {
                address: Tuple::v4(u32::from(VIP).to_be()),
                port: protocol.port().to_be(),
                protocol: protocol.number(),
            };
            let backends = hosts.iter().map(|(&host, &state)| (host, self.backend(host, state, protocol)));
            (
                protocol as u16,
                ServiceTable { key, policy: Policy::default(), ring: 0, backends: backends.collect() },
            )
        };
        let tables = Tables {
            services: Protocol::ALL.into_iter().map(service).collect(),
            rings: BTreeMap::from([(0, words.to_vec())]),
        };
        self.plane.publish(&tables).unwrap();
        self.published = (words.to_vec(), hosts.clone());
    }

    fn backend(&self, host: HostId, state: HostState, protocol: Protocol) -> Backend {
        let [high, low] = host.to_be_bytes();
        Backend {
            control: Control::new(state).0,
            stats: self.stats[&host] + protocol as u32,
            ifindex: LOOPBACK,
            destination_mac: [2, 0, 0, 0, high, low],
            source_mac: [2, 0, 0, 1, 0, 0],
            mtu: 1500,
            mode: MODE_L2,
            flags: BackendFlags::REACHABLE,
            ..Backend::default()
        }
    }

    /// The host that the packet is sent to; [`HOST_NONE`] if it is dropped.
    pub fn send(&mut self, packet: &Packet) -> HostId {
        let frame = packet.build();
        let mut out = vec![0; frame.len() + 258];
        let options =
            TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..TestRunOptions::new() };
        let result = self.plane.program().unwrap().test_run(options).unwrap();
        match result.return_value {
            XDP_TX => {
                out.truncate(result.data_size_out as usize);
                assert_eq!(out[12..], frame[12..], "only the MAC addresses change");
                assert_eq!((&out[..4], &out[6..12]), (&[2, 0, 0, 0][..], &[2, 0, 0, 1, 0, 0][..]));
                u16::from_be_bytes([out[4], out[5]])
            }
            XDP_DROP => HOST_NONE,
            verdict => panic!("verdict {verdict} for {packet:?}"),
        }
    }

    /// The counters of a host, over both services.
    pub fn counters(&self, host: HostId) -> PairCounters {
        let [mut sum, other] = Protocol::ALL
            .map(|protocol| self.plane.pair_counters(self.stats[&host] + protocol as u32).unwrap());
        sum.packets += other.packets;
        sum.new_flows += other.new_flows;
        sum.evicted += other.evicted;
        sum.live.iter_mut().zip(other.live).for_each(|(sum, live)| *sum += live);
        sum
    }

    /// The gauges of a host, over both services.
    pub fn gauges(&self, host: HostId) -> [i64; PHASES_COUNTED] {
        self.counters(host).live
    }

    /// The hosts that were ever published.
    pub fn hosts(&self) -> Vec<HostId> {
        self.stats.keys().copied().collect()
    }

    /// Live pins that were dropped as the table was full.
    pub fn evicted(&self) -> u64 {
        self.stats.keys().map(|&host| self.counters(host).evicted).sum()
    }

    /// Reasons of a class that were counted, with how often.
    pub fn counted(&self, class: Class) -> Vec<(Reason, u64)> {
        let reasons = self.plane.counters([]).unwrap().reasons;
        reasons.into_iter().filter(|(reason, count)| reason.class() == class && *count != 0).collect()
    }

    /// Each gauge against the pins that the table holds, live or not; call it when no packet is under way.
    pub fn check_gauges(&self) {
        let mut counted: BTreeMap<HostId, [i64; PHASES_COUNTED]> =
            self.stats.keys().map(|&host| (host, [0; PHASES_COUNTED])).collect();
        for entry in self.entries() {
            let gauge = BackendStats::gauge_of(entry.word.phase()).expect("all phases here have a gauge");
            counted.get_mut(&entry.word.host()).expect("a host that was published")[gauge] += 1;
        }
        for (host, counted) in counted {
            assert_eq!(self.gauges(host), counted, "gauges of host {host} and its pins in the table");
        }
    }

    /// The daemon's sweep. Also the slots with a live pin on another host than the owner, hosts that are drained aside.
    pub fn sweep(&mut self) -> (Swept, SlotSet) {
        let (words, hosts) = &self.published;
        let serves = |host: HostId| {
            hosts.get(&host).is_some_and(|state| !matches!(state, HostState::Gone | HostState::Drained))
        };
        let input = SweepInput {
            ring_of: &|service| (service < 2).then_some(0),
            ring: &|ring| (ring == 0).then_some(RingView { slots: words, serves: &serves }),
            losers: &serves,
        };
        let swept = self.plane.sweep(&input).unwrap();
        let mut foreign = SlotSet::new(words.len() as u32);
        for &(ring, slot) in &swept.foreign {
            assert_eq!(ring, 0);
            foreign.insert(slot);
        }
        (swept, foreign)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let pins = &self.plane.paths.pins;
        if let Err(error) = std::fs::remove_dir_all(pins) {
            eprintln!("{} is left behind: {error}", pins.display());
        }
    }
}

/// The same idle timeout for every phase that has one.
pub fn all_timeouts(seconds: u32) -> [u32; 8] {
    let mut timeouts = [0; 8];
    for phase in [Phase::HalfOpen, Phase::Established, Phase::Closing, Phase::Udp, Phase::Reset] {
        timeouts[phase as usize] = seconds;
    }
    timeouts
}
