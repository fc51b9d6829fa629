//! The real XDP program in the kernel without an interface: frames go in by `BPF_PROG_TEST_RUN`, and which host a frame went to
//! is read from the destination MAC address that it came out with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::programs::{TestRun, TestRunOptions};
use lb_common::flow::{self, Phase, TIMEOUT_SETS};
use lb_common::layout::{
    self, Backend, BackendFlags, BackendStats, Control, Deadline, HOST_NONE, HostId, HostState, MODE_L2,
    PHASES_COUNTED,
};
use lb_common::reason::{Class, Reason};
use lb_laws::wire::hop;
use lb_userspace::dataplane::{
    Abilities, Dataplane, Options, PairCounters, ServiceTable, Sizes, SweepInput, Swept, Tables,
};
use lb_userspace::ring::SlotSet;
use sluice_tests::packets::{DESTINATION_MAC, Packet};

use crate::client::{KEY, Service};
use crate::rules::{Moves, Policy};
use crate::table::{self, Entry};

const XDP_DROP: u32 = 1;
const XDP_TX: u32 = 3;
/// A test run's frames come in by the loopback interface.
const LOOPBACK: u32 = 1;

pub struct Rig {
    pub plane: Dataplane,
    /// What is in force.
    published: (Vec<u32>, BTreeMap<HostId, HostState>, BTreeMap<HostId, Deadline>),
    /// Number of the counters of the host's first service.
    stats: BTreeMap<HostId, u32>,
    /// How services treat their flows, from the next publication on; a service that is not named does so by default.
    pub policies: BTreeMap<Service, Policy>,
    /// Of hosts that drain, from the next publication on.
    pub deadlines: BTreeMap<HostId, Deadline>,
}

/// For a ring of `ring_size` slots and hosts numbered within 64 of each other.
pub fn sizes(ring_size: u32, buckets: u32, overflow: u32) -> Sizes {
    Sizes { ring_size, ring_copies: 4, stats: 64, buckets, overflow }
}

/// What a data path is loaded with, under an instance name that no other has, of this process or another.
pub fn options(sizes: Sizes, timeouts: [u32; 8]) -> Options {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let instance = format!("kernel-model-{}-{number}", std::process::id());
    Options {
        instance,
        sizes,
        key: KEY,
        timeouts: flow::one_set(timeouts),
        udp_gap: [2; TIMEOUT_SETS],
        flood_gate: 0,
        abilities: Abilities::default(),
        test_clock: true,
        records: false,
    }
}

impl Rig {
    pub fn open(sizes: Sizes, timeouts: [u32; 8]) -> Rig {
        let plane = Dataplane::open(options(sizes, timeouts)).expect("the data path loads; needs root");
        let mut rig = Rig {
            plane,
            published: Default::default(),
            stats: BTreeMap::new(),
            policies: BTreeMap::new(),
            deadlines: BTreeMap::new(),
        };
        rig.reset();
        rig
    }

    /// An empty table, counters at zero, and no loss of state on record.
    pub fn reset(&mut self) {
        table::reset(&mut self.plane.maps);
        self.published = Default::default();
        self.deadlines.clear();
    }

    /// All pins are lost, and the data path knows.
    pub fn lose(&mut self, now: u64) {
        table::lose(&mut self.plane.maps, now);
    }

    pub fn forget(&mut self, entry: &Entry) {
        table::forget(&mut self.plane.maps, entry);
    }

    pub fn entries(&self) -> Vec<Entry> {
        table::entries(&self.plane.maps)
    }

    /// Publishes slots as in [`lb_common::layout::Slot`] and the states of hosts through the daemon's own code, unless
    /// they are in force already.
    pub fn publish(&mut self, words: &[u32], hosts: &BTreeMap<HostId, HostState>) {
        let (slots, states, deadlines) = &self.published;
        if slots == words && states == hosts && *deadlines == self.deadlines {
            return;
        }
        for &host in hosts.keys() {
            let number = self.stats.len() as u32 * Service::ALL.len() as u32;
            self.stats.entry(host).or_insert(number);
        }
        let service = |service: Service| {
            let keys = vec![service.key()];
            let backends =
                hosts.iter().map(|(&host, &state)| (host, self.backend(host, state, service).into()));
            (
                service as u16,
                ServiceTable { keys, policy: self.policy(service), ring: 0, backends: backends.collect() },
            )
        };
        let tables = Tables {
            services: Service::ALL.into_iter().map(service).collect(),
            clients: BTreeMap::new(),
            rings: BTreeMap::from([(0, words.to_vec())]),
            vips: BTreeMap::new(),
        };
        self.plane.publish(&tables).unwrap();
        self.published = (words.to_vec(), hosts.clone(), self.deadlines.clone());
    }

