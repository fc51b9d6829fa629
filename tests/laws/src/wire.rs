//! What the balancer writes into packets, by other code than the data path's: etherparse, and plain sums.

use std::net::IpAddr;

use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, Ipv4Header, Ipv4HeaderSlice, Ipv6Header,
    Ipv6HeaderSlice, TcpHeader, UdpHeader, icmpv4, icmpv6, ip_number,
};
use lb_common::icmp::Problem;
use lb_common::parse::L3;

use crate::site::octets_of;

/// Bytes of a frame's VLAN tags, of which two count at most.
pub fn tags(frame: &[u8]) -> usize {
    let is_tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8]));
    if !is_tag(12) {
        0
    } else if !is_tag(16) {
        4
    } else {
        8
    }
}

/// The frame without its tags.
pub fn untagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &frame[12 + tags(frame)..]].concat()
}

/// Takes a hop off an IP packet whose header's checksum is right.
pub fn hop(packet: &mut [u8]) {
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return;
    }
    packet[8] -= 1;
    mend_checksum(packet);
}

/// Makes the checksum of an IPv4 header right, if there is one.
pub fn mend_checksum(packet: &mut [u8]) {
    let len = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    if len >= 20 && packet[0] >> 4 == 4 && packet.len() >= len {
        packet[10..12].fill(0);
        let checksum = !sum(&packet[..len]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Sum of bytes in pairs, in one's complement (RFC 1071).
pub fn sum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u64 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A checksum after bytes that it covers have changed (RFC 1624, equation 3).
pub fn follow(checksum: u16, before: &[u8], after: &[u8]) -> u16 {
    let word = |pair: &[u8]| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
    let words = before.chunks(2).map(word).zip(after.chunks(2).map(word));
    let changed = words.filter(|(old, new)| old != new).map(|(old, new)| u64::from(!old) + u64::from(new));
    let mut sum = u64::from(!checksum) + changed.sum::<u64>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The same of UDP, where 0 says that there is none.
pub fn follow_udp(checksum: u16, before: &[u8], after: &[u8]) -> u16 {
    match checksum {
        0 => 0,
        _ => match follow(checksum, before, after) {
            0 => 0xffff,
            checksum => checksum,
        },
    }
}

/// Lowers the segment sizes that a SYN announces.
pub fn clamp(tcp: &mut [u8], most: u16) {
    let before = tcp.to_vec();
    let end = usize::from(tcp[12] >> 4) * 4;
    if tcp[13] & 0x02 == 0 {
        return;
    }
    let mut at = 20;
    while at + 1 < end && tcp[at] != 0 {
        let len = usize::from(tcp[at + 1]);
        if tcp[at] == 1 {
            at += 1;
            continue;
        }
        if len < 2 || at + len > end {
            break;
        }
        if tcp[at] == 2 && len == 4 && u16::from_be_bytes([tcp[at + 2], tcp[at + 3]]) > most {
            tcp[at + 2..at + 4].copy_from_slice(&most.to_be_bytes());
        }
        at += len;
    }
    let checksum = follow(u16::from_be_bytes([before[16], before[17]]), &before[20..end], &tcp[20..end]);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
}

/// Outer headers before an inner packet, of IP in IP; with `ports` those of GUE: whether it is IPv6, its length and its class.
/// Addresses as the data path has them, IPv4 in the first four bytes.
pub fn outer(
    (inner_is_v6, ip_len, class): (bool, u16, u8),
    is_v6: bool,
    source: [u64; 2],
    destination: [u8; 16],
    ports: Option<(u16, u16)>,
) -> Vec<u8> {
    let source = octets_of(source);
    let inner = if inner_is_v6 { ip_number::IPV6 } else { ip_number::IPV4 };
    let mut between = Vec::new();
    if let Some((source_port, destination_port)) = ports {
        let header = UdpHeader { source_port, destination_port, length: ip_len + 12, checksum: 0 };
        between = [&header.to_bytes()[..], &[0, inner.0, 0, 0]].concat();
    }
    let protocol = if ports.is_some() { ip_number::UDP } else { inner };
    let payload_length = ip_len + between.len() as u16;
    let outer = if is_v6 {
        let header = Ipv6Header {
            traffic_class: class,
            payload_length,
            next_header: protocol,
            hop_limit: 64,
            source,
            destination,
            ..Ipv6Header::default()
        };
        header.to_bytes().to_vec()
    } else {
        let v4 = |address: [u8; 16]| *address.first_chunk::<4>().expect("16 bytes");
        let mut header =
            Ipv4Header::new(payload_length, 64, protocol, v4(source), v4(destination)).expect("it fits");
        header.dscp = (class >> 2).try_into().expect("six bits");
        header.ecn = (class & 3).try_into().expect("two bits");
        header.dont_fragment = true;
        header.header_checksum = header.calc_header_checksum();
        header.to_bytes().to_vec()
    };
    [outer, between].concat()
}

/// The frame by which `own` says what is wrong with a frame without tags.
pub fn error(frame: &[u8], own: IpAddr, problem: Problem) -> Vec<u8> {
    let packet = &frame[L3..];
    // All headers that packets usually have, or the least that the RFCs want.
    let quote = |ip_len: usize, least: usize| &packet[..if ip_len < 128 { least } else { 128 }];
    let (ether_type, header, body) = match own {
        IpAddr::V4(own) => {
            let about = Ipv4HeaderSlice::from_slice(packet).expect("an IPv4 header");
            let kind =
                match problem {
                    Problem::TooBig { mtu: next_hop_mtu } => Icmpv4Type::DestinationUnreachable(
                        icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu },
                    ),
                    Problem::TimeExceeded => {
                        Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit)
                    }
                    Problem::PortUnreachable => {
                        Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port)
                    }
                };
            let quote = quote(about.total_len().into(), 28);
            let icmp = Icmpv4Header::with_checksum(kind, quote).to_bytes().to_vec();
            let body = [&icmp, quote].concat();
            let (to, len) = (about.source(), body.len() as u16);
            let mut header = Ipv4Header::new(len, 64, ip_number::ICMP, own.octets(), to).expect("it fits");
            header.dscp = 0x30.try_into().expect("CS6");
            header.dont_fragment = true;
            header.header_checksum = header.calc_header_checksum();
            ([0x08, 0x00], header.to_bytes().to_vec(), body)
        }
        IpAddr::V6(own) => {
            let about = Ipv6HeaderSlice::from_slice(packet).expect("an IPv6 header");
            let kind = match problem {
                Problem::TooBig { mtu } => Icmpv6Type::PacketTooBig { mtu: u32::from(mtu).max(1280) },
                Problem::TimeExceeded => Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded),
                Problem::PortUnreachable => {
                    Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port)
                }
            };
            let quote = quote(40 + usize::from(about.payload_length()), 48);
            let icmp = Icmpv6Header::with_checksum(kind, own.octets(), about.source(), quote);
            let body = [&icmp.expect("it fits").to_bytes(), quote].concat();
            let header = Ipv6Header {
                payload_length: body.len() as u16,
                next_header: ip_number::IPV6_ICMP,
                hop_limit: 64,
                source: own.octets(),
                destination: about.source(),
                ..Ipv6Header::default()
            };
            ([0x86, 0xdd], header.to_bytes().to_vec(), body)
        }
    };
    [&frame[6..12], &frame[..6], &ether_type, &header, &body].concat()
}

