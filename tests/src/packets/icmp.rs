//! ICMP of any kind, with its checksum from `etherparse`, and errors about frames.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, NetSlice, SlicedPacket, icmpv4, ip_number,
};

use super::{Packet, macs, network_offset};

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

/// The ICMP error that `router` sends about `frame`, a whole frame, with its addresses turned round: "fragmentation
/// needed" with the next hop's `mtu`, or "packet too big". Quotes at most 128 bytes of the packet.
pub fn too_big(router: IpAddr, frame: &[u8], mtu: u16) -> Vec<u8> {
    let parsed = SlicedPacket::from_ethernet(frame).expect("the quoted frame is whole");
    let quoted = &frame[network_offset(frame)..];
    let quoted = &quoted[..quoted.len().min(128)];
    let (source, destination) = macs(frame);
    let (kind, to, body) = match (router, parsed.net) {
        (IpAddr::V4(_), Some(NetSlice::Ipv4(ip))) => {
            let reason = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
            let header = Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(reason), quoted);
            (ip_number::ICMP, IpAddr::V4(ip.header().source_addr()), header.to_bytes().to_vec())
        }
        (IpAddr::V6(from), Some(NetSlice::Ipv6(ip))) => {
            let kind = Icmpv6Type::PacketTooBig { mtu: mtu.into() };
            let to = ip.header().source_addr();
            let header = Icmpv6Header::with_checksum(kind, from.octets(), to.octets(), quoted);
            (ip_number::IPV6_ICMP, IpAddr::V6(to), header.expect("the quotation fits").to_bytes().to_vec())
        }
        _ => panic!("the router's address and the quoted packet are of one family"),
    };
    let packet = Packet::other(router, to, kind.0).macs(destination, source);
    packet.payload(&[&body[..], quoted].concat()).build()
}
