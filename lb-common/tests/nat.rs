//! Translated packets against the same packets built anew with the other addresses: so every checksum is right, and nothing
//! else has changed.

mod packets;

use lb_common::nat::{Endpoint, Headers, Refusal, from_backend, to_backend};
use packets::{End, Packet, Part, any_end, any_packet, on};
use proptest::prelude::*;

fn translate_to(bytes: &mut [u8], headers: &Headers, backend: &Endpoint) -> Result<(), Refusal> {
    // SAFETY: the frame is the test's own.
    on(bytes, |frame| unsafe { to_backend(frame, headers, backend) })
}

fn translate_from(bytes: &mut [u8], headers: &Headers, vip: &Endpoint) -> Result<(), Refusal> {
    // SAFETY: the frame is the test's own.
    on(bytes, |frame| unsafe { from_backend(frame, headers, vip) })
}

/// The whole packet, or both parts of it, cut behind the transport header.
fn parts(packet: &Packet) -> Vec<Part> {
    let header = if packet.is_tcp { 20 + packet.tcp_options.len() } else { 8 };
    let at = header.div_ceil(8) as u16;
    if header + packet.payload.len() > 8 * at as usize {
        vec![Part::Whole, Part::First(at), Part::Later(at)]
    } else {
        vec![Part::Whole]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_packet_reaches_its_backend(packet in any_packet(), backend in any_end()) {
        let expected = Packet { destination: backend, ttl: packet.ttl - 1, ..packet.clone() };
        for part in parts(&packet) {
            let mut bytes = packet.frame(part);
            let done = translate_to(&mut bytes, &packet.headers(part), &packet.endpoint(backend));
            prop_assert_eq!(done, Ok(()));
            prop_assert_eq!(&bytes, &expected.frame(part), "{:?}", part);
        }
    }

    #[test]
    fn an_answer_comes_from_the_vip(packet in any_packet(), vip in any_end()) {
        let expected = Packet { source: vip, ttl: packet.ttl - 1, ..packet.clone() };
        for part in parts(&packet) {
            let mut bytes = packet.frame(part);
            let done = translate_from(&mut bytes, &packet.headers(part), &packet.endpoint(vip));
            prop_assert_eq!(done, Ok(()));
            prop_assert_eq!(&bytes, &expected.frame(part), "{:?}", part);
        }
    }

    #[test]
    fn port_0_leaves_the_port(packet in any_packet(), (address, _) in any_end()) {
        let headers = packet.headers(Part::Whole);
        let kept = Endpoint { port: 0, ..packet.endpoint((address, 1)) };
        let mut bytes = packet.frame(Part::Whole);
        prop_assert_eq!(translate_to(&mut bytes, &headers, &kept), Ok(()));
        let destination: End = (address, packet.destination.1);
        let expected = Packet { destination, ttl: packet.ttl - 1, ..packet.clone() };
        prop_assert_eq!(bytes, expected.frame(Part::Whole));

        let mut bytes = packet.frame(Part::Whole);
        prop_assert_eq!(translate_from(&mut bytes, &headers, &kept), Ok(()));
        let source: End = (address, packet.source.1);
        let expected = Packet { source, ttl: packet.ttl - 1, ..packet.clone() };
        prop_assert_eq!(bytes, expected.frame(Part::Whole));
    }

    /// What an answer to a translated packet has for its source is, translated back, what the client had for its destination.
    #[test]
    fn there_and_back(mut packet in any_packet(), backend in any_end()) {
        packet.ttl = packet.ttl.max(3);
        let headers = packet.headers(Part::Whole);
        let mut bytes = packet.frame(Part::Whole);
        prop_assert_eq!(translate_to(&mut bytes, &headers, &packet.endpoint(backend)), Ok(()));
        swap_ends(&mut bytes, &headers);
        prop_assert_eq!(translate_from(&mut bytes, &headers, &packet.endpoint(packet.destination)), Ok(()));
        swap_ends(&mut bytes, &headers);
        let expected = Packet { ttl: packet.ttl - 2, ..packet };
        prop_assert_eq!(bytes, expected.frame(Part::Whole));
    }

    /// Damage stays to be found by the receiver: the error in a checksum is what it was.
    #[test]
    fn a_wrong_checksum_stays_wrong(packet in any_packet(), backend in any_end(), damage in 1..=0xfffeu16) {
        prop_assume!(!packet.without_checksum);
        let headers = packet.headers(Part::Whole);
        let at = 14 + headers.offset as usize + if packet.is_tcp { 16 } else { 6 };
        let mut bytes = packet.frame(Part::Whole);
        let checksum = u16::from_be_bytes([bytes[at], bytes[at + 1]]).wrapping_add(damage);
        prop_assume!(checksum != 0);
        bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        let was_right = checksum % 0xffff == u16::from_be_bytes(
            packet.frame(Part::Whole)[at..at + 2].try_into().unwrap()) % 0xffff;
        prop_assert_eq!(translate_to(&mut bytes, &headers, &packet.endpoint(backend)), Ok(()));
        let right = Packet { destination: backend, ttl: packet.ttl - 1, ..packet }.frame(Part::Whole);
        prop_assert_eq!(bytes[at..at + 2] == right[at..at + 2], was_right);
    }

    #[test]
    fn what_is_cut_short_is_refused_and_left_alone(packet in any_packet(), backend in any_end()) {
        for part in parts(&packet) {
            let (whole, headers) = (packet.frame(part), packet.headers(part));
            for len in 0..whole.len() {
                let mut bytes = whole[..len].to_vec();
                let done = translate_to(&mut bytes, &headers, &packet.endpoint(backend));
                let mut answer = whole[..len].to_vec();
                prop_assert_eq!(translate_from(&mut answer, &headers, &packet.endpoint(backend)), done);
                if len < packet.needed(part) {
                    prop_assert_eq!(done, Err(Refusal::Malformed), "{} bytes of {:?}", len, part);
                    prop_assert_eq!(&bytes, &whole[..len]);
                    prop_assert_eq!(&answer, &whole[..len]);
                } else {
                    prop_assert_eq!(done, Ok(()), "{} bytes of {:?}", len, part);
                }
            }
        }
    }

    #[test]
    fn a_spent_packet_is_refused_and_left_alone(mut packet in any_packet(), backend in any_end(), ttl in 0..=1u8) {
        packet.ttl = ttl;
        let (whole, headers) = (packet.frame(Part::Whole), packet.headers(Part::Whole));
        let mut bytes = whole.clone();
        prop_assert_eq!(translate_to(&mut bytes, &headers, &packet.endpoint(backend)), Err(Refusal::Spent));
        prop_assert_eq!(translate_from(&mut bytes, &headers, &packet.endpoint(backend)), Err(Refusal::Spent));
        prop_assert_eq!(bytes, whole);
    }
}

/// Exchanges source and destination, which changes no checksum.
fn swap_ends(bytes: &mut [u8], headers: &Headers) {
    let (start, len) = if headers.is_v6 { (14 + 8, 16) } else { (14 + 12, 4) };
    let (source, destination) = bytes[start..start + 2 * len].split_at_mut(len);
    source.swap_with_slice(destination);
    let ports = 14 + headers.offset as usize;
    bytes.swap(ports, ports + 2);
    bytes.swap(ports + 1, ports + 3);
}

fn udp(is_v6: bool) -> Packet {
    Packet {
        is_v6,
        is_tcp: false,
        source: ([10; 16], 4000),
        destination: ([20; 16], 53),
        ttl: 64,
        options: Vec::new(),
        tcp_options: Vec::new(),
        tcp_flags: 0,
        payload: vec![0; 2],
        without_checksum: false,
    }
}

fn udp_checksum(bytes: &[u8], is_v6: bool) -> u16 {
    let at = 14 + if is_v6 { 40 } else { 20 } + 6;
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Every checksum that a packet can come out with, so also the one that must not be sent as 0.
#[test]
fn a_udp_checksum_never_becomes_0_by_translation() {
    for is_v6 in [false, true] {
        let backend = ([30; 16], 8053);
        let mut seen_ffff = 0;
        for word in 0..=u16::MAX {
            let packet = Packet { payload: word.to_be_bytes().to_vec(), ..udp(is_v6) };
            let mut bytes = packet.frame(Part::Whole);
            translate_to(&mut bytes, &packet.headers(Part::Whole), &packet.endpoint(backend)).unwrap();
            let checksum = udp_checksum(&bytes, is_v6);
            assert_ne!(checksum, 0);
            seen_ffff += u32::from(checksum == 0xffff);
        }
        assert_eq!(seen_ffff, 1);
    }
}

/// And one that came as 0xffff is understood.
#[test]
fn a_udp_checksum_of_ffff_is_one() {
    for is_v6 in [false, true] {
        let backend = ([30; 16], 8053);
        let of = |word: u16| Packet { payload: word.to_be_bytes().to_vec(), ..udp(is_v6) };
        let packet = (0..=u16::MAX)
            .map(of)
            .find(|packet| udp_checksum(&packet.frame(Part::Whole), is_v6) == 0xffff)
            .expect("a word that makes it so");
        let mut bytes = packet.frame(Part::Whole);
        translate_to(&mut bytes, &packet.headers(Part::Whole), &packet.endpoint(backend)).unwrap();
        let expected = Packet { destination: backend, ttl: 63, ..packet };
        assert_eq!(bytes, expected.frame(Part::Whole));
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    for is_v6 in [false, true] {
        let packet = Packet { without_checksum: true, ..udp(is_v6) };
        let mut bytes = packet.frame(Part::Whole);
        let backend = packet.endpoint(([30; 16], 8053));
        translate_to(&mut bytes, &packet.headers(Part::Whole), &backend).unwrap();
        assert_eq!(udp_checksum(&bytes, is_v6), 0);
    }
}
