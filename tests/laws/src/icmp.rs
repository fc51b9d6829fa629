//! What the balancer makes of ICMP, given any bytes, and the errors that it makes itself.
//!
//! Each is compared with what `etherparse` reads in the same bytes, and with the RFCs' rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, Ethernet2HeaderSlice, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, Ipv4HeaderSlice,
    Ipv6HeaderSlice, icmpv4, icmpv6,
};
use lb_common::icmp::{
    ADDED_V4, ADDED_V6, ICMP, ICMPV6, Kind, LONG, NoFlow, Problem, Quoted, SHORT_V4, SHORT_V6, answer_v4,
    answer_v6, classify, may_answer, may_answer_packet, quote_v4, quote_v6, quoted, reply,
};
use lb_common::layout::Tuple;
use lb_common::parse::{Frame, L3, TCP, UDP};

use crate::parse::{chain, words};

/// The balancer's own addresses in what these laws make.
pub const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// See [`OWN_V4`].
pub const OWN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);

/// How far into a frame headers are looked for.
const REACH: usize = 1023;

/// Where the ICMP header of a frame lies, and whether it is ICMPv6; `None` if another protocol follows the IP header.
pub fn find(bytes: &[u8]) -> Option<(usize, bool)> {
    let ip = bytes.get(L3..)?;
    match Ethernet2HeaderSlice::from_slice(bytes).ok()?.ether_type() {
        EtherType::IPV4 => {
            let header = Ipv4HeaderSlice::from_slice(ip).ok()?;
            (header.protocol().0 == ICMP).then_some((L3 + header.slice().len(), false))
        }
        EtherType::IPV6 => {
            let header = Ipv6HeaderSlice::from_slice(ip).ok()?;
            (header.next_header().0 == ICMPV6).then_some((L3 + 40, true))
        }
        _ => None,
    }
}

/// What an ICMP packet is, and which flow it is about if it is an error.
pub fn look(bytes: &[u8], l4: usize, is_v6: bool) -> (Kind, Result<Quoted, NoFlow>) {
    // Of its own, so that a sanitizer sees who reads beyond its end.
    let mut bytes: Box<[u8]> = bytes.into();
    on_frame(&mut bytes, |frame| (classify(frame, l4, is_v6), quoted(frame, l4, is_v6)))
}

/// The reply to an echo request.
pub fn reply_to(bytes: &[u8], is_v6: bool) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    // SAFETY: the frame is this function's own.
    on_frame(&mut bytes, |frame| unsafe { reply(frame, is_v6) }).then_some(bytes)
}

/// The answer to a frame, made as the XDP program does it; `None`: it gets none.
pub fn answer(bytes: &[u8], problem: Problem) -> Option<Vec<u8>> {
    let ip = bytes.get(L3..)?;
    let is_v6 = ip.first()? >> 4 == 6;
    let mut copy: Box<[u8]> = bytes.into();
    if !on_frame(&mut copy, |frame| may_answer(frame, is_v6)) {
        return None;
    }
    let (ip_len, quote) = if is_v6 {
        let ip_len = Ipv6HeaderSlice::from_slice(ip).ok()?.payload_length().checked_add(40)?;
        (ip_len, quote_v6(ip_len)?)
    } else {
        let header = Ipv4HeaderSlice::from_slice(ip).ok()?;
        (header.total_len(), quote_v4(header.total_len(), header.slice().len() as u16)?)
    };
    assert!(quote <= usize::from(ip_len), "quoted beyond the packet's end");
    let added = if is_v6 { ADDED_V6 } else { ADDED_V4 };
    let mut bytes = [&vec![0xa5; added], bytes.get(..L3 + quote)?].concat();
    let (v4, v6) = (u32::from_ne_bytes(OWN_V4.octets()), words(OWN_V6.into()));
    let done = on_frame(&mut bytes, |frame| {
        // SAFETY: the frame is this function's own.
        unsafe {
            match (is_v6, quote) {
                (false, SHORT_V4) => answer_v4::<SHORT_V4>(frame, v4, problem),
                (false, _) => answer_v4::<LONG>(frame, v4, problem),
                (true, SHORT_V6) => answer_v6::<SHORT_V6>(frame, v6, problem),
                (true, _) => answer_v6::<LONG>(frame, v6, problem),
            }
        }
    });
    assert!(done, "the frame is as long as it has to be");
    Some(bytes)
}

