//! What becomes of the packet, turned into the kernel's code in one place and never without a reason's count.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use lb_common::reason::{Class, Reason};

use crate::maps;

/// The kernel's code in bits 0–7, the reason's number above them: one number, so that each way out of the program sets one
/// register.
#[must_use]
#[derive(Clone, Copy)]
pub struct Verdict(u32);

impl Verdict {
    #[inline(always)]
    const fn new(code: u32, reason: Reason) -> Self {
        Verdict((reason as u32) << 8 | code)
    }

    /// To the kernel, untouched.
    #[inline(always)]
    pub const fn pass(reason: Reason) -> Self {
        Verdict::new(XDP_PASS, reason)
    }

    #[inline(always)]
    pub const fn drop(reason: Reason) -> Self {
        Verdict::new(XDP_DROP, reason)
    }

    /// To the kernel, changed.
    #[inline(always)]
    pub const fn hand_over(reason: Reason) -> Self {
        Verdict::new(XDP_PASS, reason)
    }

    /// Out by the interface that it came in by.
    #[inline(always)]
    pub const fn transmit(reason: Reason) -> Self {
        Verdict::new(XDP_TX, reason)
    }

    /// Out by the interface that a helper has noted for this run of the program.
    #[inline(always)]
    pub const fn redirect(reason: Reason) -> Self {
        Verdict::new(XDP_REDIRECT, reason)
    }

    /// What a reason comes to that needs nothing else to be done: to the kernel or nowhere.
    #[inline(always)]
    pub const fn of(reason: Reason) -> Self {
        match reason.class() {
            Class::Pass => Verdict::pass(reason),
            _ => Verdict::drop(reason),
        }
    }

    /// Whether the frame goes to the kernel, or back to who sent it: with the VLAN tags that it came with.
    #[inline(always)]
    pub const fn goes_back_as_it_came(self) -> bool {
        self.code() == XDP_PASS || matches!(Reason::from_number(self.reason()).class(), Class::Answer)
    }

    /// Number of the reason.
    #[inline(always)]
    pub const fn reason(self) -> u32 {
        self.0 >> 8
    }

    /// Counts the reason and gives the kernel's code.
    #[inline(always)]
    pub fn finish(self) -> u32 {
        count_number(self.reason());
        self.code()
    }

    /// The kernel's code.
    #[inline(always)]
    pub const fn code(self) -> u32 {
        self.0 & 0xff
    }
}

/// One more packet for this reason. Not to be called in a dry run.
#[inline(always)]
pub fn count(reason: Reason) {
    count_number(reason as u32);
}

#[inline(always)]
fn count_number(reason: u32) {
    if let Some(counter) = maps::REASON_COUNTS.get_ptr_mut(reason) {
        // SAFETY: this CPU's counter, which no other program run touches meanwhile.
        unsafe { *counter += 1 };
    }
}
