//! The way out in every mode: hops, outer headers, their spread, translation.

use lb_common::hash::FlowHash;
use lb_common::layout::{Backend, Egress};
use lb_userspace::speak::{frame_to, rst};
use sluice_tests::packets::{Packet, check};

use super::bench::{Bench, Flow, HOSTS, L3, Mode, NOTHING, all_flows, flows};

#[test]
fn every_mode_is_exact() {
    let mut bench = Bench::new();
    for (number, (class, ttl)) in [(0, 64), (1, 2), (2, 255), (0xb8, 3), (0xff, 128)].into_iter().enumerate()
    {
        for payload in [0, 1, 7, 1000] {
            for flow in all_flows((number * 10_000 + payload) as u16) {
                let packet = flow.packet(payload).traffic_class(class).ttl(ttl);
                bench.sent("first", flow, &packet, 1, flow.found());
                bench.sent("again", flow, &packet, 1, ("forward_pin", NOTHING));
                let output = bench.leaving(flow, &packet, 1);
                // GUE over IPv6 has no UDP checksum (RFC 6935).
                if flow.mode != Mode::Gue6 {
                    assert_eq!(check(&output), Ok(()));
                }
            }
        }
    }
}

/// Every checksum field comes out as it would be computed anew, whatever it was.
#[test]
fn hops_are_taken_off_with_the_right_checksum() {
    let mut bench = Bench::new();
    for identification in (0..=u16::MAX).step_by(131) {
        let flow = Flow::of(Mode::L2, 0, 1);
        let packet = flow.packet(0).identification(identification).ttl(2 + identification as u8 % 250);
        let (_, bytes) = bench.rig.run_uncounted(&packet.build(), 1);
        assert_eq!(bytes, bench.leaving(flow, &packet, 1), "{identification}");
    }
}

#[test]
fn padding_is_kept() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let packet = flow.packet(1);
        let [input, output] = [packet.build(), bench.leaving(flow, &packet, 1)].map(|mut frame| {
            frame.extend([0xee; 5]);
            frame
        });
        bench.sent_as("padded", flow, input, output, 1, flow.found());
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut bench = Bench::new();
    for flow in all_flows(1).filter(|flow| flow.protocol == super::bench::UDP) {
        bench.sent("no checksum", flow, &flow.packet(9).without_checksum(), 1, flow.found());
    }
}

/// A UDP checksum that comes out as 0 is sent as its other form; and one that is wrong stays wrong.
#[test]
fn translated_checksums_of_any_value() {
    let mut bench = Bench::new();
    for flow in flows(Mode::Nat, 1) {
        for value in (0..=u16::MAX).step_by(257).chain(0xfff0..=0xffff) {
            let packet = flow.packet(0).payload(&value.to_be_bytes());
            let (_, bytes) = bench.rig.run_uncounted(&packet.build(), 1);
            assert_eq!(bytes, bench.leaving(flow, &packet, 1), "{flow:?}, {value:#x}");
            assert_eq!(check(&bytes), Ok(()));
        }
        let mut input = flow.packet(2).build();
        let last = input.len() - 1;
        input[last] ^= 1;
        let (_, bytes) = bench.rig.run_uncounted(&input, 1);
        check(&bytes).unwrap_err();
    }
}

/// The payload that makes the sum of the translated datagram 0.
#[test]
fn a_sum_of_zero_is_sent_as_all_ones() {
    let mut bench = Bench::new();
    for kind in [1, 3] {
        let flow = Flow::of(Mode::Nat, kind, 1);
        let at = L3 + flow.ip_header() + 6;
        let of = |frame: &[u8]| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let with = |word: u16| flow.packet(0).payload(&word.to_be_bytes());
        // The sum of everything else, taken into the payload.
        let found = (0..=u16::MAX).find(|&word| of(&bench.leaving(flow, &with(word), 1)) == 0xffff).unwrap();
        bench.sent("all ones", flow, &with(found), 1, flow.found());
    }
}

/// A backend may have the service's port.
#[test]
fn a_port_may_stay() {
    let mut bench = Bench::new();
    bench.change(|backend| {
        if backend.record.mode == lb_common::layout::MODE_NAT {
            backend.record.port = 0;
        }
    });
    for flow in flows(Mode::Nat, 1) {
        let packet = flow.packet(20);
        let mut to = flow.backend(1);
        to.set_port(flow.to.port());
        let inner = packet.clone().hop().to(to).build();
        let output = super::bench::wrapped(&inner, &bench.backend(flow, 1), 0, 0);
        bench.sent_as("same port", flow, packet.build(), output, 1, flow.found());
    }
}

