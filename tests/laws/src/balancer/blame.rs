//! Packets that no honest client sends (RFC 6890), by other code than the data path's.

use std::net::Ipv6Addr;

use lb_common::parse::{L3, What, Whole};
use lb_common::reason::Reason;

use crate::site::octets_of;
use crate::wire::sum;

/// Why a packet for a service is not sent on.
pub(super) fn inspect(frame: &[u8], whole: &Whole) -> Result<(), Reason> {
    let packet = &whole.packet;
    let ip = &frame[L3..];
    let [source, destination] = [packet.tuple.source, packet.tuple.destination].map(octets_of);
    if is_martian(source, packet.is_v6) {
        Err(Reason::DropMartian)
    } else if source == destination {
        Err(Reason::DropLand)
    } else if whole.what == What::Flow && packet.tuple.source_port() == 0 {
        Err(Reason::DropZeroPort)
    } else if !packet.is_v6 && sum(&ip[..packet.ip_header_len.into()]) != 0xffff {
        Err(Reason::DropChecksum)
    } else if ip[if packet.is_v6 { 7 } else { 8 }] <= 1 {
        Err(Reason::DropTimeExceeded)
    } else {
        Ok(())
    }
}

fn is_martian(source: [u8; 16], is_v6: bool) -> bool {
    if is_v6 {
        let address = Ipv6Addr::from(source);
        source[..8] == [0; 8] || address.is_multicast() || address.is_unicast_link_local()
    } else {
        matches!(source[12], 0 | 127 | 224..)
    }
}
