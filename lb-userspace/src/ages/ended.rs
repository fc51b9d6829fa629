//! Flows that have ended: how many of which duration, of each (service, host), in the last hour.

use std::collections::HashMap;

use lb_common::layout::HostId;

use super::scale::{self, BINS};
use super::survival::Exposure;
use crate::api::types::Percentiles;

/// Seconds for which ends are counted together.
const EPOCH: u32 = 900;
/// Epochs that are remembered, the present one among them: between 45 and 60 minutes.
const EPOCHS: u32 = 4;
/// Pairs that are remembered: with all epochs full some 5 KB each. Beyond that, nothing is learnt of new ones until others have had
/// no end for an hour.
const MOST_PAIRS: usize = 1 << 14;

/// Flows that are likely to last alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    pub service: u16,
    pub host: HostId,
    pub is_udp: bool,
}

/// A flow that has ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub pair: Pair,
    /// Its client's address, as in a tuple.
    pub client: [u64; 2],
    /// Second of the data path's clock of its last packet.
    pub at: u32,
    /// Seconds from its first packet to its last.
    pub duration: u32,
    /// Nobody closed it: its pin went by its idle timeout.
    pub is_silent: bool,
}

/// What the sweeps have told.
#[derive(Debug)]
pub struct Ended {
    /// Second in which the watching began.
    since: u32,
    epoch: u32,
    pairs: HashMap<Pair, Vec<Epoch>>,
}

#[derive(Debug)]
struct Epoch {
    number: u32,
    /// Flows whose end became known in it, by how they ended.
    closed: u32,
    silent: u32,
    /// Bin and flows whose last packet was in it; by bin.
    durations: Vec<(u8, u32)>,
}

impl Ended {
    /// `now` is the second of the data path's clock.
    pub fn new(now: u32) -> Self {
        Ended { since: now, epoch: now / EPOCH, pairs: HashMap::new() }
    }

    /// The first second that is remembered.
    fn from(&self) -> u32 {
        self.since.max(self.oldest() * EPOCH)
    }

    fn oldest(&self) -> u32 {
        self.epoch.saturating_sub(EPOCHS - 1)
    }

    /// Seconds that are remembered.
    pub fn window(&self, now: u32) -> u32 {
        now.saturating_sub(self.from())
    }

    /// Takes in what a sweep at `now` has found.
    pub fn take(&mut self, ends: &[End], now: u32) {
        if now / EPOCH != self.epoch {
            self.epoch = now / EPOCH;
            let oldest = self.oldest();
            self.pairs.retain(|_, epochs| {
                epochs.retain(|epoch| epoch.number >= oldest);
                !epochs.is_empty()
            });
        }
        for end in ends {
            self.add(end);
        }
    }

    fn add(&mut self, end: &End) {
        let (epoch, from) = (self.epoch, self.from());
        let is_full = self.pairs.len() >= MOST_PAIRS;
        let epochs = match self.pairs.get_mut(&end.pair) {
            Some(epochs) => epochs,
            None if is_full => return,
            None => self.pairs.entry(end.pair).or_default(),
        };
        let known = Epoch::of(epochs, epoch);
        *(if end.is_silent { &mut known.silent } else { &mut known.closed }) += 1;
        // Who was silent for longer than the window has ended before it.
        if end.at >= from {
            Epoch::of(epochs, end.at / EPOCH).count(end.duration);
        }
    }

    /// Flows of a pair that nobody closed, in the window.
    pub fn silent_flows(&self, pair: Pair) -> f64 {
        self.sum(pair, |epoch| epoch.silent)
    }

    /// Part of the flows of a pair that nobody closes.
    pub fn silent(&self, pair: Pair) -> f64 {
        let (silent, closed) = (self.silent_flows(pair), self.sum(pair, |epoch| epoch.closed));
        if silent + closed > 0.0 { silent / (silent + closed) } else { 0.0 }
    }

    fn sum(&self, pair: Pair, of: fn(&Epoch) -> u32) -> f64 {
        self.pairs.get(&pair).into_iter().flatten().map(|epoch| f64::from(of(epoch))).sum()
    }

