mod cases;
mod random;
mod reference;
mod world;

use crate::api::types::{AtDeadline, LiveFlows, Order};

use super::*;

const HOST: &str = "web-1";
/// Idle timeout of the tests, seconds.
const T: u64 = 30;

fn gauges(established: u64) -> Gauges {
    let live = LiveFlows { established, total: established, ..LiveFlows::default() };
    Gauges { live, ..Gauges::default() }
}

fn drain_event(id: u64, gauges: Gauges) -> Event {
    bounded(id, Order::default(), gauges)
}

fn bounded(id: u64, order: Order, gauges: Gauges) -> Event {
    Event::Drain { id, by: "ann".to_owned(), reason: Some("kernel".to_owned()), order, gauges }
}

fn published(gauges: Gauges) -> Event {
    Event::Published { gauges, generation: 12 }
}

/// A sweep at `clock` of a host whose pins have been complete since 0.
fn sweep(clock: u64, gauges: Gauges) -> Observation {
    Observation {
        counted: gauges.live.total,
        gauges,
        clock,
        complete_since: 0,
        slots_open_long_enough: false,
        idle_timeout: T,
    }
}

/// A machine that keeps what it did.
struct Run {
    state: State,
    actions: Vec<Action>,
}

impl Run {
    fn new() -> Self {
        Run { state: State::Active { last: None }, actions: Vec::new() }
    }

    /// Offers one event; returns the actions of this step.
    fn offer(&mut self, event: Event, now: u64) -> Vec<Action> {
        let before = std::mem::replace(&mut self.state, State::Active { last: None });
        let (state, actions) = step(&Target::host(HOST), before, event, now);
        self.state = state;
        self.actions.extend(actions.clone());
        actions
    }
}
