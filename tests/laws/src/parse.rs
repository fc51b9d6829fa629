//! The parser of the balancer, given any bytes.
//!
//! What it says is compared with what `etherparse` reads in the same bytes, field by field, and with the RFCs' rules
//! about lengths.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{
    EtherType, Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, NetSlice, SlicedPacket,
    TcpHeaderSlice, TransportSlice, UdpHeaderSlice,
};
use lb_common::layout::Tuple;
use lb_common::parse::{Frame, L3, Packet, Segment, Signal, TCP, UDP, What, parse_whole};
use lb_common::reason::{Class, Reason};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A frame from its bytes.
fn frame_of(bytes: &[u8]) -> Frame {
    let start = bytes.as_ptr() as usize;
    // SAFETY: borrowed for as long as its callers, all below, use it.
    unsafe { Frame::new(start, start + bytes.len()) }
}

/// What the parser makes of a frame, and what it reads for the packets that begin or end a flow.
pub fn read(bytes: &[u8]) -> Result<(Packet, Segment), Reason> {
    // Of its own, so that a sanitizer sees who reads beyond its end.
    let bytes: Box<[u8]> = bytes.into();
    let frame = frame_of(&bytes);
    let whole = parse_whole(&frame, bytes.len())?;
    match whole.what {
        What::Flow => Ok((whole.packet, Segment::of(&frame, &whole.packet))),
        What::Icmp => Err(Reason::PassIcmp),
        What::Later | What::Overlap => Err(Reason::PassFragment),
    }
}

/// The frame, and where it is TCP the same with flags that tell another story of its flow: how it begins, goes on and ends. In
/// an order in which each finds the pin that the one before has left.
pub fn turns(bytes: &[u8]) -> Vec<Vec<u8>> {
    const FLAGS: [u8; 8] = [SYN, SYN, ACK, SYN, FIN | ACK, ACK, RST, SYN];
    let mut turns = vec![bytes.to_vec()];
    if let Ok((packet, _)) = read(bytes)
        && packet.tuple.protocol as u8 == TCP
    {
        turns.extend(FLAGS.map(|flags| {
            let mut turn = bytes.to_vec();
            turn[L3 + usize::from(packet.ip_header_len) + 13] = flags;
            turn
        }));
    }
    turns
}

/// Everything that must hold for the parser's answer.
pub fn check(bytes: &[u8]) {
    let answer = read(bytes);
    match &answer {
        Ok((packet, segment)) => {
            check_lengths(bytes, packet);
            check_fields(bytes, packet, segment);
        }
        Err(reason) => {
            assert_eq!(reason.class(), Class::Pass, "{reason:?}");
            check_reason(bytes, *reason);
        }
    }
    check_plain(bytes, &answer);
    check_what_does_not_matter(bytes, &answer);
}

/// The packet lies within the frame, and its headers within the packet.
fn check_lengths(bytes: &[u8], packet: &Packet) {
    let (ip_len, header_len) = (usize::from(packet.ip_len), usize::from(packet.ip_header_len));
    assert!(L3 + ip_len <= bytes.len(), "{packet:?} in {} bytes", bytes.len());
    let upper = match packet.tuple.protocol as u8 {
        TCP => 20,
        UDP => 8,
        protocol => panic!("protocol {protocol} was let through"),
    };
    assert!(header_len + upper <= ip_len, "{packet:?}");
    let lengths = if packet.is_v6 { 40..=40 } else { 20..=60 };
    assert!(lengths.contains(&header_len), "{packet:?}");
}

