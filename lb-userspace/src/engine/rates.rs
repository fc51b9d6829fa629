//! Rates from two looks at the counters.

use std::collections::BTreeMap;
use std::time::Instant;

use super::gauges::Sum;
use super::{Engine, Error};
use crate::api::types::{Load, Traffic};

/// Time between two samples: long enough to be steady, short enough to be now.
const INTERVAL_SECONDS: f64 = 1.0;

/// The last two samples of every backend's counters.
#[derive(Default)]
pub struct Rates {
    last: Option<(Instant, BTreeMap<u32, Sum>)>,
    /// Packets, bytes and new flows a second.
    rates: BTreeMap<u32, [f64; 3]>,
    /// There were two samples.
    is_known: bool,
}

impl Rates {
    /// Of all backends together; `None`: there are no two samples yet.
    pub fn packets_per_second(&self) -> Option<f64> {
        self.is_known.then(|| self.rates.values().map(|[packets, ..]| packets).sum())
    }
}

impl Engine {
    /// Takes a sample if the last one is old enough.
    pub(super) fn sample_rates(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let age = self.rates.last.as_ref().map(|(at, _)| now.duration_since(*at).as_secs_f64());
        if age.is_some_and(|age| age < INTERVAL_SECONDS * 0.9) {
            return Ok(());
        }
        // Hosts that have left the config have numbers of their own, and go on with the flows that they have.
        let leaving = self.leaving.values().map(|backend| backend.record.stats);
        let all = self.ids.stats.values().chain(self.tallies.values()).copied().chain(leaving);
        let sample: BTreeMap<u32, Sum> =
            self.dataplane.pairs(all)?.iter().map(|(&index, counters)| (index, Sum::of(counters))).collect();
        if let (Some((_, old)), Some(age)) = (&self.rates.last, age) {
            self.rates.is_known = true;
            let rate = |new: u64, old: u64| new.saturating_sub(old) as f64 / age;
            self.rates.rates = sample
                .iter()
                .filter_map(|(index, new)| {
                    let old = old.get(index)?;
                    let rates = [
                        rate(new.packets, old.packets),
                        rate(new.bytes, old.bytes),
                        rate(new.new_flows, old.new_flows),
                    ];
                    Some((*index, rates))
                })
                .collect();
        }
        self.rates.last = Some((now, sample));
        Ok(())
    }

    /// What a host gets of a service, by the last two samples.
    pub(super) fn load(&self, service: &str, host: &str) -> Load {
        let index = self.ids.stats.get(&(service.to_owned(), host.to_owned()));
        let [packets, bytes, new_flows] =
            index.and_then(|index| self.rates.rates.get(index)).copied().unwrap_or_default();
        Load { new_flows_per_second: new_flows, packets_per_second: packets, bytes_per_second: bytes }
    }

    /// Counters and rates of these backends together.
    pub(super) fn traffic(&self, stats: impl IntoIterator<Item = u32>) -> Result<(Sum, Traffic), Error> {
        let (mut sum, mut rates) = (Sum::default(), [0.0; 3]);
        for (index, counters) in self.dataplane.pairs(stats)? {
            sum.add(&counters);
            for (total, rate) in rates.iter_mut().zip(self.rates.rates.get(&index).unwrap_or(&[0.0; 3])) {
                *total += rate;
            }
        }
        let traffic = Traffic {
            packets: sum.packets,
            bytes: sum.bytes,
            new_flows: sum.new_flows,
            packets_per_second: rates[0],
            bytes_per_second: rates[1],
            new_flows_per_second: rates[2],
        };
        Ok((sum, traffic))
    }
}
