//! Errors of the balancer's own, made out of the packet that they are about: it does not fit the path to its backend, or has
//! come too far.
//!
//! The caller cuts the frame to its Ethernet header and the bytes that are quoted, and grows its head by the new IP and ICMP
//! headers; they and a new Ethernet header are written here, and what lies behind them is quoted as it is. How many bytes are
//! quoted is a constant, one of two: the verifier walks a sum over a variable length for each length.

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::echo::TTL;
use super::quote::upper_v6;
use super::{
    HEADER, ICMP, ICMPV6, PARAMETER_V4, REDIRECT_V6, TIME_EXCEEDED_V4, TIME_EXCEEDED_V6, TOO_BIG_V6,
    UNREACHABLE_V4, UNREACHABLE_V6, header, return_macs,
};
use crate::checksum;
use crate::layout::Tuple;
use crate::parse::{Frame, Header, L3};

/// Bytes that a frame's head grows by for [`answer_v4`].
pub const ADDED_V4: usize = Ipv4Hdr::LEN + HEADER;
/// Bytes that a frame's head grows by for [`answer_v6`].
pub const ADDED_V6: usize = Ipv6Hdr::LEN + HEADER;

/// Bytes of a packet that are quoted, if it has them: with all headers that a client's packet usually has.
pub const LONG: usize = 128;
/// Else, of IPv4: the least that RFC 792 asks for.
pub const SHORT_V4: usize = Ipv4Hdr::LEN + 8;
/// Else, of IPv6: the ports are with it.
pub const SHORT_V6: usize = Ipv6Hdr::LEN + 8;

/// The least MTU of IPv6 (RFC 8200, 5): hosts ignore a smaller one (RFC 8201, 4).
const LEAST_MTU_V6: u16 = 1280;
/// DSCP CS6, as RFC 1812, 4.3.2.5 wants the precedence of errors.
const NETWORK_CONTROL: u8 = 0xc0;
const FRAGMENTATION_NEEDED: u8 = 4;
const PORT_V4: u8 = 3;
const PORT_V6: u8 = 4;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It is longer than this, bytes: "fragmentation needed" (RFC 1191), "packet too big" (RFC 4443, 3.2).
    TooBig { mtu: u16 },
    /// Its time to live, or hop limit, has run out.
    TimeExceeded,
    /// Nobody serves its port.
    PortUnreachable,
}

/// How many bytes of an IPv4 packet an answer quotes; `None`: too short to be quoted with its ports.
#[inline(always)]
pub const fn quote_v4(ip_len: u16, ip_header_len: u16) -> Option<usize> {
    if ip_len as usize >= LONG {
        Some(LONG)
    } else if ip_len as usize >= SHORT_V4 && ip_header_len as usize == Ipv4Hdr::LEN {
        Some(SHORT_V4)
    } else {
        None
    }
}

/// How many bytes of an IPv6 packet an answer quotes; `None`: too short for an upper layer.
#[inline(always)]
pub const fn quote_v6(ip_len: u16) -> Option<usize> {
    match ip_len as usize {
        LONG.. => Some(LONG),
        SHORT_V6.. => Some(SHORT_V6),
        _ => None,
    }
}

