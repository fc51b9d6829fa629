//! The decapsulator in the kernel, packet by packet through `BPF_PROG_TEST_RUN`: verdict, bytes and every counter.
//! Needs root.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6Header, PacketBuilder};
use lb_common::decap::{DecapClass, DecapReason};
use lb_userspace::decap::PROGRAMS;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sluice_tests::rig::decap::{self, Answer, Kernel};
use sluice_tests::rig::{XDP_DROP, XDP_PASS};

const HERE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const HERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const BALANCER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const BALANCER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1];
const HERE: [IpAddr; 2] = [IpAddr::V4(HERE_V4), IpAddr::V6(HERE_V6)];

fn all() -> [Kernel; 2] {
    PROGRAMS.map(|program| Kernel::load(program, &HERE))
}

fn on_host(frame: &[u8]) -> Answer {
    decap::on_host(frame, &HERE)
}

fn check(kernels: &[Kernel], description: &str, frame: &[u8], reason: DecapReason, output: &[u8]) {
    let verdict = if reason.class() == DecapClass::Drop { XDP_DROP } else { XDP_PASS };
    let expected = Answer { verdict, bytes: output.to_vec(), counted: vec![reason] };
    assert_eq!(on_host(frame), expected, "{description}, on the host");
    for kernel in kernels {
        assert_eq!(kernel.run(frame), expected, "{description}, {}", kernel.program);
    }
}

/// All but the reasons that decapsulate leave the frame as it is.
fn check_untouched(kernels: &[Kernel], description: &str, frame: &[u8], reason: DecapReason) {
    assert_ne!(reason.class(), DecapClass::Decapsulate);
    check(kernels, description, frame, reason, frame);
}

fn ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&MACS[..], &ethertype.to_be_bytes(), packet].concat()
}

/// The frame of an IP packet.
fn frame(packet: &[u8]) -> Vec<u8> {
    ethernet(if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 }, packet)
}

/// A UDP packet that the balancer would encapsulate.
fn inner(is_v6: bool, ecn: u8) -> Vec<u8> {
    let payload = b"sixteen bytes ..";
    let mut packet = Vec::new();
    if is_v6 {
        let source = "2001:db8:1::99".parse::<Ipv6Addr>().unwrap().octets();
        let vip = "2001:db8:ff::1".parse::<Ipv6Addr>().unwrap().octets();
        let builder = PacketBuilder::ipv6(source, vip, 61).udp(40000, 53);
        builder.write(&mut packet, payload).unwrap();
        packet[1] |= ecn << 4 | 0x0b;
        packet[0] |= 0x0b;
    } else {
        let builder = PacketBuilder::ipv4([198, 51, 100, 99], [203, 0, 113, 1], 61).udp(40000, 53);
        builder.write(&mut packet, payload).unwrap();
        packet[1] = 0xb8 | ecn;
        mend_checksum(&mut packet);
    }
    packet
}

/// Computes an IPv4 header's checksum anew.
fn mend_checksum(packet: &mut [u8]) {
    let (header, _) = Ipv4Header::from_slice(packet).unwrap();
    let checksum = header.calc_header_checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn protocol_of(packet: &[u8]) -> IpNumber {
    if packet[0] >> 4 == 6 { IpNumber::IPV6 } else { IpNumber::IPV4 }
}

/// The outer IPv4 header of a packet, which `change` may change; then the checksum is computed.
fn outer_v4(packet: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let (source, destination) = (BALANCER_V4.octets(), HERE_V4.octets());
    let mut header =
        Ipv4Header::new(packet.len() as u16, 64, protocol_of(packet), source, destination).unwrap();
    header.dont_fragment = true;
    change(&mut header);
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], packet].concat()
}

fn outer_v6(packet: &[u8], change: impl FnOnce(&mut Ipv6Header)) -> Vec<u8> {
    let mut header = Ipv6Header {
        payload_length: packet.len() as u16,
        next_header: protocol_of(packet),
        hop_limit: 64,
        source: BALANCER_V6.octets(),
        destination: HERE_V6.octets(),
        ..Ipv6Header::default()
    };
    change(&mut header);
    [&header.to_bytes()[..], packet].concat()
}