    /// Adds the flows of a pair that have ended.
    pub fn expose(&self, pair: Pair, now: u32, exposure: &mut Exposure) {
        let from = self.from();
        for epoch in self.pairs.get(&pair).into_iter().flatten() {
            // When in the epoch a flow ended is not known: in its middle.
            let first = (epoch.number * EPOCH).max(from);
            let last = (epoch.number * EPOCH + EPOCH).min(now).max(first);
            let after = f64::from(first - from) + f64::from(last - first) / 2.0;
            for &(bin, flows) in &epoch.durations {
                let duration = f64::from(scale::lower(bin.into())) + scale::width(bin.into()) / 2.0;
                exposure.ended(duration - after, bin.into(), f64::from(flows));
            }
        }
    }
}

impl Epoch {
    /// The epoch of that number, which is the last one mostly.
    fn of(epochs: &mut Vec<Epoch>, number: u32) -> &mut Epoch {
        let at = match epochs.iter().rposition(|epoch| epoch.number == number) {
            Some(at) => at,
            None => {
                epochs.push(Epoch { number, closed: 0, silent: 0, durations: Vec::new() });
                epochs.len() - 1
            }
        };
        &mut epochs[at]
    }

    fn count(&mut self, duration: u32) {
        let bin = scale::bin(duration) as u8;
        match self.durations.binary_search_by_key(&bin, |&(bin, _)| bin) {
            Ok(at) => self.durations[at].1 += 1,
            Err(at) => self.durations.insert(at, (bin, 1)),
        }
    }
}

/// Durations or ages, how many of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u32; BINS]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: Box::new([0; BINS]), total: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, seconds: u32) {
        self.counts[scale::bin(seconds)] += 1;
        self.total += 1;
    }

    /// So many of a hundred are not longer, within the width of a bin; `None`: there are none.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let mut left = (self.total * percent).div_ceil(100);
        let bin = self.counts.iter().position(|&count| {
            let is_reached = u64::from(count) >= left;
            left = left.saturating_sub(u64::from(count));
            is_reached && self.total > 0
        });
        bin.map(|bin| u64::from(scale::longest(bin)))
    }

    pub fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles { p50: self.percentile(50)?, p99: self.percentile(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Pair = Pair { service: 3, host: 7, is_udp: false };

    fn ends(n: u32, at: u32, duration: u32, is_silent: bool) -> Vec<End> {
        (0..n).map(|_| End { pair: PAIR, client: [0; 2], at, duration, is_silent }).collect()
    }

    fn deaths(ended: &Ended, now: u32) -> f64 {
        let mut exposure = Exposure::default();
        ended.expose(PAIR, now, &mut exposure);
        exposure.deaths()
    }

    #[test]
    fn an_hour_is_remembered_and_no_more() {
        let mut ended = Ended::new(10_000);
        ended.take(&ends(6, 10_010, 4, false), 10_012);
        ended.take(&ends(2, 9_000, 5, true), 10_020);
        assert_eq!(deaths(&ended, 10_020), 6.0, "the silent ones ended before the watching began");
        assert_eq!((ended.silent(PAIR), ended.window(10_020)), (0.25, 20));
        ended.take(&[], 10_000 + 2700);
        assert_eq!((deaths(&ended, 12_700), ended.window(12_700)), (6.0, 2700));
        ended.take(&[], 13_600);
        assert_eq!((deaths(&ended, 13_600), ended.pairs.len()), (0.0, 0));
        assert!(ended.window(13_600) < 3600);
    }

    #[test]
    fn memory_has_a_bound() {
        let mut ended = Ended::new(0);
        for number in 0..70_000u32 {
            let pair = Pair { service: (number / 64) as u16, host: (number % 64) as u16, ..PAIR };
            ended.take(&[End { pair, client: [0; 2], at: 5, duration: 1, is_silent: false }], 6);
        }
        assert_eq!(ended.pairs.len(), MOST_PAIRS);
    }

    #[test]
    fn percentiles_are_within_a_bin() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentiles(), None);
        histogram.add(3);
        assert_eq!(histogram.percentiles(), Some(Percentiles { p50: 3, p99: 3 }));
        for seconds in 0..1000 {
            histogram.add(seconds);
        }
        let Percentiles { p50, p99 } = histogram.percentiles().unwrap();
        assert!((500..=563).contains(&p50) && (990..=1114).contains(&p99), "{p50} {p99}");
    }
}
