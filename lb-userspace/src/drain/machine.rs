//! The steps of the machine.

use crate::api::types::{AtDeadline, Order, Outcome, Receipt};

use super::account::Tally;
use super::state::{Drain, Draining, Finished, Gauges, Observation, Start, State, Target};

/// What happens to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An operator wants the host out. A host that is out already stays so by the drain that it has, whose order may become
    /// another one.
    Drain {
        /// The number of the drain if this begins one; never used before.
        id: u64,
        by: String,
        reason: Option<String>,
        /// The order that the drain is to have, see [`super::Wish`]. Of a drain that is done, only its lease counts.
        order: Order,
        gauges: Gauges,
    },
    /// Rings that leave the host out are published and the grace period is over: from now on no new flow can reach
    /// it, so the gauges, read after that, are the zero line of the receipt. Only the first one of a drain counts.
    Published { gauges: Gauges, generation: u64 },
    /// An operator wants the host back. Without effect on a host that is in use.
    Undrain { gauges: Gauges },
    /// A full sweep of the flow table has ended.
    Sweep(Observation),
    /// The host is not named by the config any more, and neither a pin nor a slot names it: nothing can come to it.
    Left { gauges: Gauges },
    /// Time has passed, and what this leads to could be published: a lease may have run out.
    Time { gauges: Gauges },
}

/// What the daemon has to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Journal: note the drain, before anything is changed.
    Begin(Drain),
    /// Journal: the drain has another order now, before anything is changed.
    Amend { drain: u64, order: Order },
    /// Journal: note the zero line of the drain's receipt.
    NoteStart { drain: u64, start: Start },
    /// Publish rings by the new administrative states, and close or open handovers accordingly.
    PublishRings,
    /// Publish tables alone: the host's deadline is another one.
    PublishTables,
    /// Data path: end the flows of the host that have said nothing since the deadline.
    EndSilent { host: String, action: AtDeadline },
    /// Data path: give no stateless answer that names the host any more; pins go on to work.
    SealHost(String),
    /// Data path: take the seal off. Harmless where there is none.
    UnsealHost(String),
    /// Journal: the drain is done.
    Finish(Receipt),
    /// Journal: the host is in use again; `receipt` is there if this ended a drain under way.
    TakeBack { drain: u64, receipt: Option<Receipt> },
}

/// One step of what is drained. `now` is Unix time in seconds: it is noted, and compared with deadline and lease, which are
/// given in it.
pub fn step(target: &Target, state: State, event: Event, now: u64) -> (State, Vec<Action>) {
    let host = &target.host;
    match (state, event) {
        // A part that is done gives way to another part, or the whole.
        (State::Drained(finished), Event::Drain { id, by, reason, order, gauges })
            if finished.drain.order.share.is_some() && order.share != finished.drain.order.share =>
        {
            let active = State::Active { last: None };
            step(target, active, Event::Drain { id, by, reason, order, gauges }, now)
        }
        (State::Active { .. }, Event::Drain { id, by, reason, order, gauges }) => {
            let Target { host, service, clients } = target.clone();
            let drain = Drain { id, host, service, clients, started_at: now, by, reason, order, start: None };
            let actions = vec![Action::Begin(drain.clone()), Action::PublishRings];
            let draining = Draining {
                drain,
                tally: None,
                sealed: false,
                flows_when_asked: gauges.live.total,
                seen: None,
            };
            (State::Draining(Box::new(draining)), actions)
        }
        (State::Draining(mut draining), Event::Drain { order, .. }) if order != draining.drain.order => {
            let before = std::mem::replace(&mut draining.drain.order, order);
            if order.share != before.share {
                // Other flows are meant: they are counted from the next publication on.
                (draining.drain.start, draining.tally, draining.seen) = (None, None, None);
            }
            let mut actions = vec![Action::Amend { drain: draining.drain.id, order }];
            // The look that led to the seal may have gone by the deadline of before.
            if std::mem::take(&mut draining.sealed) && before.share.is_none() {
                actions.push(Action::UnsealHost(host.to_owned()));
            }
            actions.push(if order.share == before.share {
                Action::PublishTables
            } else {
                Action::PublishRings
            });
            (State::Draining(draining), actions)
        }
        (State::Drained(mut finished), Event::Drain { order: Order { lease, .. }, .. })
            if lease != finished.drain.order.lease =>
        {
            finished.drain.order.lease = lease;
            let (drain, order) = (finished.drain.id, finished.drain.order);
            (State::Drained(finished), vec![Action::Amend { drain, order }])
        }
        (State::Draining(mut draining), Event::Published { gauges, generation })
            if draining.tally.is_none() =>
        {
            let start = Start::new(&gauges, generation);
            draining.drain.start = Some(start.clone());
            draining.tally = Some(Tally::new(start.clone()));
            let drain = draining.drain.id;
            (State::Draining(draining), vec![Action::NoteStart { drain, start }])
        }
        (State::Draining(mut draining), Event::Left { gauges }) => {
            let mut tally = draining.tally.take().unwrap_or_else(|| Tally::new(Start::new(&gauges, 0)));
            tally.take(&gauges);
            let receipt = tally.drained(&draining.drain, now);
            let actions = vec![Action::Finish(receipt.clone())];
            (State::Drained(Box::new(Finished { drain: draining.drain, receipt })), actions)
        }
        (State::Draining(draining), Event::Sweep(observation)) => sweep(draining, observation, now),
        (State::Draining(draining), Event::Undrain { gauges }) => {
            take_back(*draining, &gauges, Outcome::Undrained, now)
        }
        (State::Draining(draining), Event::Time { gauges }) if draining.drain.order.is_lease_over(now) => {
            take_back(*draining, &gauges, Outcome::LeaseOver, now)
        }
        (State::Drained(finished), Event::Undrain { .. }) => give_back(finished),
        (State::Drained(finished), Event::Time { .. }) if finished.drain.order.is_lease_over(now) => {
            give_back(finished)
        }
        (state, _) => (state, Vec::new()),
    }
}

