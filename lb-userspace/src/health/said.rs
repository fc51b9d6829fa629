//! What checks have said since this daemon's start, as far as somebody is to be judged by it.

use super::{CheckId, Oper, Runs};

/// Runs in a row that succeeded: Unix seconds at which the first of them began, and the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Good {
    pub since: u64,
    pub last: u64,
}

/// What a check has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub id: CheckId,
    pub oper: Oper,
    pub runs: Runs,
    /// `None`: the last one failed, or there was none.
    pub good: Option<Good>,
    /// What came of the last one.
    pub last: Option<String>,
}

impl Said {
    /// Unix second since which it succeeds, if a run did that began after the second `from`: one of that second may have begun before what it
    /// is to show.
    pub fn succeeds_since(&self, from: u64) -> Option<u64> {
        self.good.filter(|good| good.last > from).map(|good| good.since)
    }
}
