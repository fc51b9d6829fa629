//! Generic UDP Encapsulation, variant 0 (draft-ietf-intarea-gue-09): what lies between the outer IP header and the inner
//! packet.
//!
//! What cannot be understood is left to the kernel, whole: nobody there has a socket for it, unless the operator has another
//! decapsulator. That is a flag of any kind (5.4: unknown ones must not be ignored), another variant, a control message, and
//! a protocol other than IP. Words of the header that no flag announces are skipped unread (3.4: surplus space).
//!
//! UDP checksums: 0 is accepted over IPv4 and over IPv6 (RFC 6935; the inner packet has checksums of its own, and only one port
//! takes it, as RFC 6936 wants of a tunnel). Any other is verified (5.8), without reading the packet: TCP and UDP inside have a
//! checksum over all that follows the inner IP header. If that one is right, what it covers adds up to a number that the
//! inner IP header tells, and so does the outer checksum's whole sum. Whether it *is* right, the receiver of the inner packet
//! looks at anyway. So whoever is given the packet knows that both are right, and no byte is read twice. Where this cannot be
//! told (the inner packet is a fragment, of another protocol, UDP without checksum, or is followed by something), the packet
//! is refused, as 5.8.1 has it for who cannot verify.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;

use super::outer::Outer;
use super::reason::DecapReason;
use super::strip::{IP_HEADER_LEN, Inner, bounded};
use crate::checksum::{fold, halves};
use crate::encap::{GUE_LEN, IPV4_IN_IP, IPV6_IN_IP};
use crate::parse::{Frame, Header, L3, TCP, UDP};

/// UDP port of GUE that IANA has assigned.
pub const GUE_PORT: u16 = 6080;

/// Bits of the header's first byte.
const VARIANT: u8 = 0xc0;
const CONTROL: u8 = 0x20;
const SURPLUS: u8 = 0x1f;

/// The headers between a packet and the outer IP header before it.
const BOTH_LEN: usize = GUE_LEN as usize;

/// Reads the headers of UDP and GUE behind an outer IP header.
#[inline(always)]
pub(super) fn parse_gue(frame: &Frame, outer: &Outer) -> Result<Inner, DecapReason> {
    let ip_header_len = bounded(outer.header_len, IP_HEADER_LEN);
    let header = frame.header::<BOTH_LEN>(L3 + ip_header_len).ok_or(DecapReason::PassMalformed)?;
    let udp_len = header.u16(4) as usize;
    if udp_len < BOTH_LEN || udp_len > outer.payload_len {
        return Err(DecapReason::PassMalformed);
    }
    let first = header.u8(UdpHdr::LEN);
    if first & VARIANT != 0 {
        return Err(DecapReason::PassGueVariant);
    }
    if first & CONTROL != 0 {
        return Err(DecapReason::PassGueControl);
    }
    if header.u16(UdpHdr::LEN + 2) != 0 {
        return Err(DecapReason::PassGueFlags);
    }
    let is_v6 = match header.u8(UdpHdr::LEN + 1) {
        IPV4_IN_IP => false,
        IPV6_IN_IP => true,
        _ => return Err(DecapReason::PassGueProtocol),
    };
    let surplus = ((first & SURPLUS) as usize) << 2;
    if BOTH_LEN + surplus > udp_len {
        return Err(DecapReason::PassMalformed);
    }
    let mut sum = 0;
    if header.read::<u16>(6) != 0 {
        if surplus != 0 {
            return Err(DecapReason::PassGueUnverified);
        }
        sum = sum_outer(frame, outer.is_v6, &header)?;
    }
    Ok(Inner { cut: ip_header_len + BOTH_LEN + surplus, len: udp_len - BOTH_LEN - surplus, is_v6, sum })
}

