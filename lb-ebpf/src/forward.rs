//! The way to the backend: MAC addresses, outer headers, and out.

use aya_ebpf::programs::XdpContext;
use lb_common::encap::{GUE_LEN, IPV4_IN_IP, IPV6_IN_IP, entropy_port, gue, outer_v4, outer_v6};
use lb_common::hash::FlowHash;
use lb_common::layout::{
    Backend, BackendFlags, FEATURE_GUE, FEATURE_NAT, FEATURE_TAGS, MODE_GUE, MODE_IPIP, MODE_L2, MODE_NAT,
    Tuple, VipFlags,
};
use lb_common::nat::{self, Endpoint, Headers, Refusal, Transport};
use lb_common::parse::tags::Tags;
use lb_common::parse::{Frame, Header, L3, Packet, Signal, TCP, UDP};
use lb_common::reason::Reason;
use lb_common::{mss, ttl};

use crate::backend::Record;
use crate::verdict::Verdict;
use crate::{frame_of, maps, tagged};

const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();

/// A packet on its way out.
pub struct Leaving<'a> {
    pub frame: &'a Frame,
    pub packet: &'a Packet,
    /// Of its flow: what outer headers vary by.
    pub hash: FlowHash,
    /// TCP or UDP with its ports, and not an ICMP error about such.
    pub is_flow: bool,
}

/// How the frame leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// By the interface that it came in by.
    Back,
    /// By another.
    Across,
}

impl Out {
    #[inline(always)]
    pub const fn verdict(self, reason: Reason) -> Verdict {
        match self {
            Out::Back => Verdict::transmit(reason),
            Out::Across => Verdict::redirect(reason),
        }
    }
}

/// Makes the packet one for its backend; who calls counts it there. `translate` does so where the mode is `nat`. `Err` is why it is
/// dropped; nothing has changed then but for [`Reason::DropInternal`].
#[inline(always)]
pub fn forward(
    ctx: &XdpContext,
    leaving: &Leaving<'_>,
    record: &Record,
    translate: impl FnOnce(&Endpoint) -> Result<(), Reason>,
) -> Result<Out, Reason> {
    let backend = record.get();
    if backend.flags & BackendFlags::REACHABLE == 0 {
        return Err(Reason::DropNoNextHop);
    }
    // Behind a gateway a backend cannot be told from others: clients' packets may come by the same one.
    if backend.flags & BackendFlags::ON_LINK != 0 && comes_from(leaving.frame, backend)? {
        return Err(Reason::DropLoop);
    }
    if leaving.packet.ip_len > room(backend) {
        return Err(Reason::DropTooBig);
    }
    if maps::features() & FEATURE_NAT != 0 && backend.mode == MODE_NAT {
        translate(&endpoint(backend))?;
    } else {
        hop(leaving.frame, leaving.packet)?;
    }
    // Nothing is refused any more.
    let may_be_syn = matches!(leaving.packet.signal, Signal::Syn | Signal::Stray);
    if maps::mss() != 0 && leaving.is_flow && may_be_syn {
        clamp(leaving.frame, leaving.packet);
    }
    if backend.mode == MODE_IPIP {
        encapsulate::<false>(ctx, leaving, record)?;
    } else if maps::features() & FEATURE_GUE != 0 && backend.mode == MODE_GUE {
        encapsulate::<true>(ctx, leaving, record)?;
    } else {
        rewrite_macs(leaving.frame, backend)?;
    }
    if maps::features() & FEATURE_TAGS != 0 && backend.flags & BackendFlags::TAGGED != 0 {
        tagged::put(ctx, &Tags(record.egress().tags))?;
    }
    if backend.ifindex == ctx.ingress_ifindex() as u32 {
        Ok(Out::Back)
    } else if maps::EGRESS.redirect(backend.ifindex, 0).is_ok() {
        Ok(Out::Across)
    } else {
        // The kernel takes an interface that is removed out of the map.
        Err(Reason::DropInternal)
    }
}

