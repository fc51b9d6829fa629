//! The error that the client gets about its own packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::icmp::{HEADER, ICMPV6};

use super::outer::{LEAST_MTU_V4, LEAST_MTU_V6};
use super::{ForClient, Trouble, checksum};

/// Bytes of the inner packet that are quoted at most, so that the error has no more than RFC 1812, 4.3.2.3 and RFC 4443, 2.4 (c)
/// allow.
const MOST_QUOTED_V4: usize = 576 - 20 - HEADER;
const MOST_QUOTED_V6: usize = LEAST_MTU_V6 as usize - 40 - HEADER;

/// What every error has to quote of an upper layer, bytes (RFC 792).
const UPPER: usize = 8;

/// The error for the client of a packet, of which `inner` is the beginning; `None`: too little of it is there, it is no IP packet
/// of that family, or the client could do nothing about it.
pub(super) fn answer(
    is_v6: bool,
    inner: &[u8],
    trouble: Trouble,
    overhead: u16,
    source_v6: Option<Ipv6Addr>,
) -> Option<ForClient> {
    if is_v6 { answer_v6(inner, trouble, overhead, source_v6?) } else { answer_v4(inner, trouble, overhead) }
}

fn answer_v4(inner: &[u8], trouble: Trouble, overhead: u16) -> Option<ForClient> {
    let header: &[u8; 20] = inner.first_chunk()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let ip_len = u16::from_be_bytes([header[2], header[3]]);
    if header[0] >> 4 != 4 || header_len < 20 {
        return None;
    }
    let head = match trouble {
        Trouble::TooBig(mtu) => {
            let mtu = mtu.saturating_sub(overhead).max(LEAST_MTU_V4);
            if ip_len <= mtu {
                return None;
            }
            let [m0, m1] = mtu.to_be_bytes();
            [3, 4, 0, 0, 0, 0, m0, m1]
        }
        Trouble::Unreachable => [3, 1, 0, 0, 0, 0, 0, 0],
    };
    let quote = quote(inner, ip_len.into(), header_len, MOST_QUOTED_V4)?;
    let client = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    Some(ForClient { client: client.into(), message: message(head, quote, &[]) })
}

fn answer_v6(inner: &[u8], trouble: Trouble, overhead: u16, source: Ipv6Addr) -> Option<ForClient> {
    let header: &[u8; 40] = inner.first_chunk()?;
    let ip_len = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 {
        return None;
    }
    let head = match trouble {
        Trouble::TooBig(mtu) => {
            let mtu = mtu.saturating_sub(overhead).max(LEAST_MTU_V6);
            if ip_len <= usize::from(mtu) {
                return None;
            }
            let [m0, m1] = mtu.to_be_bytes();
            [2, 0, 0, 0, 0, 0, m0, m1]
        }
        Trouble::Unreachable => [1, 3, 0, 0, 0, 0, 0, 0],
    };
    let quote = quote(inner, ip_len, 40, MOST_QUOTED_V6)?;
    let client = Ipv6Addr::from(*header[8..].first_chunk::<16>()?);
    let len = ((HEADER + quote.len()) as u32).to_be_bytes();
    let pseudo = [&source.octets()[..], &client.octets(), &len, &[0, 0, 0, ICMPV6]].concat();
    Some(ForClient { client: IpAddr::V6(client), message: message(head, quote, &pseudo) })
}

/// What is quoted of a packet; `None`: less than its header and what RFC 792 asks for.
fn quote(inner: &[u8], ip_len: usize, header_len: usize, most: usize) -> Option<&[u8]> {
    let quote = &inner[..inner.len().min(ip_len).min(most)];
    (quote.len() >= header_len + UPPER).then_some(quote)
}

fn message(head: [u8; HEADER], quote: &[u8], pseudo: &[u8]) -> Vec<u8> {
    let mut message = [&head[..], quote].concat();
    let checksum = checksum(&[pseudo, &message]);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}
