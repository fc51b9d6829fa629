//! The headers around: VLAN tags, and the outer IP header.

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::ecn::ECN;
use super::reason::DecapReason;
use crate::checksum::{fold, halves};
use crate::encap::{IPV4_IN_IP, IPV6_IN_IP};
use crate::layout::Tuple;
use crate::parse::tags::{TAG, is_tag};
use crate::parse::{Frame, L3, UDP};

pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Where a frame's packet is.
pub(super) struct Link {
    /// Bytes of VLAN tags behind the MAC addresses: 0, 4 or 8.
    pub tags: usize,
    /// The frame from its tags' length on: in it, Ethertype and IP header lie where they do in one without tags.
    pub frame: Frame,
    pub ethertype: u16,
}

/// Reads the Ethernet header and up to two tags.
#[inline(always)]
pub(super) fn parse_link(frame: &Frame) -> Result<Link, DecapReason> {
    let mut link = Link { tags: 0, frame: *frame, ethertype: 0 };
    loop {
        let ethernet = link.frame.header::<{ EthHdr::LEN }>(0).ok_or(DecapReason::PassMalformed)?;
        link.ethertype = ethernet.u16(12);
        if !is_tag(link.ethertype) || link.tags == 2 * TAG {
            return Ok(link);
        }
        link.tags += TAG;
        link.frame = frame.skip(link.tags);
    }
}

/// An outer IP header.
pub(super) struct Outer {
    pub destination: [u64; 2],
    /// Bytes, with options.
    pub header_len: usize,
    /// Bytes after the header.
    pub payload_len: usize,
    /// ECN field (RFC 3168): 2 bits.
    pub ecn: u8,
    pub is_v6: bool,
    /// [`IPV4_IN_IP`], [`IPV6_IN_IP`], or [`UDP`] to the port of GUE.
    pub protocol: u8,
}

/// `len`: as for [`super::decapsulate_frame`].
#[inline(always)]
pub(super) fn parse_outer(link: &Link, len: usize, gue_port: u16) -> Result<Outer, DecapReason> {
    match link.ethertype {
        ETHERTYPE_IPV4 => parse_outer_v4(&link.frame, len - link.tags, gue_port),
        ETHERTYPE_IPV6 => parse_outer_v6(&link.frame, len - link.tags, gue_port),
        _ => Err(DecapReason::PassNotIp),
    }
}

/// Looks at no more than it must: of what reaches a backend, much is not encapsulated.
#[inline(always)]
fn may_be_ours(protocol: u8, gue_port: u16) -> Result<(), DecapReason> {
    match protocol {
        IPV4_IN_IP | IPV6_IN_IP => Ok(()),
        UDP if gue_port != 0 => Ok(()),
        _ => Err(DecapReason::PassOtherProtocol),
    }
}

/// Whether UDP goes to the port of GUE.
#[inline(always)]
fn check_port(frame: &Frame, ip_header_len: usize, protocol: u8, gue_port: u16) -> Result<(), DecapReason> {
    if protocol != UDP {
        return Ok(());
    }
    let ports = frame.header::<4>(L3 + ip_header_len).ok_or(DecapReason::PassMalformed)?;
    if ports.u16(2) == gue_port { Ok(()) } else { Err(DecapReason::PassOtherProtocol) }
}

/// RFC 791.
#[inline(always)]
fn parse_outer_v4(frame: &Frame, len: usize, gue_port: u16) -> Result<Outer, DecapReason> {
    let ip = frame.header::<{ Ipv4Hdr::LEN }>(L3).ok_or(DecapReason::PassMalformed)?;
    let first = ip.u8(0);
    let header_len = ((first & 0x0f) << 2) as usize;
    if first >> 4 != 4 || header_len < Ipv4Hdr::LEN {
        return Err(DecapReason::PassMalformed);
    }
    let protocol = ip.u8(9);
    may_be_ours(protocol, gue_port)?;
    // More-fragments flag or an offset.
    if ip.u16(6) & 0x3fff != 0 {
        return Err(DecapReason::PassFragment);
    }
    let ip_len = ip.u16(2) as usize;
    if ip_len < header_len || L3 + ip_len > len {
        return Err(DecapReason::PassMalformed);
    }
    check_port(frame, header_len, protocol, gue_port)?;
    let words: [u32; 5] = [ip.raw32(0), ip.raw32(4), ip.raw32(8), ip.raw32(12), ip.raw32(16)];
    let mut sum = 0;
    for word in words {
        sum += halves(word);
    }
    if header_len > Ipv4Hdr::LEN {
        sum += sum_options(frame, header_len)?;
    }
    if fold(sum) != 0 {
        return Err(DecapReason::PassChecksum);
    }
    Ok(Outer {
        destination: Tuple::v4(words[4]),
        header_len,
        payload_len: ip_len - header_len,
        ecn: ip.u8(1) & ECN,
        is_v6: false,
        protocol,
    })
}

/// Sum of the 16-bit words of an IPv4 header's options.
#[inline(always)]
fn sum_options(frame: &Frame, header_len: usize) -> Result<u32, DecapReason> {
    let mut sum = 0;
    // At most 40 bytes: the header's length has 4 bits.
    for word in 0..10 {
        let offset = Ipv4Hdr::LEN + word * 4;
        if offset >= header_len {
            break;
        }
        let option = frame.header::<4>(L3 + offset).ok_or(DecapReason::PassMalformed)?;
        sum += halves(option.raw32(0));
    }
    Ok(sum)
}

/// RFC 8200, without extension headers.
#[inline(always)]
fn parse_outer_v6(frame: &Frame, len: usize, gue_port: u16) -> Result<Outer, DecapReason> {
    let ip = frame.header::<{ Ipv6Hdr::LEN }>(L3).ok_or(DecapReason::PassMalformed)?;
    let first = ip.u16(0);
    if first >> 12 != 6 {
        return Err(DecapReason::PassMalformed);
    }
    let protocol = ip.u8(6);
    may_be_ours(protocol, gue_port)?;
    let payload_len = ip.u16(4) as usize;
    if L3 + Ipv6Hdr::LEN + payload_len > len {
        return Err(DecapReason::PassMalformed);
    }
    check_port(frame, Ipv6Hdr::LEN, protocol, gue_port)?;
    let destination = [ip.raw64(24), ip.raw64(32)];
    // An IPv4-mapped address means nothing on the wire, and must not pass for the IPv4 address with the same key.
    if destination[0] == 0 && destination[1] as u32 == Tuple::v4(0)[1] as u32 {
        return Err(DecapReason::PassForeign);
    }
    Ok(Outer {
        destination,
        header_len: Ipv6Hdr::LEN,
        payload_len,
        ecn: (first >> 4) as u8 & ECN,
        is_v6: true,
        protocol,
    })
}
