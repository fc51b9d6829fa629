//! The machine's state as the API shows it.

use crate::api::types::{AdminState, DrainStatus, LiveFlows};

use super::account::Tally;
use super::state::{Finished, State};
use super::waiting::waiting_for;

impl State {
    pub fn admin(&self) -> AdminState {
        match self {
            State::Active { .. } => AdminState::Active,
            State::Draining(_) => AdminState::Draining,
            State::Drained(_) => AdminState::Drained,
        }
    }

    /// The drain that is under way or was the last; `live` is the host's gauge now.
    pub fn status(&self, live: LiveFlows) -> Option<DrainStatus> {
        match self {
            State::Active { last } => last.as_ref().map(|finished| of_finished(finished, live)),
            State::Drained(finished) => Some(of_finished(finished, live)),
            State::Draining(draining) => Some(DrainStatus {
                id: draining.drain.id,
                host: draining.drain.host.clone(),
                state: "draining".to_owned(),
                started_at: draining.drain.started_at,
                by: draining.drain.by.clone(),
                reason: draining.drain.reason.clone(),
                flows_at_start: draining
                    .tally
                    .as_ref()
                    .map_or(draining.flows_when_asked, Tally::flows_at_start),
                live_flows: live,
                waiting_for: Some(waiting_for(draining, &live)),
                receipt: None,
            }),
        }
    }
}

fn of_finished(finished: &Finished, live: LiveFlows) -> DrainStatus {
    DrainStatus {
        id: finished.drain.id,
        host: finished.drain.host.clone(),
        state: finished.receipt.outcome.clone(),
        started_at: finished.drain.started_at,
        by: finished.drain.by.clone(),
        reason: finished.drain.reason.clone(),
        flows_at_start: finished.receipt.flows_at_start,
        live_flows: live,
        waiting_for: None,
        receipt: Some(finished.receipt.clone()),
    }
}
