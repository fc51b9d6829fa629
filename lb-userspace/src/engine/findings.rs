//! What the checks of a host for a service came to, and what follows from other results of theirs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::health::{Kept, Oper, Said, passive, sum};
use crate::ramp::Ramp;
use crate::ring::SHARE_FULL;

/// What the checks of a host for a service came to, as the journal has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pair {
    pub oper: Oper,
    /// Unix seconds.
    pub since: u64,
    /// Check and what it said.
    pub why: String,
    /// It was down before, and comes back by the ramp that the service had then: its seconds.
    #[serde(default)]
    pub ramp: Option<u64>,
    /// Unix second since when it comes back by that. It is not `since` where its checks did not all say so at once.
    #[serde(default)]
    pub back: Option<u64>,
    pub checks: BTreeMap<String, Kept>,
}

impl Pair {
    /// What it is once its checks say this. `ramp`: seconds in which hosts of the service come back.
    pub fn after(&self, checks: BTreeMap<String, Kept>, ramp: Option<u64>, now: u64) -> Pair {
        let (oper, check) = sum(&checks);
        let why = match check.and_then(|check| checks.get_key_value(check)) {
            Some((check, kept)) => format!("{check}: {}", kept.why),
            None => {
                let latest = checks.values().max_by_key(|kept| kept.since);
                latest.map(|kept| kept.why.clone()).unwrap_or_default()
            }
        };
        if oper != self.oper {
            let (ramp, back) = match (self.oper, oper) {
                (_, Oper::Down) => (None, None),
                // One of which not all is known is used as well.
                (Oper::Down, Oper::Up | Oper::Unknown) => (ramp, ramp.map(|_| now)),
                (Oper::Up | Oper::Unknown, _) => (self.ramp, self.ramp.map(|_| self.came_back())),
            };
            return Pair { oper, since: now, why, ramp, back, checks };
        }
        // Down still, and the check that said so may be well again.
        let is_named = |(check, kept): (&String, &Kept)| {
            kept.oper == Oper::Down && self.why.starts_with(&format!("{check}: "))
        };
        let is_so = oper != Oper::Down || checks.iter().any(is_named);
        let why = if is_so { self.why.clone() } else { why };
        Pair { checks, why, ..self.clone() }
    }

    /// Unix second. An earlier version noted only since when it is up.
    fn came_back(&self) -> u64 {
        self.back.unwrap_or(self.since)
    }

    /// Its share on its way back, in 256ths, with a config by which that takes `ramp` seconds. A longer one than there was when it came back takes
    /// nothing away from it.
    pub fn share(&self, ramp: Option<u64>, now: u64) -> u16 {
        match self.ramp.zip(ramp).filter(|_| self.oper != Oper::Down) {
            Some((before, after)) => {
                Ramp::new(self.came_back(), before.min(after), "sluice", None).share(now)
            }
            None => SHARE_FULL,
        }
    }

    /// Unix second since when a check has found it down. How clients' new flows fare says nothing of those that go on.
    pub fn found_down(&self) -> Option<u64> {
        let checks = self.checks.iter().filter(|(check, _)| *check != passive::NAME);
        let down = checks.map(|(_, kept)| kept).filter(|kept| kept.oper == Oper::Down);
        down.map(|kept| kept.since).min().map(|since| since.max(self.since))
    }

