//! What backends send to clients where the mode is `nat`: it goes on in the service's name.
//!
//! The clients' side is the kernel's to know: each packet is looked up in its routes (`bpf_fib_lookup`), which needs IP forwarding
//! to be on. What that cannot answer yet, because a neighbour's address is missing, goes to the kernel, translated, and is sent on there.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED,
    BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as Route, xdp_md,
};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect};
use aya_ebpf::programs::XdpContext;
use lb_common::layout::{Policy, Tuple};
use lb_common::nat::{self, Endpoint};
use lb_common::parse::{L3, What};
use lb_common::reason::Reason;

use crate::answer::{time_exceeded, too_big};
use crate::forward::{Out, clamp, refused};
use crate::hand::{Hand, Step, context, ended, frame, hand};
use crate::verdict::Verdict;
use crate::whole::inspect;
use crate::{fragments, maps, service};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A packet of a flow with its ports, which is for no service: perhaps from one.
#[inline(always)]
pub fn flow(ctx: &XdpContext) -> Result<Verdict, Reason> {
    let in_hand = hand()?;
    in_hand.service = answering(&in_hand.packet().tuple).ok_or(Reason::PassNoService)?;
    match ended(inspect(ctx.ctx)) {
        Err(Reason::DropTimeExceeded) => return time_exceeded(ctx),
        inspected => inspected?,
    }
    if in_hand.whole.fragment.is_part != 0 {
        fragments::remember_reply(&in_hand.whole, in_hand.service);
    }
    send(ctx, Reason::ForwardReply)
}

/// An ICMP error that is for no VIP: perhaps about a packet that a backend got, whose flow is in hand.
#[inline(always)]
pub fn error(ctx: &XdpContext) -> Result<Verdict, Reason> {
    let in_hand = hand()?;
    in_hand.service = answering(&in_hand.packet().tuple).ok_or(Reason::PassIcmp)?;
    ended(inspect(ctx.ctx))?;
    send(ctx, Reason::ForwardIcmp)
}

/// A later fragment of a packet in hand whose first one was such.
#[inline(always)]
pub fn fragment(ctx: &XdpContext) -> Result<Verdict, Reason> {
    send(ctx, Reason::ForwardFragment)
}

/// Number of the service that answers from where the tuple comes from.
#[inline(always)]
fn answering(tuple: &Tuple) -> Option<u16> {
    let found = service::find_answering(maps::DIRECTORY.get_ptr(0)?, tuple);
    if found.is_some() { Some(found.number()) } else { None }
}

#[inline(always)]
fn send(ctx: &XdpContext, reason: Reason) -> Result<Verdict, Reason> {
    match reply_on(ctx.ctx) {
        BACK => Ok(Out::Back.verdict(reason)),
        ACROSS => Ok(Out::Across.verdict(reason)),
        TO_KERNEL => Ok(Verdict::hand_over(Reason::ForwardReplySlow)),
        step => match Reason::from_number((step - REFUSED) & 0xff) {
            Reason::DropTooBig => too_big(ctx),
            reason => Err(reason),
        },
    }
}

const BACK: Step = 0;
const ACROSS: Step = 1;
const TO_KERNEL: Step = 2;
/// And the reason's number.
const REFUSED: Step = 3;

/// Step: translates the packet in hand and sends it to the client.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn reply_on(ctx: *mut xdp_md) -> Step {
    let ctx = context(ctx);
    match hand().and_then(|hand| reply(&ctx, hand)) {
        Ok(step) => step,
        Err(reason) => REFUSED + reason as u32,
    }
}

