//! The parser of the balancer, given any bytes.
//!
//! What it says is compared with what `etherparse` reads in the same bytes, field by field, and with the RFCs' rules
//! about lengths.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{
    EtherType, Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6ExtensionSlice, Ipv6HeaderSlice, NetSlice,
    SlicedPacket, TcpHeaderSlice, TransportSlice, UdpHeaderSlice,
};
use lb_common::layout::Tuple;
use lb_common::parse::tags::{Tags, put, strip};
use lb_common::parse::{
    Frame, ICMP, ICMPV6, L3, Packet, Segment, Signal, TCP, UDP, What, Whole, parse_plain, parse_whole,
};
use lb_common::reason::{Class, Reason};

use crate::site::PORTS;
use crate::wire::{mend_checksum, tags, untagged};

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

/// What the parser makes of a frame without tags, and what it reads of the packets that begin or end a flow.
pub fn whole(bytes: &[u8]) -> Result<(Whole, Segment), Reason> {
    // Of its own, so that a sanitizer sees who reads beyond its end.
    let bytes: Box<[u8]> = bytes.into();
    let frame = frame_of(&bytes);
    let whole = parse_whole(&frame, bytes.len())?;
    let is_flow = whole.what == What::Flow;
    Ok((whole, if is_flow { Segment::of(&frame, &whole.packet) } else { Segment::default() }))
}

/// The frame, and where it is TCP the same with flags that tell another story of its flow: how it begins, goes on and ends. In
/// an order in which each finds the pin that the one before has left. And where it is a later fragment, it comes after a first one.
pub fn turns(bytes: &[u8]) -> Vec<Vec<u8>> {
    const FLAGS: [u8; 8] = [SYN, SYN, ACK, SYN, FIN | ACK, ACK, RST, SYN];
    let mut turns = vec![bytes.to_vec()];
    let tags = tags(bytes);
    let read = if bytes.len() >= L3 + tags { whole(&untagged(bytes)) } else { Err(Reason::PassMalformed) };
    match read {
        Ok((Whole { packet, what: What::Flow, .. }, _)) if packet.tuple.protocol as u8 == TCP => {
            turns.extend(FLAGS.map(|flags| {
                let mut turn = bytes.to_vec();
                turn[L3 + tags + usize::from(packet.ip_header_len) + 13] = flags;
                turn
            }));
        }
        Ok((whole @ Whole { what: What::Later, .. }, _)) => {
            turns.push(first_fragment(bytes, L3 + tags, &whole));
            turns.push(bytes.to_vec());
        }
        _ => {}
    }
    turns
}

/// The fragment before a later one, whose IP header lies at `l3`: a TCP header to one of the services.
fn first_fragment(later: &[u8], l3: usize, Whole { packet, fragment, .. }: &Whole) -> Vec<u8> {
    let header_len = usize::from(packet.ip_header_len);
    let mut first = later[..l3 + header_len].to_vec();
    let port = PORTS.start() + (fragment.id % (PORTS.end() - PORTS.start() + 1) as u32) as u16;
    first.extend(40_000_u16.to_be_bytes());
    first.extend(port.to_be_bytes());
    first.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, ACK, 0, 9, 0, 0, 0, 0]);
    let ip = &mut first[l3..];
    if packet.is_v6 {
        ip[4..6].copy_from_slice(&(header_len as u16 - 40 + 20).to_be_bytes());
        // Nothing lies behind a later fragment's header.
        ip[header_len - 8] = TCP;
        ip[header_len - 6..header_len - 4].copy_from_slice(&[0, 1]);
    } else {
        ip[2..4].copy_from_slice(&(header_len as u16 + 20).to_be_bytes());
        ip[6..8].copy_from_slice(&[0x20, 0]);
        mend_checksum(ip);
    }
    first
}

/// Everything that must hold for the parsers' answers.
pub fn check(bytes: &[u8]) {
    let answer = whole(bytes);
    match &answer {
        Ok((whole, segment)) => {
            check_lengths(bytes, whole);
            check_header(bytes, whole);
            if whole.what == What::Flow {
                check_fields(bytes, &whole.packet, segment);
            }
        }
        Err(reason) => {
            assert_eq!(reason.class(), Class::Pass, "{reason:?}");
            check_reason(bytes, *reason);
        }
    }
    check_plain(bytes, &answer);
    check_etherparse(bytes, &answer);
    check_what_does_not_matter(bytes, &answer);
    check_tags(bytes);
}

/// The packet lies within the frame, and its headers within the packet.
fn check_lengths(bytes: &[u8], Whole { packet, what, .. }: &Whole) {
    let (ip_len, header_len) = (usize::from(packet.ip_len), usize::from(packet.ip_header_len));
    assert!(L3 + ip_len <= bytes.len(), "{packet:?} in {} bytes", bytes.len());
    let upper = match packet.tuple.protocol as u8 {
        TCP if *what == What::Flow => 20,
        UDP if *what == What::Flow => 8,
        _ => 0,
    };
    assert!(header_len + upper <= ip_len, "{packet:?}");
    let lengths = if packet.is_v6 { 40..=255 } else { 20..=60 };
    assert!(lengths.contains(&header_len), "{packet:?}");
}

