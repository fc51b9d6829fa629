//! Answers of the balancer's own, sent back by the way that the packet came.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use lb_common::icmp::{self, LONG, Problem, SHORT_V4, SHORT_V6};
use lb_common::layout::Own;
use lb_common::parse::{L3, TCP};
use lb_common::reason::Reason;
use lb_common::rst;

use crate::hand::{Hand, Step, context, ended, finish, frame, hand};
use crate::verdict::Verdict;
use crate::{clock, maps, tagged};

/// Kinds of answers that have a rate each: a flood of one must not keep the others back.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Kind {
    Echo = 0,
    TooBig = 1,
    TimeExceeded = 2,
    Reject = 3,
}

impl Kind {
    /// Number of kinds: entries of the map of their rates.
    pub const COUNT: u32 = 4;

    /// Whether one more may be given this second.
    #[inline(always)]
    pub fn may(self) -> bool {
        if maps::is_dry() {
            return maps::icmp_rate() != 0;
        }
        let Some(given) = maps::ANSWERS.get_ptr_mut(self as u32) else { return false };
        let now = clock::now();
        // SAFETY: this CPU's word, which no other program run touches meanwhile: the second in its upper half, the answers that were
        // given in it in the lower.
        let in_this = unsafe { if (*given >> 32) as u32 == now { *given as u32 } else { 0 } };
        if in_this >= maps::icmp_rate() {
            return false;
        }
        // SAFETY: as above.
        unsafe { *given = (now as u64) << 32 | (in_this + 1) as u64 };
        true
    }
}

/// To the echo request in hand.
#[inline(always)]
pub fn echo(ctx: &XdpContext) -> Result<Verdict, Reason> {
    ended(answer_echo(ctx.ctx))?;
    Ok(Verdict::transmit(Reason::AnswerEcho))
}

/// To the packet in hand, which does not fit its way.
#[inline(always)]
pub fn too_big(ctx: &XdpContext) -> Result<Verdict, Reason> {
    ended(answer_problem(ctx.ctx, Kind::TooBig as u32))?;
    Ok(Verdict::transmit(Reason::AnswerTooBig))
}

/// To the packet in hand, whose time to live ends here.
#[inline(always)]
pub fn time_exceeded(ctx: &XdpContext) -> Result<Verdict, Reason> {
    ended(answer_problem(ctx.ctx, Kind::TimeExceeded as u32))?;
    Ok(Verdict::transmit(Reason::AnswerTimeExceeded))
}

/// To the packet in hand, whose flow has ended.
#[inline(always)]
pub fn reset(ctx: &XdpContext) -> Result<Verdict, Reason> {
    ended(answer_reset(ctx.ctx))?;
    Ok(Verdict::transmit(Reason::AnswerReset))
}

/// To the packet in hand, which nobody is there to take.
#[inline(always)]
pub fn reject(ctx: &XdpContext) -> Result<Verdict, Reason> {
    if hand()?.packet().tuple.protocol as u8 == TCP {
        if !Kind::Reject.may() {
            return Err(Reason::DropAnswerRate);
        }
        ended(answer_reset(ctx.ctx))?;
    } else {
        ended(answer_problem(ctx.ctx, Kind::Reject as u32))?;
    }
    Ok(Verdict::transmit(Reason::AnswerReject))
}

/// Step: makes the frame the RST to itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer_reset(ctx: *mut xdp_md) -> Step {
    let ctx = context(ctx);
    finish(hand().and_then(|hand| {
        if !icmp::may_answer(&frame(&ctx), hand.packet().is_v6) {
            return Err(Reason::DropNoHost);
        }
        // SAFETY: the frame is this program run's own.
        let len = unsafe { rst::reset(&frame(&ctx), hand.packet()) }.ok_or(Reason::DropNoHost)?;
        // SAFETY: the context is the program's own, and no pointer into the frame is used after this.
        if unsafe { bpf_xdp_adjust_tail(ctx.ctx, len as i32 - hand.len as i32) } != 0 {
            return Err(Reason::DropInternal);
        }
        Ok(())
    }))
}

/// Step: makes the frame the answer to itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer_echo(ctx: *mut xdp_md) -> Step {
    let frame = frame(&context(ctx));
    finish(hand().and_then(|hand| {
        if !Kind::Echo.may() {
            return Err(Reason::DropAnswerRate);
        }
        // SAFETY: the frame is this program run's own.
        if unsafe { icmp::reply(&frame, hand.packet().is_v6) } { Ok(()) } else { Err(Reason::PassIcmp) }
    }))
}

/// Step: makes the frame an ICMP error about itself, by the number of the kind.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer_problem(ctx: *mut xdp_md, kind: u32) -> Step {
    let ctx = context(ctx);
    finish(hand().and_then(|hand| {
        if kind == Kind::TooBig as u32 {
            problem(&ctx, hand, Kind::TooBig, Problem::TooBig { mtu: hand.mtu }, Reason::DropTooBig)
        } else if kind == Kind::Reject as u32 {
            problem(&ctx, hand, Kind::Reject, Problem::PortUnreachable, Reason::DropNoHost)
        } else {
            problem(&ctx, hand, Kind::TimeExceeded, Problem::TimeExceeded, Reason::DropTimeExceeded)
        }
    }))
}

/// `unanswered` is what becomes of it if it may not be answered, or is too short for that.
#[inline(always)]
fn problem(
    ctx: &XdpContext,
    hand: &Hand,
    kind: Kind,
    problem: Problem,
    unanswered: Reason,
) -> Result<(), Reason> {
    let packet = hand.packet();
    if !icmp::may_answer(&frame(ctx), packet.is_v6) {
        return Err(unanswered);
    }
    let quote = if packet.is_v6 {
        icmp::quote_v6(packet.ip_len)
    } else {
        icmp::quote_v4(packet.ip_len, packet.ip_header_len)
    };
    let Some(quote) = quote else { return Err(unanswered) };
    if !kind.may() {
        return Err(Reason::DropAnswerRate);
    }
    // SAFETY: the context is the program's own, and no pointer into the frame is used after this.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, (L3 + quote) as i32 - hand.len as i32) } != 0 {
        return Err(Reason::DropInternal);
    }
    tagged::grow(ctx, if packet.is_v6 { icmp::ADDED_V6 } else { icmp::ADDED_V4 } as i32)?;
    let Own { v4, v6, .. } = own_addresses(ctx);
    // A balancer without an address of the family speaks in the name of the VIP.
    let destination = packet.tuple.destination;
    let v4 = if v4 != 0 { v4 } else { (destination[1] >> 32) as u32 };
    let v6 = if v6[0] | v6[1] != 0 { v6 } else { destination };
    let frame = frame(ctx);
    // SAFETY: the frame is this program run's own.
    let is_written = unsafe {
        match (packet.is_v6, quote) {
            (false, LONG) => icmp::answer_v4::<LONG>(&frame, v4, problem),
            (false, _) => icmp::answer_v4::<SHORT_V4>(&frame, v4, problem),
            (true, LONG) => icmp::answer_v6::<LONG>(&frame, v6, problem),
            (true, _) => icmp::answer_v6::<SHORT_V6>(&frame, v6, problem),
        }
    };
    if is_written { Ok(()) } else { Err(Reason::DropInternal) }
}

/// Addresses of the interface that the packet came in by.
#[inline(always)]
fn own_addresses(ctx: &XdpContext) -> Own {
    // SAFETY: a record that the daemon replaces as a whole; one that is replaced meanwhile is as good.
    match unsafe { maps::OWN.get(ctx.ingress_ifindex() as u32) } {
        Some(own) => *own,
        None => Own::default(),
    }
}
