use super::*;
use crate::checksum::fold;
use crate::encap::{GUE_LEN, IPV4_IN_IP, entropy_port, gue, outer_v4, outer_v6};
use crate::hash::FlowHash;
use crate::layout::Tuple;

const MACS: [u8; 12] = [7, 7, 7, 7, 7, 7, 1, 1, 1, 1, 1, 1];
const CE: u8 = 0b11;
const PORT: u16 = 6081;
const VLANS: [&[u8]; 5] = [
    &[],
    &[0x81, 0x00, 0x20, 0x07],
    &[0x88, 0xa8, 0x00, 0x08],
    &[0x88, 0xa8, 0x00, 0x08, 0x81, 0x00, 0x60, 0x07],
    &[0x81, 0x00, 0x00, 0x08, 0x81, 0x00, 0x60, 0x07],
];

/// UDP with ECN field ECT(0); all checksums are right.
fn inner_v4() -> Vec<u8> {
    let mut packet = vec![0x45, 0x02, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 51, 100, 9, 203, 0, 113, 1];
    packet.extend([0x9c, 0x40, 0, 53, 0, 12, 0, 0, b'd', b'a', b't', b'a']);
    let header = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&header);
    let udp = checksum(&[&packet[12..20], &[0, 17, 0, 12], &packet[20..]].concat());
    packet[26..28].copy_from_slice(&udp);
    packet
}

/// TCP with ECN field ECT(0) and a payload of odd length; the checksum is right.
fn inner_v6() -> Vec<u8> {
    let mut packet = vec![0x60, 0x20, 0x12, 0x34, 0, 25, 6, 64];
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x9c, 0x40, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x10, 0xfa, 0xf0, 0, 0, 0, 0]);
    packet.extend(b"bytes");
    let tcp = checksum(&[&packet[8..40], &[0, 6, 0, 25], &packet[40..]].concat());
    packet[56..58].copy_from_slice(&tcp);
    packet
}

/// RFC 1071, byte by byte.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    fold(bytes.chunks(2).map(word).sum()).to_be_bytes()
}

fn ethertype(is_v6: bool) -> [u8; 2] {
    if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] }
}

/// Source and destination of outer headers.
fn ends(is_v6: bool) -> [[u8; 16]; 2] {
    [1, 7].map(|last| {
        let mut address = [0; 16];
        if is_v6 {
            (address[0], address[15]) = (0xfd, last);
        } else {
            address[..4].copy_from_slice(&[192, 0, 2, last]);
        }
        address
    })
}

/// As the balancer sends it, behind tags, marked on its way.
fn encapsulated(tags: &[u8], is_gue: bool, outer_is_v6: bool, packet: &[u8]) -> Vec<u8> {
    let inner = if packet.first().is_some_and(|first| first >> 4 == 6) { IPV6_IN_IP } else { IPV4_IN_IP };
    let len = packet.len() as u16;
    let (protocol, payload_len) = if is_gue { (UDP, len + GUE_LEN) } else { (inner, len) };
    let ends = ends(outer_is_v6);
    let mut frame = [&MACS, tags, &ethertype(outer_is_v6)].concat();
    if outer_is_v6 {
        frame.extend(outer_v6(protocol, CE, payload_len).to_ne_bytes());
        frame.extend(ends.concat());
    } else {
        let [source, destination] = ends.map(|end| u32::from_ne_bytes(end[..4].try_into().unwrap()));
        let header = outer_v4(source, destination, protocol, CE, payload_len);
        frame.extend(header.iter().flat_map(|word| word.to_ne_bytes()));
    }
    if is_gue {
        let words = gue(entropy_port(FlowHash(0x1234)), PORT, inner, len);
        frame.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }
    frame.extend(packet);
    frame
}

/// What is expected to come out: the mark is there, and the checksum over it.
fn marked(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[1] |= CE << 4;
    } else {
        packet[1] |= CE;
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum);
    }
    packet
}

fn ours(is_v6: bool) -> [u64; 2] {
    let destination = ends(is_v6)[1];
    let [a, b, c, d, ..] = destination;
    if is_v6 { Tuple::words(destination) } else { Tuple::v4(u32::from_ne_bytes([a, b, c, d])) }
}

/// All outer headers there are: tags, GUE, IPv6.
fn outers() -> impl Iterator<Item = (&'static [u8], bool, bool)> {
    VLANS.into_iter().flat_map(|tags| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(gue, v6)| (tags, gue, v6))
    })
}

