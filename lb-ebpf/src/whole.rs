//! The way of any packet: the program that knows VLAN tags, options, extension headers, fragments and ICMP, and that answers.

use aya_ebpf::programs::XdpContext;
use lb_common::icmp::{self, Kind};
use lb_common::layout::{DecisionRecord, FEATURE_PING, VipFlags};
use lb_common::parse::{IP_HEADER_MOST, L3, Packet, Signal, What, Whole, parse_whole_into, suspect};
use lb_common::reason::Reason;

use crate::forward::{Leaving, forward, room};
use crate::record::record;
use crate::verdict::Verdict;
use crate::{answer, fragments, frame_of, maps, route, service, tagged};

#[inline(always)]
pub fn balance_whole<const FRAGS: bool, const RECORDS: bool>(ctx: &XdpContext) -> Verdict {
    record::<RECORDS>(|record| *record = DecisionRecord::default());
    let tags = match tagged::strip(ctx) {
        Ok(tags) => tags,
        Err(reason) => return Verdict::of(reason),
    };
    let mut verdict = match handle::<FRAGS, RECORDS>(ctx) {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::of(reason),
    };
    if !tags.is_empty() && verdict.goes_back_as_it_came() && tagged::put(ctx, &tags).is_err() {
        verdict = Verdict::drop(Reason::DropInternal);
    }
    record::<RECORDS>(|record| record.reason = verdict.reason());
    verdict
}

/// `Err` is why the frame is passed or dropped.
#[inline(always)]
fn handle<const FRAGS: bool, const RECORDS: bool>(ctx: &XdpContext) -> Result<Verdict, Reason> {
    let (frame, len) = frame_of::<FRAGS>(ctx);
    // In a record of this CPU's, not on the stack, and so that the verifier knows nothing of it.
    // SAFETY: no other program run touches it meanwhile.
    let whole = unsafe { &mut *maps::PACKET.get_ptr_mut(0).ok_or(Reason::DropInternal)? };
    if let Some(reason) = parse_whole_into(&frame, len, whole) {
        return Err(reason);
    }
    match whole.what {
        What::Flow => flow::<FRAGS, RECORDS>(ctx, whole),
        What::Icmp => icmp_packet::<FRAGS, RECORDS>(ctx, whole),
        What::Later => later::<FRAGS>(ctx, whole),
        What::Overlap if vip(&whole.packet) != 0 => Err(Reason::DropFragmentOverlap),
        What::Overlap => Err(Reason::PassFragment),
    }
}

/// TCP or UDP with its ports.
#[inline(always)]
fn flow<const FRAGS: bool, const RECORDS: bool>(ctx: &XdpContext, whole: &Whole) -> Result<Verdict, Reason> {
    let (frame, len) = frame_of::<FRAGS>(ctx);
    let packet = &whole.packet;
    let directory = maps::DIRECTORY.get_ptr(0).ok_or(Reason::DropInternal)?;
    let found = service::find(directory, &packet.tuple);
    if !found.is_some() {
        return Err(Reason::PassNoService);
    }
    if let Some(reason) = suspect::blame(&frame, packet, true) {
        return Err(reason);
    }
    if suspect::hops(&frame, packet) <= 1 {
        return answer::time_exceeded::<FRAGS>(ctx, packet);
    }
    let (host, routed) = route::exactly::<RECORDS>(ctx, &frame, packet, &found)?;
    if whole.fragment.is_part != 0 {
        fragments::remember(whole, host, found.number());
    }
    let leaving = Leaving { frame: &frame, len, packet, hash: routed.hash };
    match forward(ctx, &leaving, &routed.backend) {
        Ok(out) => Ok(out.verdict(routed.reason)),
        Err(Reason::DropTooBig) => answer::too_big::<FRAGS>(ctx, packet, room(routed.backend.get())),
        Err(reason) => Err(reason),
    }
}

/// ICMP to a VIP: a ping, or an error about a packet that one of its hosts has sent.
#[inline(always)]
fn icmp_packet<const FRAGS: bool, const RECORDS: bool>(
    ctx: &XdpContext,
    whole: &mut Whole,
) -> Result<Verdict, Reason> {
    let (frame, len) = frame_of::<FRAGS>(ctx);
    let packet = &mut whole.packet;
    if vip(packet) == 0 {
        return Err(Reason::PassIcmp);
    }
    if let Some(reason) = suspect::blame(&frame, packet, false) {
        return Err(reason);
    }
    let l4 = L3 + (packet.ip_header_len as usize & IP_HEADER_MOST);
    match icmp::classify(&frame, l4, packet.is_v6) {
        Kind::Echo if maps::features() & FEATURE_PING != 0 => return answer::echo::<FRAGS>(ctx, packet),
        Kind::Error => {}
        Kind::Truncated => return Err(Reason::PassMalformed),
        _ => return Err(Reason::PassIcmp),
    }
    if suspect::hops(&frame, packet) <= 1 {
        return Err(Reason::DropTimeExceeded);
    }
    let Ok(quoted) = icmp::quoted(&frame, l4, packet.is_v6) else { return Err(Reason::PassIcmp) };
    // It goes where a packet of the flow would go that neither begins nor ends nor refreshes anything.
    (packet.tuple, packet.signal) = (quoted.tuple, Signal::Stray);
    let directory = maps::DIRECTORY.get_ptr(0).ok_or(Reason::DropInternal)?;
    let found = service::find(directory, &packet.tuple);
    if !found.is_some() {
        return Err(Reason::PassIcmp);
    }
    let (_, routed) = route::exactly::<RECORDS>(ctx, &frame, packet, &found)?;
    let leaving = Leaving { frame: &frame, len, packet, hash: routed.hash };
    Ok(forward(ctx, &leaving, &routed.backend)?.verdict(Reason::ForwardIcmp))
}

/// A fragment without ports.
#[inline(always)]
fn later<const FRAGS: bool>(ctx: &XdpContext, whole: &Whole) -> Result<Verdict, Reason> {
    let (frame, len) = frame_of::<FRAGS>(ctx);
    let packet = &whole.packet;
    let Some(backend) = fragments::follow(whole) else {
        let vip = vip(packet);
        let passes = vip == 0 || vip & VipFlags::PASS_FRAGMENTS != 0;
        return Err(if passes { Reason::PassFragment } else { Reason::DropFragment });
    };
    if let Some(reason) = suspect::blame(&frame, packet, false) {
        return Err(reason);
    }
    if suspect::hops(&frame, packet) <= 1 {
        return Err(Reason::DropTimeExceeded);
    }
    let leaving = Leaving { frame: &frame, len, packet, hash: fragments::hash_of(packet) };
    Ok(forward(ctx, &leaving, &backend)?.verdict(Reason::ForwardFragment))
}

/// What is known of the packet's destination as a VIP: [`VipFlags`], 0 if it is none.
#[inline(always)]
fn vip(packet: &Packet) -> u32 {
    let key = aya_ebpf::maps::lpm_trie::Key::new(128, packet.tuple.destination);
    maps::VIPS.get(key).copied().unwrap_or(0)
}
