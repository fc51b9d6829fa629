//! IP in IP.

use etherparse::{IpFragOffset, IpNumber, Ipv4Options};
use lb_common::decap::DecapReason;
use sluice_tests::kernel::{PIECES, is_before};

use super::bench::*;

#[test]
fn takes_all_four_pairs_apart() {
    let kernels = all();
    for (outer_is_v6, inner_is_v6, reason) in PAIRS {
        let packet = inner(inner_is_v6, 0);
        let input = frame(&outer(outer_is_v6, &packet, 0));
        check(&kernels, reason.name(), &input, reason, &frame(&packet));
        // Ethernet padding behind the packet, and an outer packet that is longer than the inner one.
        let padded = [&input[..], &[0xaa; 9]].concat();
        let output = [frame(&packet), vec![0xaa; 9]].concat();
        check(&kernels, "padded frame", &padded, reason, &output);
        let roomy = [&packet[..], &[0xbb; 7]].concat();
        check(&kernels, "roomy packet", &frame(&outer(outer_is_v6, &roomy, 0)), reason, &frame(&roomy));
    }
}

#[test]
fn takes_ipv4_options_of_every_length() {
    let kernels = all();
    for words in 1..=10 {
        for (_, inner_is_v6, reason) in &PAIRS[..2] {
            let packet = inner(*inner_is_v6, 0);
            let mut options = vec![1; words * 4];
            options[words * 4 - 3..].copy_from_slice(&[0x9f, 3, 0x77]);
            let mut input = outer_v4(&packet, |header| {
                header.options = Ipv4Options::try_from(&options[..]).unwrap();
                header.set_payload_len(packet.len()).unwrap();
            });
            check(&kernels, "options", &frame(&input), *reason, &frame(&packet));
            input[20] ^= 1;
            check_untouched(&kernels, "options, checksum", &frame(&input), DecapReason::PassChecksum);
        }
    }
    // Options of the inner packet are its own.
    let mut packet = outer_v4(b"payload", |header| {
        header.options = Ipv4Options::try_from(&[1; 40][..]).unwrap();
        header.set_payload_len(7).unwrap();
        header.protocol = IpNumber::UDP;
    });
    check(
        &kernels,
        "inner options",
        &frame(&outer(false, &packet, 0)),
        DecapReason::Decap4In4,
        &frame(&packet),
    );
    packet[0] = 0x44;
    let input = frame(&outer(false, &packet, 0));
    check_untouched(&kernels, "inner header of 16 bytes", &input, DecapReason::PassInnerLength);
}

#[test]
fn leaves_everything_else_alone() {
    use DecapReason::*;
    let kernels = all();
    let (packet4, packet6) = (inner(false, 0), inner(true, 0));
    let foreign4 = outer_v4(&packet4, |header| header.destination = [192, 0, 2, 8]);
    let foreign6 = outer_v6(&packet4, |header| header.destination[0] = 0xfd);
    let mapped = outer_v6(&packet4, |header| header.destination = HERE_V4.to_ipv6_mapped().octets());
    let more = outer_v4(&packet4, |header| {
        header.more_fragments = true;
        header.dont_fragment = false;
    });
    let later = outer_v4(&packet4, |header| header.fragment_offset = IpFragOffset::try_new(3).unwrap());
    let mut checksum = outer_v4(&packet4, |_| {});
    checksum[11] ^= 0x10;
    let icmp = outer_v4(&packet4, |header| header.protocol = IpNumber::ICMP);
    let version4 = outer_v4(&packet6, |header| header.protocol = IpNumber::IPV4);
    let version6 = outer_v6(&packet4, |header| header.next_header = IpNumber::IPV6);
    let short_ihl = {
        let mut packet = outer_v4(&packet4, |_| {});
        packet[0] = 0x44;
        packet
    };
    let too_long = outer_v4(&packet4, |header| header.total_len += 1);
    let too_long6 = outer_v6(&packet4, |header| header.payload_length += 1);
    let shorter = outer_v4(&packet4, |header| header.total_len -= 1);
    let shorter6 = outer_v6(&packet6, |header| header.payload_length -= 1);
    let empty = outer_v4(&packet4, |header| header.total_len = 20);
    let below_header = outer_v4(&packet4, |header| header.total_len = 19);
    let options_header = outer_v6(&packet6, |header| header.next_header = IpNumber::IPV6_DESTINATION_OPTIONS);

    for (description, input, reason) in [
        ("ARP", ethernet(0x0806, &[0; 46]), PassNotIp),
        ("plain IPv4", frame(&packet4), PassOtherProtocol),
        ("plain IPv6", frame(&packet6), PassOtherProtocol),
        ("ICMP", frame(&icmp), PassOtherProtocol),
        ("IPv6 destination options", frame(&options_header), PassOtherProtocol),
        ("foreign IPv4 destination", frame(&foreign4), PassForeign),
        ("foreign IPv6 destination", frame(&foreign6), PassForeign),
        ("IPv4-mapped IPv6 destination", frame(&mapped), PassForeign),
        ("first fragment", frame(&more), PassFragment),
        ("later fragment", frame(&later), PassFragment),
        ("wrong checksum", frame(&checksum), PassChecksum),
        ("IPv6 announced as IPv4", frame(&version4), PassInnerVersion),
        ("IPv4 announced as IPv6", frame(&version6), PassInnerVersion),
        ("header of 16 bytes", frame(&short_ihl), PassMalformed),
        ("IPv4 length beyond the frame", frame(&too_long), PassMalformed),
        ("IPv6 length beyond the frame", frame(&too_long6), PassMalformed),
        ("IPv4 length below the header", frame(&below_header), PassMalformed),
        ("inner IPv4 longer than outer", frame(&shorter), PassInnerLength),
        ("inner IPv6 longer than outer", frame(&shorter6), PassInnerLength),
        ("nothing inside", frame(&empty), PassInnerLength),
        ("IPv6 in an IPv4 frame", ethernet(0x0800, &outer(true, &packet4, 0)), PassMalformed),
        ("IPv4 in an IPv6 frame", ethernet(0x86dd, &outer(false, &packet4, 0)), PassMalformed),
        ("zeroes", vec![0; 60], PassNotIp),
        ("ones", vec![0xff; 60], PassNotIp),
    ] {
        check_untouched(&kernels, description, &input, reason);
    }
}

