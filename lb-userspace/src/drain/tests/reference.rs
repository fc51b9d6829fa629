//! A plain model of the machine: the whole history is kept, and each answer is worked out from its beginning.

use crate::api::types::AdminState;

use super::*;

/// What a history means, by the rules in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub admin: AdminState,
    /// The drain in force or the last one.
    pub drain: Option<u64>,
    pub sealed: bool,
}

pub(super) fn meaning(history: &[Event]) -> Meaning {
    // The last drain that was not taken back begins at the first `Drain` after the last effective `Undrain`.
    let after_undrain = history.iter().rposition(|e| matches!(e, Event::Undrain { .. })).map_or(0, |i| i + 1);
    let (past, present) = history.split_at(after_undrain);
    let Some(begin) = present.iter().position(|e| matches!(e, Event::Drain { .. })) else {
        return Meaning { admin: AdminState::Active, drain: last_begun(past), sealed: false };
    };
    let drain = id_of(&present[begin]);
    let Some(published) = present[begin..].iter().position(|e| matches!(e, Event::Published { .. })) else {
        return Meaning { admin: AdminState::Draining, drain, sealed: false };
    };
    let looks: Vec<bool> = present[begin + published..]
        .iter()
        .filter_map(|e| if let Event::Sweep(o) = e { Some(by_the_rule(o)) } else { None })
        .collect();
    let drained = looks.windows(2).any(|pair| pair == [true, true]);
    let admin = if drained { AdminState::Drained } else { AdminState::Draining };
    Meaning { admin, drain, sealed: drained || looks.last() == Some(&true) }
}

/// The last drain that was begun while none was in force.
fn last_begun(past: &[Event]) -> Option<u64> {
    let mut open = false;
    let mut last = None;
    for event in past {
        match event {
            Event::Drain { .. } if !open => (open, last) = (true, id_of(event)),
            Event::Undrain { .. } => open = false,
            _ => {}
        }
    }
    last
}

fn id_of(event: &Event) -> Option<u64> {
    if let Event::Drain { id, .. } = event { Some(*id) } else { None }
}

fn by_the_rule(o: &Observation) -> bool {
    if o.gauges.live.total != 0 || o.counted != 0 {
        return false;
    }
    o.slots_open_long_enough || o.clock > o.complete_since + o.idle_timeout
}
