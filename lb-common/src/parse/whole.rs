//! The parser that knows everything: IPv4 options, fragments, IPv6 extension headers, ICMP.

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use super::extension::{AUTHENTICATION, FRAGMENT, ROUTING, is_extension};
use super::plain::parse_l4;
use super::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, ICMP, ICMPV6, IP_HEADER_MOST, L3, Packet, Signal, TCP, UDP,
};
use crate::bits::opaque;
use crate::layout::Tuple;
use crate::reason::Reason;

/// IPv6 extension headers that are looked at.
pub const EXTENSIONS: u32 = 6;

/// What a frame holds.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Without ports, and its signal means nothing, unless it is [`What::Flow`].
    pub packet: Packet,
    pub fragment: Fragment,
    pub what: What,
}

impl Whole {
    /// Nothing yet.
    pub const NONE: Whole = Whole {
        packet: Packet {
            tuple: Tuple { source: [0; 2], destination: [0; 2], ports: 0, protocol: 0 },
            signal: Signal::Stray,
            is_v6: false,
            traffic_class: 0,
            ip_len: 0,
            ip_header_len: 0,
        },
        fragment: Fragment { id: 0, offset: 0, is_part: 0 },
        what: What::Later,
    };
}

/// What can be done with a packet.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// TCP or UDP, whole or a first fragment that holds the headers.
    Flow,
    /// ICMP or ICMPv6, whole.
    Icmp,
    /// A fragment that tells no ports: another than the first, or of ICMP. Of IPv6 the protocol may be that of an extension header.
    Later,
    /// A fragment that would overwrite the headers of TCP or UDP once it is put together (RFC 3128), or a first one that does not hold
    /// them whole.
    Overlap,
}

/// Which part of a packet it is.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fragment {
    /// What the fragments of a packet share, as it lies in them.
    pub id: u32,
    /// Where it belongs in the packet, 8 bytes.
    pub offset: u16,
    /// It is one (0 or 1).
    pub is_part: u8,
}

/// Reads a frame's headers, as [`super::parse_plain`].
pub fn parse_whole(frame: &Frame, len: usize) -> Result<Whole, Reason> {
    let mut whole = Whole::NONE;
    match parse_whole_into(frame, len, &mut whole) {
        None => Ok(whole),
        Some(reason) => Err(reason),
    }
}

/// The same into a record, which costs no stack and no ways of the verifier.
#[inline(always)]
pub fn parse_whole_into(frame: &Frame, len: usize, whole: &mut Whole) -> Option<Reason> {
    let Some(ethernet) = frame.header::<{ EthHdr::LEN }>(0) else { return Some(Reason::PassMalformed) };
    let Whole { packet, fragment, .. } = whole;
    let unread = match ethernet.u16(12) {
        ETHERTYPE_IPV4 => parse_v4(frame, packet, fragment),
        ETHERTYPE_IPV6 => parse_v6(frame, len, packet, fragment),
        _ => return Some(Reason::PassNotIp),
    };
    if unread.is_some() {
        return unread;
    }
    let (ip_len, ip_header_len) = (packet.ip_len as usize, packet.ip_header_len as usize);
    if L3 + ip_len > len || ip_len < ip_header_len {
        return Some(Reason::PassMalformed);
    }
    let protocol = packet.tuple.protocol as u8;
    let is_part = fragment.is_part != 0;
    whole.what = match protocol {
        TCP | UDP if fragment.offset != 0 => {
            let least = if protocol == TCP { TcpHdr::LEN } else { UdpHdr::LEN };
            if (fragment.offset as usize) * 8 < least { What::Overlap } else { What::Later }
        }
        TCP | UDP => match parse_l4(frame, packet, opaque(ip_header_len as u64) as usize & IP_HEADER_MOST) {
            None => What::Flow,
            Some(_) if is_part => What::Overlap,
            reason => return reason,
        },
        ICMP | ICMPV6 if (protocol == ICMPV6) != packet.is_v6 => return Some(Reason::PassOtherProtocol),
        ICMP | ICMPV6 if is_part => What::Later,
        // What the first fragment has behind its fragment header is not here, and who it is for was told by it (RFC 8200, 4.5).
        other if fragment.offset != 0 && packet.is_v6 && is_extension(other) => What::Later,
        ICMP | ICMPV6 => What::Icmp,
        _ => return Some(Reason::PassOtherProtocol),
    };
    None
}

