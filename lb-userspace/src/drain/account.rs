//! The sums behind a receipt.

use crate::api::types::Receipt;

use super::state::{Drain, Gauges, Start};

/// What became of a host's pins since the drain began. It always adds up:
///
/// ```text
/// flows at the start + appeared = ended + evicted + live + unseen
/// ```
///
/// - *ended*: pins that went away and were not evicted: closed, reset or idle past their timeout.
/// - *appeared*: pins that were not there at the start. Flows that lived before but had no pin (their pin was evicted,
///   or the table lost) get one with their next packet; that is legitimate and no new flow.
/// - *unseen*: pins that a lost table took along and that have not appeared again.
///
/// Pins are not followed one by one: between two sweeps only the difference is known, less what was evicted in
/// between. A pin that appears and ends between two sweeps is therefore in none of the sums; all of them still agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    start: Start,
    last: Start,
    pub appeared: u64,
    pub ended: u64,
    pub evicted: u64,
    pub unseen: u64,
    /// New flows since the start: must be 0.
    pub new_flows: u64,
    /// Misrouted packets since the start: must be 0.
    pub misrouted: u64,
}

impl Tally {
    pub fn new(start: Start) -> Self {
        Tally::empty(start)
    }

    /// The tally of a drain that began when the flow table and the counters were others, now lost: all begin at 0.
    pub fn after_loss(start: Start) -> Self {
        Tally { start, unseen: start.flows, ..Tally::empty(Start::default()) }
    }

    fn empty(at: Start) -> Self {
        Tally {
            start: at,
            last: at,
            appeared: 0,
            ended: 0,
            evicted: 0,
            unseen: 0,
            new_flows: 0,
            misrouted: 0,
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
        let now = Start::from(gauges);
        let evicted = grown(self.last.evicted_total, now.evicted_total);
        self.evicted += evicted;
        self.new_flows += grown(self.last.new_flows_total, now.new_flows_total);
        self.misrouted += grown(self.last.misrouted_total, now.misrouted_total);
        let after = now.flows + evicted;
        if after <= self.last.flows {
            self.ended += self.last.flows - after;
        } else {
            let more = after - self.last.flows;
            let back = more.min(self.unseen);
            self.unseen -= back;
            self.appeared += more - back;
        }
        self.last = now;
    }

    /// The receipt of a drain that found its end: pins that are still unseen belong to flows that were silent for
    /// longer than the idle timeout, so they have ended.
    pub(super) fn drained(&self, drain: &Drain, now: u64) -> Receipt {
        self.receipt(drain, "drained", now, self.ended + self.unseen, self.last.flows)
    }

    /// The receipt of a drain that was taken back: pins that are still unseen may be alive.
    pub(super) fn undrained(&self, drain: &Drain, now: u64) -> Receipt {
        self.receipt(drain, "undrained", now, self.ended, self.last.flows + self.unseen)
    }

    fn receipt(&self, drain: &Drain, outcome: &str, now: u64, ended: u64, left: u64) -> Receipt {
        Receipt {
            drain: drain.id,
            host: drain.host.clone(),
            outcome: outcome.to_owned(),
            by: drain.by.clone(),
            reason: drain.reason.clone(),
            started_at: drain.started_at,
            ended_at: now,
            flows_at_start: self.start.flows,
            ended,
            left,
            evicted: self.evicted,
            new_flows: self.new_flows,
            misrouted: self.misrouted,
        }
    }
}

/// How much a counter grew; one that is smaller than before began again at 0.
fn grown(before: u64, now: u64) -> u64 {
    if now >= before { now - before } else { now }
}
