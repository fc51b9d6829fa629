//! The last events.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::api::types::{Event, Happening};

/// Events that are remembered.
const KEPT: usize = 1000;
/// Numbers of one second: a daemon that starts a second later begins behind them.
const A_SECOND: u64 = 1_000_000;

pub(super) struct Ring {
    /// Number before the first event of this daemon.
    base: u64,
    /// Number of the last event.
    last: u64,
    kept: VecDeque<Arc<Event>>,
    is_closed: bool,
}

/// What a reader finds.
pub(super) enum Next {
    Event(Arc<Event>),
    Nothing,
    /// Nothing, and that for ever.
    Over,
}

impl Ring {
    pub fn new(now: u64) -> Self {
        let base = now.saturating_mul(A_SECOND);
        Ring { base, last: base, kept: VecDeque::with_capacity(KEPT), is_closed: false }
    }

    pub fn last(&self) -> u64 {
        self.last
    }

    pub fn push(&mut self, at: u64, happening: Happening) {
        if self.is_closed {
            return;
        }
        self.last += 1;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::new(Event { seq: self.last, at, happening }));
    }

    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// What follows the event number `seen`; 0 stands for the beginning, whenever that was.
    pub fn after(&self, seen: u64) -> Next {
        // What was forgotten ends here.
        let forgotten = self.last - self.kept.len() as u64;
        let is_ours = (self.base..=self.last).contains(&seen);
        if is_ours && seen >= forgotten {
            return match self.kept.get((seen - forgotten) as usize) {
                Some(event) => Next::Event(event.clone()),
                None if self.is_closed => Next::Over,
                None => Next::Nothing,
            };
        }
        match self.kept.front() {
            Some(first) if seen == 0 => Next::Event(first.clone()),
            Some(first) => {
                let count = is_ours.then(|| forgotten - seen);
                let lost = Event { seq: forgotten, at: first.at, happening: Happening::Lost { count } };
                Next::Event(Arc::new(lost))
            }
            None if self.is_closed => Next::Over,
            None => Next::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;
    const BASE: u64 = NOW * A_SECOND;

    fn ring(events: u64) -> Ring {
        let mut ring = Ring::new(NOW);
        for generation in 1..=events {
            ring.push(NOW + generation, Happening::Published { generation });
        }
        ring
    }

    /// Number within this daemon, and what it is.
    fn next(ring: &Ring, seen: u64) -> Option<(u64, Happening)> {
        match ring.after(seen) {
            Next::Event(event) => Some((event.seq - BASE, event.happening.clone())),
            Next::Nothing => None,
            Next::Over => panic!("over"),
        }
    }

    fn published(generation: u64) -> Option<(u64, Happening)> {
        Some((generation, Happening::Published { generation }))
    }

    fn lost(seq: u64, count: Option<u64>) -> Option<(u64, Happening)> {
        Some((seq, Happening::Lost { count }))
    }

    #[test]
    fn numbers_grow_by_one_and_lead_from_one_to_the_next() {
        let ring = ring(3);
        assert_eq!(next(&ring, BASE), published(1));
        assert_eq!(next(&ring, BASE + 1), published(2));
        assert_eq!(next(&ring, BASE + 3), None);
        assert_eq!(next(&ring, 0), published(1));
    }

    #[test]
    fn what_is_forgotten_is_counted() {
        let ring = ring(KEPT as u64 + 10);
        assert_eq!(next(&ring, BASE), lost(10, Some(10)));
        assert_eq!(next(&ring, BASE + 9), lost(10, Some(1)));
        assert_eq!(next(&ring, BASE + 10), published(11));
        assert_eq!(next(&ring, 0), published(11), "who asks for all that there is has lost nothing");
    }

    #[test]
    fn numbers_of_another_daemon_lose_an_unknown_number() {
        assert_eq!(next(&ring(3), BASE - 1), lost(0, None));
        assert_eq!(next(&ring(3), 17), lost(0, None));
        // A clock that was set back.
        assert_eq!(next(&ring(3), BASE + 4), lost(0, None));
        assert_eq!(next(&ring(0), BASE - 1), None, "until there is something to go on with");
    }

    #[test]
    fn the_end_comes_behind_the_last_event() {
        let mut ring = ring(2);
        ring.close();
        ring.push(NOW, Happening::DaemonStopping);
        assert!(matches!(ring.after(BASE + 1), Next::Event(_)));
        assert!(matches!(ring.after(BASE + 2), Next::Over));
    }
}
