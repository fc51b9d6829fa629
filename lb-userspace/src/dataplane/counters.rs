//! Reading the counters, and setting the gauges right.

use std::collections::BTreeMap;

use lb_common::atomic;
use lb_common::flow::{Phase, Word};
use lb_common::layout::{BackendStats, HostId, PHASES_COUNTED, state};
use lb_common::reason::{REASONS, Reason};

use super::{Dataplane, Error, batch, grace_period, programs};
use crate::metrics::Program;

/// Counters of one (service, host), summed over CPUs and the daemon's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairCounters {
    pub packets: u64,
    pub bytes: u64,
    pub new_flows: u64,
    pub evicted: u64,
    pub moved: u64,
    pub reset: u64,
    /// Flows that the daemon ended, see [`Dataplane::end`].
    pub silent: u64,
    /// Flows that an operator has ended.
    pub kicked: u64,
    /// TCP flows that began with a SYN, and those of them that somebody had answered, as their client acknowledged or ended them. Only
    /// differences mean something: a data path that takes over begins anew.
    pub asked: u64,
    pub answered: u64,
    /// As in [`BackendStats`].
    pub syns_again: u64,
    pub unanswered: u64,
    pub client_resets: u64,
    /// Live pins by phase.
    pub live: [i64; PHASES_COUNTED],
    /// Changes of the gauges so far: equal before and after a look means that nothing happened in between.
    pub changes: u64,
}

/// Gauge of the phase half-open.
const HALF_OPEN: usize = BackendStats::gauge_of(Phase::HalfOpen).unwrap();

impl PairCounters {
    fn add(&mut self, stats: &BackendStats) {
        self.packets += stats.packets;
        self.bytes += stats.bytes;
        self.new_flows += stats.new_flows;
        self.evicted += stats.evicted;
        self.moved += stats.moved;
        self.reset += stats.reset;
        self.syns_again += stats.syns_again;
        self.unanswered += stats.unanswered;
        self.client_resets += stats.client_resets;
        self.asked = self.asked.wrapping_add(stats.entered[HALF_OPEN]);
        self.answered = self.answered.wrapping_add(stats.left[HALF_OPEN]).wrapping_sub(stats.unanswered);
        for (live, (entered, left)) in self.live.iter_mut().zip(stats.entered.iter().zip(&stats.left)) {
            *live = live.wrapping_add(entered.wrapping_sub(*left) as i64);
            self.changes = self.changes.wrapping_add(*entered).wrapping_add(*left);
        }
    }
}

/// Counters of the whole instance.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// By number of the counters.
    pub pairs: BTreeMap<u32, PairCounters>,
    /// Packets by reason, every reason.
    pub reasons: Vec<(Reason, u64)>,
}

impl Dataplane {
    /// Reads the counters with these numbers, and the reasons.
    pub fn counters(&self, stats: impl IntoIterator<Item = u32>) -> Result<Counters, Error> {
        let mut counted = vec![0; REASONS as usize];
        batch::read(
            &self.maps.reason_counts,
            Reason::ALL.iter().map(|&reason| reason as u32),
            |place, counts| {
                counted[place as usize] = counts.iter().sum();
            },
        )
        .map_err(Error::map("REASON_COUNTS"))?;
        let reasons = Reason::ALL
            .iter()
            .map(|&reason| (reason, counted[reason as usize] + self.maps.inherited.reason(reason)))
            .collect();
        Ok(Counters { pairs: self.pairs(stats)?, reasons })
    }

    /// Reads the counters with these numbers.
    pub fn pairs(&self, stats: impl IntoIterator<Item = u32>) -> Result<BTreeMap<u32, PairCounters>, Error> {
        let mut pairs = BTreeMap::new();
        batch::read(&self.maps.backend_stats, stats, |index, by_cpu| {
            pairs.insert(index, self.pair_of(index, by_cpu));
        })
        .map_err(Error::map("BACKEND_STATS"))?;
        Ok(pairs)
    }

    /// Runs of the attached program and the time that they took, as far as the kernel has measured them: while
    /// `kernel.bpf_stats_enabled` is 1. `None`: it never was.
    pub fn program_time(&mut self) -> Result<Option<Program>, Error> {
        let info = programs::attached(&mut self.ebpf, &self.options)?.info()?;
        Ok((info.run_count() != 0).then(|| Program { runs: info.run_count(), took: info.run_time() }))
    }