/// Bits of the outer source come from the flow's hash where the way out says so, and nowhere else.
#[test]
fn the_outer_source_is_spread() {
    let mut bench = Bench::new();
    bench.change(|backend| {
        let spread = if backend.record.flags & lb_common::layout::BackendFlags::OUTER_V6 != 0 {
            [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0])]
        } else {
            [u64::from_ne_bytes([0, 0, 0xff, 0xfe, 0, 0, 0, 0]), 0]
        };
        backend.egress = Egress { spread, ..backend.egress };
    });
    for mode in [Mode::Ipip4, Mode::Ipip6, Mode::Gue4, Mode::Gue6] {
        let mut sources = std::collections::BTreeSet::new();
        for number in 0..40 {
            for flow in flows(mode, number) {
                let packet = flow.packet(3);
                bench.sent("spread", flow, &packet, 1, flow.found());
                let output = bench.leaving(flow, &packet, 1);
                sources.insert(output[L3 + 8..L3 + 24].to_vec());
            }
        }
        assert!(sources.len() > 40, "{mode:?}: {}", sources.len());
    }
}

/// GUE's entropy is of the flow: one port for all its packets, many for many flows.
#[test]
fn the_gue_port_is_the_flow_s() {
    let mut bench = Bench::new();
    for mode in [Mode::Gue4, Mode::Gue6] {
        let at = L3 + if mode == Mode::Gue4 { 20 } else { 40 };
        let mut ports = std::collections::BTreeSet::new();
        for number in 0..100 {
            let flow = Flow::of(mode, 0, number);
            let port = |packet: &Packet, bench: &mut Bench| {
                let (_, bytes) = bench.rig.run_uncounted(&packet.build(), 1);
                u16::from_be_bytes([bytes[at], bytes[at + 1]])
            };
            let first = port(&flow.syn(1), &mut bench);
            assert_eq!(first, port(&flow.packet(100), &mut bench));
            assert!(first >= 49152);
            ports.insert(first);
        }
        assert!(ports.len() > 90);
    }
}

/// What the daemon sends by itself to a backend goes as the program would have sent it, with a spread source and without.
#[test]
fn the_daemon_s_own_frames_are_as_the_program_s() {
    let mut bench = Bench::new();
    for spread in [0, u64::from_ne_bytes([0, 0xff, 0, 0xfe, 0, 0, 0, 0])] {
        bench.change(|backend| backend.egress.spread = [spread; 2]);
        for flow in all_flows(1).filter(|flow| flow.protocol == super::bench::TCP) {
            bench.rig.run(&flow.packet(0).build());
            let packet = rst(&flow.tuple(), 0x1234_5678);
            let hash = FlowHash::of(&flow.tuple(), bench.rig.dataplane.options.key);
            let own = frame_to(&packet, &bench.backend(flow, 1), hash).expect("its backend is known");
            let mut input = flow.packet(0).build()[..L3].to_vec();
            input.extend(&packet);
            // The translator takes a hop off; others are told of a packet that has been a hop on its way.
            if flow.mode != Mode::Nat {
                if flow.is_v6() {
                    input[L3 + 7] += 1;
                } else {
                    input[L3 + 8] += 1;
                    let sum = u16::from_be_bytes([input[L3 + 10], input[L3 + 11]]) - 0x100;
                    input[L3 + 10..L3 + 12].copy_from_slice(&sum.to_be_bytes());
                }
            }
            let (_, bytes) = bench.rig.run_uncounted(&input, 1);
            super::bench::same_bytes(&own, &bytes, &format!("{flow:?}"));
            // GUE over IPv6 has no UDP checksum (RFC 6935).
            if flow.mode != Mode::Gue6 {
                assert_eq!(check(&own), Ok(()));
            }
        }
    }
}

/// A flow's host, and not any, in every mode.
#[test]
fn hosts_are_told_apart() {
    for host in HOSTS {
        let mut bench = Bench::new();
        bench.slots(lb_common::layout::Slot::settled(host.into()));
        for flow in all_flows(2) {
            bench.sent("its host", flow, &flow.packet(1), host, flow.found());
        }
    }
}

#[test]
fn a_backend_without_a_next_hop_gets_nothing() {
    let mut bench = Bench::new();
    bench.change(|backend| backend.record = Backend { flags: backend.record.flags & !1, ..backend.record });
    for flow in all_flows(1) {
        let (_, change) = flow.found();
        let counters = sluice_tests::rig::Delta::of(["drop_no_next_hop"]).pair(flow.service(), 1, change);
        bench.drops_with("no next hop", flow.packet(1).build(), counters);
        // Not plain either.
        bench.drops("no next hop", flow.packet(1).vlan(3).build(), "drop_no_next_hop");
    }
}
