//! The drain of the balancer itself: it wants no traffic any more, goes on forwarding what comes, and is done when little enough has come
//! for long enough. A pure machine: times and rates come in.

use serde::{Deserialize, Serialize};

/// As the journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelfDrain {
    /// Unix seconds.
    pub started_at: u64,
    pub by: String,
    pub reason: Option<String>,
    /// Seconds.
    pub quiet_for: u64,
    /// Packets a second that are little enough, when fewer than these.
    pub below: f64,
    /// Unix seconds; `None`: it goes on.
    pub done_at: Option<u64>,
}

/// What the traffic has been; it begins anew with each daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quiet {
    /// Since when less than the bound comes, Unix seconds.
    pub since: Option<u64>,
    /// Packets a second, by the last look.
    pub rate: Option<f64>,
}

impl Quiet {
    /// Takes in a rate, which was measured over the second or so before `now`; says whether that ends the drain.
    pub fn look(&mut self, drain: &SelfDrain, rate: f64, now: u64) -> bool {
        self.rate = Some(rate);
        if rate < drain.below {
            let since = *self.since.get_or_insert(now);
            drain.done_at.is_none() && now.saturating_sub(since) >= drain.quiet_for
        } else {
            self.since = None;
            false
        }
    }

    /// For how long it has been quiet, seconds.
    pub fn seconds(&self, now: u64) -> u64 {
        self.since.map_or(0, |since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(quiet_for: u64) -> SelfDrain {
        SelfDrain { started_at: 100, by: "a".to_owned(), reason: None, quiet_for, below: 5.0, done_at: None }
    }

    #[test]
    fn it_is_done_when_it_was_quiet_for_all_of_the_time() {
        let (mut quiet, drain) = (Quiet::default(), drain(3));
        let looks = [
            (100, 900.0),
            (101, 4.9),
            (102, 0.0),
            (103, 5.0),
            (104, 0.0),
            (105, 1.0),
            (106, 4.0),
            (107, 0.0),
        ];
        let done: Vec<bool> = looks.iter().map(|&(now, rate)| quiet.look(&drain, rate, now)).collect();
        assert_eq!(done, [false, false, false, false, false, false, false, true]);
        assert_eq!((quiet.seconds(107), quiet.seconds(110), quiet.rate), (3, 6, Some(0.0)));
    }

    #[test]
    fn it_is_done_once_and_traffic_that_comes_later_is_seen() {
        let mut quiet = Quiet::default();
        assert!(quiet.look(&drain(0), 0.0, 7), "no time at all is over at once");
        let done = SelfDrain { done_at: Some(7), ..drain(0) };
        assert!(!quiet.look(&done, 0.0, 8));
        assert!(!quiet.look(&done, 50.0, 9));
        assert_eq!((quiet.seconds(9), quiet.rate), (0, Some(50.0)));
    }
}