/// RFC 791.
#[inline(always)]
fn parse_v4(frame: &Frame, packet: &mut Packet, fragment: &mut Fragment) -> Option<Reason> {
    let Some(ip) = frame.header::<{ Ipv4Hdr::LEN }>(L3) else { return Some(Reason::PassMalformed) };
    let first = ip.u8(0);
    let header_len = (first & 0x0f) << 2;
    if first >> 4 != 4 || (header_len as usize) < Ipv4Hdr::LEN {
        return Some(Reason::PassMalformed);
    }
    // More-fragments flag and offset.
    let part = ip.u16(6) & 0x3fff;
    *fragment = Fragment { id: ip.read::<u16>(4) as u32, offset: part & 0x1fff, is_part: (part != 0) as u8 };
    *packet = Packet {
        tuple: Tuple {
            source: Tuple::v4(ip.raw32(12)),
            destination: Tuple::v4(ip.raw32(16)),
            ports: 0,
            protocol: ip.u8(9) as u32,
        },
        signal: Signal::Datagram,
        is_v6: false,
        traffic_class: ip.u8(1),
        ip_len: ip.u16(2),
        ip_header_len: header_len as u16,
    };
    None
}

/// RFC 8200, with a bounded chain of extension headers.
#[inline(always)]
fn parse_v6(frame: &Frame, len: usize, packet: &mut Packet, fragment: &mut Fragment) -> Option<Reason> {
    let Some(ip) = frame.header::<{ Ipv6Hdr::LEN }>(L3) else { return Some(Reason::PassMalformed) };
    let first = ip.u16(0);
    let payload_len = ip.u16(4);
    if first >> 12 != 6 || payload_len > u16::MAX - Ipv6Hdr::LEN as u16 {
        return Some(Reason::PassMalformed);
    }
    let destination = [ip.raw64(24), ip.raw64(32)];
    if Tuple::is_v4(&destination) {
        return Some(Reason::PassNoService);
    }
    *fragment = Fragment::default();
    *packet = Packet {
        tuple: Tuple { source: [ip.raw64(8), ip.raw64(16)], destination, ports: 0, protocol: 0 },
        signal: Signal::Datagram,
        is_v6: true,
        traffic_class: (first >> 4) as u8,
        ip_len: payload_len + Ipv6Hdr::LEN as u16,
        ip_header_len: 0,
    };
    // Before its headers: whatever they are, it is cut.
    if L3 + packet.ip_len as usize > len {
        return Some(Reason::PassMalformed);
    }
    let mut next = ip.u8(6);
    let mut at = Ipv6Hdr::LEN as u64;
    let mut i = 0;
    while i < EXTENSIONS {
        if !is_extension(next) || fragment.offset != 0 {
            break;
        }
        let offset = opaque(at) as usize & IP_HEADER_MOST;
        let Some(header) = frame.header::<8>(L3 + offset) else { return Some(Reason::PassMalformed) };
        let len = match next {
            FRAGMENT => {
                let part = header.u16(2);
                // The whole packet in one fragment is none (RFC 6946).
                let is_part = (part & !6 != 0) as u8;
                *fragment = Fragment { id: header.raw32(4), offset: part >> 3, is_part };
                8
            }
            // Not at its last stop yet: this address is not the one that it is for.
            ROUTING if header.u8(3) != 0 => return Some(Reason::PassOtherProtocol),
            AUTHENTICATION => (header.u8(1) as u64 + 2) * 4,
            _ => (header.u8(1) as u64 + 1) * 8,
        };
        next = header.u8(0);
        at = offset as u64 + len;
        if at > IP_HEADER_MOST as u64 {
            return Some(Reason::PassOtherProtocol);
        }
        i += 1;
    }
    packet.tuple.protocol = next as u32;
    packet.ip_header_len = at as u16;
    None
}