/// The frame by which a segment without tags is answered with a RST, whose IP header is `ip_header_len` bytes long.
pub fn reset(frame: &[u8], ip_header_len: usize) -> Vec<u8> {
    let at = |offset: usize| &frame[L3 + ip_header_len + offset..];
    let port = |offset| u16::from_be_bytes(*at(offset).first_chunk().expect("a TCP header"));
    let number = |offset| u32::from_be_bytes(*at(offset).first_chunk().expect("a TCP header"));
    let (data_offset, flags) = (usize::from(at(12)[0] >> 4) * 4, at(13)[0]);
    let is_v6 = frame[L3] >> 4 == 6;
    let length = |offset| usize::from(u16::from_be_bytes([frame[offset], frame[offset + 1]]));
    let ip_len = if is_v6 { 40 + length(L3 + 4) } else { length(L3 + 2) };
    let mut tcp = TcpHeader::new(port(2), port(0), 0, 0);
    tcp.rst = true;
    if flags & 0x10 != 0 {
        tcp.sequence_number = number(8);
    } else {
        // As many bytes as the IP header says, whatever the TCP header says of its own.
        let payload = (ip_len as u32).wrapping_sub((ip_header_len + data_offset) as u32);
        let (syn, fin) = (u32::from(flags >> 1 & 1), u32::from(flags & 1));
        tcp.ack = true;
        tcp.acknowledgment_number = number(4).wrapping_add(payload).wrapping_add(syn + fin);
    }
    let (ether_type, ip) = if is_v6 {
        let about = Ipv6HeaderSlice::from_slice(&frame[L3..]).expect("an IPv6 header");
        let ip = Ipv6Header {
            payload_length: 20,
            next_header: ip_number::TCP,
            hop_limit: 64,
            source: about.destination(),
            destination: about.source(),
            ..Ipv6Header::default()
        };
        tcp.checksum = tcp.calc_checksum_ipv6(&ip, &[]).expect("it fits");
        ([0x86, 0xdd], ip.to_bytes().to_vec())
    } else {
        let about = Ipv4HeaderSlice::from_slice(&frame[L3..]).expect("an IPv4 header");
        let mut ip =
            Ipv4Header::new(20, 64, ip_number::TCP, about.destination(), about.source()).expect("it fits");
        ip.dont_fragment = true;
        ip.header_checksum = ip.calc_header_checksum();
        tcp.checksum = tcp.calc_checksum_ipv4(&ip, &[]).expect("it fits");
        ([0x08, 0x00], ip.to_bytes().to_vec())
    };
    [&frame[6..12], &frame[..6], &ether_type, &ip, &tcp.to_bytes()].concat()
}
