//! ICMP of any kind, with its checksum from `etherparse`.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;

use super::{Packet, network_offset};

impl Packet {
    /// An ICMP or ICMPv6 packet: type and code, the 4 bytes behind the checksum, and what follows.
    pub fn icmp(
        source: IpAddr,
        destination: IpAddr,
        [kind, code]: [u8; 2],
        rest: [u8; 4],
        body: &[u8],
    ) -> Self {
        let mut message = [&[kind, code, 0, 0], &rest[..], body].concat();
        let protocol = if source.is_ipv4() { 1 } else { 58 };
        let mut sum = Sum16BitWords::new().add_slice(&message);
        if let (IpAddr::V6(source), IpAddr::V6(destination)) = (source, destination) {
            sum = sum.add_16bytes(source.octets()).add_16bytes(destination.octets());
            sum = sum.add_4bytes((message.len() as u32).to_be_bytes()).add_2bytes([0, protocol]);
        }
        message[2..4].copy_from_slice(&sum.ones_complement().to_ne_bytes());
        Packet::other(source, destination, protocol).payload(&message)
    }
}

/// The IP packet of a frame, or its first bytes: what an error quotes.
pub fn quote(frame: &[u8], most: usize) -> &[u8] {
    let packet = &frame[network_offset(frame)..];
    &packet[..packet.len().min(most)]
}