fn sweep(mut draining: Box<Draining>, observation: Observation, now: u64) -> (State, Vec<Action>) {
    let order = draining.drain.order;
    let (done, counted) = (observation.done(order.ends_all(now)), observation.counted);
    let (gauges, is_complete) = (observation.gauges.clone(), observation.is_complete());
    draining.seen = Some((observation, now));
    let Some(tally) = draining.tally.as_mut() else {
        return (State::Draining(draining), Vec::new());
    };
    tally.take(&gauges);
    if is_complete {
        tally.give_up_unseen();
    }
    let host = draining.drain.host.clone();
    // A host that gives up a part is in use, so no seal keeps late packets out of the slots that it gave up: their handover does.
    let is_whole = order.share.is_none();
    let mut actions = Vec::new();
    match (done, draining.sealed) {
        (true, true) => {
            let receipt = tally.drained(&draining.drain, now);
            let actions = vec![Action::Finish(receipt.clone()), Action::PublishRings];
            return (State::Drained(Box::new(Finished { drain: draining.drain, receipt })), actions);
        }
        (true, false) => {
            draining.sealed = true;
            actions.extend(is_whole.then(|| Action::SealHost(host.clone())));
        }
        (false, true) => {
            draining.sealed = false;
            actions.extend(is_whole.then(|| Action::UnsealHost(host.clone())));
        }
        (false, false) => {}
    }
    if counted > 0 && order.ends_silent(now) {
        actions.push(Action::EndSilent { host, action: order.at_deadline });
    }
    (State::Draining(draining), actions)
}

/// Ends a drain under way.
fn take_back(mut draining: Draining, gauges: &Gauges, outcome: Outcome, now: u64) -> (State, Vec<Action>) {
    let mut tally = draining.tally.take().unwrap_or_else(|| Tally::new(Start::new(gauges, 0)));
    tally.take(gauges);
    let receipt = tally.taken_back(&draining.drain, outcome, now);
    let mut actions = vec![Action::TakeBack { drain: draining.drain.id, receipt: Some(receipt.clone()) }];
    if draining.sealed && draining.drain.order.share.is_none() {
        actions.push(Action::UnsealHost(draining.drain.host.clone()));
    }
    actions.push(Action::PublishRings);
    (State::Active { last: Some(Box::new(Finished { drain: draining.drain, receipt })) }, actions)
}

/// Puts a host to use again whose drain is done.
fn give_back(finished: Box<Finished>) -> (State, Vec<Action>) {
    let mut actions = vec![Action::TakeBack { drain: finished.drain.id, receipt: None }];
    if finished.drain.order.share.is_none() {
        actions.push(Action::UnsealHost(finished.drain.host.clone()));
    }
    actions.push(Action::PublishRings);
    (State::Active { last: Some(finished) }, actions)
}

/// The state of a host whose drain the journal knows to be in force, after a restart of the daemon, and what brings
/// the data path in line with it. `receipt` is there if the drain was done. `counters_kept` says whether the flow
/// table and its counters outlived the restart; after a reboot they have not, and a start of before says so from then on.
///
/// The start publishes the rings anyway: a drain that was killed before its first publication then gets its
/// [`Event::Published`]. It must also unseal the hosts without a drain in force, for the daemon may have been killed in the
/// middle of an undrain.
pub fn resume(drain: Drain, receipt: Option<Receipt>, counters_kept: bool) -> (State, Vec<Action>) {
    let host = drain.host.clone();
    if let Some(receipt) = receipt {
        let seal = drain.order.share.is_none().then_some(Action::SealHost(host));
        return (State::Drained(Box::new(Finished { drain, receipt })), seal.into_iter().collect());
    }
    let tally = drain
        .start
        .clone()
        .map(|s| if counters_kept && !s.is_gone { Tally::new(s) } else { Tally::after_loss(s) });
    let flows_when_asked = drain.start.as_ref().map_or(0, |start| start.flows);
    let draining = Draining { drain, tally, sealed: false, flows_when_asked, seen: None };
    (State::Draining(Box::new(draining)), vec![Action::UnsealHost(host)])
}
