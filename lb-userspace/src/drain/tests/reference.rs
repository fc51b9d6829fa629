//! A plain model of the machine: the whole history is kept, and each answer is worked out from its beginning. The second at which
//! an event happens is its place in the history.

use crate::api::types::AdminState;

use super::*;

/// What a history means, by the rules in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub admin: AdminState,
    /// The drain in force or the last one.
    pub drain: Option<u64>,
    /// Of the drain in force.
    pub order: Option<Order>,
    pub sealed: bool,
    /// The last event led to the end of silent flows.
    pub ends_silent: bool,
}

pub(super) fn meaning(history: &[Event]) -> Meaning {
    let (mut begin, mut drain) = (None, None);
    for (second, event) in history.iter().enumerate() {
        match event {
            // The first one after the host was in use.
            Event::Drain { id, .. } if begin.is_none() => (begin, drain) = (Some(second), Some(*id)),
            Event::Undrain { .. } => begin = None,
            Event::Time { .. } => {
                // Every drain since renews the lease, whatever the state.
                let lease = begin.and_then(|begin| last_order(&history[begin..second])?.lease);
                begin = begin.filter(|_| lease.is_none_or(|lease| (second as u64) < lease));
            }
            _ => {}
        }
    }
    let Some(begin) = begin else {
        return Meaning { admin: AdminState::Active, drain, order: None, sealed: false, ends_silent: false };
    };
    let is_published = |event: &Event| matches!(event, Event::Published { .. });
    let published = history[begin..].iter().position(is_published).map_or(history.len(), |i| begin + i);
    // What each sweep since said, by the order that was the last one then.
    let mut looks = Vec::new();
    for (second, event) in history.iter().enumerate().skip(published) {
        if let (Event::Sweep(o), Some(order)) = (event, last_order(&history[begin..second])) {
            looks.push((second, by_the_rule(o, &order, second as u64)));
        }
    }
    // Another order in between makes a look worthless.
    let is_amended = |from: usize, to: usize| {
        let mut orders = (from..to).filter(|&i| matches!(history[i], Event::Drain { .. }));
        orders.any(|i| last_order(&history[begin..=i]) != last_order(&history[begin..i]))
    };
    let confirms = |pair: &&[(usize, bool)]| pair[0].1 && pair[1].1 && !is_amended(pair[0].0, pair[1].0);
    let drained = looks.windows(2).find(confirms).map(|pair| pair[1].0);
    let order = last_order(&history[begin..]).map(|last| match drained {
        // From then on only the lease counts.
        Some(second) => {
            Order { lease: last.lease, ..last_order(&history[begin..second]).unwrap_or_default() }
        }
        None => last,
    });
    let ends_silent = match (history.last(), &order) {
        (Some(Event::Sweep(o)), Some(order)) if drained.is_none() && published < history.len() => {
            let now = history.len() as u64 - 1;
            o.counted > 0 && ends_flows(order).is_some_and(|end| now >= end + 5)
        }
        _ => false,
    };
    Meaning {
        admin: if drained.is_some() { AdminState::Drained } else { AdminState::Draining },
        drain,
        order,
        sealed: drained.is_some()
            || looks.last().is_some_and(|&(at, done)| done && !is_amended(at, history.len())),
        ends_silent,
    }
}

fn last_order(history: &[Event]) -> Option<Order> {
    history.iter().rev().find_map(|e| if let Event::Drain { order, .. } = e { Some(*order) } else { None })
}

/// When the deadline has ended every flow that speaks.
fn ends_flows(order: &Order) -> Option<u64> {
    let moves_or_resets = matches!(order.at_deadline, AtDeadline::Move | AtDeadline::Reset);
    Some(order.deadline? + u64::from(order.spread)).filter(|_| moves_or_resets)
}

fn by_the_rule(o: &Observation, order: &Order, now: u64) -> bool {
    if o.gauges.live.total != 0 || o.counted != 0 {
        return false;
    }
    o.slots_open_long_enough
        || o.clock > o.complete_since + o.idle_timeout
        || ends_flows(order).is_some_and(|end| now >= end)
}
