//! Headers that are cut short or contradict themselves: to the kernel, untouched.

use lb_common::parse::{Frame, parse_plain};
use lb_common::reason::Reason;
use sluice_tests::packets::{Packet, truncations, with_byte};

use super::bench::{Bench, Fixture, Flow};

const L3: usize = 14;
const MALFORMED: &str = "pass_malformed";

/// Whole frames of all four services, with payload; TCP has options.
fn whole() -> Vec<(u16, Vec<u8>)> {
    let frame = |service: u16| {
        let flow = Flow::of(service, 1);
        if service.is_multiple_of(2) {
            flow.tcp().seq(1).ack(1).tcp_options(&[1; 12]).payload(b"payload").build()
        } else {
            Packet::udp(flow.from, flow.to).payload(b"payload").build()
        }
    };
    (0..4).map(|service| (service, frame(service))).collect()
}

fn check_all(fixtures: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let mut bench = Bench::new();
    let mut number = 0;
    for (description, frame) in fixtures {
        bench.check(&Fixture::pass(description, frame, MALFORMED));
        number += 1;
    }
    assert!(number > 0);
    assert_eq!(bench.rig.pins(), []);
}

#[test]
fn every_truncation() {
    let mut fixtures = Vec::new();
    for (service, frame) in whole() {
        for part in truncations(&frame) {
            if part.len() < L3 {
                // The kernel runs no test on less than an Ethernet header.
                let end = part.as_ptr() as usize + part.len();
                // SAFETY: `part` is alive.
                let on_host = parse_plain(&unsafe { Frame::new(part.as_ptr() as usize, end) }, part.len());
                assert_eq!(on_host, Err(Reason::PassMalformed), "{} bytes", part.len());
            } else {
                fixtures.push((format!("service {service}, {} bytes", part.len()), part));
            }
        }
    }
    check_all(fixtures);
}

#[test]
fn versions_and_header_lengths() {
    let mut fixtures = Vec::new();
    for (service, frame) in whole() {
        let right = if service < 2 { 4 } else { 6 };
        for version in (0..16).filter(|version| *version != right) {
            let first = version << 4 | frame[L3] & 0x0f;
            fixtures
                .push((format!("service {service}, version {version}"), with_byte(frame.clone(), L3, first)));
        }
        if service < 2 {
            for words in 0..5 {
                fixtures.push((
                    format!("service {service}, ihl {words}"),
                    with_byte(frame.clone(), L3, 0x40 | words),
                ));
            }
            // The header claims all of the packet and more: there is no room for ports behind it.
            let ip_len = frame.len() - L3;
            for words in (5..16).filter(|words| usize::from(words * 4) + 8 > ip_len) {
                let frame = with_byte(frame.clone(), L3, 0x40 | words);
                // Bytes behind the packet are not its own, even if they look like a header.
                let padded = [&frame[..], &[0x50; 64]].concat();
                fixtures.push((format!("service {service}, ihl {words} beyond"), frame));
                fixtures.push((format!("service {service}, ihl {words} beyond, padded"), padded));
            }
        }
    }
    check_all(fixtures);
}

#[test]
fn total_and_payload_lengths() {
    let mut fixtures = Vec::new();
    for (service, frame) in whole() {
        let is_tcp = service.is_multiple_of(2);
        let (field, header) = if service < 2 { (L3 + 2, 20) } else { (L3 + 4, 0) };
        let right = frame.len() - L3 - if service < 2 { 0 } else { 40 };
        let mut with_length = |length: usize, padding: usize| {
            let mut frame = [&frame[..], &vec![0; padding][..]].concat();
            frame[field..field + 2].copy_from_slice(&(length as u16).to_be_bytes());
            fixtures.push((format!("service {service}, length {length}, {padding} padded"), frame));
        };
        // Beyond the frame; for IPv6 also beyond what a length with its header can be.
        for length in [right + 1, right + 100, 1500, 0x7fff, 65_495, 65_496, 65_535] {
            with_length(length, 0);
        }
        with_length(right + 65, 64);
        // Shorter than the IP header, and than the header behind it: the 32 bytes of this TCP header, the 8 of UDP.
        let least = header + if is_tcp { 32 } else { 8 };
        for length in 0..least {
            with_length(length, 0);
        }
    }
    check_all(fixtures);
}

#[test]
fn tcp_header_lengths() {
    let mut fixtures = Vec::new();
    for (service, frame) in whole().into_iter().filter(|(service, _)| service.is_multiple_of(2)) {
        let tcp = L3 + if service == 0 { 20 } else { 40 };
        let len = frame.len() - tcp;
        for words in 0..16_u8 {
            if words < 5 || usize::from(words) * 4 > len {
                let lying = with_byte(frame.clone(), tcp + 12, words << 4);
                let padded = [&lying[..], &[0; 64]].concat();
                fixtures.push((format!("service {service}, doff {words}"), lying));
                fixtures.push((format!("service {service}, doff {words}, padded"), padded));
            }
        }
    }
    check_all(fixtures);
}
