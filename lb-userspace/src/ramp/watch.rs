//! How the new flows of a host on its way back fare. Under direct server return the balancer does not see a server's answer, but it sees
//! the client's: a TCP flow that is still half-open some seconds after its SYN has failed.

/// Seconds of a window at least.
const SECONDS: u64 = 3;
/// New flows of the host that a window needs to say anything.
const FEWEST: u64 = 10;

/// New TCP flows, and those of them that never came to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub begun: u64,
    pub failed: u64,
}

impl Count {
    pub fn add(&mut self, more: Count) {
        self.begun += more.begun;
        self.failed += more.failed;
    }
}

/// How a window went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// Too many failed; in words.
    Bad(String),
}

/// The last seconds of a host, and of the other hosts of its services: a flood of SYNs, or clients that are cut off, hit all alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    seconds: u64,
    host: Count,
    others: Count,
}

impl Window {
    /// Takes in some more seconds; a window that is full begins anew.
    pub fn take(&mut self, seconds: u64, host: Count, others: Count) -> Option<Verdict> {
        self.seconds += seconds;
        self.host.add(host);
        self.others.add(others);
        if self.seconds < SECONDS || self.host.begun < FEWEST {
            return None;
        }
        let mut window = std::mem::take(self);
        for count in [&mut window.host, &mut window.others] {
            // New flows are counted somewhere within a second, and those that failed by their first one.
            count.begun = count.begun.max(count.failed);
        }
        Some(if is_bad(window.host, window.others) {
            let Window { seconds, host, others } = window;
            Verdict::Bad(format!(
                "{} of {} new flows in {seconds}s were never established, on other hosts {} of {}",
                host.failed, host.begun, others.failed, others.begun
            ))
        } else {
            Verdict::Good
        })
    }
}

/// More than a quarter failed, and more than three times the part that failed on other hosts.
fn is_bad(host: Count, others: Count) -> bool {
    let is_more = u128::from(host.failed) * u128::from(others.begun)
        > 3 * u128::from(others.failed) * u128::from(host.begun);
    4 * host.failed > host.begun && (others.begun == 0 || is_more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(begun: u64, failed: u64) -> Count {
        Count { begun, failed }
    }

    #[test]
    fn a_host_is_compared_with_the_others() {
        let others = count(1000, 20);
        assert!(!is_bad(count(20, 5), others), "a quarter");
        assert!(is_bad(count(20, 6), others));
        assert!(!is_bad(count(20, 6), count(1000, 100)), "three times as many");
        assert!(is_bad(count(20, 6), count(1000, 99)));
        assert!(!is_bad(count(20, 20), count(1000, 900)), "a flood of SYNs");
        assert!(is_bad(count(20, 6), count(0, 0)), "nobody to compare with");
        assert!(!is_bad(count(0, 0), count(0, 0)));
    }

    #[test]
    fn a_window_is_long_enough_and_has_flows_enough() {
        let mut window = Window::default();
        assert_eq!(window.take(1, count(50, 50), count(100, 0)), None, "too short");
        assert_eq!(window.take(1, count(50, 50), count(100, 0)), None);
        let Some(Verdict::Bad(why)) = window.take(1, count(50, 50), count(100, 0)) else { panic!() };
        assert_eq!(why, "150 of 150 new flows in 3s were never established, on other hosts 0 of 300");
        assert_eq!(window, Window::default());
        let Some(Verdict::Bad(why)) = window.take(3, count(11, 12), count(100, 0)) else { panic!() };
        assert!(why.starts_with("12 of 12 new flows"), "{why}");
        for _ in 0..9 {
            assert_eq!(window.take(10, count(1, 0), count(0, 0)), None, "too few");
        }
        assert_eq!(window.take(10, count(1, 0), count(0, 0)), Some(Verdict::Good));
    }
}
