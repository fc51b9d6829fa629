//! The packet that an ICMP error is about: which flow it is of.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::{HEADER, REACH, header};
use crate::bits::opaque;
use crate::encap::{IPV4_IN_IP, IPV6_IN_IP};
use crate::layout::Tuple;
use crate::parse::extension::{AUTHENTICATION, FRAGMENT, is_extension};
use crate::parse::{Frame, L3, TCP, UDP};

/// What every error quotes of an upper layer at least, bytes (RFC 792).
const UPPER: usize = 8;
/// IPv6 extension headers that are walked over. More than two are rare, and the verifier walks each.
const EXTENSIONS: usize = 4;

/// A quoted packet, which was on its way from a service to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Its flow as packets of the client have it: the client first.
    pub tuple: Tuple,
    /// Offset of its IP header in the frame, bytes. On the stack the verifier may forget the bound: mask it.
    pub ip: usize,
    /// Offset of its TCP or UDP header, of which 8 bytes are there. As `ip`.
    pub l4: usize,
}

/// Why an error cannot be laid at a flow's door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFlow {
    /// It ends before the ports of the packet that it quotes, or they lie too far into it.
    Truncated,
    /// It quotes no IP packet of its own family, or one whose header contradicts itself.
    Malformed,
    /// It is for another address than that which sent the quoted packet: nobody's, or forged.
    Foreign,
    /// It quotes a later fragment, which has no ports.
    Fragment,
    /// It quotes an IP packet in an IP packet: perhaps one that the balancer sent to a backend.
    Tunnel,
    /// It quotes a packet that is neither TCP nor UDP.
    OtherProtocol,
}

/// The flow that an ICMP error is about. RFC 792 and RFC 4443 have the packet's beginning after 8 bytes of ICMP header.
#[inline(always)]
pub fn quoted(frame: &Frame, l4: usize, is_v6: bool) -> Result<Quoted, NoFlow> {
    if is_v6 { quoted_v6(frame, l4) } else { quoted_v4(frame, l4) }
}

#[inline(always)]
fn quoted_v4(frame: &Frame, l4: usize) -> Result<Quoted, NoFlow> {
    let outer = frame.header::<{ Ipv4Hdr::LEN }>(L3).ok_or(NoFlow::Truncated)?;
    let end = end_of(frame, outer.u16(2) as usize)?;
    let at = l4 + HEADER;
    let ip = header::<{ Ipv4Hdr::LEN }>(frame, at).ok_or(NoFlow::Truncated)?;
    if at + Ipv4Hdr::LEN > end {
        return Err(NoFlow::Truncated);
    }
    let first = ip.u8(0);
    let header_len = ((first & 0x0f) << 2) as usize;
    if first >> 4 != 4 || header_len < Ipv4Hdr::LEN {
        return Err(NoFlow::Malformed);
    }
    if ip.raw32(12) != outer.raw32(16) {
        return Err(NoFlow::Foreign);
    }
    if ip.u16(6) & 0x1fff != 0 {
        return Err(NoFlow::Fragment);
    }
    let protocol = ip.u8(9);
    let upper = at + header_len;
    let ports = reversed_ports(frame, protocol, upper, end)?;
    let tuple = Tuple {
        source: Tuple::v4(ip.raw32(16)),
        destination: Tuple::v4(ip.raw32(12)),
        ports,
        protocol: protocol as u32,
    };
    Ok(Quoted { tuple, ip: at, l4: upper })
}

#[inline(always)]
fn quoted_v6(frame: &Frame, l4: usize) -> Result<Quoted, NoFlow> {
    let outer = frame.header::<{ Ipv6Hdr::LEN }>(L3).ok_or(NoFlow::Truncated)?;
    let end = end_of(frame, outer.u16(4) as usize + Ipv6Hdr::LEN)?;
    let at = l4 + HEADER;
    let ip = header::<{ Ipv6Hdr::LEN }>(frame, at).ok_or(NoFlow::Truncated)?;
    if at + Ipv6Hdr::LEN > end {
        return Err(NoFlow::Truncated);
    }
    if ip.u8(0) >> 4 != 6 {
        return Err(NoFlow::Malformed);
    }
    let destination = [ip.raw64(8), ip.raw64(16)];
    // An IPv4-mapped address means nothing on the wire, and must not pass for the IPv4 address of a service.
    let is_mapped = destination[0] == 0 && destination[1] as u32 == Tuple::v4(0)[1] as u32;
    if destination[0] != outer.raw64(24) || destination[1] != outer.raw64(32) || is_mapped {
        return Err(NoFlow::Foreign);
    }
    let (protocol, upper) = upper_v6(frame, ip.u8(6), at + Ipv6Hdr::LEN, end)?;
    let ports = reversed_ports(frame, protocol, upper, end)?;
    let tuple = Tuple { source: [ip.raw64(24), ip.raw64(32)], destination, ports, protocol: protocol as u32 };
    Ok(Quoted { tuple, ip: at, l4: upper })
}

/// Where the IP packet ends: what lies behind it was never quoted.
#[inline(always)]
fn end_of(frame: &Frame, ip_len: usize) -> Result<usize, NoFlow> {
    let end = L3 + ip_len;
    if end > frame.len() { Err(NoFlow::Truncated) } else { Ok(end) }
}

/// The ports of a TCP or UDP header, destination first, as they lie in memory.
#[inline(always)]
fn reversed_ports(frame: &Frame, protocol: u8, at: usize, end: usize) -> Result<u32, NoFlow> {
    match protocol {
        TCP | UDP => {}
        IPV4_IN_IP | IPV6_IN_IP => return Err(NoFlow::Tunnel),
        _ => return Err(NoFlow::OtherProtocol),
    }
    let upper = header::<UPPER>(frame, at).ok_or(NoFlow::Truncated)?;
    if at + UPPER > end {
        return Err(NoFlow::Truncated);
    }
    Ok(upper.raw32(0).rotate_left(16))
}

/// Protocol and offset of what follows the extension headers of an IPv6 packet (RFC 8200, 4), of which `next` is the first and
/// lies at `at`, and which ends at `end`. More than four are too many.
#[inline(always)]
pub(super) fn upper_v6(
    frame: &Frame,
    mut next: u8,
    mut at: usize,
    end: usize,
) -> Result<(u8, usize), NoFlow> {
    for _ in 0..EXTENSIONS {
        if !is_walked(next) {
            return Ok((next, at));
        }
        let extension = header::<8>(frame, at).ok_or(NoFlow::Truncated)?;
        if at + 8 > end {
            return Err(NoFlow::Truncated);
        }
        let mut more = extension.u8(1) as usize;
        if next == FRAGMENT {
            if extension.u16(2) & 0xfff8 != 0 {
                return Err(NoFlow::Fragment);
            }
            // A reserved byte, where others have their length.
            more = 0;
        }
        next = extension.u8(0);
        at += (more + 1) * 8;
        if at > REACH {
            return Err(NoFlow::Truncated);
        }
        // The same bound on each way: the verifier walks what follows once.
        at = (opaque(at as u64) & REACH as u64) as usize;
    }
    if is_walked(next) { Err(NoFlow::Truncated) } else { Ok((next, at)) }
}

/// Whether it is walked over: not what authenticates, whose length is in other units.
#[inline(always)]
const fn is_walked(number: u8) -> bool {
    number != AUTHENTICATION && is_extension(number)
}
