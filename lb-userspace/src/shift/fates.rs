//! How the new flows of a shift fare, on both of its sides: since the step began, and in the last minute. A step may last for days, and what
//! fails only now would be little of all that it has seen.

use std::collections::VecDeque;

use crate::ramp::Count;

/// Seconds of the last minute.
const MINUTE: u64 = 60;

/// New flows of both sides that are old enough to tell, and those of them that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fared {
    pub to: Count,
    pub from: Count,
}

/// What was counted in a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fates {
    step: Fared,
    /// Of the last seconds, by the second in which it was counted.
    last: VecDeque<(u64, Fared)>,
}

impl Fared {
    pub fn add(&mut self, more: Fared) {
        self.to.add(more.to);
        self.from.add(more.from);
    }

    /// New flows are counted somewhere within a second, and those that failed by their first one.
    fn settled(mut self) -> Self {
        for count in [&mut self.to, &mut self.from] {
            count.begun = count.begun.max(count.failed);
        }
        self
    }
}

impl Fates {
    /// Takes in what was counted at a second.
    pub fn add(&mut self, second: u64, more: Fared) {
        self.step.add(more);
        self.last.push_back((second, more));
        while self.last.front().is_some_and(|(at, _)| at + MINUTE <= second) {
            self.last.pop_front();
        }
    }

    pub fn step(&self) -> Fared {
        self.step.settled()
    }

    pub fn minute(&self) -> Fared {
        let mut sum = Fared::default();
        self.last.iter().for_each(|(_, fared)| sum.add(*fared));
        sum.settled()
    }
}