/// The part of the UDP checksum's sum that lies before the inner packet: pseudo-header (RFC 768; RFC 8200, 8.1), UDP and GUE
/// header. Never 0, as the protocol's number is part of it.
#[inline(always)]
fn sum_outer(frame: &Frame, is_v6: bool, header: &Header<BOTH_LEN>) -> Result<u32, DecapReason> {
    let mut sum = u16::to_be(UDP as u16) as u32 + header.read::<u16>(4) as u32;
    for word in 0..BOTH_LEN / 4 {
        sum += halves(header.raw32(word * 4));
    }
    if is_v6 {
        let ip = frame.header::<{ Ipv6Hdr::LEN }>(L3).ok_or(DecapReason::PassMalformed)?;
        for word in 2..10 {
            sum += halves(ip.raw32(word * 4));
        }
    } else {
        let ip = frame.header::<{ Ipv4Hdr::LEN }>(L3).ok_or(DecapReason::PassMalformed)?;
        sum += halves(ip.raw32(12)) + halves(ip.raw32(16));
    }
    Ok(sum)
}

/// Verifies the UDP checksum around an inner IPv4 packet with a header of `header_len` bytes, which fits `inner`. The sum over
/// a right header is 0, and its receiver looks at that, too.
#[inline(always)]
pub(super) fn verify_v4(
    frame: &Frame,
    inner: &Inner,
    ip: &Header<{ Ipv4Hdr::LEN }>,
    header_len: usize,
) -> Result<(), DecapReason> {
    let (protocol, ip_len) = (ip.u8(9), ip.u16(2) as usize);
    // A fragment's checksum covers the others, too.
    if ip_len != inner.len || ip.u16(6) & 0x3fff != 0 {
        return Err(DecapReason::PassGueUnverified);
    }
    let transport_len = (ip_len - header_len) as u16;
    let header_len = bounded(header_len, IP_HEADER_LEN);
    check_transport(frame, bounded(inner.cut, Inner::CUT) + header_len, protocol, transport_len)?;
    let pseudo_header = halves(ip.raw32(12))
        + halves(ip.raw32(16))
        + u16::to_be(protocol as u16) as u32
        + u16::to_be(transport_len) as u32;
    // `fold` gives the complement: what the transport's header and data add up to.
    if fold(inner.sum + fold(pseudo_header) as u32) == 0 { Ok(()) } else { Err(DecapReason::PassGueChecksum) }
}

/// As [`verify_v4`], for IPv6. Addresses and length are part of header and pseudo-header, and so need not be added up.
#[inline(always)]
pub(super) fn verify_v6(
    frame: &Frame,
    inner: &Inner,
    ip: &Header<{ Ipv6Hdr::LEN }>,
) -> Result<(), DecapReason> {
    let (protocol, payload_len) = (ip.u8(6), ip.u16(4));
    if Ipv6Hdr::LEN + payload_len as usize != inner.len {
        return Err(DecapReason::PassGueUnverified);
    }
    check_transport(frame, bounded(inner.cut, Inner::CUT) + Ipv6Hdr::LEN, protocol, payload_len)?;
    let header = halves(ip.raw32(0)) + ip.read::<u16>(6) as u32;
    let pseudo_header = u16::to_be(protocol as u16);
    if fold(inner.sum + header + !pseudo_header as u32) == 0 {
        Ok(())
    } else {
        Err(DecapReason::PassGueChecksum)
    }
}

/// Whether the transport that begins `at` bytes behind the place of the outer IP header has a checksum over all of its `len`
/// bytes.
#[inline(always)]
fn check_transport(frame: &Frame, at: usize, protocol: u8, len: u16) -> Result<(), DecapReason> {
    let has_checksum = match protocol {
        TCP => true,
        UDP => frame
            .header::<{ UdpHdr::LEN }>(L3 + at)
            .is_some_and(|udp| udp.u16(4) == len && udp.read::<u16>(6) != 0),
        _ => false,
    };
    if has_checksum { Ok(()) } else { Err(DecapReason::PassGueUnverified) }
}