/// Writes the answer to an IPv4 packet, sent by `own`, an address as it lies in memory. The frame has [`ADDED_V4`] bytes before
/// what it came with, and `QUOTE` bytes of IP packet, [`LONG`] or [`SHORT_V4`]. False: it is shorter, and untouched.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub unsafe fn answer_v4<const QUOTE: usize>(frame: &Frame, own: u32, problem: Problem) -> bool {
    const { assert!(QUOTE.is_multiple_of(4)) };
    let Some(quote) = frame.header::<QUOTE>(L3 + ADDED_V4) else { return false };
    let Some(head) = frame.header::<{ L3 + ADDED_V4 }>(0) else { return false };
    let icmp = match problem {
        Problem::TooBig { mtu } => {
            let [m0, m1] = mtu.to_be_bytes();
            [[UNREACHABLE_V4, FRAGMENTATION_NEEDED, 0, 0], [0, 0, m0, m1]]
        }
        Problem::TimeExceeded => [[TIME_EXCEEDED_V4, 0, 0, 0], [0; 4]],
        Problem::PortUnreachable => [[UNREACHABLE_V4, PORT_V4, 0, 0], [0; 4]],
    };
    let [l0, l1] = ((ADDED_V4 + QUOTE) as u16).to_be_bytes();
    // An error is never fragmented here: DF, and no identification (RFC 6864, 4.1).
    let mut ip = [
        u32::from_ne_bytes([0x45, NETWORK_CONTROL, l0, l1]),
        u32::from_ne_bytes([0, 0, 0x40, 0]),
        u32::from_ne_bytes([TTL, ICMP, 0, 0]),
        own,
        quote.raw32(12),
    ];
    let [c0, c1] = checksum::ipv4(&ip).to_ne_bytes();
    ip[2] = u32::from_ne_bytes([TTL, ICMP, c0, c1]);
    let mut sum = 0;
    let mut at = 0;
    while at < QUOTE {
        sum += quote.raw32(at) as u64;
        at += 4;
    }
    // SAFETY: the caller's promise.
    unsafe {
        return_macs(&head, ADDED_V4);
        head.write(12, ETHERTYPE_IPV4.to_be());
        let mut i = 0;
        while i < 5 {
            head.write(L3 + i * 4, ip[i]);
            i += 1;
        }
        write_icmp(&head, L3 + Ipv4Hdr::LEN, icmp, sum);
    }
    true
}

/// The same for IPv6, sent by `own`, in network byte order as in [`Tuple`]. The frame has [`ADDED_V6`] bytes before what it came
/// with, and `QUOTE` bytes of IP packet, [`LONG`] or [`SHORT_V6`].
///
/// # Safety
/// As for [`answer_v4`].
#[inline(always)]
pub unsafe fn answer_v6<const QUOTE: usize>(frame: &Frame, own: [u64; 2], problem: Problem) -> bool {
    const { assert!(QUOTE.is_multiple_of(4)) };
    let Some(quote) = frame.header::<QUOTE>(L3 + ADDED_V6) else { return false };
    let Some(head) = frame.header::<{ L3 + ADDED_V6 }>(0) else { return false };
    let icmp = match problem {
        Problem::TooBig { mtu } => {
            let [m0, m1] = if mtu < LEAST_MTU_V6 { LEAST_MTU_V6 } else { mtu }.to_be_bytes();
            [[TOO_BIG_V6, 0, 0, 0], [0, 0, m0, m1]]
        }
        Problem::TimeExceeded => [[TIME_EXCEEDED_V6, 0, 0, 0], [0; 4]],
        Problem::PortUnreachable => [[UNREACHABLE_V6, PORT_V6, 0, 0], [0; 4]],
    };
    let client = [quote.raw64(8), quote.raw64(16)];
    let payload_len = (HEADER + QUOTE) as u16;
    let [l0, l1] = payload_len.to_be_bytes();
    // The pseudo-header (RFC 8200, 8.1), then what is quoted.
    let mut sum = words(own) + words(client);
    sum += (payload_len as u32).to_be() as u64 + (ICMPV6 as u32).to_be() as u64;
    let mut at = 0;
    while at < QUOTE {
        sum += quote.raw32(at) as u64;
        at += 4;
    }
    // SAFETY: the caller's promise.
    unsafe {
        return_macs(&head, ADDED_V6);
        head.write(12, ETHERTYPE_IPV6.to_be());
        head.write(L3, u64::from_ne_bytes([0x60, 0, 0, 0, l0, l1, ICMPV6, TTL]));
        head.write(L3 + 8, own[0]);
        head.write(L3 + 16, own[1]);
        head.write(L3 + 24, client[0]);
        head.write(L3 + 32, client[1]);
        write_icmp(&head, L3 + Ipv6Hdr::LEN, icmp, sum);
    }
    true
}

/// Sum of the 32-bit words of an address.
#[inline(always)]
const fn words(address: [u64; 2]) -> u64 {
    (address[0] & 0xffff_ffff) + (address[0] >> 32) + (address[1] & 0xffff_ffff) + (address[1] >> 32)
}

