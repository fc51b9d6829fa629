//! VLAN tags: in, out, back, and cut.

use std::net::IpAddr;

use lb_common::layout::{BackendFlags, Egress, FEATURE_PING, FEATURE_TAGS};
use sluice_tests::packets::Packet;

use super::bench::{Bench, L3, Mode, NOTHING, all_flows, flows};

type Tags = &'static [(u16, u16)];

const ONE: Tags = &[(0x8100, 7)];
const PRIORITY: Tags = &[(0x8100, 0xe000)];
const SERVICE: Tags = &[(0x88a8, 100)];
const TWO: Tags = &[(0x88a8, 0x6064), (0x8100, 0x1007)];
const SAME: Tags = &[(0x8100, 4094), (0x8100, 1)];
const ALL: [Tags; 5] = [ONE, PRIORITY, SERVICE, TWO, SAME];

fn tagged(packet: Packet, tags: Tags) -> Packet {
    tags.iter().fold(packet, |packet, &(kind, control)| packet.tag(kind, control))
}

/// The tags in a frame that has none.
fn with_tags(frame: &[u8], tags: Tags) -> Vec<u8> {
    let tags: Vec<u8> = tags
        .iter()
        .flat_map(|(kind, control)| [kind.to_be_bytes(), control.to_be_bytes()].concat())
        .collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

#[test]
fn tagged_packets_are_forwarded_without_tags() {
    let mut bench = Bench::new();
    for (number, tags) in ALL.into_iter().enumerate() {
        for flow in all_flows(number as u16) {
            let packet = tagged(flow.packet(33), tags);
            bench.sent("tagged", flow, &packet, 1, flow.found());
            bench.sent("the same flow untagged", flow, &flow.packet(33), 1, ("forward_pin", NOTHING));
            bench.sent("and tagged", flow, &packet, 1, ("forward_pin", NOTHING));
        }
    }
}

#[test]
fn the_way_out_has_its_own_tags() {
    let word = |(kind, control): (u16, u16)| {
        let ([a, b], [c, d]) = (kind.to_be_bytes(), control.to_be_bytes());
        u32::from_ne_bytes([a, b, c, d])
    };
    for out in [ONE, TWO] {
        let tags = [word(out[0]), out.get(1).map_or(0, |tag| word(*tag))];
        let mut bench = Bench::with(
            |abilities| abilities.features |= FEATURE_TAGS,
            |mut backend| {
                backend.record.flags |= BackendFlags::TAGGED;
                backend.egress = Egress { tags, ..backend.egress };
                backend
            },
        );
        for (number, within) in [&[] as Tags, ONE, TWO].into_iter().enumerate() {
            for flow in all_flows(number as u16) {
                let packet = tagged(flow.packet(5), within);
                let output = bench.leaving(flow, &packet, 1);
                assert_eq!(output[12..16], tags[0].to_ne_bytes());
                bench.sent("tags in and out", flow, &packet, 1, flow.found());
            }
        }
        // A way without them, in the same program.
        bench.change(|backend| {
            backend.record.flags &= !BackendFlags::TAGGED;
            backend.egress.tags = [0; 2];
        });
        for flow in all_flows(9) {
            bench.sent("out untagged", flow, &tagged(flow.packet(5), ONE), 1, flow.found());
        }
    }
}

#[test]
fn what_passes_keeps_its_tags() {
    let mut bench = Bench::new();
    for tags in ALL {
        for flow in flows(Mode::L2, 1) {
            let (from, to) = (flow.from, flow.to);
            let mut elsewhere = to;
            elsewhere.set_port(9);
            let pass = [
                (Packet::tcp(from, elsewhere).syn(1), "pass_no_service"),
                (Packet::other(from.ip(), to.ip(), 47).payload(&[3; 40]), "pass_other_protocol"),
                (Packet::ping(from.ip(), to.ip(), 1, 2).payload(&[9; 20]), "pass_icmp"),
                (Packet::ping(from.ip(), from.ip(), 1, 2), "pass_icmp"),
            ];
            for (packet, reason) in pass {
                bench.passes("for the kernel", tagged(packet, tags).build(), reason);
            }
        }
        let arp = with_tags(&[&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 8, 6], &[1; 28]].concat(), tags);
        bench.passes("ARP", arp, "pass_not_ip");
        let third = with_tags(&tagged(flows(Mode::L2, 1)[0].syn(1), tags).build(), TWO);
        if tags.len() == 2 {
            bench.passes("four tags", third, "pass_not_ip");
        } else {
            bench.passes("three tags", third, "pass_not_ip");
        }
    }
    bench.not_pinned();
}

#[test]
fn cut_tags_are_malformed() {
    let mut bench = Bench::new();
    let frame = tagged(flows(Mode::L2, 1)[0].syn(1), TWO).build();
    for length in L3..frame.len() {
        // All of them, and what lies behind the tags.
        bench.passes(&format!("{length} bytes"), frame[..length].to_vec(), "pass_malformed");
    }
    bench.not_pinned();
}

#[test]
fn dropped_frames_count_once() {
    let mut bench = Bench::new();
    for flow in flows(Mode::L2, 1) {
        let mut from = flow.from;
        from.set_port(0);
        bench.drops("port 0", tagged(flow.packet(1).from(from), TWO).build(), "drop_zero_port");
    }
}

/// Answers go back with the tags that the question came with.
#[test]
fn answers_carry_the_tags() {
    let mut bench = Bench::featured(FEATURE_PING);
    for tags in ALL {
        for flow in flows(Mode::Ipip6, 1) {
            let (client, vip): (IpAddr, IpAddr) = (flow.from.ip(), flow.to.ip());
            let ping = Packet::ping(client, vip, 7, 8).payload(&[5; 30]);
            let pong = super::answers::pong(&flow, 7, 8, &[5; 30]).build();
            let count = |reason| sluice_tests::rig::Delta::of([reason]);
            bench.answers("echo", tagged(ping, tags).build(), with_tags(&pong, tags), count("answer_echo"));

            let spent = flow.packet(300).ttl(1);
            let answer = super::answers::time_exceeded(&flow, &spent.build(), vip);
            let input = tagged(spent, tags).build();
            bench.answers("time", input, with_tags(&answer, tags), count("answer_time_exceeded"));

            let long = flow.packet(1500 - flow.ip_header());
            let answer = super::answers::too_big(&flow, &long.build(), vip, 1460);
            let input = tagged(long, tags).build();
            let (_, change) = flow.found();
            let change = if bench.pin(flow).is_some() { NOTHING } else { change };
            let counters = count("answer_too_big").pair(flow.service(), 1, change);
            bench.answers("too big", input, with_tags(&answer, tags), counters);
        }
    }
}
