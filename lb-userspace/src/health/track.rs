//! What the results of one check come to: up, down or not known yet.
//!
//! A host that goes up and down is held down for longer each time (flap damping, after RFC 2439): each time it goes down a penalty is added,
//! half of which is forgotten in `damping`. With [`SUPPRESS`] of it a host stays down until [`REUSE`], however well its checks go. So in the
//! long run it goes down twice in such a half-life at most.

use serde::{Deserialize, Serialize};

use crate::model::Health;

/// Penalty of one time down.
const DOWN: u64 = 1000;
/// With so much of it, a host that goes down is held there.
const SUPPRESS: u64 = 2500;
/// With so little left, it may come back.
const REUSE: u64 = 1500;
/// No more is held against anybody: some two half-lives.
const MOST: u64 = 6000;

/// The operational state.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Oper {
    /// Not asked often enough. It is used like one that is up.
    #[default]
    Unknown,
    Up,
    Down,
}

impl Oper {
    /// What several checks come to: down if one says so, up if all do.
    pub fn of_all(checks: impl IntoIterator<Item = Oper>) -> Oper {
        let both = |a, b| match (a, b) {
            (Oper::Down, _) | (_, Oper::Down) => Oper::Down,
            (Oper::Up, Oper::Up) => Oper::Up,
            _ => Oper::Unknown,
        };
        checks.into_iter().reduce(both).unwrap_or_default()
    }
}

/// What one run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub is_ok: bool,
    /// What was seen, in words.
    pub why: String,
}

/// What a check has found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Track {
    pub kept: Kept,
    /// Runs in a row with the same result as the last one.
    pub streak: u32,
    pub is_ok: bool,
}

/// The part that outlives the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub oper: Oper,
    /// Unix seconds.
    pub since: u64,
    /// What the run said that decided it.
    pub why: String,
    /// What is held against it, as of `penalty_at`.
    pub penalty: u64,
    pub penalty_at: u64,
    pub is_held: bool,
    /// Of passive checks: times in a row that the host was taken out, and did not fare well for long enough in between.
    #[serde(default)]
    pub times: u32,
}

/// A check says otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flip {
    pub from: Oper,
    pub to: Oper,
}

impl Kept {
    /// What is still held against it.
    pub fn penalty(&self, damping: u64, now: u64) -> u64 {
        let gone = now.saturating_sub(self.penalty_at);
        let (halves, rest) = (gone / damping.max(1), gone % damping.max(1));
        let halved = self.penalty >> halves.min(63);
        // Between two halves it goes down in a line.
        halved - halved * rest / damping.max(1) / 2
    }

    /// Unix second from which on it may come back, if it is held down.
    pub fn held_until(&self, damping: u64, now: u64) -> Option<u64> {
        if !self.is_held || self.penalty(damping, now) <= REUSE {
            return None;
        }
        // The penalty only goes down.
        let (mut held, mut free) = (now, now + damping.saturating_mul(4));
        while free - held > 1 {
            let middle = held + (free - held) / 2;
            if self.penalty(damping, middle) <= REUSE { free = middle } else { held = middle }
        }
        Some(free)
    }

    /// What a clock noted that was ahead is as of now, or it would not end before that time has come.
    pub fn not_after(&mut self, now: u64) {
        self.since = self.since.min(now);
        self.penalty_at = self.penalty_at.min(now);
    }

    /// Takes on another state. `damping`: seconds.
    pub(super) fn change(&mut self, to: Oper, damping: u64, now: u64, why: &str) {
        if to == Oper::Down && self.oper == Oper::Up {
            self.penalty = (self.penalty(damping, now) + DOWN).min(MOST);
            self.penalty_at = now;
        }
        self.is_held = to == Oper::Down && self.penalty(damping, now) >= SUPPRESS;
        self.oper = to;
        self.since = now;
        why.clone_into(&mut self.why);
    }
}

impl Track {
    /// Goes on from what an earlier daemon knew.
    pub fn resume(kept: Kept) -> Self {
        Track { kept, ..Track::default() }
    }

    /// Takes in a run's outcome at `now`, Unix seconds.
    pub fn step(&mut self, health: &Health, outcome: &Outcome, now: u64) -> Option<Flip> {
        self.streak = if self.is_ok == outcome.is_ok { self.streak.saturating_add(1) } else { 1 };
        self.is_ok = outcome.is_ok;
        let damping = health.damping.as_secs();
        let from = self.kept.oper;
        let to = match (from, outcome.is_ok) {
            // Nothing speaks against one that answers the first time that it is asked.
            (Oper::Unknown, true) => Oper::Up,
            (Oper::Unknown | Oper::Up, false) if self.streak >= health.fall => Oper::Down,
            (Oper::Down, true) if self.streak >= health.rise => {
                let is_held = self.kept.is_held && self.kept.penalty(damping, now) > REUSE;
                if is_held { Oper::Down } else { Oper::Up }
            }
            _ => from,
        };
        if from == to {
            return None;
        }
        self.kept.change(to, damping, now, &outcome.why);
        Some(Flip { from, to })
    }
}
