//! The way of any packet: the program that knows VLAN tags, options, extension headers, fragments, ICMP and backends' answers, and
//! that answers itself.
//!
//! In steps, see [`crate::hand`].

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use lb_common::icmp::{self, Kind};
use lb_common::layout::{DecisionRecord, FEATURE_NAT, FEATURE_PING, HostId, Policy, Side, VipFlags};
use lb_common::parse::{IP_HEADER_MOST, L3, Packet, Signal, What, parse_whole_into, suspect};
use lb_common::reason::Reason;

use crate::answer::{echo, reject, reset, time_exceeded, too_big};
use crate::fragments::Way;
use crate::hand::{NO_SERVICE, Step, context, ended, finish, frame, hand};
use crate::record::record;
use crate::send::send;
use crate::service::Found;
use crate::verdict::Verdict;
use crate::{fragments, maps, reply, route, service, tagged};

#[inline(always)]
pub fn balance_whole<const FRAGS: bool, const RECORDS: bool>(ctx: &XdpContext) -> Verdict {
    record::<RECORDS>(|record| *record = DecisionRecord::default());
    let tags = match tagged::strip(ctx) {
        Ok(tags) => tags,
        Err(reason) => {
            record::<RECORDS>(|record| record.reason = reason as u32);
            return Verdict::of(reason);
        }
    };
    let mut verdict = match handle::<FRAGS, RECORDS>(ctx) {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::of(reason),
    };
    if !tags.is_empty() && verdict.goes_back_as_it_came() && tagged::put(ctx, &tags).is_err() {
        verdict = Verdict::drop(Reason::DropInternal);
    }
    record::<RECORDS>(|record| {
        record.reason = verdict.reason();
        note_hand(record);
    });
    verdict
}

/// `Err` is why the frame is passed or dropped.
#[inline(always)]
fn handle<const FRAGS: bool, const RECORDS: bool>(ctx: &XdpContext) -> Result<Verdict, Reason> {
    // SAFETY: the context is the program's own.
    let len = if FRAGS { unsafe { bpf_xdp_get_buff_len(ctx.ctx) as u32 } } else { frame(ctx).len() as u32 };
    let in_hand = hand()?;
    in_hand.len = len;
    if RECORDS {
        (in_hand.mtu, in_hand.egress, in_hand.service) = (0, 0, NO_SERVICE);
    }
    ended(parse(ctx.ctx))?;
    record::<RECORDS>(|record| record.what = in_hand.whole.what as u8 + 1);
    match hand()?.whole.what {
        What::Flow => flow::<RECORDS>(ctx),
        What::Icmp => error_or_ping::<RECORDS>(ctx),
        What::Later => later(ctx),
        What::Overlap if vip(hand()?.packet()) != 0 => Err(Reason::DropFragmentOverlap),
        What::Overlap => Err(Reason::PassFragment),
    }
}

/// What the steps have found out of the packet, for who explains its way.
#[inline(always)]
fn note_hand(record: &mut DecisionRecord) {
    let Ok(in_hand) = hand() else { return };
    if record.what != 0 {
        record.tuple = in_hand.packet().tuple;
        (record.mtu, record.ifindex) = (in_hand.mtu, in_hand.egress);
        if in_hand.service != NO_SERVICE {
            (record.service, record.side) = (in_hand.service, Side::Backend as u8);
        }
    }
}

/// Step: reads the frame's headers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn parse(ctx: *mut xdp_md) -> Step {
    let frame = frame(&context(ctx));
    finish(hand().and_then(|hand| match parse_whole_into(&frame, hand.len as usize, &mut hand.whole) {
        None => Ok(()),
        Some(reason) => Err(reason),
    }))
}

/// Step: whether the packet, which is for a service or a VIP, may be sent on as far as itself tells.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn inspect(ctx: *mut xdp_md) -> Step {
    let frame = frame(&context(ctx));
    finish(hand().and_then(|hand| {
        let has_ports = matches!(hand.whole.what, What::Flow);
        match suspect::blame(&frame, hand.packet(), has_ports) {
            Some(reason) => Err(reason),
            None if suspect::hops(&frame, hand.packet()) <= 1 => Err(Reason::DropTimeExceeded),
            None => Ok(()),
        }
    }))
}

/// TCP or UDP with its ports.
#[inline(always)]
fn flow<const RECORDS: bool>(ctx: &XdpContext) -> Result<Verdict, Reason> {
    let in_hand = hand()?;
    let directory = maps::DIRECTORY.get_ptr(0).ok_or(Reason::DropInternal)?;
    let found = service::find(directory, &in_hand.packet().tuple);
    if !found.is_some() {
        return if maps::features() & FEATURE_NAT != 0 {
            reply::flow(ctx)
        } else {
            Err(Reason::PassNoService)
        };
    }
    match ended(inspect(ctx.ctx)) {
        Err(Reason::DropTimeExceeded) => return time_exceeded(ctx),
        inspected => inspected?,
    }
    let (host, reason) = match shortly::<RECORDS>(ctx, &found) {
        0 => match route::exactly::<RECORDS>(ctx, &frame(ctx), in_hand.packet(), &found) {
            Err(Reason::AnswerReset) => return reset(ctx),
            Err(Reason::AnswerReject) if found.policy.has(Policy::PASS) => return Err(Reason::PassNoHost),
            Err(Reason::AnswerReject) => return reject(ctx),
            Err(reason) => return Err(reason),
            Ok(routed) => {
                (in_hand.hash, in_hand.backend) = (routed.hash, routed.backend);
                (routed.host, routed.reason)
            }
        },
        routed => (routed as HostId, Reason::from_number(routed >> 16 & 0xff)),
    };
    if in_hand.whole.fragment.is_part != 0 {
        fragments::remember(&in_hand.whole, host, found.number());
    }
    match send(ctx, reason) {
        Err(Reason::DropTooBig) => too_big(ctx),
        sent => sent,
    }
}