    fn policy(&self, service: Service) -> layout::Policy {
        let Policy { edges, client, moves } = self.policies.get(&service).copied().unwrap_or_default();
        let moves = match moves {
            Moves::Never => 0,
            Moves::AfterSilenceOf(gap) => {
                assert_eq!(gap, self.plane.options.udp_gap[0], "the gap is one for all");
                layout::Policy::GAP
            }
            Moves::AtOnce => layout::Policy::IMMEDIATE,
        };
        let edges = if edges { layout::Policy::EDGES } else { 0 };
        layout::Policy(moves | edges | if client { layout::Policy::CLIENT } else { 0 })
    }

    fn backend(&self, host: HostId, state: HostState, service: Service) -> Backend {
        let [high, low] = host.to_be_bytes();
        let deadline = self.deadlines.get(&host).copied().unwrap_or_default();
        Backend {
            control: Control::new(state).with_deadline(deadline).0,
            stats: self.stats[&host] + service as u32,
            ifindex: LOOPBACK,
            destination_mac: [2, 0, 0, 0, high, low],
            source_mac: [2, 0, 0, 1, 0, 0],
            mtu: 1500,
            mode: MODE_L2,
            flags: BackendFlags::REACHABLE,
            ..Backend::default()
        }
    }

    /// The host that the packet is sent to; [`HOST_NONE`] if it goes to
    /// none.
    pub fn send(&mut self, packet: &Packet) -> HostId {
        send(&mut self.plane, packet)
    }

    /// The counters of a host, over all services.
    pub fn counters(&self, host: HostId) -> PairCounters {
        let mut sum = PairCounters::default();
        for service in Service::ALL {
            let other = self.plane.pair_counters(self.stats[&host] + service as u32).unwrap();
            sum.packets += other.packets;
            sum.new_flows += other.new_flows;
            sum.evicted += other.evicted;
            sum.moved += other.moved;
            sum.reset += other.reset;
            sum.syns_again += other.syns_again;
            sum.client_resets += other.client_resets;
            sum.live.iter_mut().zip(other.live).for_each(|(sum, live)| *sum += live);
        }
        sum
    }

    /// The gauges of a host, over all services.
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
        table::counted(&self.plane, class)
    }

    /// Each gauge against the pins that the table holds, live or not; call it when no packet is under way.
    pub fn check_gauges(&self) {
        let mut counted: BTreeMap<HostId, [i64; PHASES_COUNTED]> =
            self.stats.keys().map(|&host| (host, [0; PHASES_COUNTED])).collect();
        for entry in self.entries() {
            // A flow that has been reset is in none.
            if let Some(gauge) = BackendStats::gauge_of(entry.word.phase()) {
                counted.get_mut(&entry.word.host()).expect("a host that was published")[gauge] += 1;
            }
        }
        for (host, counted) in counted {
            assert_eq!(self.gauges(host), counted, "gauges of host {host} and its pins in the table");
        }
    }

    /// The daemon's sweep. Also the slots with a live pin on another host than the owner, hosts that are drained aside.
    pub fn sweep(&mut self) -> (Swept, SlotSet) {
        let (words, hosts, _) = &self.published;
        let serves = |host: HostId| {
            hosts.get(&host).is_some_and(|state| !matches!(state, HostState::Gone | HostState::Drained))
        };
        let input = SweepInput {
            ring_of: &|cold| (cold.service() < 3).then_some(0),
            slots: &|ring| (ring == 0).then_some(words),
            state: &|_, host| hosts.get(&host).copied().unwrap_or(HostState::Gone),
            losers: &serves,
            drain_of: &|_, _| None,
            leaving: &|_, _| false,
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

/// The host that the packet is sent to, as the fifth and the sixth byte of its MAC address tell; [`HOST_NONE`] if it goes to
/// none.
pub fn send(plane: &mut Dataplane, packet: &Packet) -> HostId {
    // From no host's address.
    let frame = packet.clone().macs([2, 0, 0, 2, 0, 0], DESTINATION_MAC).build();
    let mut out = vec![0; frame.len() + 258];
    let options = TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..TestRunOptions::new() };
    let result = plane.program().unwrap().test_run(options).unwrap();
    match result.return_value {
        XDP_TX => {
            out.truncate(result.data_size_out as usize);
            // The client is told that nobody is there.
            if out[..12] == [&frame[6..12], &frame[..6]].concat() {
                return HOST_NONE;
            }
            let mut sent = frame[14..].to_vec();
            hop(&mut sent);
            assert_eq!(
                (&out[12..14], &out[14..]),
                (&frame[12..14], &sent[..]),
                "MAC addresses and a hop change"
            );
            assert_eq!((&out[..4], &out[6..12]), (&[2, 0, 0, 0][..], &[2, 0, 0, 1, 0, 0][..]));
            u16::from_be_bytes([out[4], out[5]])
        }
        XDP_DROP => HOST_NONE,
        verdict => panic!("verdict {verdict} for {packet:?}"),
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