/// Where the header behind those of IPv6 is, and its number; the fragment header, and how many headers that were.
struct Chain {
    next: u8,
    at: usize,
    fragment: Option<[u8; 8]>,
    headers: usize,
}

/// Walks over extension headers (RFC 8200, 4; RFC 4302, 2.2) as far as there are any, not behind a later fragment's header.
fn chain(ip: &[u8]) -> Chain {
    let mut chain = Chain { next: ip[6], at: 40, fragment: None, headers: 0 };
    while let 0 | 43 | 44 | 51 | 60 = chain.next {
        let is_later = chain.fragment.is_some_and(|header| header[2] != 0 || header[3] & 0xf8 != 0);
        let Some(header) = ip.get(chain.at..chain.at + 8).filter(|_| !is_later) else { break };
        if chain.next == 44 {
            chain.fragment = header.first_chunk().copied();
        }
        chain.at += match chain.next {
            44 => 8,
            51 => usize::from(header[1]) * 4 + 8,
            _ => usize::from(header[1]) * 8 + 8,
        };
        chain.next = header[0];
        chain.headers += 1;
    }
    chain
}

/// Every field of the IP header is what etherparse reads at its place.
fn check_header(bytes: &[u8], whole: &Whole) {
    let Whole { packet, fragment, what } = whole;
    let ip = &bytes[L3..];
    let (source, destination): (IpAddr, IpAddr);
    let (id, offset, is_part);
    if packet.is_v6 {
        let header = Ipv6HeaderSlice::from_slice(ip).expect("an IPv6 header");
        (source, destination) = (header.source_addr().into(), header.destination_addr().into());
        assert_eq!(packet.ip_len, header.payload_length() + 40);
        assert_eq!(packet.traffic_class, header.traffic_class());
        assert!(header.destination_addr().to_ipv4_mapped().is_none(), "it would pass for IPv4");
        let chain = chain(ip);
        assert!(chain.headers <= 6, "{} headers", chain.headers);
        assert_eq!(usize::from(packet.ip_header_len), chain.at);
        assert_eq!(packet.tuple.protocol, u32::from(chain.next));
        let field = chain.fragment.map_or([0; 8], |header| header);
        let part = u16::from_be_bytes([field[2], field[3]]);
        id = u32::from_ne_bytes([field[4], field[5], field[6], field[7]]);
        (offset, is_part) = (part >> 3, part & !6 != 0);
    } else {
        let header = Ipv4HeaderSlice::from_slice(ip).expect("an IPv4 header");
        (source, destination) = (header.source_addr().into(), header.destination_addr().into());
        assert_eq!(packet.ip_len, header.total_len());
        assert_eq!(usize::from(packet.ip_header_len), usize::from(header.ihl()) * 4);
        assert_eq!(packet.traffic_class, header.dcp().value() << 2 | header.ecn().value());
        assert_eq!(packet.tuple.protocol, u32::from(header.protocol().0));
        id = u32::from(header.identification().to_be());
        (offset, is_part) = (header.fragments_offset().value(), header.is_fragmenting_payload());
    }
    assert_eq!(packet.tuple.source, words(source));
    assert_eq!(packet.tuple.destination, words(destination));
    assert_eq!((fragment.id, fragment.offset, fragment.is_part), (id, offset, u8::from(is_part)));
    let upper = &ip[usize::from(packet.ip_header_len)..usize::from(packet.ip_len)];
    let protocol = packet.tuple.protocol as u8;
    let has_header = match protocol {
        TCP => TcpHeaderSlice::from_slice(upper).is_ok(),
        _ => UdpHeaderSlice::from_slice(upper).is_ok(),
    };
    let is_icmp = protocol == if packet.is_v6 { ICMPV6 } else { ICMP };
    let least = if protocol == TCP { 20 } else { 8 };
    let is_extension = packet.is_v6 && matches!(protocol, 0 | 43 | 44 | 51 | 60);
    let expected = match protocol {
        TCP | UDP if offset == 0 => {
            if has_header {
                What::Flow
            } else {
                What::Overlap
            }
        }
        TCP | UDP if usize::from(offset) * 8 < least => What::Overlap,
        TCP | UDP => What::Later,
        _ if is_icmp => {
            if is_part {
                What::Later
            } else {
                What::Icmp
            }
        }
        _ => {
            assert!(is_extension && offset != 0, "protocol {protocol} was let through");
            What::Later
        }
    };
    assert_eq!(*what, expected);
    assert!(*what != What::Overlap || is_part);
}

/// Ports and signal are what etherparse reads.
fn check_fields(bytes: &[u8], packet: &Packet, segment: &Segment) {
    let ip = &bytes[L3..];
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
    assert_eq!((packet.tuple.source_port(), packet.tuple.destination_port()), ports);
}