    /// Records of services, and places for their hosts, that are in use; at most [`crate::config::limits::MAX_RECORDS`], and
    /// [`lb_common::layout::PAIRS`].
    pub fn in_use(&self) -> (usize, usize) {
        (self.maps.services.in_use(), self.publisher.pairs.used())
    }

    /// Counters of one (service, host).
    pub fn pair_counters(&self, index: u32) -> Result<PairCounters, Error> {
        let by_cpu = self.maps.backend_stats.get(&index, 0).map_err(Error::map("BACKEND_STATS"))?;
        Ok(self.pair_of(index, &by_cpu))
    }

    fn pair_of(&self, index: u32, by_cpu: &[BackendStats]) -> PairCounters {
        let mut counters = PairCounters::default();
        by_cpu.iter().for_each(|stats| counters.add(stats));
        let [by_cpus, by_daemons] = self.maps.inherited.stats(index);
        counters.add(&by_cpus);
        for own in [self.maps.user_stats.get(index), by_daemons] {
            // What the daemon booked itself as moved or reset was silent.
            counters.add(&BackendStats { moved: 0, reset: 0, ..own });
            counters.silent += own.moved + own.reset;
            counters.kicked += own.kicked;
        }
        counters
    }

    /// From now on, and for as long as a flow may be silent, the host has live flows that no pin counts.
    pub fn mark_incomplete(&self, host: HostId) {
        self.maps.incomplete_since.store(u32::from(host), u64::from(self.now()));
    }

    /// Second of the data path's clock in which the host may last have had live flows without a pin: one was dropped, found no
    /// place, or is not tracked.
    pub fn incomplete_since(&self, host: HostId) -> u64 {
        self.maps.incomplete_since.load(u32::from(host))
    }

    /// From now on handovers are as if they had opened now, as far as their end is concerned.
    pub fn mark_lost(&self) {
        self.maps.state.store(state::LOST_AT, u64::from(self.now()));
    }

    /// Second of the last loss of state.
    pub fn lost_at(&self) -> u64 {
        self.maps.state.load(state::LOST_AT)
    }

    /// Sets the gauges of these counters right by counting pins. A daemon or a packet that died between the swap of a
    /// word and its booking leaves a gauge off by one for ever otherwise. Only gauges that did not change while they
    /// were counted are touched; the others are returned, to be tried again.
    pub fn recount(&mut self, stats: &[u32]) -> Result<Vec<u32>, Error> {
        let before = self.pairs(stats.iter().copied())?;
        let mut counted: BTreeMap<u32, [i64; PHASES_COUNTED]> =
            stats.iter().map(|&index| (index, [0; PHASES_COUNTED])).collect();
        let mut count = |word: Word, stats: u32| {
            if let (Some(gauge), Some(live)) = (BackendStats::gauge_of(word.phase()), counted.get_mut(&stats))
            {
                live[gauge] += 1;
            }
        };
        for index in 0..self.maps.sizes.words() {
            // SAFETY: a word of the mapped array.
            let word = Word(unsafe { atomic::load(self.maps.word(index)) });
            if word.phase().is_pin() {
                count(word, self.maps.cold.get(index).stats);
            }
        }
        for (_, entry) in self.maps.overflow.iter().flatten() {
            count(Word(entry.word), entry.cold.stats);
        }
        // A packet that had swapped a word when it was counted has booked it by then.
        grace_period()?;
        let mut busy = Vec::new();
        for (&index, live) in &counted {
            let after = self.pair_counters(index)?;
            if after.changes != before[&index].changes {
                busy.push(index);
                continue;
            }
            let mut user = self.maps.user_stats.get(index);
            for (gauge, (&right, shown)) in live.iter().zip(after.live).enumerate() {
                let missing = right.wrapping_sub(shown);
                if missing != 0 {
                    log::warn!(
                        "gauge {gauge} of counters {index} showed {shown}, counted {right}: corrected"
                    );
                    user.entered[gauge] = user.entered[gauge].wrapping_add(missing as u64);
                }
            }
            self.maps.user_stats.set(index, user);
        }
        Ok(busy)
    }
}
