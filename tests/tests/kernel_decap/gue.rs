//! Generic UDP Encapsulation.

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4Options};
use lb_common::decap::{DecapReason, GUE_PORT};
use sluice_tests::rig::decap::Kernel;

use super::bench::*;

/// Every pair, with and without a UDP checksum.
fn pairs() -> impl Iterator<Item = (Gue, bool, DecapReason)> {
    GUE_PAIRS.into_iter().flat_map(|(outer_is_v6, inner_is_v6, reason)| {
        [false, true]
            .map(|has_checksum| (Gue { outer_is_v6, has_checksum, ..Gue::default() }, inner_is_v6, reason))
    })
}

#[test]
fn takes_all_four_pairs_apart() {
    let kernels = all();
    for (gue, inner_is_v6, reason) in pairs() {
        let packet = inner(inner_is_v6, 0);
        let input = frame(&gue.around(&packet));
        check(&kernels, reason.name(), &input, reason, &frame(&packet));
        // Ethernet padding behind the packet.
        let padded = [&input[..], &[0xaa; 9]].concat();
        check(&kernels, "padded frame", &padded, reason, &[frame(&packet), vec![0xaa; 9]].concat());
        // UDP that is longer than the inner packet: which of the bytes behind it are right nobody knows.
        let roomy = [&packet[..], &[0xbb; 7]].concat();
        let input = frame(&gue.around(&roomy));
        if gue.has_checksum {
            check_untouched(&kernels, "roomy packet", &input, DecapReason::PassGueUnverified);
        } else {
            check(&kernels, "roomy packet", &input, reason, &frame(&roomy));
        }
    }
}

#[test]
fn skips_what_no_flag_announces() {
    let kernels = all();
    for (gue, inner_is_v6, reason) in pairs().filter(|(gue, ..)| !gue.has_checksum) {
        for surplus in 0..=31 {
            let packet = inner(inner_is_v6, 0);
            let input = frame(&Gue { surplus, ..gue }.around(&packet));
            check(&kernels, &format!("{surplus} words"), &input, reason, &frame(&packet));
        }
        // The longest headers there are.
        if !gue.outer_is_v6 {
            let packet = inner(inner_is_v6, 0);
            let payload = Gue { surplus: 31, ..gue }.around(&packet)[20..].to_vec();
            let input = outer_v4(&payload, |header| {
                header.protocol = IpNumber::UDP;
                header.options = Ipv4Options::try_from(&[1; 40][..]).unwrap();
                header.set_payload_len(payload.len()).unwrap();
            });
            let input = tagged(TAGS[3], &frame(&input));
            check(&kernels, "longest headers", &input, reason, &tagged(TAGS[3], &frame(&packet)));
        }
    }
}

#[test]
fn is_right_at_every_length() {
    let kernels = all();
    for (gue, inner_is_v6, _) in pairs() {
        let whole = frame(&gue.around(&inner(inner_is_v6, 0)));
        let (udp, _) = gue.offsets();
        for len in 14..whole.len() {
            check_untouched(&kernels, "truncated frame", &whole[..len], DecapReason::PassMalformed);
        }
        // The outer headers are whole, but the UDP packet ends too soon: before its GUE header does, or within the packet.
        for len in 0..whole.len() - udp {
            let mut short = whole.clone();
            short[udp + 4..udp + 6].copy_from_slice(&(len as u16).to_be_bytes());
            let reason = if len < 12 { DecapReason::PassMalformed } else { DecapReason::PassInnerLength };
            check_untouched(&kernels, &format!("UDP of {len} bytes"), &short, reason);
        }
        let mut longer = whole.clone();
        longer[udp + 5] += 1;
        check_untouched(&kernels, "UDP longer than IP", &longer, DecapReason::PassMalformed);
    }
}