/// Destination NAT of a TCP or UDP packet, which goes to its backend for `reason`.
#[inline(always)]
pub fn translate(frame: &Frame, packet: &Packet, to: &Endpoint, reason: Reason) -> Result<(), Reason> {
    refuse_hairpin(packet, reason)?;
    let headers = Headers {
        is_v6: packet.is_v6,
        transport: Transport::of(packet.tuple.protocol as u8),
        offset: packet.ip_header_len,
    };
    // SAFETY: the frame is this program run's own.
    unsafe { nat::to_backend(frame, &headers, to) }.map_err(refused)
}

/// Refuses a new flow that comes from a host which has a backend of a `nat` service: its answers would go from host to host, past
/// the balancer and untranslated. A SYN is asked each time, as a client repeats it; else the flow's first packet.
#[inline(always)]
pub fn refuse_hairpin(packet: &Packet, reason: Reason) -> Result<(), Reason> {
    let begins = matches!(packet.signal, Signal::Syn) || matches!(reason, Reason::ForwardNew);
    if begins && maps::vip(packet.tuple.source) & VipFlags::NAT_HOST != 0 {
        return Err(Reason::DropHairpin);
    }
    Ok(())
}

/// What a refusal of the translator means here, where all of it has been looked at before.
#[inline(always)]
pub fn refused(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Malformed => Reason::DropInternal,
        Refusal::Spent => Reason::DropTimeExceeded,
    }
}

/// A backend as the one that packets are translated to.
#[inline(always)]
fn endpoint(backend: &Backend) -> Endpoint {
    let address = backend.address.as_ptr();
    // SAFETY: the record's addresses lie at multiples of 8.
    let address = unsafe {
        if backend.flags & BackendFlags::OUTER_V6 != 0 {
            [address.cast::<u64>().read(), address.cast::<u64>().add(1).read()]
        } else {
            Tuple::v4(address.cast::<u32>().read())
        }
    };
    Endpoint { address, port: backend.port }
}

/// Takes a hop off.
#[inline(always)]
pub fn hop(frame: &Frame, packet: &Packet) -> Result<(), Reason> {
    // SAFETY: the frame is this program run's own.
    unsafe {
        if packet.is_v6 {
            ttl::decrement_v6(&frame.header(L3).ok_or(Reason::DropInternal)?);
        } else {
            ttl::decrement_v4(&frame.header(L3).ok_or(Reason::DropInternal)?);
        }
    }
    Ok(())
}

/// Lowers the segment size that a SYN announces.
#[inline(always)]
pub fn clamp(frame: &Frame, packet: &Packet) {
    if packet.tuple.protocol as u8 != TCP {
        return;
    }
    let max = maps::mss() as u16 - if packet.is_v6 { 20 } else { 0 };
    // SAFETY: the frame is this program run's own.
    unsafe { mss::clamp(frame, packet.ip_header_len, max) };
}

/// Whether the frame comes from the very backend: it sent it on instead of taking it for its own, or it is its own client. Only of
/// `l2` it is known that the MAC address is the backend's; of other modes it may be that of a router, which clients' packets
/// come from as well. There a packet that goes in circles ends with its time to live.
#[inline(always)]
fn comes_from(frame: &Frame, backend: &Backend) -> Result<bool, Reason> {
    let ethernet = frame.header::<L3>(0).ok_or(Reason::DropInternal)?;
    let mac = backend.destination_mac.as_ptr();
    // SAFETY: the record's 6 bytes lie at a multiple of 4.
    let (first, last) = unsafe { (mac.cast::<u32>().read(), mac.add(4).cast::<u16>().read()) };
    let differs = (ethernet.read::<u32>(6) ^ first) as u64 | (ethernet.read::<u16>(10) ^ last) as u64;
    Ok(differs | (backend.mode ^ MODE_L2) as u64 == 0)
}

