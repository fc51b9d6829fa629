//! The parser for what nearly all packets are: IPv4 without options or IPv6 without extension headers, not in fragments, and TCP
//! or UDP in it.

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use super::extension::is_extension;
use super::tags::is_tag;
use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, ICMP, ICMPV6, L3, Packet, Signal, TCP, UDP, tcp_signal};
use crate::layout::Tuple;
use crate::reason::Reason;

/// Reads a frame's headers; `len` is the whole frame's length, bytes, of which `frame` holds at least the headers. `Err` is why it
/// is none of ours, or [`Reason::PassUnhandled`] if that takes [`super::parse_whole`] to say. A packet shorter than its headers
/// say is malformed.
#[inline(always)]
pub fn parse_plain(frame: &Frame, len: usize) -> Result<Packet, Reason> {
    let ethernet = frame.header::<{ EthHdr::LEN }>(0).ok_or(Reason::PassMalformed)?;
    match ethernet.u16(12) {
        ETHERTYPE_IPV4 => parse_v4(frame, len),
        ETHERTYPE_IPV6 => parse_v6(frame, len),
        ethertype if is_tag(ethertype) => Err(Reason::PassUnhandled),
        _ => Err(Reason::PassNotIp),
    }
}

/// RFC 791.
#[inline(always)]
fn parse_v4(frame: &Frame, len: usize) -> Result<Packet, Reason> {
    let ip = frame.header::<{ Ipv4Hdr::LEN }>(L3).ok_or(Reason::PassMalformed)?;
    // Options, and versions that are none; more-fragments flag or an offset.
    if ip.u8(0) != 0x45 || ip.u16(6) & 0x3fff != 0 {
        return Err(Reason::PassUnhandled);
    }
    let mut packet = Packet {
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
        ip_header_len: Ipv4Hdr::LEN as u16,
    };
    match packet.tuple.protocol as u8 {
        TCP | UDP => whole_packet(frame, len, &mut packet, Ipv4Hdr::LEN).map(|()| packet),
        ICMP => Err(Reason::PassUnhandled),
        _ => Err(other_protocol(len, &packet, Ipv4Hdr::LEN)),
    }
}

/// RFC 8200.
#[inline(always)]
fn parse_v6(frame: &Frame, len: usize) -> Result<Packet, Reason> {
    let ip = frame.header::<{ Ipv6Hdr::LEN }>(L3).ok_or(Reason::PassMalformed)?;
    let first = ip.u16(0);
    let ip_len = match ip.u16(4).checked_add(Ipv6Hdr::LEN as u16) {
        Some(ip_len) if first >> 12 == 6 => ip_len,
        _ => return Err(Reason::PassMalformed),
    };
    let destination = [ip.raw64(24), ip.raw64(32)];
    // An IPv4-mapped address means nothing on the wire, and must not pass for the IPv4 address of a service.
    if Tuple::is_v4(&destination) {
        return Err(Reason::PassNoService);
    }
    let mut packet = Packet {
        tuple: Tuple {
            source: [ip.raw64(8), ip.raw64(16)],
            destination,
            ports: 0,
            protocol: ip.u8(6) as u32,
        },
        signal: Signal::Datagram,
        is_v6: true,
        traffic_class: (first >> 4) as u8,
        ip_len,
        ip_header_len: Ipv6Hdr::LEN as u16,
    };
    match packet.tuple.protocol as u8 {
        TCP | UDP => whole_packet(frame, len, &mut packet, Ipv6Hdr::LEN).map(|()| packet),
        ICMPV6 => Err(Reason::PassUnhandled),
        other if is_extension(other) => Err(Reason::PassUnhandled),
        _ => Err(other_protocol(len, &packet, Ipv6Hdr::LEN)),
    }
}

#[inline(always)]
fn whole_packet(frame: &Frame, len: usize, packet: &mut Packet, ip_header_len: usize) -> Result<(), Reason> {
    if L3 + packet.ip_len as usize > len {
        return Err(Reason::PassMalformed);
    }
    match parse_l4(frame, packet, ip_header_len) {
        None => Ok(()),
        Some(reason) => Err(reason),
    }
}

/// What is wrong with a packet that is neither TCP nor UDP, as [`super::parse_whole`] says it.
#[inline(always)]
fn other_protocol(len: usize, packet: &Packet, ip_header_len: usize) -> Reason {
    let ip_len = packet.ip_len as usize;
    if L3 + ip_len > len || ip_len < ip_header_len {
        Reason::PassMalformed
    } else {
        Reason::PassOtherProtocol
    }
}

/// TCP (RFC 9293) or UDP (RFC 768). What is wrong with it, if something is.
#[inline(always)]
pub(super) fn parse_l4(frame: &Frame, packet: &mut Packet, ip_header_len: usize) -> Option<Reason> {
    let ip_len = packet.ip_len as usize;
    let offset = L3 + ip_header_len;
    if packet.tuple.protocol as u8 == TCP {
        let Some(tcp) = frame.header::<{ TcpHdr::LEN }>(offset) else { return Some(Reason::PassMalformed) };
        let tcp_len = (tcp.u8(12) >> 4 << 2) as usize;
        if tcp_len < TcpHdr::LEN || ip_header_len + tcp_len > ip_len {
            return Some(Reason::PassMalformed);
        }
        packet.tuple.ports = tcp.raw32(0);
        packet.signal = tcp_signal(tcp.u8(13));
    } else {
        let Some(udp) = frame.header::<{ UdpHdr::LEN }>(offset) else { return Some(Reason::PassMalformed) };
        if ip_header_len + UdpHdr::LEN > ip_len {
            return Some(Reason::PassMalformed);
        }
        packet.tuple.ports = udp.raw32(0);
    }
    None
}
