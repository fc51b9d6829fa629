//! When a check runs next. All times are milliseconds of a clock that nobody sets.
//!
//! Each check has a beat of its own, an interval long; a run comes late for its beat by up to the jitter. So the runs of a check do not
//! fall behind by what each of them comes late: so many of them in a row take as many intervals and one jitter.

/// The first run of a check that `seed` tells from others: somewhere in the first interval, so that a thousand checks are no burst.
pub fn first(seed: u64, interval: u64, now: u64) -> u64 {
    let interval = interval.max(1);
    now + (interval - since_beat(seed, interval, now)) % interval
}

/// The run after the one that was due at `due`: at the next beat, or later by up to `jitter` hundredths of the interval, other for each run.
/// One that comes late is followed by no burst: what was missed is left out.
pub fn next(seed: u64, run: u64, due: u64, interval: u64, jitter: u8, now: u64) -> u64 {
    let interval = interval.max(1);
    let span = interval * u64::from(jitter) / 100;
    // Less than the interval, so that it is known which beat a run was late for.
    let late = mix(seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % (span.min(interval - 1) + 1);
    let was_late = since_beat(seed, interval, due).min(due);
    let mut next = due - was_late + interval + late;
    // A run that was made up for in the second half of its interval is that of the next beat, too.
    if was_late > span && next - due < interval / 2 {
        next += interval;
    }
    if next > now { next } else { now + mix(seed ^ now) % interval.min(100) + 1 }
}

/// Milliseconds since the check's last beat.
fn since_beat(seed: u64, interval: u64, at: u64) -> u64 {
    (at % interval + interval - mix(seed) % interval) % interval
}

/// The finalizer of SplitMix64.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
