//! Clamped segments against the same segments built anew with the option as it has to be.

mod packets;

use lb_common::mss::clamp;
use packets::{Packet, Part, any_packet, on};
use proptest::collection::vec;
use proptest::prelude::*;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

fn clamp_frame(bytes: &mut [u8], tcp: u16, max: u16) {
    // SAFETY: the frame is the test's own.
    on(bytes, |frame| unsafe { clamp(frame, tcp, max) })
}

/// What becomes of options, read as a host reads them.
fn clamped(options: &[u8], max: u16) -> Vec<u8> {
    let mut out = options.to_vec();
    let mut rest = options;
    loop {
        let at = options.len() - rest.len();
        rest = match rest {
            [1, rest @ ..] => rest,
            [2, 4, high, low, rest @ ..] => {
                let value = u16::from_be_bytes([*high, *low]).min(max);
                out[at + 2..at + 4].copy_from_slice(&value.to_be_bytes());
                rest
            }
            [kind, len, ..] if *kind != 0 && *len >= 2 && *len as usize <= rest.len() => {
                &rest[*len as usize..]
            }
            _ => return out,
        };
    }
}

fn segment(is_v6: bool, tcp_options: &[u8]) -> Packet {
    Packet {
        is_v6,
        is_tcp: true,
        source: ([10; 16], 40000),
        destination: ([20; 16], 80),
        ttl: 64,
        options: Vec::new(),
        tcp_options: tcp_options.to_vec(),
        tcp_flags: SYN,
        payload: Vec::new(),
        without_checksum: false,
    }
}

/// Clamps a segment to 1400 in both families, with and without ACK, and compares with what is expected.
fn check(options: &[u8], expected: &[u8]) {
    for is_v6 in [false, true] {
        for tcp_flags in [SYN, SYN | ACK] {
            let packet = Packet { tcp_flags, ..segment(is_v6, options) };
            let mut bytes = packet.frame(Part::Whole);
            clamp_frame(&mut bytes, packet.headers(Part::Whole).offset, 1400);
            let expected = Packet { tcp_options: expected.to_vec(), ..packet };
            assert_eq!(bytes, expected.frame(Part::Whole), "{options:?}");
        }
    }
}

const MSS_1460: [u8; 4] = [2, 4, 0x05, 0xb4];
const MSS_1400: [u8; 4] = [2, 4, 0x05, 0x78];

#[test]
fn an_option_at_every_offset() {
    for before in 0..=36 {
        let with = |mss: [u8; 4]| {
            let mut options = vec![1; before];
            options.extend(mss);
            options.resize(options.len().next_multiple_of(4), 0);
            options
        };
        check(&with(MSS_1460), &with(MSS_1400));
    }
}

