//! A figure over time, in a bounded number of points: the older it gets the coarser.

use std::collections::{BTreeMap, BTreeSet};

/// Points of a trail, at most.
const POINTS: usize = 240;

/// Unix seconds and a figure, in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    points: Vec<(u64, u64)>,
    /// Seconds between two points at least.
    step: u64,
}

impl Trail {
    pub fn push(&mut self, at: u64, figure: u64) {
        match self.points.last() {
            // A clock that was set back.
            Some((last, _)) if at < *last => return,
            Some((last, _)) if at < *last + self.step.max(1) => return,
            _ => self.points.push((at, figure)),
        }
        if self.points.len() > POINTS {
            self.step = self.step.max(1) * 2;
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    pub fn points(&self) -> &[(u64, u64)] {
        &self.points
    }
}

/// Live flows of drains under way, by number of the drain.
#[derive(Debug, Clone, Default)]
pub struct Trails(BTreeMap<u64, Trail>);

impl Trails {
    /// Of a drain that is new: also how many flows it began with.
    pub fn take(&mut self, at: u64, drains: impl IntoIterator<Item = (u64, (u64, u64), u64)>) {
        let mut seen = BTreeSet::new();
        for (drain, (began, at_start), live) in drains {
            seen.insert(drain);
            let trail = self.0.entry(drain).or_insert_with(|| {
                let mut trail = Trail::default();
                trail.push(began.min(at), at_start);
                trail
            });
            trail.push(at, live);
        }
        self.0.retain(|drain, _| seen.contains(drain));
    }

    pub fn of(&self, drain: u64) -> &[(u64, u64)] {
        self.0.get(&drain).map_or(&[], Trail::points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_of_any_length_has_its_beginning_and_its_end_and_few_points() {
        for length in [1, 10, 240, 241, 1000, 100_000] {
            let mut trail = Trail::default();
            for at in 0..length {
                trail.push(1000 + at, at);
            }
            let points = trail.points();
            assert!(
                points.len() <= POINTS && points.len() as u64 >= length.min(POINTS as u64 / 2),
                "{length}"
            );
            assert_eq!(points[0], (1000, 0));
            assert!(
                points.last().unwrap().1 + trail.step.max(1) >= length - 1,
                "{length} {:?}",
                points.last()
            );
            assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }

    #[test]
    fn trails_begin_with_the_drain_and_go_with_it() {
        let mut trails = Trails::default();
        trails.take(110, [(7, (100, 50), 40)]);
        trails.take(111, [(7, (100, 50), 39), (8, (111, 5), 5)]);
        assert_eq!(trails.of(7), [(100, 50), (110, 40), (111, 39)]);
        assert_eq!(trails.of(8), [(111, 5)]);
        trails.take(90, [(7, (100, 50), 38), (8, (111, 5), 5)]);
        assert_eq!(trails.of(7).len(), 3, "the clock was set back");
        trails.take(112, [(8, (111, 5), 4)]);
        assert_eq!(trails.of(7), []);
    }
}
