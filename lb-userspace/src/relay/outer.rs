//! The outer packet that an error quotes, and what the error says of its path.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::encap::{IPV4_IN_IP, IPV6_IN_IP};
use lb_common::icmp::HEADER;
use lb_common::parse::UDP;

use super::{Trouble, checksum};

/// The least MTU of IPv4 (RFC 791, 3.2).
pub(super) const LEAST_MTU_V4: u16 = 68;
/// The least MTU of IPv6 (RFC 8200, 5).
pub(super) const LEAST_MTU_V6: u16 = 1280;

/// MTUs that links have, for routers that do not name theirs (RFC 1191, 7.1).
const PLATEAUS: [u16; 11] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, LEAST_MTU_V4];

/// An outer packet, of which an error quotes the beginning.
pub(super) struct Outer<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Length of the whole outer packet, bytes.
    pub ip_len: u32,
    /// Bytes before the inner packet.
    pub overhead: u16,
    pub is_gue: bool,
    pub inner_is_v6: bool,
    /// What is quoted of the inner packet; `None`: not even its first byte.
    pub inner: Option<&'a [u8]>,
}

/// The outer packet that a message quotes, if it has one inside.
pub(super) fn find(is_v6: bool, message: &[u8], gue_port: Option<u16>) -> Option<Outer<'_>> {
    if !is_v6 && checksum(&[message]) != 0 {
        return None;
    }
    let quote = quote(is_v6, message)?;
    let (source, destination, protocol, ip_len, header_len) = if is_v6 { ipv6(quote) } else { ipv4(quote) }?;
    // Padding or not, more than the packet was cannot be of it.
    let quote = quote.get(..ip_len as usize).unwrap_or(quote);
    let payload = quote.get(header_len..)?;
    let (is_gue, inner_is_v6, tunnel_len) = match protocol {
        IPV4_IN_IP => (false, false, 0),
        IPV6_IN_IP => (false, true, 0),
        UDP => {
            let (inner_is_v6, len) = gue(payload, gue_port?)?;
            (true, inner_is_v6, len)
        }
        _ => return None,
    };
    let overhead = header_len + tunnel_len;
    let inner = quote.get(overhead..).filter(|inner| !inner.is_empty());
    let overhead = overhead as u16;
    Some(Outer { source, destination, ip_len, overhead, is_gue, inner_is_v6, inner })
}

/// What a message quotes, without the extensions that may follow (RFC 4884): their beginning is named in the header.
fn quote(is_v6: bool, message: &[u8]) -> Option<&[u8]> {
    let quote = message.get(HEADER..)?;
    let len = match (is_v6, message[0]) {
        (false, 3 | 11 | 12) => usize::from(message[5]) * 4,
        (true, 1 | 3) => usize::from(message[4]) * 8,
        _ => 0,
    };
    if len == 0 { Some(quote) } else { Some(quote.get(..len).unwrap_or(quote)) }
}

/// Source, destination, protocol, length of the packet and of its header. No fragments: outer packets have DF set.
type Header = (IpAddr, IpAddr, u8, u32, usize);

fn ipv4(quote: &[u8]) -> Option<Header> {
    let header: &[u8; 20] = quote.first_chunk()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let ip_len = u16::from_be_bytes([header[2], header[3]]);
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if header[0] >> 4 != 4 || header_len < 20 || usize::from(ip_len) < header_len || is_fragment {
        return None;
    }
    let [source, destination] =
        [12, 16].map(|at| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into());
    Some((source, destination, header[9], ip_len.into(), header_len))
}

fn ipv6(quote: &[u8]) -> Option<Header> {
    let header: &[u8; 40] = quote.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let address =
        |at: usize| Ipv6Addr::from(*header[at..].first_chunk::<16>().expect("40 bytes have two")).into();
    let ip_len = 40 + u32::from(u16::from_be_bytes([header[4], header[5]]));
    Some((address(8), address(24), header[6], ip_len, 40))
}

/// Whether IPv6 is inside, and the bytes of the UDP header and that of GUE: variant 0 with an IP packet in it, or variant 1, which
/// is none at all (draft-ietf-intarea-gue-09, 3 and 4).
fn gue(payload: &[u8], port: u16) -> Option<(bool, usize)> {
    let udp: &[u8; 8] = payload.first_chunk()?;
    if u16::from_be_bytes([udp[2], udp[3]]) != port {
        return None;
    }
    // The quote may end here. The path's MTU is known all the same, and the client is not.
    let Some(&first) = payload.get(8) else { return Some((false, 8)) };
    match first >> 4 {
        4 => Some((false, 8)),
        6 => Some((true, 8)),
        // The control bit is the third.
        0 | 1 => {
            let len = 8 + 4 + usize::from(first & 0x1f) * 4;
            match payload.get(9) {
                Some(&IPV4_IN_IP) | None => Some((false, len)),
                Some(&IPV6_IN_IP) => Some((true, len)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// What a message says of the path of an outer packet with `ip_len` bytes.
pub(super) fn trouble(is_v6: bool, message: &[u8], ip_len: u32, is_gue: bool) -> Option<Trouble> {
    let &[kind, code, _, _, m0, m1, m2, m3] = message.first_chunk::<HEADER>()?;
    match (is_v6, kind, code) {
        (false, 3, 4) => {
            let mtu = match u16::from_be_bytes([m2, m3]) {
                0 => PLATEAUS.into_iter().find(|plateau| u32::from(*plateau) < ip_len)?,
                mtu => mtu,
            };
            too_big(mtu.into(), LEAST_MTU_V4, ip_len)
        }
        (true, 2, _) => too_big(u32::from_be_bytes([m0, m1, m2, m3]), LEAST_MTU_V6, ip_len),
        // The backend has no program that takes GUE. Nothing else of ours goes to a port.
        (false, 3, 3) | (true, 1, 4) => is_gue.then_some(Trouble::Unreachable),
        // A source route failed, and we send none.
        (false, 3, 5) => None,
        // Also "protocol unreachable" and "unrecognized next header": the backend takes no tunnel.
        (false, 3, _) | (true, 1, _) | (true, 4, 1) => Some(Trouble::Unreachable),
        // The outer header's time to live is ours: a loop on the way (RFC 2003, 4.5).
        (false, 11, 0) | (true, 3, 0) => Some(Trouble::Unreachable),
        _ => None,
    }
}

/// An MTU that the packet would have fitted is forged or late; one below the least of its family is to be ignored (RFC 1191, 3;
/// RFC 8201, 4).
fn too_big(mtu: u32, least: u16, ip_len: u32) -> Option<Trouble> {
    if mtu < least.into() || mtu >= ip_len {
        return None;
    }
    u16::try_from(mtu).ok().map(Trouble::TooBig)
}
