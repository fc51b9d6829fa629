//! Ramps: a host comes back share by share. Pure: the share is a function of the ramp and the time, and so is what becomes of the ramp
//! when a window of new flows went well or badly.
//!
//! The share goes up in steps, the first of them at once. Each adds slots to the host and takes none from any other, as rings see to. Where new
//! flows of the host fail, the ramp is paused: the share stays. A good window lets it go on, and two more bad ones take it back.

mod watch;

use serde::{Deserialize, Serialize};

use crate::ring::SHARE_FULL;

pub use watch::{Count, Verdict, Window};

/// Steps of a ramp at most.
const STEPS: u64 = 32;
/// Seconds for which a host is watched after it has its full share.
pub const WATCHED_AFTER: u64 = 10;
/// Bad windows in a row until a ramp is taken back; the first one pauses it.
const MOST_BAD: u32 = 3;
/// Longest ramp, seconds: a day.
const LONGEST: u64 = 86_400;

/// A host on its way back, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ramp {
    /// Unix seconds; a ramp that was paused and goes on has been moved by the pause.
    pub started_at: u64,
    /// The share that the host had before, in 256ths.
    #[serde(default)]
    pub from: u16,
    /// From there to the full share.
    pub seconds: u64,
    pub by: String,
    pub reason: Option<String>,
    pub paused: Option<Pause>,
}

/// The share stays, as new flows failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Unix seconds.
    pub since: u64,
    /// What failed in the last bad window, in words.
    pub why: String,
    /// Bad windows in a row.
    pub bad: u32,
}

/// What a window did to a ramp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Paused,
    /// Of a paused ramp: another bad window, not the last one.
    StillPaused,
    GoesOn,
    /// To be drained again, for this reason.
    TakenBack(String),
}

/// Why a ramp cannot be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the ramp is shorter than a second")]
    TooShort,
    #[error("the ramp is longer than a day")]
    TooLong,
}

impl Refusal {
    /// What to do about it.
    pub fn mend(self) -> &'static str {
        match self {
            Refusal::TooShort => "give a longer one, such as 60s, or none: then the full share comes at once",
            Refusal::TooLong => "give one of at most 24h",
        }
    }
}

/// Whether a ramp may take so many seconds.
pub fn check(seconds: u64) -> Result<(), Refusal> {
    match seconds {
        0 => Err(Refusal::TooShort),
        1..=LONGEST => Ok(()),
        _ => Err(Refusal::TooLong),
    }
}

impl Ramp {
    pub fn new(now: u64, seconds: u64, by: &str, reason: Option<&str>) -> Self {
        Ramp {
            started_at: now,
            from: 0,
            seconds,
            by: by.to_owned(),
            reason: reason.map(str::to_owned),
            paused: None,
        }
    }

    /// The ramp with another length, as far on its way as this one.
    pub fn with_seconds(&self, now: u64, seconds: u64) -> Self {
        let before = u128::from(self.seconds.max(1));
        let gone = (u128::from(self.elapsed(now)) * u128::from(seconds)).div_ceil(before) as u64;
        let at = self.paused.as_ref().map_or(now, |pause| pause.since);
        Ramp { started_at: at.saturating_sub(gone), seconds, ..self.clone() }
    }

    /// Seconds of the way up that are behind it.
    fn elapsed(&self, now: u64) -> u64 {
        let now = self.paused.as_ref().map_or(now, |pause| pause.since);
        now.saturating_sub(self.started_at).min(self.seconds)
    }

    /// The host's share at `now`, a Unix time: 1 to [`SHARE_FULL`], and never less than before.
    pub fn share(&self, now: u64) -> u16 {
        let step = self.seconds.div_ceil(STEPS).max(1);
        let (taken, all) = (self.elapsed(now) / step, self.seconds.div_ceil(step));
        match self.full_in(now) {
            0 => SHARE_FULL,
            _ => self.from + (u64::from(SHARE_FULL - self.from) * (taken + 1) / (all + 1)) as u16,
        }
    }

    /// Seconds until the full share, if nothing fails.
    pub fn full_in(&self, now: u64) -> u64 {
        self.seconds - self.elapsed(now)
    }

    /// The host has had its full share for long enough to be like any other.
    pub fn is_over(&self, now: u64) -> bool {
        self.paused.is_none() && now >= self.started_at + self.seconds + WATCHED_AFTER
    }

    /// So many windows were bad that the ramp is to be taken back.
    pub fn is_bad_enough(&self) -> bool {
        self.paused.as_ref().is_some_and(|pause| pause.bad >= MOST_BAD)
    }