/// New MAC addresses.
#[inline(always)]
fn rewrite_macs(frame: &Frame, backend: &Backend) -> Result<(), Reason> {
    let ethernet = frame.header::<L3>(0).ok_or(Reason::DropInternal)?;
    // SAFETY: the frame is this program run's own.
    unsafe { write_macs(&ethernet, backend) };
    Ok(())
}

/// A new Ethernet and IP header before the packet's IP header, and with `GUE` those of UDP and GUE between the two.
#[inline(always)]
fn encapsulate<const GUE: bool>(
    ctx: &XdpContext,
    leaving: &Leaving<'_>,
    record: &Record,
) -> Result<(), Reason> {
    let (packet, backend) = (leaving.packet, record.get());
    let inner = if packet.is_v6 { IPV6_IN_IP } else { IPV4_IN_IP };
    let (protocol, between) = if GUE { (UDP, GUE_LEN) } else { (inner, 0) };
    let (class, payload_len) = (packet.traffic_class, packet.ip_len.wrapping_add(between));
    let source = record.outer_source(leaving.hash);
    let port = u16::from_be(backend.port);
    let gue = || gue(entropy_port(leaving.hash), port, inner, packet.ip_len);
    if backend.flags & BackendFlags::OUTER_V6 != 0 {
        tagged::grow(ctx, (40 + between) as i32)?;
        let (frame, _) = frame_of::<false>(ctx);
        let outer = frame.header::<{ L3 + 40 }>(0).ok_or(Reason::DropInternal)?;
        let address = backend.address.as_ptr().cast::<u64>();
        // SAFETY: the frame is this program run's own; the record's addresses lie at multiples of 8.
        unsafe {
            write_macs(&outer, backend);
            outer.write(12, ETHERTYPE_IPV6);
            outer.write(L3, outer_v6(protocol, class, payload_len));
            outer.write(L3 + 8, source[0]);
            outer.write(L3 + 16, source[1]);
            outer.write(L3 + 24, address.read());
            outer.write(L3 + 32, address.add(1).read());
            if GUE {
                frame.header::<12>(L3 + 40).ok_or(Reason::DropInternal)?.write(0, gue());
            }
        }
    } else {
        tagged::grow(ctx, (20 + between) as i32)?;
        let (frame, _) = frame_of::<false>(ctx);
        let outer = frame.header::<{ L3 + 20 }>(0).ok_or(Reason::DropInternal)?;
        // SAFETY: as above.
        unsafe {
            write_macs(&outer, backend);
            outer.write(12, ETHERTYPE_IPV4);
            let destination = backend.address.as_ptr().cast::<u32>().read();
            outer.write(L3, outer_v4(source[0] as u32, destination, protocol, class, payload_len));
            if GUE {
                frame.header::<12>(L3 + 20).ok_or(Reason::DropInternal)?.write(0, gue());
            }
        }
    }
    Ok(())
}

/// Bytes of the longest IP packet that fits the way to a backend.
#[inline(always)]
pub fn room(backend: &Backend) -> u16 {
    let outer = if backend.flags & BackendFlags::OUTER_V6 != 0 { 40 } else { 20 };
    backend.mtu.saturating_sub(match backend.mode {
        MODE_IPIP => outer,
        MODE_GUE => outer + GUE_LEN,
        _ => 0,
    })
}

/// # Safety
/// The frame is this program run's own.
#[inline(always)]
unsafe fn write_macs<const N: usize>(ethernet: &Header<N>, backend: &Backend) {
    // Destination and source lie in the record as they do in the frame.
    let macs = backend.destination_mac.as_ptr();
    // SAFETY: the caller's promise; the record's 12 bytes lie at a multiple of 8.
    unsafe {
        ethernet.write(0, macs.cast::<u64>().read());
        ethernet.write(8, macs.add(8).cast::<u32>().read());
    }
}