fn on_frame<T>(bytes: &mut [u8], work: impl FnOnce(&Frame) -> T) -> T {
    let start = bytes.as_mut_ptr() as usize;
    // SAFETY: the slice is borrowed for writing for as long as the frame lives.
    work(&unsafe { Frame::new(start, start + bytes.len()) })
}

/// Everything that must hold for a frame.
pub fn check(bytes: &[u8]) {
    if let Some((l4, is_v6)) = find(bytes) {
        let (kind, flow) = look(bytes, l4, is_v6);
        assert_eq!(kind, expected_kind(bytes, l4, is_v6));
        assert_eq!(flow, expected_flow(bytes, l4, is_v6), "{:02x?}", &bytes[L3..]);
        if kind == Kind::Echo {
            check_reply(bytes, l4, is_v6);
        }
    }
    for problem in [
        Problem::TimeExceeded,
        Problem::TooBig { mtu: 1400 },
        Problem::TooBig { mtu: 500 },
        Problem::PortUnreachable,
    ] {
        if let Some(answer) = answer(bytes, problem) {
            check_answer(bytes, &answer, problem);
        }
    }
    check_may_answer(bytes);
}

fn expected_kind(bytes: &[u8], l4: usize, is_v6: bool) -> Kind {
    let icmp = &bytes[l4..];
    if icmp.len() < 8 {
        return Kind::Truncated;
    }
    if is_v6 {
        let slice = Icmpv6Slice::from_slice(icmp).expect("8 bytes do");
        return match slice.type_u8() {
            icmpv6::TYPE_DST_UNREACH
            | icmpv6::TYPE_PACKET_TOO_BIG
            | icmpv6::TYPE_TIME_EXCEEDED
            | icmpv6::TYPE_PARAMETER_PROBLEM => Kind::Error,
            icmpv6::TYPE_ECHO_REQUEST => Kind::Echo,
            _ => Kind::Other,
        };
    }
    let header = Ipv4HeaderSlice::from_slice(&bytes[L3..]).expect("it was read before");
    let is_plain = header.slice().len() == 20 && !header.is_fragmenting_payload();
    match icmp[0] {
        icmpv4::TYPE_DEST_UNREACH | icmpv4::TYPE_TIME_EXCEEDED | icmpv4::TYPE_PARAMETER_PROBLEM => {
            Kind::Error
        }
        icmpv4::TYPE_ECHO_REQUEST if is_plain => Kind::Echo,
        _ => Kind::Other,
    }
}

fn expected_flow(bytes: &[u8], l4: usize, is_v6: bool) -> Result<Quoted, NoFlow> {
    let ip = &bytes[L3..];
    let at = l4 + 8;
    if is_v6 {
        let outer = Ipv6HeaderSlice::from_slice(ip).expect("it was read before");
        let packet = quoted_bytes(bytes, at, 40 + usize::from(outer.payload_length()))?;
        let header = packet.get(..40).ok_or(NoFlow::Truncated)?;
        let inner = Ipv6HeaderSlice::from_slice(header).map_err(|_| NoFlow::Malformed)?;
        let (from, to) = (inner.source_addr(), inner.destination_addr());
        if from != outer.destination_addr() || from.to_ipv4_mapped().is_some() {
            return Err(NoFlow::Foreign);
        }
        let (protocol, upper) = upper_layer(packet, at, inner.next_header().0)?;
        flow(packet, at, protocol, upper, from.into(), to.into())
    } else {
        let outer = Ipv4HeaderSlice::from_slice(ip).expect("it was read before");
        let packet = quoted_bytes(bytes, at, outer.total_len().into())?;
        if packet.len() < 20 {
            return Err(NoFlow::Truncated);
        }
        // Options may be cut off.
        let padded = [packet, &[0; 60]].concat();
        let inner = Ipv4HeaderSlice::from_slice(&padded).map_err(|_| NoFlow::Malformed)?;
        if inner.source_addr() != outer.destination_addr() {
            return Err(NoFlow::Foreign);
        }
        if inner.fragments_offset().value() != 0 {
            return Err(NoFlow::Fragment);
        }
        let (from, to) = (inner.source_addr().into(), inner.destination_addr().into());
        flow(packet, at, inner.protocol().0, inner.slice().len(), from, to)
    }
}

/// From `at` to the end of the IP packet, which is `ip_len` bytes long.
fn quoted_bytes(bytes: &[u8], at: usize, ip_len: usize) -> Result<&[u8], NoFlow> {
    let packet = bytes.get(..L3 + ip_len).ok_or(NoFlow::Truncated)?;
    packet.get(at..).ok_or(NoFlow::Truncated)
}

