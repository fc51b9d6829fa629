//! Due times of many things, each of which has at most one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// A heap of due times; a thing's new time makes its former one void.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
    due: Vec<Option<Instant>>,
}

impl Timers {
    /// Sets the due time of thing `index`, or takes it away.
    pub fn set(&mut self, index: usize, due: Option<Instant>) {
        if index >= self.due.len() {
            self.due.resize(index + 1, None);
        }
        if self.due[index] == due {
            return;
        }
        self.due[index] = due;
        if let Some(due) = due {
            self.heap.push(Reverse((due, index)));
        }
    }

    /// Takes the next thing that is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<usize> {
        while let Some(&Reverse((due, index))) = self.heap.peek() {
            let valid = self.due[index] == Some(due);
            if valid && due > now {
                return None;
            }
            self.heap.pop();
            if valid {
                self.due[index] = None;
                return Some(index);
            }
        }
        None
    }

    /// Time until something is due, at most `limit`.
    pub fn wait(&self, now: Instant, limit: Duration) -> Duration {
        self.heap.peek().map_or(limit, |Reverse((due, _))| due.saturating_duration_since(now).min(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_time_voids_the_former() {
        let now = Instant::now();
        let at = |millis| now + Duration::from_millis(millis);
        let mut timers = Timers::default();
        timers.set(0, Some(at(30)));
        timers.set(1, Some(at(20)));
        timers.set(0, Some(at(10)));
        timers.set(2, Some(at(5)));
        timers.set(2, None);
        assert_eq!(timers.pop(at(4)), None);
        assert_eq!(timers.pop(at(40)), Some(0));
        assert_eq!(timers.pop(at(40)), Some(1));
        assert_eq!(timers.pop(at(40)), None);
    }
}