#[test]
fn an_option_behind_others_as_systems_send_them() {
    // Linux: MSS, SACK permitted, timestamps, no-op, window scale; and in another order, at an odd offset.
    let rest = [4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    check(&[&MSS_1460[..], &rest].concat(), &[&MSS_1400[..], &rest].concat());
    let scale = [3, 3, 7];
    let end = [1];
    check(&[&scale[..], &MSS_1460, &end].concat(), &[&scale[..], &MSS_1400, &end].concat());
}

#[test]
fn a_small_enough_one_is_never_raised_and_none_is_added() {
    for options in [&MSS_1400[..], &[2, 4, 0, 1], &[2, 4, 0, 0], &[], &[1, 1, 1, 1], &[4, 2, 1, 1]] {
        check(options, options);
    }
}

#[test]
fn each_of_several_is_lowered() {
    check(
        &[&MSS_1460[..], &[1, 3, 3, 7, 1], &[2, 4, 0xff, 0xff], &[2, 4, 0, 100], &[0, 0, 0]].concat(),
        &[&MSS_1400[..], &[1, 3, 3, 7, 1], &MSS_1400, &[2, 4, 0, 100], &[0, 0, 0]].concat(),
    );
}

#[test]
fn malformed_options_end_the_search() {
    let before: [&[u8]; 8] = [
        // An end; lengths of 0 and 1; one that goes beyond the header; an MSS option of another length, cut off.
        &[0, 1, 1, 1],
        &[3, 0, 1, 1],
        &[3, 1, 1, 1],
        &[3, 200, 1, 1],
        &[3, 9, 1, 1],
        &[2, 0, 1, 1],
        &[2, 1, 1, 1],
        &[2, 255, 1, 1],
    ];
    for before in before {
        let options = [before, &MSS_1460].concat();
        check(&options, &options);
    }
    // One that is cut off by the header's end.
    for cut in [&[1, 1, 1, 2][..], &[1, 1, 2, 4], &[1, 2, 4, 0xff]] {
        check(cut, cut);
    }
    // Another length is another option, and the next one counts.
    check(&[&[2, 3, 9, 1][..], &MSS_1460].concat(), &[&[2, 3, 9, 1][..], &MSS_1400].concat());
}

/// As a receiver may still read a header whose length field says less than 20 bytes.
#[test]
fn a_header_shorter_than_its_fixed_part_is_left_alone() {
    let packet = segment(false, &MSS_1460);
    for words in 0..5u8 {
        let mut bytes = packet.frame(Part::Whole);
        bytes[14 + 20 + 12] = words << 4;
        let before = bytes.clone();
        clamp_frame(&mut bytes, 20, 1400);
        assert_eq!(bytes, before);
    }
}

/// Options, mostly well-formed, that fill a header.
fn any_options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        4 => any::<u16>().prop_map(|value| [&[2, 4][..], &value.to_be_bytes()].concat()),
        4 => Just(vec![1]),
        1 => Just(vec![0]),
        2 => Just(vec![4, 2]),
        2 => any::<u8>().prop_map(|shift| vec![3, 3, shift]),
        1 => any::<[u8; 8]>().prop_map(|stamps| [&[8, 10][..], &stamps].concat()),
        1 => (any::<u8>(), 2..9u8).prop_map(|(kind, len)| {
            let mut option = vec![kind, len];
            option.resize(len as usize, 2);
            option
        }),
        1 => vec(any::<u8>(), 1..5),
    ];
    (vec(option, 0..12), any::<u8>()).prop_map(|(options, padding)| {
        let mut options = options.concat();
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), padding);
        options
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_options_of_any_packet(
        packet in any_packet(),
        tcp_options in any_options(),
        tcp_flags: u8,
        max: u16,
    ) {
        let packet = Packet { is_tcp: true, without_checksum: false, tcp_options, tcp_flags, ..packet };
        let mut bytes = packet.frame(Part::Whole);
        clamp_frame(&mut bytes, packet.headers(Part::Whole).offset, max);
        let is_syn = tcp_flags & SYN != 0;
        let tcp_options =
            if is_syn { clamped(&packet.tcp_options, max) } else { packet.tcp_options.clone() };
        let expected = Packet { tcp_options, ..packet };
        prop_assert_eq!(bytes, expected.frame(Part::Whole));
    }

    /// A frame that ends within the options: what is there is treated as in a whole one, and nothing beyond is touched.
    #[test]
    fn what_is_cut_short_is_never_left_with_a_wrong_change(tcp_options in any_options(), max: u16, is_v6: bool) {
        let packet = segment(is_v6, &tcp_options);
        let offset = packet.headers(Part::Whole).offset;
        let whole = packet.frame(Part::Whole);
        let fixed = 14 + offset as usize + 20;
        for len in 0..whole.len() {
            let mut bytes = whole.clone();
            clamp_frame(&mut bytes[..len], offset, max);
            if len < fixed {
                prop_assert_eq!(&bytes, &whole);
                continue;
            }
            prop_assert_eq!(&bytes[len..], &whole[len..]);
            let expected = Packet { tcp_options: bytes[fixed..].to_vec(), ..packet.clone() };
            prop_assert_eq!(bytes, expected.frame(Part::Whole));
        }
    }
}