#[test]
fn what_the_balancer_sends_comes_back() {
    for (tags, is_gue, outer_is_v6) in outers() {
        for packet in [inner_v4(), inner_v6()] {
            let bytes = encapsulated(tags, is_gue, outer_is_v6, &packet);

            let mut foreign = bytes.clone();
            let verdict = decapsulate(&mut foreign, PORT, |_| false);
            assert_eq!(verdict, Decapsulated { reason: DecapReason::PassForeign, cut: 0 });
            assert_eq!(foreign, bytes);

            let mut output = bytes.clone();
            let verdict = decapsulate(&mut output, PORT, |destination| *destination == ours(outer_is_v6));
            let inner_is_v6 = packet[0] >> 4 == 6;
            assert_eq!(verdict.reason, DecapReason::decapsulated(is_gue, outer_is_v6, inner_is_v6));
            assert_eq!(verdict.cut, if outer_is_v6 { 40 } else { 20 } + if is_gue { 12 } else { 0 });
            assert_eq!(
                output[verdict.cut..],
                [&MACS, tags, &ethertype(inner_is_v6), &marked(packet)].concat(),
                "{tags:x?}, {:?}",
                verdict.reason
            );
        }
    }
}

/// The reason for a packet in GUE over IPv4, whose headers of UDP and GUE may be changed.
fn verdict(packet: &[u8], change: impl FnOnce(&mut [u8])) -> DecapReason {
    let mut bytes = encapsulated(&[], true, false, packet);
    change(&mut bytes[34..46]);
    decapsulate(&mut bytes, PORT, |_| true).reason
}

#[test]
fn what_cannot_be_understood_is_refused() {
    use DecapReason::*;
    let verdict = |change: fn(&mut [u8])| verdict(&inner_v4(), change);
    assert_eq!(verdict(|_| {}), DecapGue4In4);
    assert_eq!(verdict(|header| header[3] ^= 1), PassOtherProtocol);
    for variant in [0x40, 0x80, 0xc0] {
        let mut bytes = encapsulated(&[], true, false, &inner_v4());
        bytes[42] |= variant;
        assert_eq!(decapsulate(&mut bytes, PORT, |_| true).reason, PassGueVariant);
    }
    assert_eq!(verdict(|header| header[8] |= 0x20), PassGueControl);
    for flag in 0..16 {
        let mut bytes = encapsulated(&[], true, false, &inner_v4());
        bytes[44 + flag / 8] |= 1 << (flag % 8);
        assert_eq!(decapsulate(&mut bytes, PORT, |_| true).reason, PassGueFlags);
    }
    for protocol in [0u8, 6, 17, 47, 59, 255] {
        let mut bytes = encapsulated(&[], true, false, &inner_v4());
        bytes[43] = protocol;
        assert_eq!(decapsulate(&mut bytes, PORT, |_| true).reason, PassGueProtocol);
    }
    assert_eq!(verdict(|header| header[9] = IPV6_IN_IP), PassInnerLength);
    // Longer than the IP packet; shorter than its own headers; shorter than what is inside.
    assert_eq!(verdict(|header| header[5] += 1), PassMalformed);
    assert_eq!(verdict(|header| header[5] = 11), PassMalformed);
    assert_eq!(verdict(|header| header[5] -= 1), PassInnerLength);
    // Nothing of it where GUE is off, not even for port 0.
    for port in [0, PORT] {
        let mut bytes = encapsulated(&[], true, false, &inner_v4());
        bytes[36..38].copy_from_slice(&port.to_be_bytes());
        assert_eq!(decapsulate(&mut bytes, 0, |_| true).reason, PassOtherProtocol);
    }
}

#[test]
fn surplus_of_every_length_is_skipped() {
    for outer_is_v6 in [false, true] {
        for words in 0..=31u8 {
            let packet = [vec![0xa5; usize::from(words) * 4], inner_v6()].concat();
            let mut bytes = encapsulated(&[], true, outer_is_v6, &packet);
            let gue = 14 + if outer_is_v6 { 48 } else { 28 };
            (bytes[gue], bytes[gue + 1]) = (words, IPV6_IN_IP);
            let verdict = decapsulate(&mut bytes, PORT, |_| true);
            assert_eq!(verdict.reason, DecapReason::decapsulated(true, outer_is_v6, true));
            assert_eq!(bytes[verdict.cut + 14..], marked(inner_v6()));
            // One word more than there are.
            bytes = encapsulated(&[], true, outer_is_v6, &packet[..usize::from(words) * 4]);
            (bytes[gue], bytes[gue + 1]) = ((words + 1) & 31, IPV6_IN_IP);
            let expected =
                if words < 31 { DecapReason::PassMalformed } else { DecapReason::PassInnerVersion };
            assert_eq!(decapsulate(&mut bytes, PORT, |_| true).reason, expected);
        }
    }
}