/// Protocol and place in the packet of what follows at most four extension headers.
fn upper_layer(packet: &[u8], at: usize, first: u8) -> Result<(u8, usize), NoFlow> {
    let (mut next, mut place, mut walked) = (first, 40, 0);
    while let 0 | 43 | 44 | 60 = next {
        if walked == 4 {
            return Err(NoFlow::Truncated);
        }
        let extension = packet.get(place..place + 8).ok_or(NoFlow::Truncated)?;
        if next == 44 && (extension[2] != 0 || extension[3] & 0xf8 != 0) {
            return Err(NoFlow::Fragment);
        }
        place += if next == 44 { 8 } else { 8 + usize::from(extension[1]) * 8 };
        next = extension[0];
        walked += 1;
        if at + place > REACH {
            return Err(NoFlow::Truncated);
        }
    }
    Ok((next, place))
}

fn flow(
    packet: &[u8],
    at: usize,
    protocol: u8,
    upper: usize,
    from: IpAddr,
    to: IpAddr,
) -> Result<Quoted, NoFlow> {
    match protocol {
        TCP | UDP => {}
        4 | 41 => return Err(NoFlow::Tunnel),
        _ => return Err(NoFlow::OtherProtocol),
    }
    let header = packet.get(upper..upper + 8).ok_or(NoFlow::Truncated)?;
    let ports = u32::from_ne_bytes([header[2], header[3], header[0], header[1]]);
    let tuple = Tuple { source: words(to), destination: words(from), ports, protocol: protocol.into() };
    Ok(Quoted { tuple, ip: at, l4: at + upper })
}

/// The reply goes back, says what was said, and its checksums are right where those of the request were.
fn check_reply(bytes: &[u8], l4: usize, is_v6: bool) {
    let reply = reply_to(bytes, is_v6).expect("a request that was taken for one has its headers");
    assert_eq!(reply.len(), bytes.len());
    assert_eq!((&reply[..6], &reply[6..12]), (&bytes[6..12], &bytes[..6]));
    assert_eq!(reply[12..14], bytes[12..14]);
    let (new, old) = (&reply[L3..], &bytes[L3..]);
    if is_v6 {
        let [new, old] = [new, old].map(|ip| Ipv6HeaderSlice::from_slice(ip).expect("a header"));
        let mut expected = old.to_header();
        std::mem::swap(&mut expected.source, &mut expected.destination);
        expected.hop_limit = 64;
        assert_eq!(new.to_header(), expected);
        let [new, old] =
            [&reply[l4..], &bytes[l4..]].map(|icmp| Icmpv6Slice::from_slice(icmp).expect("ICMPv6"));
        let header = Ipv6HeaderSlice::from_slice(&bytes[L3..]).expect("a header");
        let (source, destination) = (header.source(), header.destination());
        let is_right = old.is_checksum_valid(source, destination);
        assert_eq!(new.is_checksum_valid(destination, source), is_right, "neither mended nor broken");
        assert_eq!((new.type_u8(), new.code_u8()), (icmpv6::TYPE_ECHO_REPLY, old.code_u8()));
    } else {
        let [new, old] = [new, old].map(|ip| Ipv4HeaderSlice::from_slice(ip).expect("a header"));
        assert_eq!((new.source(), new.destination()), (old.destination(), old.source()));
        assert_eq!(new.ttl(), 64);
        let [mut expected, new_rest] = [old, new].map(|ip| ip.to_header());
        assert_eq!(is_sum_right(new.slice()), is_sum_right(old.slice()), "neither mended nor broken");
        std::mem::swap(&mut expected.source, &mut expected.destination);
        (expected.time_to_live, expected.header_checksum) = (64, new_rest.header_checksum);
        assert_eq!(new_rest, expected);
        assert_eq!((reply[l4], reply[l4 + 1]), (icmpv4::TYPE_ECHO_REPLY, bytes[l4 + 1]));
        assert_eq!(is_sum_right(&reply[l4..]), is_sum_right(&bytes[l4..]), "neither mended nor broken");
    }
    assert_eq!(reply[l4 + 4..], bytes[l4 + 4..], "identifier, number and data");
}

