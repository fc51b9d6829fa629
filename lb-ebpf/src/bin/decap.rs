//! The backend's XDP program: takes off the outer headers that the balancer put on, IP in IP or GUE, so that a backend needs
//! no tunnel module.
//!
//! Glue only: what is taken apart, and how, is in `lb_common::decap`.
#![no_std]
#![no_main]

#[path = "../program.rs"]
mod program;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::{bpf_xdp_adjust_head, generated::bpf_xdp_get_buff_len};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use lb_common::decap::{DECAP_REASONS, DecapClass, DecapReason, decapsulate_frame};
use lb_common::parse::Frame;

/// Outer destinations that are taken apart; the loader sets the size. Values mean nothing.
#[map]
static ADDRESSES: HashMap<[u64; 2], u32> = HashMap::with_max_entries(1, 0);
/// UDP port that GUE comes to; 0: none is taken apart.
#[map]
static GUE_PORT: Array<u32> = Array::with_max_entries(1, 0);
/// Packets by reason, by CPU.
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DECAP_REASONS, 0);

/// For frames that lie in one piece: all that kernels before 5.18 give to an XDP program.
#[xdp]
pub fn sluice_decap(ctx: XdpContext) -> u32 {
    let len = ctx.data_end() - ctx.data();
    finish(&ctx, len)
}

/// For frames in pieces too, of which the first holds the headers (jumbo frames; Linux 5.18).
#[xdp(frags)]
pub fn sluice_decap_frags(ctx: XdpContext) -> u32 {
    // SAFETY: the context is the program's own.
    let len = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
    finish(&ctx, len as usize)
}

#[inline(always)]
fn finish(ctx: &XdpContext, len: usize) -> u32 {
    // SAFETY: the kernel's bounds of the frame's first piece; every access is checked against them.
    let frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    let gue_port = GUE_PORT.get(0).map_or(0, |port| *port as u16);
    // SAFETY: the frame is this program run's own.
    let decapsulated = unsafe {
        decapsulate_frame(&frame, len, gue_port, |destination| ADDRESSES.get_ptr(destination).is_some())
    };
    let mut reason = decapsulated.reason;
    if let DecapClass::Decapsulate = reason.class() {
        // SAFETY: the context is the program's own, and no pointer into the frame is used after this.
        if unsafe { bpf_xdp_adjust_head(ctx.ctx, decapsulated.cut as i32) } != 0 {
            reason = DecapReason::DropInternal;
        }
    }
    if let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's counter, which no other program run touches meanwhile.
        unsafe { *counter += 1 };
    }
    match reason.class() {
        DecapClass::Pass | DecapClass::Decapsulate => XDP_PASS,
        DecapClass::Drop => XDP_DROP,
    }
}