/// The short way to the packet's backend, as [`route_shortly`]; not where decisions are recorded.
#[inline(always)]
fn shortly<const RECORDS: bool>(ctx: &XdpContext, found: &Found) -> u32 {
    let (place, destination) = found.pack();
    if RECORDS { 0 } else { route_shortly(ctx.ctx, place, destination) }
}

/// Step: to which backend of the service that [`Found::pack`] gives the packet goes, if a short way tells. Host in bits 0–15, reason in
/// bits 16–23; else 0, which is the number of no host.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn route_shortly(ctx: *mut xdp_md, place: u32, destination: u64) -> u32 {
    let ctx = context(ctx);
    let Ok(hand) = hand() else { return 0 };
    let Some(directory) = maps::DIRECTORY.get_ptr(0) else { return 0 };
    let found = Found::unpack(directory, place, destination);
    match route::shortly::<true>(&ctx, &frame(&ctx), hand.packet(), &found) {
        Ok(routed) => {
            let routed = routed.noted(directory);
            (hand.hash, hand.backend) = (routed.hash, routed.backend);
            routed.host as u32 | (routed.reason as u32) << 16
        }
        Err(_) => 0,
    }
}

/// ICMP: a ping, or an error about a packet that a backend or a client has sent.
#[inline(always)]
fn error_or_ping<const RECORDS: bool>(ctx: &XdpContext) -> Result<Verdict, Reason> {
    let in_hand = hand()?;
    let is_for_vip = vip(in_hand.packet()) != 0;
    if !is_for_vip && maps::features() & FEATURE_NAT == 0 {
        return Err(Reason::PassIcmp);
    }
    // Asked before `classify` puts the flow that is quoted in hand, and heeded only for what is ours: neighbours, whose addresses
    // are of the link, ask for VIPs as well.
    let inspected = if is_for_vip { ended(inspect(ctx.ctx)) } else { Ok(()) };
    match classify(ctx.ctx) {
        ECHO if is_for_vip && maps::features() & FEATURE_PING != 0 => {
            return match inspected {
                // It goes no further than to here.
                Ok(()) | Err(Reason::DropTimeExceeded) => echo(ctx),
                Err(reason) => Err(reason),
            };
        }
        ERROR => inspected?,
        _ => return Err(Reason::PassIcmp),
    }
    if !is_for_vip {
        return reply::error(ctx);
    }
    let directory = maps::DIRECTORY.get_ptr(0).ok_or(Reason::DropInternal)?;
    let found = service::find(directory, &in_hand.packet().tuple);
    if !found.is_some() {
        return Err(Reason::PassIcmp);
    }
    let routed = route::exactly::<RECORDS>(ctx, &frame(ctx), in_hand.packet(), &found)?;
    (in_hand.hash, in_hand.backend) = (routed.hash, routed.backend);
    send(ctx, Reason::ForwardIcmp)
}

/// Outcomes of [`classify`].
const ECHO: u32 = 1;
const ERROR: u32 = 2;

/// Step: what the ICMP packet is. If it is an error, the packet in hand is one of the flow that it quotes from here on, as its
/// client sends it: one that neither begins nor ends nor refreshes anything, and goes where the flow's packets go.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn classify(ctx: *mut xdp_md) -> u32 {
    let (frame, Ok(hand)) = (frame(&context(ctx)), hand()) else { return 0 };
    let packet = &mut hand.whole.packet;
    let l4 = L3 + (packet.ip_header_len as usize & IP_HEADER_MOST);
    match icmp::classify(&frame, l4, packet.is_v6) {
        Kind::Echo => ECHO,
        Kind::Error => match icmp::quoted(&frame, l4, packet.is_v6) {
            Ok(quoted) => {
                (packet.tuple, packet.signal) = (quoted.tuple, Signal::Stray);
                (hand.quoted_ip, hand.quoted_l4) = (quoted.ip as u16, quoted.l4 as u16);
                ERROR
            }
            Err(_) => 0,
        },
        Kind::Other | Kind::Truncated => 0,
    }
}

/// A fragment without ports.
#[inline(always)]
fn later(ctx: &XdpContext) -> Result<Verdict, Reason> {
    let in_hand = hand()?;
    match fragments::follow(in_hand) {
        Way::Backend => {
            ended(inspect(ctx.ctx))?;
            send(ctx, Reason::ForwardFragment)
        }
        Way::Reply if maps::features() & FEATURE_NAT != 0 => {
            ended(inspect(ctx.ctx))?;
            reply::fragment(ctx)
        }
        _ => {
            let vip = vip(in_hand.packet());
            let passes = vip == 0 || vip & VipFlags::PASS_FRAGMENTS != 0;
            Err(if passes { Reason::PassFragment } else { Reason::DropFragment })
        }
    }
}

/// What is known of the packet's destination as a VIP: [`VipFlags`], 0 if it is none.
#[inline(always)]
fn vip(packet: &Packet) -> u32 {
    match maps::vip(packet.tuple.destination) {
        flags if flags & VipFlags::VIP != 0 => flags,
        _ => 0,
    }
}
