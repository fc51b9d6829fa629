//! The daemon's clocks: seconds that nobody sets, and Unix time for people.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::dataplane::monotonic_seconds;

/// Unix time as it was at the start plus the seconds since: a wall clock that is set meanwhile moves nothing.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    offset: u64,
    seconds: fn() -> u32,
}

impl Clock {
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Clock { offset: unix.saturating_sub(u64::from(monotonic_seconds())), seconds: monotonic_seconds }
    }

    /// A clock that somebody else moves: `seconds` must agree with the data path's test clock, and Unix time is `offset` more.
    pub fn moved_by(seconds: fn() -> u32, offset: u64) -> Self {
        Clock { offset, seconds }
    }

    /// Unix seconds.
    pub fn now(&self) -> u64 {
        self.offset + self.monotonic()
    }

    /// Unix seconds of a second of the data path's clock.
    pub fn unix(&self, monotonic: u64) -> u64 {
        self.offset + monotonic
    }

    /// Seconds of the data path's clock.
    pub fn monotonic(&self) -> u64 {
        u64::from((self.seconds)())
    }
}