/// An ICMP header at `at`, its checksum over it and over what `sum` is a sum of.
///
/// # Safety
/// As for [`answer_v4`].
#[inline(always)]
unsafe fn write_icmp<const N: usize>(head: &Header<N>, at: usize, icmp: [[u8; 4]; 2], sum: u64) {
    let [first, second] = [u32::from_ne_bytes(icmp[0]), u32::from_ne_bytes(icmp[1])];
    let checksum = checksum::fold_words(sum + first as u64 + second as u64);
    // SAFETY: the caller's promise.
    unsafe {
        head.write(at, first);
        head.write(at + 2, checksum);
        head.write(at + 4, second);
    }
}

/// Whether a frame may be answered with an error: [`may_answer_packet`], and it was sent to this machine alone.
#[inline(always)]
pub fn may_answer(frame: &Frame, is_v6: bool) -> bool {
    // The first bit on the wire: a group (IEEE 802).
    let Some(ethernet) = frame.header::<{ EthHdr::LEN }>(0) else { return false };
    ethernet.u8(0) & 1 == 0 && may_answer_at(frame, L3, is_v6)
}

/// Whether an IP packet, or its beginning, may be answered with an error (RFC 1812, 4.3.2.7; RFC 4443, 2.4 (e)): it is neither
/// an ICMP error or redirect nor a later fragment, is for one machine, and its source is one. Broadcasts to a network look like
/// any other address.
pub fn may_answer_packet(packet: &[u8]) -> bool {
    let start = packet.as_ptr() as usize;
    // SAFETY: borrowed for as long as the frame is used, which is only read.
    let frame = unsafe { Frame::new(start, start + packet.len()) };
    packet.first().is_some_and(|first| match first >> 4 {
        4 => may_answer_at(&frame, 0, false),
        6 => may_answer_at(&frame, 0, true),
        _ => false,
    })
}

#[inline(always)]
fn may_answer_at(frame: &Frame, ip: usize, is_v6: bool) -> bool {
    if is_v6 { may_answer_v6(frame, ip) } else { may_answer_v4(frame, ip) }
}

#[inline(always)]
fn may_answer_v4(frame: &Frame, at: usize) -> bool {
    const ERRORS: u32 = 1 << UNREACHABLE_V4 | 1 << 4 | 1 << 5 | 1 << TIME_EXCEEDED_V4 | 1 << PARAMETER_V4;
    let Some(ip) = frame.header::<{ Ipv4Hdr::LEN }>(at) else { return false };
    let (source, destination) = (ip.u8(12), ip.u8(16));
    // Of this network, loopback; multicast, reserved and broadcast.
    if matches!(source, 0 | 127 | 224..) || matches!(destination, 0 | 224..) || ip.u16(6) & 0x1fff != 0 {
        return false;
    }
    if ip.u8(9) != ICMP {
        return true;
    }
    let header_len = ((ip.u8(0) & 0x0f) << 2) as usize;
    let Some(icmp) = header::<HEADER>(frame, at + header_len) else { return false };
    let kind = icmp.u8(0);
    kind > 31 || ERRORS >> (kind & 31) & 1 == 0
}

#[inline(always)]
fn may_answer_v6(frame: &Frame, at: usize) -> bool {
    let Some(ip) = frame.header::<{ Ipv6Hdr::LEN }>(at) else { return false };
    let source = [ip.raw64(8), ip.raw64(16)];
    if ip.u8(8) == 0xff || ip.u8(24) == 0xff {
        return false;
    }
    // Unspecified, loopback, and what stands for IPv4 addresses.
    let is_none = source[0] == 0 && (source[1] == 0 || source[1] == 1u64.to_be());
    if is_none || source[0] == 0 && source[1] as u32 == Tuple::v4(0)[1] as u32 {
        return false;
    }
    let Ok((protocol, upper)) = upper_v6(frame, ip.u8(6), at + Ipv6Hdr::LEN, frame.len()) else {
        return false;
    };
    if protocol != ICMPV6 {
        return true;
    }
    let Some(icmp) = header::<HEADER>(frame, upper) else { return false };
    let kind = icmp.u8(0);
    kind >= 128 && kind != REDIRECT_V6
}
