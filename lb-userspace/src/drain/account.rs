//! The sums behind a receipt.

use std::collections::BTreeMap;

use crate::api::types::{AtDeadline, Outcome, Percentiles, Receipt};

use super::state::{Drain, Gauges, Start};

/// What became of a host's pins since the drain began. It always adds up:
///
/// ```text
/// flows at the start + appeared = ended + moved + reset + silent + kicked + evicted + live + unseen
/// ```
///
/// - *ended*: pins that went away by themselves: closed, reset by an end or idle past their timeout.
/// - *moved*, *reset*: ended by the data path at the deadline; *silent*: by the daemon, as they said nothing after it;
///   *kicked*: by an operator.
/// - *appeared*: pins that were not there at the start. Flows that lived before but had no pin (their pin was evicted,
///   or the table lost) get one with their next packet; that is legitimate and no new flow.
/// - *unseen*: pins that a lost table took along and that have not appeared again, for as long as their flows may be alive.
///
/// Pins are not followed one by one: between two sweeps only the difference is known, less what was counted by its cause
/// in between. A pin that appears and ends between two sweeps is therefore in none of the sums; all of them still agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    start: Start,
    last: Start,
    pub appeared: u64,
    pub ended: u64,
    pub moved: u64,
    pub reset: u64,
    pub silent: u64,
    pub kicked: u64,
    /// Of those that were reset or kicked, by the last look.
    unconfirmed: u64,
    pub evicted: u64,
    pub unseen: u64,
    /// New flows since the start: must be 0.
    pub new_flows: u64,
    /// Misrouted packets since the start: must be 0.
    pub misrouted: u64,
    /// By how much the must-be-zero counters grew since the start; those that did only.
    pub violations: BTreeMap<String, u64>,
    pub packets: u64,
    pub bytes: u64,
    /// As they were told last.
    durations: Option<Percentiles>,
}

impl Tally {
    pub fn new(start: Start) -> Self {
        Tally::between(start.clone(), start, 0)
    }

    /// The tally of a drain that began when the flow table and the counters were others, now lost: all begin at 0, and
    /// what they had counted is not known any more.
    pub fn after_loss(start: Start) -> Self {
        let unseen = start.flows;
        Tally::between(start, Start::default(), unseen)
    }

    fn between(start: Start, last: Start, unseen: u64) -> Self {
        Tally {
            start,
            last,
            appeared: 0,
            ended: 0,
            moved: 0,
            reset: 0,
            silent: 0,
            kicked: 0,
            unconfirmed: 0,
            evicted: 0,
            unseen,
            new_flows: 0,
            misrouted: 0,
            violations: BTreeMap::new(),
            packets: 0,
            bytes: 0,
            durations: None,
        }
    }

    /// Live flows at the start.
    pub fn flows_at_start(&self) -> u64 {
        self.start.flows
    }

    /// Live flows when the counters were taken in last.
    pub fn live(&self) -> u64 {
        self.last.flows
    }

    /// Takes in what happened since the last call.
    pub fn take(&mut self, gauges: &Gauges) {
        self.durations = gauges.durations;
        let now = Start::new(gauges, 0);
        self.unconfirmed = gauges.unconfirmed;
        let last = std::mem::replace(&mut self.last, now.clone());
        let grown_by = |sum: &mut u64, total: fn(&Start) -> u64| {
            let more = grown(total(&last), total(&now));
            *sum += more;
            more
        };
        grown_by(&mut self.new_flows, |s| s.new_flows_total);
        grown_by(&mut self.misrouted, |s| s.misrouted_total);
        grown_by(&mut self.packets, |s| s.packets_total);
        grown_by(&mut self.bytes, |s| s.bytes_total);
        for (name, &count) in &now.violations {
            let more = grown(last.violations.get(name).copied().unwrap_or_default(), count);
            if more > 0 {
                *self.violations.entry(name.clone()).or_default() += more;
            }
        }
        let after = now.flows
            + grown_by(&mut self.evicted, |s| s.evicted_total)
            + grown_by(&mut self.moved, |s| s.moved_total)
            + grown_by(&mut self.reset, |s| s.reset_total)
            + grown_by(&mut self.silent, |s| s.silent_total)
            + grown_by(&mut self.kicked, |s| s.kicked_total);
        if after <= last.flows {
            self.ended += last.flows - after;
        } else {
            let more = after - last.flows;
            let back = more.min(self.unseen);
            self.unseen -= back;
            self.appeared += more - back;
        }
    }

    /// Whoever lives has a pin: what has not been seen again was silent for longer than the idle timeout, and has ended.
    pub(super) fn give_up_unseen(&mut self) {
        self.ended += std::mem::take(&mut self.unseen);
    }

    /// The receipt of a drain that found its end: pins that are still unseen belong to flows that were silent for
    /// longer than the idle timeout, so they have ended.
    pub(super) fn drained(&self, drain: &Drain, now: u64) -> Receipt {
        // What was silent came to the end that the order names.
        let (silent_moved, silent_reset) = match drain.order.at_deadline {
            AtDeadline::Reset => (0, self.silent),
            AtDeadline::Keep | AtDeadline::Move => (self.silent, 0),
        };
        let outcome = if self.reset + silent_reset + self.kicked > 0 {
            Outcome::Reset
        } else if self.moved + silent_moved > 0 {
            Outcome::Moved
        } else {
            Outcome::Drained
        };
        Receipt {
            ended: self.ended + self.unseen,
            left: self.last.flows,
            ..self.receipt(drain, outcome, now)
        }
    }

    /// The receipt of a drain that was taken back: pins that are still unseen may be alive.
    pub(super) fn taken_back(&self, drain: &Drain, outcome: Outcome, now: u64) -> Receipt {
        Receipt { left: self.last.flows + self.unseen, ..self.receipt(drain, outcome, now) }
    }

    fn receipt(&self, drain: &Drain, outcome: Outcome, now: u64) -> Receipt {
        let seconds = now.saturating_sub(drain.started_at).max(1) as f64;
        Receipt {
            drain: drain.id,
            host: drain.host.clone(),
            service: drain.service.clone(),
            clients: drain.clients,
            outcome,
            by: drain.by.clone(),
            reason: drain.reason.clone(),
            started_at: drain.started_at,
            ended_at: now,
            generation: self.start.generation,
            order: drain.order,
            flows_at_start: self.start.flows,
            appeared: self.appeared,
            ended: self.ended,
            moved: self.moved,
            reset: self.reset,
            silent: self.silent,
            kicked: self.kicked,
            unconfirmed: self.unconfirmed,
            left: 0,
            evicted: self.evicted,
            new_flows: self.new_flows,
            misrouted: self.misrouted,
            violations: self.violations.clone(),
            packets: self.packets,
            bytes: self.bytes,
            packets_per_second: self.packets as f64 / seconds,
            bytes_per_second: self.bytes as f64 / seconds,
            durations: self.durations,
        }
    }
}

/// How much a counter grew; one that is smaller than before began again at 0.
fn grown(before: u64, now: u64) -> u64 {
    if now >= before { now - before } else { now }
}