/// With the UDP checksum that the headers of a frame without tags, in GUE, ask for.
fn summed(outer_is_v6: bool, packet: &[u8]) -> Vec<u8> {
    let mut bytes = encapsulated(&[], true, outer_is_v6, packet);
    let (addresses, udp) = if outer_is_v6 { (22..54, 54) } else { (26..34, 34) };
    let len = ((bytes.len() - udp) as u16).to_be_bytes();
    let sum = checksum(&[&bytes[addresses], &[0, 17], &len, &bytes[udp..]].concat());
    bytes[udp + 6..udp + 8].copy_from_slice(&sum);
    bytes
}

#[test]
fn a_right_udp_checksum_is_accepted_and_no_wrong_one() {
    for outer_is_v6 in [false, true] {
        for packet in [inner_v4(), inner_v6()] {
            let bytes = summed(outer_is_v6, &packet);
            let reason = |bytes: &[u8]| decapsulate(&mut bytes.to_vec(), PORT, |_| true).reason;
            let expected = DecapReason::decapsulated(true, outer_is_v6, packet[0] >> 4 == 6);
            assert_eq!(reason(&bytes), expected);
            // Each bit that the outer checksum covers and no checksum of the inner packet: addresses, UDP, GUE; of IPv6 inside,
            // which has no checksum of its header, what its transport's does not cover.
            let (addresses, udp) = if outer_is_v6 { (22..54, 54) } else { (26..34, 34) };
            let inner = udp + 12;
            let header = if packet[0] >> 4 == 6 { inner..inner + 4 } else { inner..inner };
            for at in addresses.chain(udp..inner).chain(header) {
                for bit in 0..8 {
                    let mut wrong = bytes.clone();
                    wrong[at] ^= 1 << bit;
                    let reason = reason(&wrong);
                    assert_ne!(reason, expected, "byte {at}, bit {bit}");
                }
            }
            // What the inner packet's own checksum covers is left to who receives it.
            let mut payload = bytes.clone();
            *payload.last_mut().unwrap() ^= 1;
            assert_eq!(reason(&payload), expected);
        }
    }
}

#[test]
fn a_udp_checksum_that_headers_do_not_tell_is_refused() {
    let reason = |packet: &[u8]| decapsulate(&mut summed(false, packet), PORT, |_| true).reason;
    let unverified = |packet: &[u8]| assert_eq!(reason(packet), DecapReason::PassGueUnverified);
    let with = |mut packet: Vec<u8>, at: usize, value: u8| {
        packet[at] = value;
        packet
    };
    // A fragment, the first and a later one; another protocol; UDP without checksum; UDP shorter than its packet; padding.
    unverified(&with(inner_v4(), 6, 0x20));
    unverified(&with(inner_v4(), 7, 1));
    unverified(&with(inner_v4(), 9, 1));
    unverified(&with(with(inner_v4(), 26, 0), 27, 0));
    unverified(&with(inner_v4(), 25, 11));
    unverified(&[inner_v4(), vec![0; 2]].concat());
    unverified(&with(inner_v6(), 6, 44));
    unverified(&[inner_v6(), vec![0; 2]].concat());
    // Surplus space.
    let mut bytes = summed(false, &[&[0; 4][..], &inner_v4()].concat());
    bytes[42] = 1;
    assert_eq!(decapsulate(&mut bytes, PORT, |_| true).reason, DecapReason::PassGueUnverified);
}

#[test]
fn three_tags_are_too_many() {
    let tags = [VLANS[3], VLANS[1]].concat();
    let bytes = encapsulated(&tags, false, false, &inner_v4());
    let mut output = bytes.clone();
    let verdict = decapsulate(&mut output, PORT, |_| true);
    assert_eq!((verdict.reason, &output), (DecapReason::PassNotIp, &bytes));
}
