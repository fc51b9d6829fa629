//! Segments of a flow that neither of its ends has sent.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader};
use lb_common::layout::Tuple;

use crate::plan::address_of;

/// Time to live and hop limit.
const TTL: u8 = 64;

/// The RST by which the client of a flow would end it, as an IP packet. A host heeds it if `sequence` is what it waits for next, and
/// asks the client if that is near (RFC 5961, 3.2), whose answer is the same.
pub fn rst(flow: &Tuple, sequence: u32) -> Vec<u8> {
    let mut tcp = TcpHeader::new(flow.source_port(), flow.destination_port(), sequence, 0);
    tcp.rst = true;
    packet(flow.source, flow.destination, tcp)
}

/// A client's first segment. It announces segments that fit any path of IPv6.
pub fn syn(flow: &Tuple, sequence: u32) -> Vec<u8> {
    let mut tcp = TcpHeader::new(flow.source_port(), flow.destination_port(), sequence, 64_240);
    tcp.syn = true;
    // Kind 2, 4 bytes, 1220 (RFC 9293, 3.7.1).
    let with_size = tcp.set_options_raw(&[2, 4, 4, 196]);
    debug_assert!(with_size.is_ok());
    packet(flow.source, flow.destination, tcp)
}

/// A client's datagram, as an IP packet.
pub fn datagram(flow: &Tuple, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (flow.source_port(), flow.destination_port());
    let mut packet = Vec::new();
    // Writing to memory cannot fail, and what is too long to be a datagram comes out empty.
    let _ = match (address_of(flow.source), address_of(flow.destination)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), TTL)
            .udp(source, destination)
            .write(&mut packet, payload),
        (from, to) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            PacketBuilder::ipv6(octets(from), octets(to), TTL)
                .udp(source, destination)
                .write(&mut packet, payload)
        }
    };
    packet
}

/// A segment from the VIP that makes a client whose flow is alive say where it is: what lies outside its window is answered with an
/// acknowledgement and nothing else (RFC 9293, 3.10.7.4). The number is half a number space from zero and means nothing.
pub fn probe(flow: &Tuple, sequence: u32) -> Vec<u8> {
    let mut tcp = TcpHeader::new(flow.destination_port(), flow.source_port(), sequence, 0);
    tcp.ack = true;
    tcp.acknowledgment_number = sequence ^ 1 << 31;
    packet(flow.destination, flow.source, tcp)
}

/// An IP packet of nothing but the segment's header, with its checksums.
fn packet(from: [u64; 2], to: [u64; 2], mut tcp: TcpHeader) -> Vec<u8> {
    let payload = tcp.header_len_u16();
    match (address_of(from), address_of(to)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = Ipv4Header::new(payload, TTL, IpNumber::TCP, from.octets(), to.octets());
            let Ok(mut ip) = header else { return Vec::new() };
            ip.dont_fragment = true;
            ip.header_checksum = ip.calc_header_checksum();
            tcp.checksum = tcp.calc_checksum_ipv4(&ip, &[]).unwrap_or_default();
            [&ip.to_bytes()[..], &tcp.to_bytes()].concat()
        }
        _ => {
            let octets = |address: [u64; 2]| {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(&address[0].to_ne_bytes());
                octets[8..].copy_from_slice(&address[1].to_ne_bytes());
                octets
            };
            let ip = Ipv6Header {
                payload_length: payload,
                next_header: IpNumber::TCP,
                hop_limit: TTL,
                source: octets(from),
                destination: octets(to),
                ..Ipv6Header::default()
            };
            tcp.checksum = tcp.calc_checksum_ipv6(&ip, &[]).unwrap_or_default();
            [&ip.to_bytes()[..], &tcp.to_bytes()].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

    use super::*;
    use crate::plan::address_words;

    fn flow(client: &str, vip: &str) -> Tuple {
        let [client, vip]: [SocketAddr; 2] = [client.parse().unwrap(), vip.parse().unwrap()];
        let [[a, b], [c, d]] = [client.port().to_be_bytes(), vip.port().to_be_bytes()];
        Tuple {
            source: address_words(client.ip()),
            destination: address_words(vip.ip()),
            ports: u32::from_ne_bytes([a, b, c, d]),
            protocol: 6,
        }
    }

    /// Ends, and the TCP header, of a packet whose checksums are right.
    fn read(packet: &[u8]) -> (SocketAddr, SocketAddr, TcpHeader) {
        let headers = PacketHeaders::from_ip_slice(packet).unwrap();
        let Some(TransportHeader::Tcp(tcp)) = headers.transport else { panic!("not TCP") };
        let (from, to, sum): (IpAddr, IpAddr, u16) = match headers.net {
            Some(NetHeaders::Ipv4(ip, _)) => {
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                (ip.source.into(), ip.destination.into(), tcp.calc_checksum_ipv4(&ip, &[]).unwrap())
            }
            Some(NetHeaders::Ipv6(ip, _)) => {
                (ip.source.into(), ip.destination.into(), tcp.calc_checksum_ipv6(&ip, &[]).unwrap())
            }
            _ => panic!("not IP"),
        };
        assert_eq!(sum, tcp.checksum);
        (SocketAddr::new(from, tcp.source_port), SocketAddr::new(to, tcp.destination_port), tcp)
    }

    #[test]
    fn segments_go_the_right_way_with_the_right_numbers() {
        for (client, vip) in
            [("10.0.0.1:40000", "198.51.100.1:443"), ("[2001:db8::1]:40000", "[2001:db8:f::1]:443")]
        {
            let flow = flow(client, vip);
            let [client, vip]: [SocketAddr; 2] = [client.parse().unwrap(), vip.parse().unwrap()];
            let (from, to, tcp) = read(&rst(&flow, 0xfedc_ba98));
            assert_eq!((from, to), (client, vip));
            assert!(tcp.rst && !tcp.ack && !tcp.syn && !tcp.fin);
            assert_eq!(tcp.sequence_number, 0xfedc_ba98);
            let (from, to, tcp) = read(&probe(&flow, 7));
            assert_eq!((from, to), (vip, client));
            assert!(tcp.ack && !tcp.rst && !tcp.syn && !tcp.fin);
            assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (7, 7 + (1 << 31)));
        }
    }
}
