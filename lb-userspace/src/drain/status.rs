//! The machine's state as the API shows it.

use crate::api::types::{AdminState, DrainStatus, LiveFlows, Order};

use super::account::Tally;
use super::state::{Drain, Draining, Finished, Observation, State};
use super::waiting::waiting_for;

impl State {
    pub fn admin(&self) -> AdminState {
        match self {
            State::Active { .. } => AdminState::Active,
            State::Draining(_) => AdminState::Draining,
            State::Drained(_) => AdminState::Drained,
        }
    }

    /// The drain in force.
    pub fn drain(&self) -> Option<&Drain> {
        match self {
            State::Active { .. } => None,
            State::Draining(draining) => Some(&draining.drain),
            State::Drained(finished) => Some(&finished.drain),
        }
    }

    /// How the drain in force is bounded.
    pub fn order(&self) -> Option<Order> {
        self.drain().map(|drain| drain.order)
    }

    /// The drain that is under way or was the last; `live` is the host's gauge at `now`, a Unix time.
    pub fn status(&self, live: LiveFlows, now: u64) -> Option<DrainStatus> {
        match self {
            State::Active { last } => last.as_ref().map(|finished| of_finished(finished, live, now)),
            State::Drained(finished) => Some(of_finished(finished, live, now)),
            State::Draining(draining) => Some(DrainStatus {
                id: draining.drain.id,
                host: draining.drain.host.clone(),
                service: draining.drain.service.clone(),
                clients: draining.drain.clients,
                state: "draining".to_owned(),
                started_at: draining.drain.started_at,
                by: draining.drain.by.clone(),
                reason: draining.drain.reason.clone(),
                order: draining.drain.order,
                overdue_since: draining.overdue_since(&live, now),
                as_of: now,
                flows_at_start: draining
                    .tally
                    .as_ref()
                    .map_or(draining.flows_when_asked, Tally::flows_at_start),
                live_flows: live,
                waiting_for: Some(waiting_for(draining, &live)),
                progress: None,
                ramp: None,
                receipt: None,
            }),
        }
    }
}

impl Draining {
    /// Since when the deadline has passed with flows left that go on. While only a last look is missing, none is left.
    pub fn overdue_since(&self, live: &LiveFlows, now: u64) -> Option<u64> {
        let may_hide = |(seen, _): &(Observation, u64)| seen.gauges.live.total == 0 && !seen.done(false);
        let is_left = live.total > 0 || self.seen.as_ref().is_some_and(may_hide);
        self.drain.order.overdue_since(now).filter(|_| is_left)
    }
}

fn of_finished(finished: &Finished, live: LiveFlows, now: u64) -> DrainStatus {
    DrainStatus {
        id: finished.drain.id,
        host: finished.drain.host.clone(),
        service: finished.drain.service.clone(),
        clients: finished.drain.clients,
        state: if finished.receipt.outcome.is_taken_back() { "undrained" } else { "drained" }.to_owned(),
        started_at: finished.drain.started_at,
        by: finished.drain.by.clone(),
        reason: finished.drain.reason.clone(),
        order: finished.drain.order,
        overdue_since: None,
        as_of: now,
        flows_at_start: finished.receipt.flows_at_start,
        live_flows: live,
        waiting_for: None,
        progress: None,
        ramp: None,
        receipt: Some(finished.receipt.clone()),
    }
}