/// Every field is what etherparse reads at its place.
fn check_fields(bytes: &[u8], packet: &Packet, segment: &Segment) {
    let ip = &bytes[L3..];
    let (source, destination): (IpAddr, IpAddr);
    if packet.is_v6 {
        let header = Ipv6HeaderSlice::from_slice(ip).expect("an IPv6 header");
        (source, destination) = (header.source_addr().into(), header.destination_addr().into());
        assert_eq!(packet.ip_len, header.payload_length() + 40);
        assert_eq!(packet.traffic_class, header.traffic_class());
        assert_eq!(packet.tuple.protocol, u32::from(header.next_header().0));
        assert!(header.destination_addr().to_ipv4_mapped().is_none(), "it would pass for IPv4");
    } else {
        let header = Ipv4HeaderSlice::from_slice(ip).expect("an IPv4 header");
        (source, destination) = (header.source_addr().into(), header.destination_addr().into());
        assert_eq!(packet.ip_len, header.total_len());
        assert_eq!(usize::from(packet.ip_header_len), usize::from(header.ihl()) * 4);
        assert_eq!(packet.traffic_class, header.dcp().value() << 2 | header.ecn().value());
        assert_eq!(packet.tuple.protocol, u32::from(header.protocol().0));
        assert!(!header.is_fragmenting_payload());
    }
    let upper = &ip[usize::from(packet.ip_header_len)..usize::from(packet.ip_len)];
    let ports;
    if packet.tuple.protocol as u8 == TCP {
        let tcp = TcpHeaderSlice::from_slice(upper).expect("a TCP header");
        ports = (tcp.source_port(), tcp.destination_port());
        let signal = match (tcp.rst(), tcp.syn(), tcp.fin(), tcp.ack()) {
            (true, ..) => Signal::Rst,
            (_, true, false, false) => Signal::Syn,
            (_, true, ..) => Signal::Stray,
            (_, _, true, _) => Signal::Fin,
            (.., true) => Signal::Ack,
            _ => Signal::Stray,
        };
        assert_eq!(packet.signal, signal);
        let payload = upper.len() - usize::from(tcp.data_offset()) * 4;
        let after = tcp.sequence_number().wrapping_add(payload as u32).wrapping_add(tcp.fin().into());
        assert_eq!((segment.sequence, segment.sequence_after), (tcp.sequence_number(), after));
    } else {
        let udp = UdpHeaderSlice::from_slice(upper).expect("a UDP header");
        ports = (udp.source_port(), udp.destination_port());
        assert_eq!((packet.signal, *segment), (Signal::Datagram, Segment::default()));
    }
    assert_eq!(packet.tuple.source, words(source));
    assert_eq!(packet.tuple.destination, words(destination));
    assert_eq!((packet.tuple.source_port(), packet.tuple.destination_port()), ports);
}

/// Where it says that a frame is none of ours, the frame says so too. Fields are read at their offsets (RFC 791, RFC 8200):
/// the rest of the headers may contradict them.
fn check_reason(bytes: &[u8], reason: Reason) {
    let Ok(ethernet) = Ethernet2HeaderSlice::from_slice(bytes) else {
        return assert_eq!(reason, Reason::PassMalformed);
    };
    let ip = &bytes[L3..];
    let (is_v6, protocol_at) = match ethernet.ether_type() {
        EtherType::IPV4 => (false, 9),
        EtherType::IPV6 => (true, 6),
        _ => return assert_eq!(reason, Reason::PassNotIp),
    };
    match reason {
        Reason::PassMalformed => {}
        Reason::PassFragment => {
            let field = u16::from_be_bytes([ip[6], ip[7]]);
            assert!(!is_v6 && (field & 0x1fff != 0 || field & 0x2000 != 0), "{field:04x}");
        }
        Reason::PassOtherProtocol => assert!(![TCP, UDP].contains(&ip[protocol_at])),
        Reason::PassNoService => {
            let header = Ipv6HeaderSlice::from_slice(ip).expect("an IPv6 header");
            assert!(is_v6 && header.destination_addr().to_ipv4_mapped().is_some());
        }
        reason => panic!("{reason:?} of an IP packet"),
    }
}

/// What etherparse takes for a whole packet of TCP or UDP directly in IP, the balancer takes for that too.
fn check_plain(bytes: &[u8], answer: &Result<(Packet, Segment), Reason>) {
    let Ok(sliced) = SlicedPacket::from_ethernet(bytes) else { return };
    if !sliced.link_exts.is_empty() {
        return;
    }
    let plain = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => !ip.is_payload_fragmented() && ip.extensions().auth.is_none(),
        // Length 0 stands for a jumbogram (RFC 2675), of which etherparse takes the rest of the frame.
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let is_mapped = header.destination_addr().to_ipv4_mapped().is_some();
            matches!(header.next_header().0, TCP | UDP) && header.payload_length() != 0 && !is_mapped
        }
        _ => false,
    };
    let protocol = match sliced.transport {
        Some(TransportSlice::Tcp(_)) => TCP,
        Some(TransportSlice::Udp(_)) => UDP,
        _ => return,
    };
    if plain {
        let (packet, _) = answer.as_ref().unwrap_or_else(|reason| panic!("{reason:?} of {sliced:?}"));
        assert_eq!(packet.tuple.protocol, u32::from(protocol));
    }
}

/// MAC addresses, and bytes behind the packet.
fn check_what_does_not_matter(bytes: &[u8], answer: &Result<(Packet, Segment), Reason>) {
    let mut other = bytes.to_vec();
    for byte in other.iter_mut().take(12) {
        *byte = !*byte;
    }
    assert_eq!(read(&other), *answer);
    if let Ok((packet, _)) = answer {
        let end = L3 + usize::from(packet.ip_len);
        assert_eq!(read(&bytes[..end]), *answer);
        assert_eq!(read(&bytes[..end - 1]).err(), Some(Reason::PassMalformed), "cut by a byte");
        other.truncate(end);
        other.extend([0x45, 0, 0xff, 0xff]);
        assert_eq!(read(&other), *answer);
    }
}

/// An address as the flow table has it.
pub fn words(address: IpAddr) -> [u64; 2] {
    let address: Ipv6Addr = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    Tuple::words(address.octets())
}
