//! The balancer's XDP programs: `parse → find service → find slot and pin → decide → forward → account`.
//!
//! Two of them for traffic. The *plain* one is attached: it handles what nearly all packets are, and hands the rest to the *whole* one by a
//! tail call, which handles everything. So what is rare costs the others neither instructions nor stack. Each comes in two kinds, for
//! frames in one piece and for those in several (`xdp.frags`), as a tail call cannot lead from one kind to the other.
//!
//! Glue only: what is decided, and how pins are kept, is in `lb-common`.
#![no_std]
#![no_main]

mod answer;
mod backend;
mod begin;
mod clock;
mod exact;
mod forward;
mod fragments;
mod gate;
mod hand;
mod insert;
mod maps;
mod memory;
mod pin;
mod plain;
mod record;
mod reply;
mod route;
mod send;
mod service;
mod settled;
mod tagged;
mod trace;
mod verdict;
mod whole;

use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::parse::Frame;

use crate::plain::balance_plain;
use crate::trace::balance_traced;
use crate::whole::balance_whole;

/// For traffic.
#[xdp]
pub fn sluice_plain(ctx: XdpContext) -> u32 {
    balance_plain::<false>(&ctx).finish()
}

/// For traffic that may come in several pieces (Linux 5.18).
#[xdp(frags)]
pub fn sluice_plain_frags(ctx: XdpContext) -> u32 {
    balance_plain::<true>(&ctx).finish()
}

/// Called by [`sluice_plain`].
#[xdp]
pub fn sluice_whole(ctx: XdpContext) -> u32 {
    balance_whole::<false, false>(&ctx).finish()
}

/// Called by [`sluice_plain_frags`].
#[xdp(frags)]
pub fn sluice_whole_frags(ctx: XdpContext) -> u32 {
    balance_whole::<true, false>(&ctx).finish()
}

/// As [`sluice_whole`], and each decision is recorded. The one that is loaded for dry runs, too.
#[xdp]
pub fn sluice_record(ctx: XdpContext) -> u32 {
    let verdict = balance_whole::<false, true>(&ctx);
    if maps::is_dry() { verdict.code() } else { verdict.finish() }
}

/// Attached in place of [`sluice_plain`] while somebody traces; calls it.
#[xdp]
pub fn sluice_traced(ctx: XdpContext) -> u32 {
    balance_traced::<false>(&ctx).finish()
}

/// In place of [`sluice_plain_frags`].
#[xdp(frags)]
pub fn sluice_traced_frags(ctx: XdpContext) -> u32 {
    balance_traced::<true>(&ctx).finish()
}

/// The frame as far as it can be read, and its length with all its pieces, bytes.
#[inline(always)]
fn frame_of<const FRAGS: bool>(ctx: &XdpContext) -> (Frame, usize) {
    // SAFETY: the kernel's bounds of the frame's first piece; every access is checked against them.
    let frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    // SAFETY: the context is the program's own.
    let len = if FRAGS { unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize } } else { frame.len() };
    (frame, len)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // SAFETY: the verifier accepts the program only if no path leads here.
    unsafe { core::hint::unreachable_unchecked() }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
