//! This machine's own link. While no host at all can be reached, that tells nothing of any of them; and when the link is back, they are not
//! all found in the same moment.

use std::collections::BTreeSet;

use crate::health::is_cut_off;

/// Seconds in which hosts are to be found again, from the first one on: the kernel asks for a neighbour three times, a second apart.
pub(super) const PATIENCE: u64 = 4;

/// Who counts as out of reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CutOff {
    /// Nobody can be reached.
    is_on: bool,
    /// Hosts that were not missing when nobody could be reached any more, and have not been found since.
    awaited: BTreeSet<String>,
    /// When they are waited for no longer, Unix seconds; `None`: nobody has been found yet.
    until: Option<u64>,
    /// Hosts that cannot be reached, and are not waited for.
    missing: BTreeSet<String>,
}

impl CutOff {
    /// Takes in which of the hosts cannot be reached.
    pub fn note<'a>(
        &mut self,
        hosts: impl Iterator<Item = &'a String> + Clone,
        down: &BTreeSet<String>,
        now: u64,
    ) {
        let was_on = self.is_on;
        self.is_on = !down.is_empty() && is_cut_off(hosts.clone().map(|host| !down.contains(host)));
        if self.is_on {
            self.awaited = hosts.filter(|host| !self.missing.contains(*host)).cloned().collect();
            self.until = None;
        } else if was_on {
            self.until = Some(now + PATIENCE);
        }
        if self.is_over(now) {
            self.awaited.clear();
        }
        self.awaited.retain(|host| down.contains(host));
        if self.awaited.is_empty() {
            self.until = None;
        }
        self.missing = down.difference(&self.awaited).cloned().collect();
    }

    /// Whether hosts have been waited for long enough.
    pub fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Hosts that cannot be reached, as far as rings and states go by it.
    pub fn missing(&self) -> &BTreeSet<String> {
        &self.missing
    }

    /// Hosts that cannot be reached, of which nothing can be said therefore.
    pub fn awaited(&self) -> &BTreeSet<String> {
        &self.awaited
    }

    /// Whether nothing can be told of the host: nobody can be reached, or it is not found again yet. Who was missing before is missing to those
    /// who use hosts, but while nobody can be reached it cannot be seen to come back either.
    pub fn is_unseen(&self, host: &str) -> bool {
        self.is_on || self.awaited.contains(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> BTreeSet<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// Who is missing after each of these.
    fn missing(steps: &[(u64, &str)]) -> Vec<String> {
        let (hosts, mut cut_off) = (set("a b c"), CutOff::default());
        let step = |(now, down): &(u64, &str)| {
            cut_off.note(hosts.iter(), &set(down), *now);
            cut_off.missing().iter().cloned().collect::<Vec<_>>().join(" ")
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn while_nobody_can_be_reached_nobody_is_missing_who_was_not_before() {
        assert_eq!(missing(&[(1, ""), (2, "a b c"), (9, "a b c"), (10, "")]), ["", "", "", ""]);
        assert_eq!(missing(&[(1, "c"), (2, "a b c"), (3, "a b c"), (10, "c")]), ["c", "c", "c", "c"]);
        assert_eq!(missing(&[(1, "b"), (2, ""), (3, "a c")]), ["b", "", "a c"]);
    }

    #[test]
    fn of_who_was_missing_before_nothing_can_be_told_meanwhile() {
        let (hosts, mut cut_off) = (set("a b c"), CutOff::default());
        let mut unseen = |down: &str, now| {
            cut_off.note(hosts.iter(), &set(down), now);
            hosts.iter().filter(|host| cut_off.is_unseen(host)).cloned().collect::<Vec<_>>().join(" ")
        };
        // It boots when the link goes.
        let seen = [unseen("c", 1), unseen("a b c", 2), unseen("b c", 3), unseen("c", 4), unseen("", 9)];
        assert_eq!(seen, ["", "a b c", "b", "", ""]);
    }

    #[test]
    fn those_that_are_not_found_at_once_are_waited_for() {
        let until = 10 + PATIENCE;
        assert_eq!(
            missing(&[(1, "a b c"), (10, "b c"), (11, "c"), (until - 1, "c"), (until, "c"), (99, "")]),
            ["", "", "", "", "c", ""]
        );
        // One that was found and is lost again is missing, and another one is still waited for.
        assert_eq!(missing(&[(1, "a b c"), (10, "b c"), (11, "a c")]), ["", "", "a"]);
        // The link goes again: who was waited for is so still, and anew.
        assert_eq!(
            missing(&[(1, "a b c"), (10, "b c"), (12, "a b c"), (50, "b"), (53, "b"), (54, "b")]),
            ["", "", "", "", "", "b"]
        );
    }
}
