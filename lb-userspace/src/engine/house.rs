//! The journal's housekeeping: old revisions go, and one that could not be written is tried again.

use super::Engine;
use crate::journal::Keep;

/// Seconds between two looks for old revisions.
const PRUNED_EVERY: u64 = 3600;
/// Seconds between two attempts to write.
const TRIED_EVERY: u64 = 5;
/// Seconds that the wall clock may have been set by, until times in the journal are no measure of age.
const JUMP: u64 = 600;

/// When it was done last, seconds of the data path's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct House {
    pruned: Option<u64>,
    tried: u64,
    /// It was said that the clock was set.
    has_told: bool,
}

impl Engine {
    /// What can wait, and what goes wrong with it is no error of anything else.
    pub(super) fn keep_house(&mut self) {
        self.forget_drains();
        let now = self.clock.monotonic();
        if self.journal.is_in_trouble() && now >= self.house.tried + TRIED_EVERY {
            self.house.tried = now;
            match self.journal.try_again() {
                Ok(()) => log::info!("the journal can be written again"),
                Err(error) => log::warn!("{error}"),
            }
        }
        let jump = self.jump();
        if jump.is_some() && !self.house.has_told {
            self.house.has_told = true;
            log::warn!(
                "the wall clock was set: deadlines and times go on by the seconds since the daemon's start, until it is started again"
            );
        }
        let is_time = self.house.pruned.is_none_or(|last| now >= last + PRUNED_EVERY);
        if !is_time || self.journal.is_in_trouble() || jump.is_some() {
            return;
        }
        self.house.pruned = Some(now);
        let retention = self.model.journal;
        let keep = Keep { time: retention.keep_for, revisions: u64::from(retention.keep_revisions) };
        if let Err(error) = self.give_numbers_back() {
            log::warn!("{error}");
        }
        match self.journal.prune(keep, self.clock.now()) {
            Ok(0) => {}
            Ok(count) => log::info!("{count} old revisions are deleted"),
            Err(error) => log::warn!("{error}"),
        }
    }

    /// Seconds by which the wall clock was set since the daemon's start, if they are many: forward if positive.
    pub(super) fn jump(&self) -> Option<i64> {
        self.clock.set_by().filter(|jump| jump.unsigned_abs() > JUMP)
    }
}