fn outer(is_v6: bool, packet: &[u8], ecn: u8) -> Vec<u8> {
    if is_v6 {
        let mut packet = outer_v6(packet, |_| {});
        packet[1] |= ecn << 4;
        packet
    } else {
        let mut packet = outer_v4(packet, |_| {});
        packet[1] |= ecn;
        mend_checksum(&mut packet);
        packet
    }
}

/// (outer is IPv6, inner is IPv6, reason)
const PAIRS: [(bool, bool, DecapReason); 4] = [
    (false, false, DecapReason::Decap4In4),
    (false, true, DecapReason::Decap6In4),
    (true, false, DecapReason::Decap4In6),
    (true, true, DecapReason::Decap6In6),
];

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
        (
            "a VLAN tag",
            ethernet(0x8100, &[&[0, 5, 8, 0][..], &outer(false, &packet4, 0)].concat()),
            PassNotIp,
        ),
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
    const NOT: u8 = 0b00;
    const ECT1: u8 = 0b01;
    const ECT0: u8 = 0b10;
    const CE: u8 = 0b11;
    // Figure 4 of RFC 6040: rows by inner, columns by outer field, Not-ECT, ECT(0), ECT(1), CE.
    let table = [
        (NOT, [Some(NOT), Some(NOT), Some(NOT), None]),
        (ECT0, [Some(ECT0), Some(ECT0), Some(ECT1), Some(CE)]),
        (ECT1, [Some(ECT1), Some(ECT1), Some(ECT1), Some(CE)]),
        (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
    ];
    let kernels = all();
    for (outer_is_v6, inner_is_v6, reason) in PAIRS {
        for (inner_ecn, row) in table {
            for (outer_ecn, result) in [NOT, ECT0, ECT1, CE].into_iter().zip(row) {
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
    let kernel = Kernel::load(PROGRAMS[0], &HERE);
    let mut packet = inner(false, 0b10);
    packet[11] ^= 1;
    let mut expected = inner(false, 0b11);
    let output = kernel.run(&frame(&outer(false, &packet, 0b11)));
    assert_ne!(output.bytes[24..26], expected[10..12], "the error was hidden");
    expected[10..12].copy_from_slice(&output.bytes[24..26]);
    assert_eq!(output.bytes, frame(&expected));
}

/// Frames that lie in several pieces: only one of the programs takes them.
#[test]
fn takes_jumbo_frames() {
    let kernels = [Kernel::load("sluice_decap_frags", &HERE)];
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

/// A valid frame, and what is done to it: bytes changed, cut, padded, and the outer checksum mended or not.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let pair = (any::<bool>(), any::<bool>(), 0u8..4, 0u8..4);
    // Half of the changes hit what the program looks at: Ethertype, versions, lengths, protocols, fragments.
    const LOOKED_AT: [usize; 21] =
        [12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 34, 36, 37, 38, 39, 54, 56, 57, 58, 59];
    let change = (prop_oneof![0usize..110, prop::sample::select(&LOOKED_AT[..])], any::<u8>());
    (pair, prop::collection::vec(change, 0..5), 0usize..40, 0usize..200, any::<bool>()).prop_map(
        |((outer_is_v6, inner_is_v6, outer_ecn, inner_ecn), changes, padding, cut, mend)| {
            let mut bytes = frame(&outer(outer_is_v6, &inner(inner_is_v6, inner_ecn), outer_ecn));
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            if mend && !outer_is_v6 && Ipv4Header::from_slice(&bytes[14..]).is_ok() {
                mend_checksum(&mut bytes[14..]);
            }
            bytes.resize(bytes.len() + padding, 0xcc);
            if cut < 60 {
                bytes.truncate(14 + cut);
            }
            bytes
        },
    )
}

#[test]
fn kernel_and_host_agree_on_any_frame() {
    let kernels = all();
    let mut seen = [0; DecapReason::ALL.len()];
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let counts = std::cell::RefCell::new(&mut seen);
    runner
        .run(&mutated(), |bytes| {
            let expected = on_host(&bytes);
            counts.borrow_mut()[expected.counted[0] as usize] += 1;
            for kernel in &kernels {
                prop_assert_eq!(&kernel.run(&bytes), &expected);
            }
            Ok(())
        })
        .unwrap();
    // The frames reach every branch, or the test proves little.
    for reason in DecapReason::ALL {
        assert!(
            seen[*reason as usize] > 0 || *reason == DecapReason::DropInternal,
            "never {}",
            reason.name()
        );
    }
}
