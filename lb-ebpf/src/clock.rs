//! Seconds of the monotonic clock.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lb_common::layout::FEATURE_TEST_CLOCK;

use crate::maps;

/// Seconds since boot. The coarse clock (Linux 5.11) is a load where the fine one reads the counter.
#[inline(always)]
pub fn now() -> u32 {
    if maps::features() & FEATURE_TEST_CLOCK != 0 {
        return maps::TEST_CLOCK.get(0).copied().unwrap_or(0);
    }
    // SAFETY: no arguments, no preconditions.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}
