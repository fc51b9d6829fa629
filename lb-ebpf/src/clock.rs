//! Seconds of the monotonic clock.

use core::cell::UnsafeCell;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use lb_common::layout::FEATURE_TEST_CLOCK;

use crate::maps;

/// The last second that was worked out, and the jiffy in which it was: one word for all CPUs, as it is written once a jiffy.
#[repr(transparent)]
struct Last(UnsafeCell<u64>);

// SAFETY: read and written as one aligned word; whatever CPU wrote it, it is right for its jiffy.
unsafe impl Sync for Last {}

static LAST: Last = Last(UnsafeCell::new(0));

/// Seconds since boot.
///
/// The coarse clock (Linux 5.11) changes with the jiffies, which the kernel's compiler of BPF turns into one load (Linux
/// 5.6): so the clock is read, and its nanoseconds are divided, once a jiffy and not once a packet. The lower half of the
/// jiffies is compared: it takes 49 days or more to come round.
#[inline(always)]
pub fn now() -> u32 {
    if maps::features() & FEATURE_TEST_CLOCK != 0 {
        return maps::TEST_CLOCK.get(0).copied().unwrap_or(0);
    }
    // SAFETY: no arguments, no preconditions.
    let jiffy = unsafe { bpf_jiffies64() } as u32;
    // SAFETY: as for `Last`.
    let last = unsafe { LAST.0.get().read_volatile() };
    if (last >> 32) as u32 == jiffy {
        return last as u32;
    }
    // SAFETY: no arguments, no preconditions.
    let now = unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000;
    // SAFETY: as for `Last`.
    unsafe { LAST.0.get().write_volatile((jiffy as u64) << 32 | now & 0xffff_ffff) };
    now as u32
}
