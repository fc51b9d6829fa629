//! The daemon's clocks: seconds that nobody sets, and Unix time for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::dataplane::{monotonic, monotonic_seconds};
use crate::journal::Boot;

/// How often the two clocks are read.
const TRIES: u32 = 5;

/// Unix time as it was at the start plus the seconds since: a wall clock that is set meanwhile moves nothing.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    offset: u64,
    seconds: fn() -> u32,
    /// What people set, Unix seconds; a test's clock may have none beside it.
    wall: Option<fn() -> u64>,
}

impl Clock {
    pub fn start() -> Self {
        // Whoever is put off between the two readings finds too little.
        let readings = (0..TRIES).map(|_| began(since_1970(), monotonic()));
        Clock { offset: readings.max().unwrap_or_default(), seconds: monotonic_seconds, wall: Some(wall) }
    }

    /// A clock that somebody else moves: `seconds` must agree with the data path's test clock, and Unix time is `offset` more.
    pub fn moved_by(seconds: fn() -> u32, offset: u64) -> Self {
        Clock { offset, seconds, wall: None }
    }

    /// With a wall clock, Unix seconds, that somebody else sets.
    pub fn beside(self, wall: fn() -> u64) -> Self {
        Clock { wall: Some(wall), ..self }
    }

    /// Seconds by which the wall clock was set since the start: forward if positive.
    pub fn set_by(&self) -> Option<i64> {
        self.wall.map(|wall| wall() as i64 - self.now() as i64)
    }

    /// What the times of this clock are counted by.
    pub fn boot(&self) -> Boot {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Boot { id: id.trim().to_owned(), at: self.offset }
    }

    /// Unix seconds.
    pub fn now(&self) -> u64 {
        self.offset + self.monotonic()
    }

    /// Unix seconds of a second of the data path's clock.
    pub fn unix(&self, monotonic: u64) -> u64 {
        self.offset + monotonic
    }

    /// Second of the data path's clock at a Unix time. What was before its start was in its first second: 0 stands for no time.
    pub fn monotonic_of(&self, unix: u64) -> u32 {
        u32::try_from(unix.saturating_sub(self.offset)).unwrap_or(u32::MAX).max(1)
    }

    /// Seconds of the data path's clock.
    pub fn monotonic(&self) -> u64 {
        u64::from((self.seconds)())
    }
}

/// Unix second in which a clock of so much began. Daemons of a boot agree on it whenever within a second they start, unless the wall clock
/// was set or the clock began at the very edge of a second.
fn began(unix: Duration, uptime: Duration) -> u64 {
    unix.saturating_sub(uptime).as_secs()
}

fn wall() -> u64 {
    since_1970().as_secs()
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_of_a_boot_count_by_the_same_seconds() {
        let at = |unix, uptime| began(Duration::from_millis(unix), Duration::from_millis(uptime));
        // One began at the end of a second of the wall clock, the other at that of one of the uptime.
        assert_eq!(
            (at(1_790_000_050_900, 50_200), at(1_790_000_051_500, 50_800)),
            (1_790_000_000, 1_790_000_000)
        );
        assert_eq!(at(5_000, 50_200), 0, "set to before its boot");
    }

    #[test]
    fn unix_times_are_seconds_of_the_data_path() {
        let clock = Clock::moved_by(|| 50, 1_790_000_000);
        assert_eq!(clock.monotonic_of(clock.now() + 600), 650);
        assert_eq!(clock.monotonic_of(1_790_000_000), 1, "before it began, but not never");
        assert_eq!(clock.monotonic_of(5), 1);
        assert_eq!(clock.monotonic_of(u64::MAX), u32::MAX);
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_nothing() {
        let clock = Clock::start();
        let (now, deadline) = (clock.now(), clock.now() + 60);
        // Nothing of it is asked of the wall clock again.
        let later = Clock { seconds: || monotonic_seconds() + 7, ..clock };
        assert!((now + 7..now + 9).contains(&later.now()), "{} {now}", later.now());
        assert_eq!(later.monotonic_of(deadline), clock.monotonic_of(deadline));
        assert_eq!(later.set_by().map(|by| (-8..=-6).contains(&by)), Some(true), "as if it was set back");
    }

    #[test]
    fn it_is_known_by_how_much_the_wall_clock_was_set() {
        let clock = Clock::moved_by(|| 50, 1000);
        assert_eq!(clock.set_by(), None, "there is none");
        let of = |wall: fn() -> u64| clock.beside(wall).set_by();
        assert_eq!((of(|| 1050), of(|| 8250), of(|| 0)), (Some(0), Some(7200), Some(-1050)));
    }
}