    /// Takes in how new flows fared; `None`: nothing changes.
    pub fn judged(&mut self, verdict: &Verdict, now: u64) -> Option<Change> {
        match (verdict, &mut self.paused) {
            (Verdict::Good, None) => None,
            (Verdict::Good, Some(pause)) => {
                self.started_at += now.saturating_sub(pause.since);
                self.paused = None;
                Some(Change::GoesOn)
            }
            (Verdict::Bad(why), None) => {
                self.paused = Some(Pause { since: now, why: why.clone(), bad: 1 });
                Some(Change::Paused)
            }
            (Verdict::Bad(why), Some(pause)) => {
                pause.bad = pause.bad.saturating_add(1);
                pause.why.clone_from(why);
                Some(if pause.bad < MOST_BAD { Change::StillPaused } else { Change::TakenBack(why.clone()) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn ramp(seconds: u64) -> Ramp {
        Ramp::new(NOW, seconds, "ann", None)
    }

    fn bad() -> Verdict {
        Verdict::Bad("9 of 10".to_owned())
    }

    #[test]
    fn the_share_goes_up_step_by_step() {
        let shares = |ramp: &Ramp, times: [u64; 5]| times.map(|time| ramp.share(NOW + time));
        assert_eq!(shares(&ramp(60), [0, 1, 2, 59, 60]), [8, 8, 16, 247, 256]);
        assert_eq!(shares(&ramp(4), [0, 1, 2, 3, 4]), [51, 102, 153, 204, 256]);
        assert_eq!(shares(&Ramp { from: 192, ..ramp(4) }, [0, 1, 2, 3, 4]), [204, 217, 230, 243, 256]);
        assert_eq!(shares(&ramp(1), [0, 1, 2, 3, 4]), [128, 256, 256, 256, 256]);
        assert_eq!(shares(&ramp(3600), [0, 112, 113, 3599, 3600]), [7, 7, 15, 248, 256]);
        assert!(!ramp(60).is_over(NOW + 69) && ramp(60).is_over(NOW + 70));
    }

    proptest! {
        #[test]
        fn the_share_never_goes_down(
            seconds in 1..=LONGEST,
            mut times in proptest::collection::vec(0..2 * LONGEST, 2..50),
            pauses in any::<u64>(),
        ) {
            times.sort_unstable();
            let (mut ramp, mut last) = (ramp(seconds), 1);
            for (index, time) in times.into_iter().enumerate() {
                let now = NOW + time;
                let share = ramp.share(now);
                prop_assert!((last..=SHARE_FULL).contains(&share), "{last} to {share}");
                prop_assert_eq!(share == SHARE_FULL, ramp.full_in(now) == 0);
                last = share;
                let verdict = if pauses >> (index % 64) & 1 == 0 { Verdict::Good } else { bad() };
                ramp.judged(&verdict, now);
                prop_assert_eq!(ramp.share(now), share, "a verdict changes no share by itself");
            }
        }

        #[test]
        fn another_length_takes_nothing_away(a in 1..=LONGEST, b in 1..=LONGEST, time in 0..2 * LONGEST) {
            let before = ramp(a);
            let after = before.with_seconds(NOW + time, b);
            prop_assert_eq!(after.seconds, b);
            // Steps differ in height.
            let (before, after) = (before.share(NOW + time), after.share(NOW + time));
            prop_assert!(after + SHARE_FULL / 2 >= before && (before < SHARE_FULL || after == SHARE_FULL));
        }
    }

    #[test]
    fn a_bad_window_pauses_and_a_good_one_lets_it_go_on() {
        let mut ramp = ramp(60);
        assert_eq!(ramp.judged(&Verdict::Good, NOW + 5), None);
        assert_eq!(ramp.judged(&bad(), NOW + 30), Some(Change::Paused));
        let share = ramp.share(NOW + 30);
        assert_eq!(ramp.share(NOW + 1000), share, "paused");
        assert!(!ramp.is_over(NOW + 1000));
        assert_eq!(ramp.judged(&bad(), NOW + 35), Some(Change::StillPaused));
        assert_eq!(ramp.judged(&Verdict::Good, NOW + 40), Some(Change::GoesOn));
        assert_eq!((ramp.share(NOW + 40), ramp.full_in(NOW + 40)), (share, 30));
    }

    #[test]
    fn three_bad_windows_in_a_row_take_it_back() {
        let mut ramp = ramp(60);
        let changes: Vec<_> = [bad(), bad(), Verdict::Good, bad(), bad(), bad(), bad()]
            .iter()
            .zip(NOW..)
            .map(|(verdict, now)| ramp.judged(verdict, now).unwrap())
            .collect();
        let back = Change::TakenBack("9 of 10".to_owned());
        let (paused, still) = (Change::Paused, Change::StillPaused);
        assert_eq!(
            changes,
            [paused.clone(), still.clone(), Change::GoesOn, paused, still, back.clone(), back]
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!([0, 1, LONGEST].map(check), [Err(Refusal::TooShort), Ok(()), Ok(())]);
        assert_eq!(check(LONGEST + 1), Err(Refusal::TooLong));
    }
}
