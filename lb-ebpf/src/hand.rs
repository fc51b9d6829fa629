//! The packet in hand of the whole program: what its steps tell each other.
//!
//! A record of this CPU and not the stack, of which there is little; and the verifier, which knows nothing of what lies in maps, walks
//! a step once, whatever led to it. So steps are global functions that take the context and give back a number.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::hash::FlowHash;
use lb_common::parse::{Frame, Packet, Whole};
use lb_common::reason::Reason;

use crate::maps;

/// Everything that is known about it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Hand {
    pub whole: Whole,
    /// Of its flow, where it is known.
    pub hash: FlowHash,
    /// Number of its backend's record.
    pub backend: u32,
    /// Of the whole frame without tags, bytes.
    pub len: u32,
    /// Number of the service that a backend answers for.
    pub service: u16,
    /// What its way takes, bytes, where it is longer.
    pub mtu: u16,
    /// What an ICMP packet quotes: offsets from the start of the frame.
    pub quoted_ip: u16,
    pub quoted_l4: u16,
    /// The interface that it leaves by, where it is sent on.
    pub egress: u32,
    pub pad: u32,
}

/// In [`Hand::service`]: none yet.
pub const NO_SERVICE: u16 = u16::MAX;

/// The record. It is not touched by another program run meanwhile.
#[inline(always)]
pub fn hand() -> Result<&'static mut Hand, Reason> {
    // SAFETY: this CPU's record; each step takes it anew and keeps no reference when it calls another.
    maps::HAND.get_ptr_mut(0).map(|hand| unsafe { &mut *hand }).ok_or(Reason::DropInternal)
}

impl Hand {
    #[inline(always)]
    pub fn packet(&self) -> &Packet {
        &self.whole.packet
    }
}

/// The frame as far as it lies in one piece.
#[inline(always)]
pub fn frame(ctx: &XdpContext) -> Frame {
    // SAFETY: the kernel's bounds of the frame's first piece; every access is checked against them.
    unsafe { Frame::new(ctx.data(), ctx.data_end()) }
}

/// What a step came to: all is well, or the number of a reason and one.
pub type Step = u32;

/// For the end of a step.
#[inline(always)]
pub fn finish(result: Result<(), Reason>) -> Step {
    match result {
        Ok(()) => 0,
        Err(reason) => reason as u32 + 1,
    }
}

/// For who called it.
#[inline(always)]
pub fn ended(step: Step) -> Result<(), Reason> {
    if step == 0 { Ok(()) } else { Err(Reason::from_number((step - 1) & 0xff)) }
}

/// The context, in a step.
#[inline(always)]
pub fn context(ctx: *mut xdp_md) -> XdpContext {
    XdpContext::new(ctx)
}
