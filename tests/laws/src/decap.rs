//! The decapsulator, given any bytes.

use std::net::IpAddr;
use std::ops::Range;

use etherparse::{
    Ipv4HeaderSlice, Ipv6HeaderSlice, SingleVlanHeaderSlice, TcpHeaderSlice, UdpHeaderSlice, ip_number,
};
use lb_common::decap::{DecapClass, DecapReason, Decapsulated, GUE_PORT, decapsulate, decapsulate_frame};
use lb_common::parse::Frame;

use crate::parse::words;

/// Everything that must hold for what becomes of a frame, whoever it is for.
pub fn check(bytes: &[u8]) {
    let mut output = bytes.to_vec();
    let mut asked = None;
    let verdict = decapsulate(&mut output, GUE_PORT, |destination| {
        assert_eq!(asked.replace(*destination), None, "asked once");
        true
    });
    match verdict.reason.class() {
        DecapClass::Decapsulate => check_stripped(bytes, &output, verdict),
        _ => assert_eq!(
            (verdict.cut, &output[..]),
            (0, bytes),
            "{:?} leaves the frame as it is",
            verdict.reason
        ),
    }
    if verdict.reason == DecapReason::PassGueChecksum {
        let outer = Outer::read(bytes);
        let (inner, _) = outer.inner(bytes);
        assert!(!(outer.is_udp_right(bytes) && is_packet_right(&bytes[inner])), "its checksums are right");
    }
    check_refusal(bytes, verdict.reason, asked);
    check_without_gue(bytes, verdict);
    check_pieces(bytes, verdict);
}

/// What etherparse reads of the headers around.
struct Outer {
    /// Where the IP header begins.
    ip: usize,
    is_v6: bool,
    destination: IpAddr,
    ecn: u8,
    is_udp: bool,
    /// Behind the IP header, to the end of the IP packet.
    payload: Range<usize>,
}

impl Outer {
    /// Of a frame that the decapsulator has found to have one.
    fn read(bytes: &[u8]) -> Outer {
        let mut ip = 14;
        while ip < 22 && matches!(bytes[ip - 2..ip], [0x81, 0x00] | [0x88, 0xa8]) {
            SingleVlanHeaderSlice::from_slice(&bytes[ip..]).expect("a tag");
            ip += 4;
        }
        if bytes[ip - 2..ip] == [0x86, 0xdd] {
            let header = Ipv6HeaderSlice::from_slice(&bytes[ip..]).expect("an outer header");
            let payload = ip + 40..ip + 40 + usize::from(header.payload_length());
            Outer {
                ip,
                is_v6: true,
                destination: header.destination_addr().into(),
                ecn: header.ecn().value(),
                is_udp: header.next_header() == ip_number::UDP,
                payload,
            }
        } else {
            assert_eq!(bytes[ip - 2..ip], [0x08, 0x00]);
            let header = Ipv4HeaderSlice::from_slice(&bytes[ip..]).expect("an outer header");
            assert!(!header.is_fragmenting_payload());
            assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
            Outer {
                ip,
                is_v6: false,
                destination: header.destination_addr().into(),
                ecn: header.ecn().value(),
                is_udp: header.protocol() == ip_number::UDP,
                payload: ip + header.slice().len()..ip + usize::from(header.total_len()),
            }
        }
    }

    /// Where the inner packet is, and its protocol number.
    fn inner(&self, bytes: &[u8]) -> (Range<usize>, u8) {
        let Range { start, end } = self.payload;
        if !self.is_udp {
            return (start..end, bytes[self.ip + if self.is_v6 { 6 } else { 9 }]);
        }
        let udp = UdpHeaderSlice::from_slice(&bytes[start..]).expect("a UDP header");
        assert_eq!(udp.destination_port(), GUE_PORT);
        assert!(usize::from(udp.length()) <= end - start);
        let gue = start + 8;
        // Variant 0, no control message, no flag.
        assert_eq!(bytes[gue] & 0xe0, 0);
        assert_eq!(bytes[gue + 2..gue + 4], [0, 0]);
        let inner = gue + 4 + usize::from(bytes[gue]) * 4;
        (inner..start + usize::from(udp.length()), bytes[gue + 1])
    }

