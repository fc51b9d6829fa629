//! All counters of the data path, and what a packet changed in them.

use std::collections::BTreeMap;
use std::ops::Add;

use lb_common::layout::HostId;
use lb_userspace::dataplane::PairCounters;

use super::{Rig, Setup};

/// Every counter at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    pub reasons: BTreeMap<&'static str, u64>,
    pub pairs: BTreeMap<u32, PairCounters>,
}

/// What counters changed by; those that did not are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    pub reasons: BTreeMap<&'static str, i64>,
    /// By service and host.
    pub pairs: BTreeMap<(u16, HostId), PairDelta>,
}

/// What the counters of a backend changed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairDelta {
    pub packets: i64,
    pub bytes: i64,
    pub new_flows: i64,
    pub evicted: i64,
    pub moved: i64,
    pub reset: i64,
    pub half_open: i64,
    pub established: i64,
    pub closing: i64,
    pub udp: i64,
}

impl PairDelta {
    /// One packet of so many bytes.
    pub fn packet(bytes: usize) -> Self {
        PairDelta { packets: 1, bytes: bytes as i64, ..Self::default() }
    }

    /// What the beginning or the growing old of flows changes.
    const fn gauges(new_flows: i64, [half_open, established, closing, udp]: [i64; 4]) -> Self {
        PairDelta {
            packets: 0,
            bytes: 0,
            new_flows,
            evicted: 0,
            moved: 0,
            reset: 0,
            half_open,
            established,
            closing,
            udp,
        }
    }

    fn between(before: &PairCounters, after: &PairCounters) -> Self {
        let change = |before: u64, after: u64| after.wrapping_sub(before) as i64;
        let live = |gauge: usize| after.live[gauge] - before.live[gauge];
        PairDelta {
            packets: change(before.packets, after.packets),
            bytes: change(before.bytes, after.bytes),
            new_flows: change(before.new_flows, after.new_flows),
            evicted: change(before.evicted, after.evicted),
            moved: change(before.moved, after.moved),
            reset: change(before.reset, after.reset),
            half_open: live(0),
            established: live(1),
            closing: live(2),
            udp: live(3),
        }
    }
}

pub const NOTHING: PairDelta = PairDelta::gauges(0, [0; 4]);
/// A TCP flow began.
pub const BEGAN: PairDelta = PairDelta::gauges(1, [1, 0, 0, 0]);
/// A UDP flow began.
pub const BEGAN_UDP: PairDelta = PairDelta::gauges(1, [0, 0, 0, 1]);

/// Changes of the gauges of half-open, established and closing pins.
pub const fn phases(half_open: i64, established: i64, closing: i64) -> PairDelta {
    PairDelta::gauges(0, [half_open, established, closing, 0])
}

impl Add for PairDelta {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        PairDelta {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            new_flows: self.new_flows + other.new_flows,
            evicted: self.evicted + other.evicted,
            moved: self.moved + other.moved,
            reset: self.reset + other.reset,
            half_open: self.half_open + other.half_open,
            established: self.established + other.established,
            closing: self.closing + other.closing,
            udp: self.udp + other.udp,
        }
    }
}

impl Delta {
    /// One count for each of the reasons.
    pub fn of<const N: usize>(reasons: [&'static str; N]) -> Self {
        let mut delta = Delta::default();
        for reason in reasons {
            *delta.reasons.entry(reason).or_default() += 1;
        }
        delta
    }

    /// The same, with a further change of a pair.
    pub fn pair(mut self, service: u16, host: HostId, change: PairDelta) -> Self {
        let changes = self.pairs.entry((service, host)).or_default();
        *changes = *changes + change;
        if *changes == PairDelta::default() {
            self.pairs.remove(&(service, host));
        }
        self
    }

    /// Counts of one reason.
    pub fn reason(&self, name: &str) -> i64 {
        self.reasons.get(name).copied().unwrap_or_default()
    }

    pub fn between(before: &Counts, after: &Counts) -> Self {
        let mut delta = Delta::default();
        for (&name, &count) in &after.reasons {
            let change = count as i64 - before.reasons[name] as i64;
            if change != 0 {
                delta.reasons.insert(name, change);
            }
        }
        for (&stats, counters) in &after.pairs {
            let old = before.pairs.get(&stats).copied().unwrap_or_default();
            let (service, host) = Setup::pair(stats);
            delta = delta.pair(service, host, PairDelta::between(&old, counters));
        }
        delta
    }
}

impl Rig {
    /// Reads every counter.
    pub fn counts(&self) -> Counts {
        let counters = self.dataplane.counters(self.stats.iter().copied()).expect("counters can be read");
        Counts {
            reasons: counters.reasons.into_iter().map(|(reason, count)| (reason.name(), count)).collect(),
            pairs: counters.pairs,
        }
    }
}
