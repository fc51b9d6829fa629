//! Packets for a service that no honest client sends, or that should not have come this far.
//!
//! Twice the same: [`suspicion`] is a number without a branch, as each packet pays for it; [`blame`] says what it is, and is
//! asked only where that number is not 0.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::{Frame, IP_HEADER_MOST, L3, Packet};
use crate::bits::{at_most, is_zero, opaque};
use crate::checksum::fold;
use crate::layout::Tuple;
use crate::reason::Reason;

/// Not 0 if [`blame`] has something against the packet, whose IP header has neither options nor extension headers.
#[inline(always)]
pub fn suspicion(frame: &Frame, packet: &Packet) -> u64 {
    let tuple = &packet.tuple;
    let bad = martian(&tuple.source, packet.is_v6) | land(tuple) | is_zero(tuple.source_port_raw() as u64);
    if packet.is_v6 {
        match frame.header::<{ Ipv6Hdr::LEN }>(L3) {
            Some(ip) => bad | at_most(ip.u8(7) as u64, 1),
            None => 1,
        }
    } else {
        match frame.header::<{ Ipv4Hdr::LEN }>(L3) {
            Some(ip) => {
                let mut sum = 0;
                let mut at = 0;
                while at < Ipv4Hdr::LEN {
                    sum += ip.raw32(at) as u64;
                    at += 4;
                }
                bad | at_most(ip.u8(8) as u64, 1) | fold64(sum) as u64
            }
            None => 1,
        }
    }
}

/// What is wrong with a packet for a service, but for its time to live.
#[inline(always)]
pub fn blame(frame: &Frame, packet: &Packet, has_ports: bool) -> Option<Reason> {
    let tuple = &packet.tuple;
    if martian(&tuple.source, packet.is_v6) != 0 {
        Some(Reason::DropMartian)
    } else if land(tuple) != 0 {
        Some(Reason::DropLand)
    } else if has_ports && tuple.source_port_raw() == 0 {
        Some(Reason::DropZeroPort)
    } else if !packet.is_v6 && sum_header(frame, packet.ip_header_len) != 0 {
        Some(Reason::DropChecksum)
    } else {
        None
    }
}

/// Time to live, or hop limit.
#[inline(always)]
pub fn hops(frame: &Frame, packet: &Packet) -> u8 {
    let at = if packet.is_v6 { 7 } else { 8 };
    match frame.header::<{ Ipv4Hdr::LEN }>(L3) {
        Some(ip) => ip.u8(at),
        None => 0,
    }
}

/// 1 if nobody sends from this address over a router (RFC 6890; RFC 4291, 2.5.6): 0/8, 127/8, multicast and reserved, and of IPv6
/// ::/64, which has the unspecified, loopback and IPv4-mapped addresses, link-local and multicast ones.
#[inline(always)]
fn martian(source: &[u64; 2], is_v6: bool) -> u64 {
    if is_v6 {
        let upper = u64::from_be(source[0]);
        let first = upper >> 48;
        is_zero(upper >> 1 | upper & 1) | at_most(0xff00, first) | is_zero(first & 0xffc0 ^ 0xfe80)
    } else {
        let first = u64::from_be(source[1]) >> 24 & 0xff;
        is_zero(first) | is_zero(first ^ 127) | at_most(224, first)
    }
}

/// 1 if source and destination are the same address.
#[inline(always)]
fn land(tuple: &Tuple) -> u64 {
    let differs = (tuple.source[0] ^ tuple.destination[0]) | (tuple.source[1] ^ tuple.destination[1]);
    is_zero(differs >> 1 | differs & 1)
}

/// A checksum's complement from a sum of 32-bit words: 0 if it is right.
#[inline(always)]
fn fold64(sum: u64) -> u16 {
    fold((sum & 0xffff) as u32 + (sum >> 16 & 0xffff) as u32 + (sum >> 32) as u32)
}

/// Checksum over an IPv4 header with its options: 0 if it is right.
#[inline(always)]
fn sum_header(frame: &Frame, header_len: u16) -> u16 {
    let header_len = header_len as usize & IP_HEADER_MOST;
    let mut sum = 0;
    // At most 60 bytes: the header's length has 4 bits.
    let mut word = 0;
    while word < 15 {
        if word * 4 >= header_len {
            break;
        }
        match frame.header::<4>(L3 + word * 4) {
            Some(part) => sum += part.raw32(0) as u64,
            None => return 1,
        }
        word += 1;
    }
    opaque(fold64(sum) as u64) as u16
}