    /// Whether the UDP checksum over all that it covers is right, or there is none.
    fn is_udp_right(&self, bytes: &[u8]) -> bool {
        let udp = &bytes[self.payload.start..];
        let header = UdpHeaderSlice::from_slice(udp).expect("a UDP header");
        let (header, data) = (header.to_header(), &udp[8..usize::from(header.length())]);
        let ip = &bytes[self.ip..];
        let addresses = |range: Range<usize>| ip[range].to_vec();
        let sum = if self.is_v6 {
            let [source, destination] = [8..24, 24..40].map(|range| addresses(range).try_into().unwrap());
            header.calc_checksum_ipv6_raw(source, destination, data)
        } else {
            let [source, destination] = [12..16, 16..20].map(|range| addresses(range).try_into().unwrap());
            header.calc_checksum_ipv4_raw(source, destination, data)
        };
        header.checksum == 0 || same_sum(header.checksum, sum.expect("a length that fits"))
    }
}

/// Of a sum that is 0, both signs are right.
fn same_sum(left: u16, right: u16) -> bool {
    left % u16::MAX == right % u16::MAX
}

/// Whether each checksum of a packet is there and right, as its receiver looks at them: the IPv4 header's, and that of TCP or
/// UDP over all the rest.
fn is_packet_right(packet: &[u8]) -> bool {
    let (protocol, header_len, addresses, address_len) = if packet[0] >> 4 == 6 {
        (packet[6], 40, 8, 16)
    } else {
        let header = Ipv4HeaderSlice::from_slice(packet).expect("an inner header");
        if !is_checksum_right(header.slice()) || header.is_fragmenting_payload() {
            return false;
        }
        (packet[9], header.slice().len(), 12, 4)
    };
    let transport = &packet[header_len..];
    let has_header = match protocol {
        6 => TcpHeaderSlice::from_slice(transport).is_ok(),
        17 => UdpHeaderSlice::from_slice(transport)
            .is_ok_and(|udp| usize::from(udp.length()) == transport.len() && udp.checksum() != 0),
        _ => false,
    };
    let pseudo_header = [
        &packet[addresses..addresses + 2 * address_len],
        &[0, protocol],
        &(transport.len() as u16).to_be_bytes(),
    ];
    has_header && is_checksum_right(&[&pseudo_header.concat(), transport].concat())
}

