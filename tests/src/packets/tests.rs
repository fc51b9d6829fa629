//! What is built is right.

use super::*;

fn pairs() -> [(SocketAddr, SocketAddr); 2] {
    [("10.0.0.1:40000", "198.51.100.1:80"), ("[fd77::1]:40000", "[2001:db8::1]:80")]
        .map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()))
}

#[test]
fn what_is_built_is_right() {
    for (from, to) in pairs() {
        let tcp = Packet::tcp(from, to).seq(5).ack(9).psh().tcp_options(&[2, 4, 5, 0xb4]).payload(b"abc");
        let udp = Packet::udp(from, to).payload(b"odd").ttl(3).traffic_class(0xb9);
        let ping = Packet::ping(from.ip(), to.ip(), 7, 1).payload(&[1; 33]);
        for packet in [tcp, udp, ping] {
            for packet in [packet.clone(), packet.vlan(5).tag(0x8100, 0x2006)] {
                let frame = packet.build();
                assert_eq!(check(&frame), Ok(()), "{packet:?}");
                // Each byte of the IP packet is covered by a checksum, or by a length, but in IPv6's first part.
                let last = frame.len() - 1;
                let broken = with_byte(frame.clone(), last, frame[last] ^ 1);
                check(&broken).unwrap_err();
            }
        }
    }
}

/// RFC 1071 by itself: the sum over pseudo-header and segment, its checksum included, is all ones.
#[test]
fn sums_are_those_of_the_rfc() {
    let sum = |bytes: &[u8]| {
        let words =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let sum = words.sum::<u32>();
        (sum & 0xffff) + (sum >> 16)
    };
    for (from, to) in pairs() {
        let tcp = Packet::tcp(from, to).syn(77).payload(b"odd").build();
        let udp = Packet::udp(from, to).payload(b"odd").build();
        for (frame, protocol) in [(tcp, 6), (udp, 17)] {
            let (addresses, upper) = if from.is_ipv4() { (12..20, 20) } else { (8..40, 40) };
            let packet = &frame[ETHERNET..];
            let pseudo = sum(&packet[addresses]) + protocol + (packet.len() - upper) as u32;
            let total = pseudo + sum(&packet[upper..]);
            assert_eq!((total & 0xffff) + (total >> 16), 0xffff);
            if from.is_ipv4() {
                assert_eq!(sum(&packet[..20]), 0xffff);
            }
        }
    }
}

#[test]
fn headers_have_their_options() {
    let [(from4, to4), (from6, to6)] = pairs();
    let frame = Packet::tcp(from4, to4).syn(1).options(&[1; 8]).build();
    assert_eq!(check(&frame), Ok(()));
    assert_eq!(frame[ETHERNET], 0x47);
    let frame = Packet::udp(from6, to6).extension(0, &[1, 4, 0, 0, 0, 0]).extension(60, &[0; 14]).build();
    assert_eq!(check(&frame), Ok(()));
    let at = ETHERNET + 40;
    assert_eq!((frame[ETHERNET + 6], frame[at], frame[at + 8], frame[at + 9]), (0, 60, 17, 1));
    assert_eq!(frame.len(), at + 8 + 16 + 8);
}

#[test]
fn fragments_add_up() {
    for (from, to) in pairs() {
        let payload = (0..100).collect::<Vec<u8>>();
        let packet = Packet::udp(from, to).payload(&payload);
        let header = if from.is_ipv4() { 20 } else { 48 };
        let frames = packet.fragments(48);
        assert_eq!(frames.len(), 3);
        let whole = frames.iter().flat_map(|frame| frame[ETHERNET + header..].to_vec()).collect::<Vec<_>>();
        assert_eq!(whole[8..], payload[..]);
        for (number, frame) in frames.iter().enumerate() {
            assert_eq!(check(frame), Ok(()));
            let (offset, more) = if from.is_ipv4() {
                let field = u16::from_be_bytes([frame[ETHERNET + 6], frame[ETHERNET + 7]]);
                (field & 0x1fff, field & 0x2000 != 0)
            } else {
                let field = u16::from_be_bytes([frame[ETHERNET + 42], frame[ETHERNET + 43]]);
                (field >> 3, field & 1 != 0)
            };
            assert_eq!((usize::from(offset), more), (number * 6, number < 2));
        }
    }
}

#[test]
fn errors_quote_the_packet() {
    for ((from, to), router) in pairs().into_iter().zip(["10.9.9.9", "fd77::9"]) {
        let frame = Packet::tcp(from, to).seq(1).payload(&[7; 300]).vlan(3).build();
        let error = too_big(router.parse().unwrap(), &frame, 1300);
        assert_eq!(check(&error), Ok(()));
        assert_eq!(macs(&error), (DESTINATION_MAC, SOURCE_MAC));
        let quoted = &frame[ETHERNET + 4..ETHERNET + 4 + 128];
        assert!(error.ends_with(quoted));
    }
}

#[test]
fn truncations_are_all_beginnings() {
    let lengths = truncations(&[1, 2, 3]).map(|frame| frame.len()).collect::<Vec<_>>();
    assert_eq!(lengths, [2, 1, 0]);
}