    /// It is what an earlier daemon knew, and its checks have not said so again since this one started, at `started_at`: nobody is to be judged by
    /// it. `said`: what its checks have said since.
    pub fn is_remembered<'a>(&self, mut said: impl Iterator<Item = &'a Said>, started_at: u64) -> bool {
        let is_new = |kept: &Kept| kept.oper == Oper::Down && kept.since >= started_at;
        match self.oper {
            // One that has only failed since is not down yet, and not well.
            Oper::Up => said.any(|of| of.runs.ok == 0),
            // By clients it is so for a while, however they fare now.
            Oper::Down => {
                !self.checks.get(passive::NAME).is_some_and(is_new)
                    && !said.any(|of| of.oper == Oper::Down && of.runs.failed > 0)
            }
            Oper::Unknown => false,
        }
    }

    /// It is down, and none of its checks has found it so.
    pub fn is_down_by_clients_alone(&self) -> bool {
        self.oper == Oper::Down && self.found_down().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{self, CheckId, Runs};

    /// A check and its state, since when, and why.
    type Said = (&'static str, Oper, u64, &'static str);

    fn checks(said: &[Said]) -> BTreeMap<String, Kept> {
        let kept = |(check, oper, since, why): &Said| {
            (
                String::from(*check),
                Kept { oper: *oper, since: *since, why: String::from(*why), ..Kept::default() },
            )
        };
        said.iter().map(kept).collect()
    }

    #[test]
    fn flows_end_by_what_checks_find_and_not_by_what_clients_tell() {
        let up = Pair { oper: Oper::Up, ..Pair::default() };
        let told = up.after(
            checks(&[("passive", Oper::Down, 100, "no answer"), ("tcp :80", Oper::Up, 5, "")]),
            None,
            100,
        );
        assert_eq!((told.oper, told.found_down()), (Oper::Down, None));
        assert!(told.is_down_by_clients_alone());
        // A check finds it later, and it is from then on.
        let both = [("passive", Oper::Down, 100, "no answer"), ("tcp :80", Oper::Down, 130, "refused")];
        let found = told.after(checks(&both), None, 131);
        assert_eq!((found.since, found.found_down()), (100, Some(130)));
        assert!(!found.is_down_by_clients_alone() && !up.is_down_by_clients_alone());
        // A check that was there before: since when the host is down for the service.
        let alone = up.after(checks(&[("tcp :80", Oper::Down, 99, "refused")]), None, 100);
        assert_eq!(alone.found_down(), Some(100));
    }

    #[test]
    fn what_was_remembered_is_known_when_checks_have_said_it_again() {
        let said = |oper, ok, failed| {
            let id = CheckId { service: "s".to_owned(), host: "a".to_owned(), check: "tcp :80".to_owned() };
            health::Said { id, oper, runs: Runs { ok, failed, not_run: 9 }, good: None, last: None }
        };
        let is_remembered = |pair: &Pair, said: &[health::Said]| pair.is_remembered(said.iter(), 1000);
        let up = Pair { oper: Oper::Up, ..Pair::default() };
        assert!(is_remembered(&up, &[said(Oper::Up, 0, 0)]));
        assert!(is_remembered(&up, &[said(Oper::Up, 1, 0), said(Oper::Up, 0, 0)]), "each has to");
        assert!(is_remembered(&up, &[said(Oper::Up, 0, 2)]), "it is not found down yet");
        assert!(!is_remembered(&up, &[said(Oper::Up, 1, 0), said(Oper::Up, 1, 1)]));
        assert!(!is_remembered(&up, &[]), "nobody asks");
        let down = |check, since| up.after(checks(&[(check, Oper::Down, since, "refused")]), None, since);
        let found = down("tcp :80", 900);
        assert!(is_remembered(&found, &[said(Oper::Down, 0, 0)]));
        assert!(is_remembered(&found, &[said(Oper::Down, 1, 0)]), "it answers, and is not up yet");
        assert!(!is_remembered(&found, &[said(Oper::Down, 0, 1)]));
        assert!(is_remembered(&down(passive::NAME, 900), &[said(Oper::Up, 1, 0)]));
        assert!(!is_remembered(&down(passive::NAME, 1000), &[said(Oper::Up, 1, 0)]));
    }

    #[test]
    fn who_stays_down_is_so_by_a_check_that_says_so() {
        let up = Pair { oper: Oper::Up, ..Pair::default() };
        let both = [("passive", Oper::Down, 100, "no answer"), ("tcp :80", Oper::Down, 101, "refused")];
        let down = up.after(checks(&both), None, 101);
        assert_eq!(down.why, "passive: no answer");
        let still = down.after(checks(&[("passive", Oper::Up, 130, "tried again"), both[1]]), None, 130);
        assert_eq!((still.why.as_str(), still.since, still.oper), ("tcp :80: refused", 101, Oper::Down));
        // Another that finds it as well changes nothing.
        let more = [("passive", Oper::Up, 130, "tried again"), both[1], ("http", Oper::Down, 140, "503")];
        assert_eq!(still.after(checks(&more), None, 140).why, "tcp :80: refused");
        let back = still.after(checks(&[("tcp :80", Oper::Up, 150, "connected")]), Some(60), 150);
        assert_eq!((back.oper, back.ramp, back.why.as_str()), (Oper::Up, Some(60), "connected"));
    }

    #[test]
    fn who_comes_back_ramps_once_however_its_checks_learn_of_it() {
        let [tcp, http] = ["tcp :80", "http :80"];
        let down = Pair { oper: Oper::Down, since: 90, ..Pair::default() };
        let half = down.after(
            checks(&[(tcp, Oper::Up, 100, "connected"), (http, Oper::Unknown, 0, "")]),
            Some(60),
            100,
        );
        assert_eq!(half.oper, Oper::Unknown, "it is used");
        assert!(half.share(Some(60), 110) < SHARE_FULL / 4);
        let both = [(tcp, Oper::Up, 100, "connected"), (http, Oper::Up, 130, "200")];
        let whole = half.after(checks(&both), Some(60), 130);
        assert_eq!((whole.oper, whole.since), (Oper::Up, 130));
        // It goes on where it was.
        assert!((SHARE_FULL / 4..SHARE_FULL).contains(&whole.share(Some(60), 131)));
        assert_eq!(whole.share(Some(60), 160), SHARE_FULL);
        // And from the start when it has been down again.
        let again = whole.after(checks(&[(tcp, Oper::Down, 200, "refused")]), Some(60), 200);
        let back = again.after(checks(&[(tcp, Oper::Up, 300, "connected")]), Some(60), 300);
        assert_eq!((back.back, back.share(Some(60), 360)), (Some(300), SHARE_FULL));
        // What an earlier version has noted.
        let noted = Pair { ramp: Some(60), oper: Oper::Up, since: 150, ..Pair::default() };
        assert_eq!(noted.share(Some(60), 160), back.share(Some(60), 310));
        // One that was never down has its share.
        let new = Pair::default().after(checks(&both[..1]), Some(60), 100);
        assert_eq!((new.ramp, new.share(Some(60), 101)), (None, SHARE_FULL));
    }

    #[test]
    fn a_config_takes_nothing_from_who_has_come_back() {
        let down = Pair { oper: Oper::Down, ..Pair::default() };
        let up = |ramp| down.after(checks(&[("tcp :80", Oper::Up, 150, "connected")]), ramp, 150);
        let share = |back: &Pair, ramp, now| back.share(ramp, now);
        let back = up(Some(60));
        assert!(share(&back, Some(60), 160) < SHARE_FULL / 4 && share(&back, Some(60), 180) > SHARE_FULL / 4);
        assert_eq!([210, 750].map(|now| share(&back, Some(3600), now)), [SHARE_FULL; 2], "it was all there");
        assert_eq!(share(&back, Some(3600), 160), share(&back, Some(60), 160));
        assert_eq!([share(&back, Some(5), 160), share(&back, None, 151)], [SHARE_FULL; 2]);
        assert_eq!(share(&up(None), Some(3600), 151), SHARE_FULL);
    }
}
