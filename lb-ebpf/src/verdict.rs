//! What becomes of the packet, turned into the kernel's code in one place and never without a reason's count.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use lb_common::reason::Reason;

use crate::maps;

#[must_use]
pub enum Verdict {
    /// To the kernel, untouched.
    Pass(Reason),
    Drop(Reason),
    /// Out by the interface that it came in by.
    Transmit(Reason),
    /// Out by the interface that a helper has noted for this run of the program.
    Redirect(Reason),
}

impl Verdict {
    /// Counts the reason and gives the kernel's code.
    #[inline(always)]
    pub fn finish(self) -> u32 {
        match self {
            Verdict::Pass(reason) => {
                count(reason);
                XDP_PASS
            }
            Verdict::Drop(reason) => {
                count(reason);
                XDP_DROP
            }
            Verdict::Transmit(reason) => {
                count(reason);
                XDP_TX
            }
            Verdict::Redirect(reason) => {
                count(reason);
                XDP_REDIRECT
            }
        }
    }
}

/// One more packet for this reason.
#[inline(always)]
pub fn count(reason: Reason) {
    if let Some(counter) = maps::REASON_COUNTS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's counter, which no other program run touches meanwhile.
        unsafe { *counter += 1 };
    }
}