#[inline(always)]
fn reply(ctx: &XdpContext, hand: &mut Hand) -> Result<Step, Reason> {
    let vip = vip_of(hand.service).ok_or(Reason::DropInternal)?;
    let ingress = maps::routed_as(ctx.ingress_ifindex() as u32);
    let mut route = route_to_client(hand, &vip, ingress);
    // SAFETY: the context is the program's own, and the record is as long as is said.
    let found = unsafe { bpf_fib_lookup(ctx.ctx.cast(), &raw mut route, size_of::<Route>() as i32, 0) };
    let by_kernel = match found as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => false,
        BPF_FIB_LKUP_RET_NO_NEIGH => true,
        BPF_FIB_LKUP_RET_FRAG_NEEDED => {
            // SAFETY: both forms are one number.
            hand.mtu = unsafe { route.__bindgen_anon_1.mtu_result };
            return Err(Reason::DropTooBig);
        }
        // For this machine itself: it has asked the backend directly.
        BPF_FIB_LKUP_RET_NOT_FWDED => return Err(Reason::PassNoService),
        _ => return Err(Reason::DropNoRoute),
    };
    let frame = frame(ctx);
    if maps::mss() != 0 && matches!(hand.whole.what, What::Flow) {
        clamp(&frame, hand.packet());
    }
    // SAFETY: the frame is this program run's own.
    let translated = unsafe {
        match hand.whole.what {
            What::Icmp => nat::error_from_backend(&frame, hand.icmp(), &hand.quoted(), &vip),
            _ => nat::from_backend(&frame, &hand.headers(), &vip),
        }
    };
    translated.map_err(refused)?;
    hand.egress = route.ifindex;
    // An interface that is none of ours may not be one that frames can be redirected to.
    if by_kernel || !maps::is_own(route.ifindex) {
        return Ok(TO_KERNEL);
    }
    let ethernet = frame.header::<L3>(0).ok_or(Reason::DropInternal)?;
    let [a, b, c, d, e, f] = route.dmac;
    let [g, h, i, j, k, l] = route.smac;
    // SAFETY: as above.
    unsafe {
        ethernet.write(0, u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
        ethernet.write(8, u32::from_ne_bytes([i, j, k, l]));
    }
    if route.ifindex == ingress {
        return Ok(BACK);
    }
    // SAFETY: no preconditions.
    unsafe { bpf_redirect(route.ifindex, 0) };
    Ok(ACROSS)
}

/// Address of the service, and its port if backends have another one (else 0: ports stay).
#[inline(always)]
pub fn vip_of(service: u16) -> Option<Endpoint> {
    let record = service::by_number(maps::DIRECTORY.get_ptr(0)?, service)?;
    // SAFETY: a record of the map.
    let (address, transport) =
        unsafe { ((*record).address, (&raw const (*record).transport).read_volatile()) };
    let translates = Policy((transport >> 24) as u8).has(Policy::PORT);
    Some(Endpoint { address, port: if translates { transport as u16 } else { 0 } })
}

/// What the kernel is asked.
#[inline(always)]
fn route_to_client(hand: &Hand, vip: &Endpoint, ingress: u32) -> Route {
    let packet = hand.packet();
    let client = packet.tuple.destination;
    // SAFETY: integers only.
    let mut route: Route = unsafe { core::mem::zeroed() };
    route.l4_protocol = packet.tuple.protocol as u8;
    route.ifindex = ingress;
    route.__bindgen_anon_1.tot_len = packet.ip_len;
    // As words: all fields of the unions are 32 bits wide.
    let words = |address: [u64; 2]| {
        [address[0] as u32, (address[0] >> 32) as u32, address[1] as u32, (address[1] >> 32) as u32]
    };
    if packet.is_v6 {
        route.family = AF_INET6;
        route.__bindgen_anon_3.ipv6_src = words(vip.address);
        route.__bindgen_anon_4.ipv6_dst = words(client);
    } else {
        route.family = AF_INET;
        route.__bindgen_anon_2.tos = packet.traffic_class;
        route.__bindgen_anon_3.ipv4_src = (vip.address[1] >> 32) as u32;
        route.__bindgen_anon_4.ipv4_dst = (client[1] >> 32) as u32;
    }
    route
}
