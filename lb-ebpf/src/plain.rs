//! The way of a plain packet: no VLAN tag, no fragment, neither options nor extension headers, TCP or UDP, nothing odd about it. All
//! others are for the whole program.

use aya_ebpf::programs::XdpContext;
use lb_common::layout::FEATURE_NAT;
use lb_common::parse::{parse_plain, suspect};
use lb_common::reason::Reason;

use crate::backend::count_packet;
use crate::forward::{Leaving, forward, translate};
use crate::frame_of;
use crate::maps;
use crate::route;
use crate::service;
use crate::verdict::Verdict;

#[inline(always)]
pub fn balance_plain<const FRAGS: bool>(ctx: &XdpContext) -> Verdict {
    let (frame, len) = frame_of::<FRAGS>(ctx);
    let packet = match parse_plain(&frame, len) {
        Ok(packet) => packet,
        Err(Reason::PassUnhandled) => return call_whole(ctx),
        Err(reason) => return Verdict::pass(reason),
    };
    let Some(directory) = maps::DIRECTORY.get_ptr(0) else { return Verdict::drop(Reason::DropInternal) };
    let found = service::find(directory, &packet.tuple);
    if !found.is_some() {
        if maps::features() & FEATURE_NAT != 0 && service::find_answering(directory, &packet.tuple).is_some()
        {
            return call_whole(ctx);
        }
        return Verdict::pass(Reason::PassNoService);
    }
    if suspect::suspicion(&frame, &packet) != 0 {
        return match suspect::blame(&frame, &packet, true) {
            // At once: who floods the balancer with such is not to get more of it than who sends good ones.
            Some(reason) => Verdict::drop(reason),
            // Its last hop, of which its sender is to be told.
            None => call_whole(ctx),
        };
    }
    let routed = match route::shortly::<false>(ctx, &frame, &packet, &found) {
        Ok(routed) => routed,
        // The client is to be told, by the whole program, which decides the same once more.
        Err(Reason::AnswerReset | Reason::AnswerReject) => return call_whole(ctx),
        // Some clients go by a ring of their own, and who they are takes a look-up in a trie.
        Err(Reason::PassUnhandled) => return call_whole(ctx),
        Err(reason) => return Verdict::drop(reason),
    };
    let leaving = Leaving { frame: &frame, packet: &packet, hash: routed.hash, is_flow: true };
    match forward(ctx, &leaving, &routed.backend, |to| translate(&frame, &packet, to, routed.reason)) {
        Ok(way) => {
            count_packet(&routed.backend, len as u64);
            way.verdict(routed.reason)
        }
        // Its sender is to be told, for which the whole program decides once more: the pin is there, so it decides the same.
        Err(Reason::DropTooBig) => call_whole(ctx),
        Err(reason) => Verdict::drop(reason),
    }
}

/// Hands the packet over; comes back only if there is no such program.
#[inline(always)]
fn call_whole(ctx: &XdpContext) -> Verdict {
    // SAFETY: the context is the program's own.
    unsafe { maps::PROGRAMS.tail_call(ctx, maps::WHOLE) };
    Verdict::pass(Reason::PassUnhandled)
}
