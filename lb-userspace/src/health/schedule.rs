//! When a check runs next. All times are milliseconds of a clock that nobody sets.

/// The first run of a check that `seed` tells from others: somewhere in the first interval, so that a thousand checks are no burst.
pub fn first(seed: u64, interval: u64, now: u64) -> u64 {
    now + mix(seed) % interval.max(1)
}

/// The run after the one that was due at `due`: an interval later, and later by up to `jitter` hundredths of it, other for each run. One that
/// comes late is followed by no burst: what was missed is left out.
pub fn next(seed: u64, run: u64, due: u64, interval: u64, jitter: u8, now: u64) -> u64 {
    let span = interval * u64::from(jitter) / 100;
    let late = if span == 0 { 0 } else { mix(seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % (span + 1) };
    let interval = interval.max(1);
    let next = due + interval + late;
    if next > now { next } else { now + mix(seed ^ now) % interval.min(100) + 1 }
}

/// The finalizer of SplitMix64.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