/// Where it says that a frame is none of ours, the frame says so too. Fields are read at their offsets (RFC 791, RFC 8200):
/// the rest of the headers may contradict them.
fn check_reason(bytes: &[u8], reason: Reason) {
    let Ok(ethernet) = Ethernet2HeaderSlice::from_slice(bytes) else {
        return assert_eq!(reason, Reason::PassMalformed);
    };
    let ip = &bytes[L3..];
    let is_v6 = match ethernet.ether_type() {
        EtherType::IPV4 => false,
        EtherType::IPV6 => true,
        _ => return assert_eq!(reason, Reason::PassNotIp),
    };
    match reason {
        Reason::PassMalformed => {}
        Reason::PassOtherProtocol if is_v6 => {
            let chain = chain(ip);
            let has_stops = ip[6] == 43 || chain.headers > 1;
            let ours = [TCP, UDP, ICMPV6].contains(&chain.next);
            assert!(!ours || has_stops || chain.headers > 6 || chain.at > 255, "{}", chain.next);
        }
        Reason::PassOtherProtocol => assert!(![TCP, UDP, ICMP].contains(&ip[9])),
        Reason::PassNoService => {
            let header = Ipv6HeaderSlice::from_slice(ip).expect("an IPv6 header");
            assert!(is_v6 && header.destination_addr().to_ipv4_mapped().is_some());
        }
        reason => panic!("{reason:?} of an IP packet"),
    }
}

type Answer = Result<(Whole, Segment), Reason>;

/// The parser of plain packets says the same, or leaves it to the other.
fn check_plain(bytes: &[u8], answer: &Answer) {
    let own: Box<[u8]> = bytes.into();
    match parse_plain(&frame_of(&own), own.len()) {
        Ok(packet) => {
            let (whole, _) = answer.as_ref().expect("it can be read");
            assert_eq!((whole.what, whole.packet, whole.fragment.is_part), (What::Flow, packet, 0));
        }
        Err(Reason::PassUnhandled) => {}
        Err(reason) => assert_eq!(answer.as_ref().err(), Some(&reason)),
    }
}

/// What etherparse takes for a whole packet of TCP or UDP, the balancer takes for that too.
fn check_etherparse(bytes: &[u8], answer: &Answer) {
    let Ok(sliced) = SlicedPacket::from_ethernet(bytes) else { return };
    if !sliced.link_exts.is_empty() {
        return;
    }
    let is_ours = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => !ip.is_payload_fragmented() && ip.extensions().auth.is_none(),
        // Length 0 stands for a jumbogram (RFC 2675), of which etherparse takes the rest of the frame. Routing headers may have
        // stops left.
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let is_mapped = header.destination_addr().to_ipv4_mapped().is_some();
            let chain = chain(&bytes[L3..]);
            let is_routed = ip.extensions().clone().into_iter().any(|extension| {
                matches!(extension, Ipv6ExtensionSlice::Routing(header) if header.payload()[1] != 0)
            });
            let is_short = chain.headers <= 6 && chain.at <= 255;
            header.payload_length() != 0
                && !is_mapped
                && !is_routed
                && is_short
                && !ip.is_payload_fragmented()
        }
        _ => false,
    };
    let protocol = match sliced.transport {
        Some(TransportSlice::Tcp(_)) => TCP,
        Some(TransportSlice::Udp(_)) => UDP,
        _ => return,
    };
    if is_ours {
        let (whole, _) = answer.as_ref().unwrap_or_else(|reason| panic!("{reason:?} of {sliced:?}"));
        assert_eq!((whole.what, whole.packet.tuple.protocol), (What::Flow, u32::from(protocol)));
    }
}

/// MAC addresses, and bytes behind the packet.
fn check_what_does_not_matter(bytes: &[u8], answer: &Answer) {
    let mut other = bytes.to_vec();
    for byte in other.iter_mut().take(12) {
        *byte = !*byte;
    }
    assert_eq!(whole(&other), *answer);
    if let Ok((Whole { packet, .. }, _)) = answer {
        let end = L3 + usize::from(packet.ip_len);
        assert_eq!(whole(&bytes[..end]), *answer);
        assert_eq!(whole(&bytes[..end - 1]).err(), Some(Reason::PassMalformed), "cut by a byte");
        other.truncate(end);
        other.extend([0x45, 0, 0xff, 0xff]);
        assert_eq!(whole(&other), *answer);
    }
}

/// Tags come off and go on again, and with them a frame is what it is without.
fn check_tags(bytes: &[u8]) {
    let mut own: Box<[u8]> = bytes.into();
    let start = own.as_mut_ptr() as usize;
    // SAFETY: the bytes are this function's own.
    let frame = unsafe { Frame::new(start, start + own.len()) };
    let count = tags(bytes);
    match Tags::of(&frame) {
        Err(reason) => {
            assert_eq!(reason, Reason::PassMalformed);
            assert!(bytes.len() < L3 + count);
        }
        Ok(found) => {
            assert_eq!((found.len(), found.is_empty()), (count, count == 0));
            if count == 0 {
                return;
            }
            // SAFETY: as above.
            assert_eq!(unsafe { strip(&frame, &found) }, Ok(()));
            assert_eq!(own[count..], untagged(bytes));
            // SAFETY: as above.
            assert_eq!(unsafe { put(&frame, &found) }, Ok(()));
            assert_eq!(*own, *bytes);
        }
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