#[test]
fn is_right_at_every_length() {
    let kernels = all();
    for (outer_is_v6, inner_is_v6, reason) in PAIRS {
        let packet = outer(outer_is_v6, &inner(inner_is_v6, 0), 0);
        let whole = frame(&packet);
        // The kernel's test run takes no frame without an Ethernet header.
        for len in 14..whole.len() {
            check_untouched(&kernels, "truncated frame", &whole[..len], DecapReason::PassMalformed);
        }
        // The outer header fits the frame, but the inner packet ends too soon.
        let outer_len = if outer_is_v6 { 40 } else { 20 };
        for len in outer_len..packet.len() {
            let mut packet = packet[..len].to_vec();
            if outer_is_v6 {
                packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            } else {
                packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                mend_checksum(&mut packet);
            }
            let description = format!("{} of {len} bytes", reason.name());
            check_untouched(&kernels, &description, &frame(&packet), DecapReason::PassInnerLength);
        }
    }
}

#[test]
fn combines_ecn_by_rfc_6040() {
    let kernels = all();
    for (outer_is_v6, inner_is_v6, reason) in PAIRS {
        for (inner_ecn, row) in ECN {
            for (outer_ecn, result) in OUTER_ECN.into_iter().zip(row) {
                let input = frame(&outer(outer_is_v6, &inner(inner_is_v6, inner_ecn), outer_ecn));
                let description = format!("{}: outer {outer_ecn:02b}, inner {inner_ecn:02b}", reason.name());
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

#[test]
fn a_mark_keeps_a_wrong_inner_checksum_wrong() {
    let kernel = all().remove(0);
    let mut packet = inner(false, 0b10);
    packet[11] ^= 1;
    let mut expected = inner(false, 0b11);
    let output = kernel.run(&frame(&outer(false, &packet, 0b11)));
    assert_ne!(output.bytes[24..26], expected[10..12], "the error was hidden");
    expected[10..12].copy_from_slice(&output.bytes[24..26]);
    assert_eq!(output.bytes, frame(&expected));
}

/// Frames that lie in several pieces: only one of the programs takes them, and older kernels give them to none.
#[test]
fn takes_jumbo_frames() {
    let kernels: Vec<_> = all().into_iter().filter(|kernel| kernel.program == WITH_PIECES).collect();
    assert!(!kernels.is_empty() || is_before(PIECES));
    let mut packet = inner(false, 0);
    packet.resize(8900, 0x5a);
    packet[2..4].copy_from_slice(&8900u16.to_be_bytes());
    mend_checksum(&mut packet);
    let input = frame(&outer(true, &packet, 0));
    check(&kernels, "jumbo frame", &input, DecapReason::Decap4In6, &frame(&packet));
    let mut longer = input.clone();
    longer[18..20].copy_from_slice(&8901u16.to_be_bytes());
    check_untouched(&kernels, "jumbo frame too short", &longer, DecapReason::PassMalformed);
}