#[test]
fn refuses_what_it_cannot_understand() {
    use DecapReason::*;
    let kernels = all();
    for (gue, inner_is_v6, reason) in pairs() {
        let packet = inner(inner_is_v6, 0);
        let check = |description: &str, expected, change: &dyn Fn(&mut [u8])| {
            let input = frame(&gue.changed(&packet, change));
            check_untouched(&kernels, &format!("{}, {description}", reason.name()), &input, expected);
        };
        for variant in 1..=3 {
            check("variant", PassGueVariant, &|header| header[0] |= variant << 6);
        }
        check("control message", PassGueControl, &|header| header[0] |= 0x20);
        for flag in 0..16 {
            check("flag", PassGueFlags, &|header| {
                header[2..4].copy_from_slice(&(1u16 << flag).to_be_bytes())
            });
        }
        for protocol in [0, 1, 6, 17, 47, 59, 132, 255] {
            check("protocol", PassGueProtocol, &|header| header[1] = protocol);
        }
        check("the other version", PassInnerVersion, &|header| header[1] ^= 4 ^ 41);
        // Another port, and fragments, whose ports nobody knows.
        let (udp, _) = gue.offsets();
        let mut port = frame(&gue.around(&packet));
        port[udp + 2..udp + 4].copy_from_slice(&(GUE_PORT + 1).to_be_bytes());
        check_untouched(&kernels, "another port", &port, PassOtherProtocol);
        if !gue.outer_is_v6 {
            let fragment = |change: fn(&mut Ipv4Header)| {
                outer_v4(&gue.around(&packet)[20..], |header| {
                    header.protocol = IpNumber::UDP;
                    change(header);
                })
            };
            let first = fragment(|header| header.more_fragments = true);
            let later = fragment(|header| header.fragment_offset = IpFragOffset::try_new(3).unwrap());
            check_untouched(&kernels, "first fragment", &frame(&first), PassFragment);
            check_untouched(&kernels, "later fragment", &frame(&later), PassFragment);
            let foreign = fragment(|header| header.destination = [192, 0, 2, 8]);
            check_untouched(&kernels, "foreign destination", &frame(&foreign), PassForeign);
        }
    }
}

#[test]
fn leaves_gue_alone_where_it_is_off() {
    for kernel in programs().map(|program| Kernel::load_with(program, &HERE, 0)) {
        for (gue, inner_is_v6, _) in pairs() {
            let mut input = frame(&gue.around(&inner(inner_is_v6, 0)));
            assert_eq!(kernel.run(&input).counted, [DecapReason::PassOtherProtocol]);
            // No port is not port 0.
            let (udp, _) = gue.offsets();
            input[udp + 2..udp + 4].fill(0);
            let answer = kernel.run(&input);
            assert_eq!((answer.counted, answer.bytes), (vec![DecapReason::PassOtherProtocol], input));
        }
        let packet = inner(false, 0);
        let answer = kernel.run(&frame(&outer(false, &packet, 0)));
        assert_eq!((answer.counted, answer.bytes), (vec![DecapReason::Decap4In4], frame(&packet)));
    }
}

#[test]
fn combines_ecn_by_rfc_6040() {
    let kernels = all();
    for (gue, inner_is_v6, reason) in pairs() {
        for (inner_ecn, row) in ECN {
            for (ecn, result) in OUTER_ECN.into_iter().zip(row) {
                let input = frame(&Gue { ecn, ..gue }.around(&inner(inner_is_v6, inner_ecn)));
                let description = format!("{}: outer {ecn:02b}, inner {inner_ecn:02b}", reason.name());
                match result {
                    Some(ecn) => {
                        check(&kernels, &description, &input, reason, &frame(&inner(inner_is_v6, ecn)));
                    }
                    None => check_untouched(&kernels, &description, &input, DecapReason::DropCongested),
                }
            }
        }
    }
}

/// Each bit that is changed on the way is found: by the outer checksum, or by one of the inner packet, whose receiver looks at
/// it (`bench::check` holds each verdict against the full sums).
#[test]
fn finds_every_changed_bit() {
    let kernels = all();
    for (gue, inner_is_v6, reason) in pairs().filter(|(gue, ..)| gue.has_checksum) {
        let packet = inner(inner_is_v6, 0);
        let whole = frame(&gue.around(&packet));
        let (udp, header) = gue.offsets();
        let addresses = if gue.outer_is_v6 { 22..54 } else { 26..34 };
        let inner = header + 4;
        for at in addresses.chain(udp..whole.len()) {
            for bit in 0..8 {
                let mut wrong = whole.clone();
                wrong[at] ^= 1 << bit;
                let answer = on_host(&wrong);
                for kernel in &kernels {
                    assert_eq!(kernel.run(&wrong), answer, "byte {at}, bit {bit}");
                }
                lb_laws::decap::check(&wrong);
                assert!(at >= inner || answer.counted != [reason], "byte {at}, bit {bit} is not found");
            }
        }
        let mut wrong = whole.clone();
        wrong[udp] ^= 1;
        check_untouched(&kernels, "source port", &wrong, DecapReason::PassGueChecksum);
        if inner_is_v6 {
            // Of the inner header, which has no checksum.
            let mut wrong = whole.clone();
            wrong[inner + 7] -= 1;
            check_untouched(&kernels, "hop limit", &wrong, DecapReason::PassGueChecksum);
        }
    }
}
