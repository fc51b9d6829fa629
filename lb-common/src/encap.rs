//! Outer headers: of IP-in-IP (RFC 2003, RFC 2473), and of GUE, Generic UDP Encapsulation (draft-ietf-intarea-gue-09), which
//! puts those of UDP and GUE between the two IP headers.
//!
//! DSCP and ECN are copied (RFC 6040, 4.1, normal mode). The outer IPv4 packet has DF set and so needs no
//! identification (RFC 6864, 4.1): what does not fit is refused before it is sent.

use crate::checksum;
use crate::hash::FlowHash;

/// Protocol number of an IPv4 packet in an IP packet.
pub const IPV4_IN_IP: u8 = 4;
/// Protocol number of an IPv6 packet in an IP packet.
pub const IPV6_IN_IP: u8 = 41;
/// Bytes of the headers that GUE puts before an inner packet: UDP's, and its own without optional fields.
pub const GUE_LEN: u16 = 12;
/// First of the ephemeral ports (RFC 6335, 6); the others differ in the lower 14 bits.
const EPHEMERAL: u16 = 49152;
/// Time to live and hop limit of outer headers, as RFC 1700 suggests for new packets.
const TTL: u8 = 64;

/// Outer IPv4 header, as it lies in memory, from `source` to `destination`, which lie so too, before `payload_len` bytes: of the
/// inner packet, and of [`gue`] if that comes between.
#[inline(always)]
pub fn outer_v4(
    source: u32,
    destination: u32,
    protocol: u8,
    traffic_class: u8,
    payload_len: u16,
) -> [u32; 5] {
    let [l0, l1] = (payload_len + 20).to_be_bytes();
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

/// First 8 bytes of the outer IPv6 header, as they lie in memory, before `payload_len` bytes as for [`outer_v4`]; the
/// addresses follow. The flow label is 0.
#[inline(always)]
pub const fn outer_v6(protocol: u8, traffic_class: u8, payload_len: u16) -> u64 {
    let [l0, l1] = payload_len.to_be_bytes();
    u64::from_ne_bytes([0x60 | traffic_class >> 4, traffic_class << 4, 0, 0, l0, l1, protocol, TTL])
}

/// UDP source port of a flow in GUE: 14 bits of its hash, by which routers choose among equal ways for flows that have the
/// same two hosts at their ends (5.11). They are bits of the flow's bucket and say next to nothing of its slot.
#[inline(always)]
pub const fn entropy_port(hash: FlowHash) -> u16 {
    EPHEMERAL | hash.0 as u16
}

/// The headers of UDP and GUE, as they lie in memory, before an inner packet of `inner_len` bytes, 12 less than 2¹⁶ at most;
/// `protocol` is [`IPV4_IN_IP`] or [`IPV6_IN_IP`]. Ports are in host byte order. The outer IP header's protocol is
/// [`crate::parse::UDP`], and its payload is [`GUE_LEN`] bytes longer than the inner packet.
///
/// There is no UDP checksum, over IPv6 neither (RFC 6935): the inner packet, TCP or UDP, has one of its own, and the way from
/// balancer to backend is the operator's (5.8.2).
#[inline(always)]
pub const fn gue(source_port: u16, destination_port: u16, protocol: u8, inner_len: u16) -> [u32; 3] {
    let [s0, s1] = source_port.to_be_bytes();
    let [d0, d1] = destination_port.to_be_bytes();
    let [l0, l1] = (inner_len + GUE_LEN).to_be_bytes();
    [
        u32::from_ne_bytes([s0, s1, d0, d1]),
        u32::from_ne_bytes([l0, l1, 0, 0]),
        // Variant 0, a data message, no optional fields, no flags.
        u32::from_ne_bytes([0, protocol, 0, 0]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_gue_are_those_of_the_draft() {
        let bytes: Vec<u8> =
            gue(0xc123, 6080, IPV6_IN_IP, 0x0234).iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert_eq!(bytes, [0xc1, 0x23, 0x17, 0xc0, 0x02, 0x40, 0, 0, 0, 41, 0, 0]);
        assert_eq!(bytes.len(), usize::from(GUE_LEN));
        let longest = gue(EPHEMERAL, 1, IPV4_IN_IP, u16::MAX - GUE_LEN);
        assert_eq!(longest[1], u32::from_ne_bytes([0xff, 0xff, 0, 0]));
    }

    #[test]
    fn entropy_is_14_bits_of_ephemeral_ports() {
        let mut seen = std::collections::BTreeSet::new();
        for hash in 0..1u64 << 16 {
            seen.insert(entropy_port(FlowHash(hash | hash << 48)));
        }
        assert_eq!((seen.len(), seen.first(), seen.last()), (1 << 14, Some(&49152), Some(&65535)));
    }
}