/// What is left is the inner packet under the old MAC addresses and tags.
fn check_stripped(before: &[u8], after: &[u8], verdict: Decapsulated) {
    let Decapsulated { reason, cut } = verdict;
    let (is_gue, outer_is_v6, inner_is_v6) = match reason {
        DecapReason::Decap4In4 => (false, false, false),
        DecapReason::Decap6In4 => (false, false, true),
        DecapReason::Decap4In6 => (false, true, false),
        DecapReason::Decap6In6 => (false, true, true),
        DecapReason::DecapGue4In4 => (true, false, false),
        DecapReason::DecapGue6In4 => (true, false, true),
        DecapReason::DecapGue4In6 => (true, true, false),
        DecapReason::DecapGue6In6 => (true, true, true),
        reason => panic!("{reason:?} takes nothing apart"),
    };
    let outer = Outer::read(before);
    assert_eq!((outer.is_udp, outer.is_v6), (is_gue, outer_is_v6));
    let (inner, protocol) = outer.inner(before);
    assert_eq!(protocol, if inner_is_v6 { 41 } else { 4 });
    assert_eq!((cut, outer.payload.end.max(inner.end)), (inner.start - outer.ip, outer.payload.end));
    assert!(outer.payload.end <= before.len());
    if is_gue {
        let len = if inner_is_v6 {
            40 + usize::from(u16::from_be_bytes([before[inner.start + 4], before[inner.start + 5]]))
        } else {
            usize::from(u16::from_be_bytes([before[inner.start + 2], before[inner.start + 3]]))
        };
        // Whoever finds the inner packet right may rely on the outer checksum.
        let packet = &before[inner.start..inner.start + len];
        assert!(outer.is_udp_right(before) || !is_packet_right(packet), "a wrong UDP checksum");
    }
    let (link, left) = (outer.ip, &after[cut..]);
    assert_eq!(left[..link - 2], before[..link - 2], "MAC addresses and tags");
    assert_eq!(left[link - 2..link], if inner_is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    let (old, new) = (&before[link + cut..], &left[link..]);
    assert_eq!(old.len(), new.len());
    // ECN, and the checksum over it, are all that may change; and only where congestion, or ECT(1), was met.
    let changed: Vec<usize> = (0..old.len()).filter(|&at| old[at] != new[at]).collect();
    let allowed: &[usize] = if inner_is_v6 { &[1] } else { &[1, 10, 11] };
    assert!(changed.iter().all(|at| allowed.contains(at)), "{changed:?}");
    assert!(changed.is_empty() || matches!(outer.ecn, 1 | 3), "ECN {}, {changed:?}", outer.ecn);
    if inner_is_v6 {
        let header = Ipv6HeaderSlice::from_slice(new).expect("an inner header");
        assert!(40 + usize::from(header.payload_length()) <= inner.len());
        assert_eq!(old[1] & !0x30, new[1] & !0x30);
    } else {
        let (old, new) =
            [old, new].map(|ip| Ipv4HeaderSlice::from_slice(ip).expect("an inner header")).into();
        assert!(usize::from(new.total_len()) <= inner.len());
        assert_eq!(old.dcp(), new.dcp());
        assert_eq!(is_checksum_right(old.slice()), is_checksum_right(new.slice()), "neither hidden nor made");
    }
}

/// Whether the sum over bytes, their checksum included, is right (RFC 1071).
fn is_checksum_right(bytes: &[u8]) -> bool {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// A frame for somebody else is never touched; who it is for is what etherparse reads.
fn check_refusal(bytes: &[u8], reason: DecapReason, asked: Option<[u64; 2]>) {
    let mut output = bytes.to_vec();
    let refused = decapsulate(&mut output, GUE_PORT, |_| false);
    assert_eq!((refused.cut, &output[..]), (0, bytes));
    let Some(asked) = asked else { return assert_eq!(refused.reason, reason) };
    assert_eq!(refused.reason, DecapReason::PassForeign);
    assert_eq!(asked, words(Outer::read(bytes).destination));
}

/// Where GUE is off, UDP is nothing to the decapsulator, and all else is as ever.
fn check_without_gue(bytes: &[u8], with: Decapsulated) {
    let mut output = bytes.to_vec();
    let without = decapsulate(&mut output, 0, |_| true);
    let is_udp = without.reason == DecapReason::PassOtherProtocol;
    assert!(is_udp && output == bytes || without == with, "{without:?} without GUE, {with:?} with it");
}

/// A frame in pieces, of which only the first can be seen: what lies there decides, or it is left alone.
fn check_pieces(bytes: &[u8], whole: Decapsulated) {
    // Two tags, the longest headers of IPv4 and GUE, the longer of the inner ones, and a UDP header.
    let most = 22 + 60 + 8 + 128 + 60 + 8;
    for first in (0..bytes.len().min(most + 1)).step_by(7) {
        let mut piece: Box<[u8]> = bytes[..first].into();
        let start = piece.as_mut_ptr() as usize;
        // SAFETY: the piece is this function's own.
        let verdict =
            unsafe { decapsulate_frame(&Frame::new(start, start + first), bytes.len(), GUE_PORT, |_| true) };
        match verdict.reason.class() {
            DecapClass::Decapsulate => assert_eq!(verdict, whole, "{first} bytes in the first piece"),
            _ => assert_eq!(piece[..], bytes[..first], "{:?}", verdict.reason),
        }
    }
}
