//! What goes wrong again and again is said once a minute.

use std::time::{Duration, Instant};

const AGAIN: Duration = Duration::from_secs(60);

/// What was said last, and when.
#[derive(Default)]
pub struct Seldom(Option<(String, Instant)>);

impl Seldom {
    /// Whether these words are to be said now.
    pub fn is_time(&mut self, words: &str, now: Instant) -> bool {
        let is_time = self.0.as_ref().is_none_or(|(last, at)| last != words || now >= *at + AGAIN);
        if is_time {
            self.0 = Some((words.to_owned(), now));
        }
        is_time
    }

    /// Logs them, if so.
    pub fn error(&mut self, words: &str) {
        if self.is_time(words, Instant::now()) {
            log::error!("{words}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute() {
        let (mut seldom, now) = (Seldom::default(), Instant::now());
        let times = (0..600).filter(|ms| seldom.is_time("disk full", now + Duration::from_millis(300 * ms)));
        assert_eq!(times.collect::<Vec<_>>(), [0, 200, 400], "every 300 ms for three minutes");
        assert!(seldom.is_time("disk gone", now + Duration::from_secs(170)), "that is new");
    }
}
