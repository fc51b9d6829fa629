//! Answers of the balancer's own, sent back by the way that the packet came.

use aya_ebpf::helpers::generated::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use lb_common::icmp::{self, LONG, Problem, SHORT_V4, SHORT_V6};
use lb_common::layout::Own;
use lb_common::parse::{L3, Packet};
use lb_common::reason::Reason;

use crate::verdict::Verdict;
use crate::{clock, frame_of, maps, tagged};

/// Kinds of answers that have a rate each: a flood of one must not keep the others back.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Kind {
    Echo = 0,
    TooBig = 1,
    TimeExceeded = 2,
}

impl Kind {
    /// Number of kinds: entries of the map of their rates.
    pub const COUNT: u32 = 3;

    /// Whether one more may be given this second.
    #[inline(always)]
    pub fn may(self) -> bool {
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

/// To an echo request.
#[inline(always)]
pub fn echo<const FRAGS: bool>(ctx: &XdpContext, packet: &Packet) -> Result<Verdict, Reason> {
    if !Kind::Echo.may() {
        return Err(Reason::DropAnswerRate);
    }
    let (frame, _) = frame_of::<FRAGS>(ctx);
    // SAFETY: the frame is this program run's own.
    if unsafe { icmp::reply(&frame, packet.is_v6) } {
        Ok(Verdict::transmit(Reason::AnswerEcho))
    } else {
        Err(Reason::PassIcmp)
    }
}

/// To a packet that does not fit the way to its backend, which takes `mtu` bytes.
#[inline(always)]
pub fn too_big<const FRAGS: bool>(ctx: &XdpContext, packet: &Packet, mtu: u16) -> Result<Verdict, Reason> {
    if !problem::<FRAGS>(ctx, packet, Kind::TooBig, Problem::TooBig { mtu })? {
        return Err(Reason::DropTooBig);
    }
    Ok(Verdict::transmit(Reason::AnswerTooBig))
}

/// To a packet whose time to live ends here.
#[inline(always)]
pub fn time_exceeded<const FRAGS: bool>(ctx: &XdpContext, packet: &Packet) -> Result<Verdict, Reason> {
    if !problem::<FRAGS>(ctx, packet, Kind::TimeExceeded, Problem::TimeExceeded)? {
        return Err(Reason::DropTimeExceeded);
    }
    Ok(Verdict::transmit(Reason::AnswerTimeExceeded))
}

/// Makes the frame an ICMP error about itself. False: it may not be answered, or is too short for that.
#[inline(always)]
fn problem<const FRAGS: bool>(
    ctx: &XdpContext,
    packet: &Packet,
    kind: Kind,
    problem: Problem,
) -> Result<bool, Reason> {
    let (frame, len) = frame_of::<FRAGS>(ctx);
    if !icmp::may_answer(&frame, packet.is_v6) {
        return Ok(false);
    }
    let quote = if packet.is_v6 {
        icmp::quote_v6(packet.ip_len)
    } else {
        icmp::quote_v4(packet.ip_len, packet.ip_header_len)
    };
    let Some(quote) = quote else { return Ok(false) };
    if !kind.may() {
        return Err(Reason::DropAnswerRate);
    }
    // SAFETY: the context is the program's own, and no pointer into the frame is used after this.
    if unsafe { bpf_xdp_adjust_tail(ctx.ctx, (L3 + quote) as i32 - len as i32) } != 0 {
        return Err(Reason::DropInternal);
    }
    let own = own_addresses(ctx);
    let added = if packet.is_v6 { icmp::ADDED_V6 } else { icmp::ADDED_V4 };
    tagged::grow(ctx, added as i32)?;
    let (frame, _) = frame_of::<false>(ctx);
    let Own { v4, v6, .. } = own;
    // A balancer without an address of the family speaks in the name of the VIP.
    let (own_v4, own_v6) = (
        if v4 != 0 { v4 } else { (packet.tuple.destination[1] >> 32) as u32 },
        if v6[0] | v6[1] != 0 { v6 } else { packet.tuple.destination },
    );
    // SAFETY: the frame is this program run's own.
    let written = unsafe {
        match (packet.is_v6, quote) {
            (false, LONG) => icmp::answer_v4::<LONG>(&frame, own_v4, problem),
            (false, _) => icmp::answer_v4::<SHORT_V4>(&frame, own_v4, problem),
            (true, LONG) => icmp::answer_v6::<LONG>(&frame, own_v6, problem),
            (true, _) => icmp::answer_v6::<SHORT_V6>(&frame, own_v6, problem),
        }
    };
    if written { Ok(true) } else { Err(Reason::DropInternal) }
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
