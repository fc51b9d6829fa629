//! Outer headers of IP-in-IP (RFC 2003, RFC 2473).
//!
//! DSCP and ECN are copied (RFC 6040, 4.1, normal mode). The outer IPv4 packet has DF set and so needs no
//! identification (RFC 6864, 4.1): what does not fit is refused before it is sent.

use crate::checksum;

/// Protocol number of an IPv4 packet in an IP packet.
pub const IPV4_IN_IP: u8 = 4;
/// Protocol number of an IPv6 packet in an IP packet.
pub const IPV6_IN_IP: u8 = 41;
/// Time to live and hop limit of outer headers, as RFC 1700 suggests for new packets.
const TTL: u8 = 64;

/// Outer IPv4 header, as it lies in memory, from `source` to `destination`, which lie so too, for an inner packet of `inner_len`
/// bytes.
#[inline(always)]
pub fn outer_v4(source: u32, destination: u32, protocol: u8, traffic_class: u8, inner_len: u16) -> [u32; 5] {
    let [l0, l1] = (inner_len + 20).to_be_bytes();
    let mut header = [
        u32::from_ne_bytes([0x45, traffic_class, l0, l1]),
        u32::from_ne_bytes([0, 0, 0x40, 0]),
        u32::from_ne_bytes([TTL, protocol, 0, 0]),
        source,
        destination,
    ];
    let [c0, c1] = checksum::ipv4(&header).to_ne_bytes();
    header[2] = u32::from_ne_bytes([TTL, protocol, c0, c1]);
    header
}

/// First 8 bytes of the outer IPv6 header, as they lie in memory; the addresses follow. The flow label is 0.
#[inline(always)]
pub const fn outer_v6(protocol: u8, traffic_class: u8, inner_len: u16) -> u64 {
    let [l0, l1] = inner_len.to_be_bytes();
    u64::from_ne_bytes([0x60 | traffic_class >> 4, traffic_class << 4, 0, 0, l0, l1, protocol, TTL])
}