/// Whether the sum over bytes that contain their own checksum is right (RFC 1071).
pub fn is_sum_right(bytes: &[u8]) -> bool {
    let words =
        bytes.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

/// The answer is a valid packet from the balancer to the client, which quotes what came.
pub fn check_answer(before: &[u8], answer: &[u8], problem: Problem) {
    assert_eq!((&answer[..6], &answer[6..12]), (&before[6..12], &before[..6]));
    let ip = &answer[L3..];
    let old = &before[L3..];
    let quote;
    if old[0] >> 4 == 6 {
        assert_eq!(answer[12..14], [0x86, 0xdd]);
        let header = Ipv6HeaderSlice::from_slice(ip).expect("a header");
        let client = Ipv6HeaderSlice::from_slice(old).expect("a header").source_addr();
        assert_eq!((header.source_addr(), header.destination_addr()), (OWN_V6, client));
        assert_eq!((header.next_header().0, header.hop_limit()), (ICMPV6, 64));
        assert_eq!(usize::from(header.payload_length()), ip.len() - 40);
        let icmp = Icmpv6Slice::from_slice(&ip[40..]).expect("ICMPv6");
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        let expected = match problem {
            Problem::TooBig { mtu } => Icmpv6Type::PacketTooBig { mtu: mtu.max(1280).into() },
            Problem::TimeExceeded => Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded),
            Problem::PortUnreachable => Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port),
        };
        assert_eq!(icmp.icmp_type(), expected);
        quote = &ip[48..];
        assert!([SHORT_V6, LONG].contains(&quote.len()));
    } else {
        assert_eq!(answer[12..14], [0x08, 0x00]);
        let header = Ipv4HeaderSlice::from_slice(ip).expect("a header");
        let client = Ipv4HeaderSlice::from_slice(old).expect("a header").source_addr();
        assert_eq!((header.source_addr(), header.destination_addr()), (OWN_V4, client));
        assert_eq!((header.protocol().0, header.ttl(), header.slice().len()), (ICMP, 64, 20));
        assert_eq!((header.dcp().value(), header.ecn().value(), header.dont_fragment()), (48, 0, true));
        assert_eq!(usize::from(header.total_len()), ip.len());
        assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
        assert!(is_sum_right(&ip[20..]));
        let expected = match problem {
            Problem::TooBig { mtu } => {
                Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
                    next_hop_mtu: mtu,
                })
            }
            Problem::TimeExceeded => Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit),
            Problem::PortUnreachable => {
                Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port)
            }
        };
        assert_eq!(Icmpv4Slice::from_slice(&ip[20..]).expect("ICMP").icmp_type(), expected);
        quote = &ip[28..];
        assert!([SHORT_V4, LONG].contains(&quote.len()));
    }
    assert_eq!(quote, &old[..quote.len()], "quoted as it was");
    assert!(!may_answer_packet(ip), "an error is not answered with an error");
}

/// No error is sent for what may get none (RFC 1812, 4.3.2.7; RFC 4443, 2.4).
fn check_may_answer(bytes: &[u8]) {
    let Some(ip) = bytes.get(L3..).filter(|ip| !ip.is_empty()) else { return };
    let is_v6 = match ip[0] >> 4 {
        4 => false,
        6 => true,
        _ => return,
    };
    let mut copy: Box<[u8]> = bytes.into();
    let may = on_frame(&mut copy, |frame| may_answer(frame, is_v6));
    // Headers that lie as far as is looked in the packet alone may lie too far in a frame.
    let is_far = is_v6 && ip.len() >= 40 && chain(ip).at > REACH - L3;
    let may_in_any = may_answer_packet(ip) && bytes[0] & 1 == 0;
    assert!(may == may_in_any || is_far && may_in_any);
    if !may {
        return;
    }
    if let Some((l4, is_v6)) = find(bytes) {
        let kind = bytes[l4];
        let is_error = if is_v6 { kind < 128 || kind == 137 } else { [3, 4, 5, 11, 12].contains(&kind) };
        assert!(!is_error, "type {kind}");
    }
    if let (false, Ok(header)) = (is_v6, Ipv4HeaderSlice::from_slice(ip)) {
        let [source, destination] = [header.source_addr(), header.destination_addr()];
        for address in [source, destination] {
            assert!(!address.is_multicast() && !address.is_broadcast() && !address.is_unspecified());
        }
        assert!(!source.is_loopback());
        assert_eq!(header.fragments_offset().value(), 0);
    } else if let (true, Ok(header)) = (is_v6, Ipv6HeaderSlice::from_slice(ip)) {
        let [source, destination] = [header.source_addr(), header.destination_addr()];
        assert!(!source.is_multicast() && !destination.is_multicast() && !source.is_unspecified());
    }
}
