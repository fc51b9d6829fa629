//! Answers of the balancer's own: pings, packets that do not fit, packets whose time has ended.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::layout::FEATURE_PING;
use sluice_tests::packets::{DESTINATION_MAC, Packet, SOURCE_MAC, check};
use sluice_tests::rig::{Delta, INGRESS, stay_on, two_cpus};

use super::answers::{pong, time_exceeded, too_big};
use super::bench::{Bench, Flow, L3, Mode, NOTHING, TCP, all_flows, flows, pattern};

const GROUP: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 1];
const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 251);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0xfb);

fn ping(flow: &Flow, payload: &[u8]) -> Packet {
    Packet::ping(flow.from.ip(), flow.to.ip(), 0x4242, 3).payload(payload)
}

/// Of the balancer, in the flow's family.
fn own(flow: &Flow) -> IpAddr {
    if flow.is_v6() { OWN_V6.into() } else { OWN_V4.into() }
}

#[test]
fn pings_are_answered() {
    let mut bench = Bench::featured(FEATURE_PING);
    for flow in all_flows(1) {
        for len in [0, 1, 2, 56, 1400] {
            for ttl in [0, 1, 2, 64, 255] {
                let answer = pong(&flow, 0x4242, 3, &pattern(len)).traffic_class(0x20).build();
                assert_eq!(check(&answer), Ok(()));
                let input = ping(&flow, &pattern(len)).traffic_class(0x20).ttl(ttl).build();
                bench.answers("ping", input, answer, Delta::of(["answer_echo"]));
            }
        }
        // Padding goes back as well.
        let [input, answer] = [ping(&flow, b"x").build(), pong(&flow, 0x4242, 3, b"x").build()]
            .map(|frame| [&frame[..], &[0xaa; 3]].concat());
        bench.answers("padded", input, answer, Delta::of(["answer_echo"]));
        // One that was damaged on the way is answered damaged: its sender finds out.
        let mut input = ping(&flow, b"odd").build();
        let last = input.len() - 1;
        input[last] ^= 1;
        let (_, bytes) = bench.rig.run_uncounted(&input, INGRESS);
        check(&bytes).unwrap_err();
    }
    bench.not_pinned();
}

#[test]
fn other_pings_pass() {
    for features in [0, FEATURE_PING] {
        let mut bench = Bench::featured(features);
        for flow in flows(Mode::Gue6, 1) {
            let (client, vip) = (flow.from.ip(), flow.to.ip());
            bench.passes("pong", Packet::pong(client, vip, 1, 2).build(), "pass_icmp");
            bench.passes("for no VIP", Packet::ping(vip, client, 1, 2).build(), "pass_icmp");
            let odd = if flow.is_v6() {
                ping(&flow, b"").extension(60, &[1, 4, 0, 0, 0, 0])
            } else {
                ping(&flow, b"").options(&[1; 4])
            };
            bench.passes("behind options", odd.build(), "pass_icmp");
            if features == 0 {
                for ttl in [0, 1, 64] {
                    bench.passes("not wanted", ping(&flow, b"").ttl(ttl).build(), "pass_icmp");
                }
            }
            let frame = ping(&flow, b"").build();
            for len in L3 + 1..frame.len() {
                bench.passes("cut", frame[..len].to_vec(), "pass_malformed");
            }
            // An ICMP header that is not whole.
            let protocol = if flow.is_v6() { 58 } else { 1 };
            let kind = if flow.is_v6() { 128 } else { 8 };
            for len in 0..8 {
                let short = Packet::other(client, vip, protocol).payload(&[kind; 8][..len]).build();
                bench.passes("short", short, "pass_icmp");
            }
        }
    }
}

/// So many of each kind in a second, and none more; a flood of one kind does not keep the others back.
#[test]
fn answers_are_rated() {
    // Each CPU has a rate of its own.
    stay_on(two_cpus()[0]);
    for rate in [0, 1, 3] {
        let change = |abilities: &mut lb_userspace::dataplane::Abilities| {
            abilities.features |= FEATURE_PING;
            abilities.icmp_rate = rate;
        };
        let mut bench = Bench::with(change, |backend| backend);
        for _ in 0..2 {
            for flow in flows(Mode::L2, 1).into_iter().filter(Flow::is_v6) {
                bench.rig.pass(1);
                bench.rig.run(&flow.packet(10).build());
                let spent = flow.packet(300).ttl(1);
                let long = flow.packet(1481);
                let kinds = [
                    (ping(&flow, b"12").build(), pong(&flow, 0x4242, 3, b"12").build(), "answer_echo"),
                    (
                        spent.build(),
                        time_exceeded(&flow, &spent.build(), flow.to.ip()),
                        "answer_time_exceeded",
                    ),
                    (long.build(), too_big(&flow, &long.build(), flow.to.ip(), 1500), "answer_too_big"),
                ];
                for (input, answer, reason) in kinds {
                    for _ in 0..rate {
                        bench.answers("in time", input.clone(), answer.clone(), Delta::of([reason]));
                    }
                    for _ in 0..3 {
                        bench.drops("too many", input.clone(), "drop_answer_rate");
                    }
                }
            }
        }
    }
}

/// What is longer than the way by a byte is answered with what would fit, and at that length it goes.
#[test]
fn what_does_not_fit_is_told() {
    let mut bench = Bench::new();
    for owns in [false, true] {
        if owns {
            bench.rig.own(INGRESS, Some(OWN_V4), Some(OWN_V6));
        }
        for mtu in [1500, 1400, 600] {
            bench.change(|backend| backend.record.mtu = mtu);
            for flow in all_flows(u16::from(owns) * 10_000 + mtu) {
                let fits = mtu - flow.mode.added() as u16;
                let headers = flow.ip_header() + if flow.protocol == TCP { 20 } else { 8 };
                let packet = |len: u16| flow.packet(usize::from(len) - headers);
                let told = if flow.is_v6() { fits.max(1280) } else { fits };
                let from = if owns { own(&flow) } else { flow.to.ip() };
                let (_, mut change) = flow.found();
                for packet in [packet(fits + 1), packet(fits + 1).dont_fragment(false), packet(fits + 700)] {
                    let answer = too_big(&flow, &packet.build(), from, told);
                    assert_eq!(check(&answer), Ok(()));
                    let counters = Delta::of(["answer_too_big"]).pair(flow.service(), 1, change);
                    bench.answers("too big", packet.build(), answer, counters);
                    change = NOTHING;
                }
                // Its flow has a pin, and goes on. Padding is no part of the packet.
                let packet = packet(fits);
                let output = [&bench.leaving(flow, &packet, 1)[..], &[0; 20]].concat();
                let input = [&packet.build()[..], &[0; 20]].concat();
                bench.sent_as("fits", flow, input, output, 1, ("forward_pin", NOTHING));
            }
        }
    }
}

/// Short packets are quoted as far as is needed; what is too short for that is not answered.
#[test]
fn short_packets_are_quoted_in_part() {
    let mut bench = Bench::new();
    bench.change(|backend| backend.record.mtu = 60);
    for flow in flows(Mode::L2, 1) {
        bench.rig.run(&flow.packet(0).build());
        bench.drops_if_new(flow);
        let headers = flow.ip_header() + if flow.protocol == TCP { 20 } else { 8 };
        for len in [61, 70, 127, 128, 129] {
            let packet = flow.packet(len - headers);
            let answer = too_big(&flow, &packet.build(), flow.to.ip(), if flow.is_v6() { 1280 } else { 60 });
            bench.answers("short", packet.build(), answer, Delta::of(["answer_too_big"]));
        }
        if !flow.is_v6() {
            let packet = flow.packet(20).options(&[1; 24]);
            bench.drops("short, with options", packet.build(), "drop_too_big");
            let packet = flow.packet(100).options(&[1; 24]);
            let answer = too_big(&flow, &packet.build(), flow.to.ip(), 60);
            bench.answers("long, with options", packet.build(), answer, Delta::of(["answer_too_big"]));
        }
    }
}

impl Bench {
    /// Makes sure that the flow has its pin: what follows changes nothing.
    fn drops_if_new(&mut self, flow: Flow) {
        assert!(self.pin(flow).is_some());
    }
}

#[test]
fn what_came_to_a_group_is_not_answered() {
    let mut bench = Bench::new();
    for flow in flows(Mode::Ipip4, 1) {
        bench.rig.run(&flow.packet(0).build());
        for group in [GROUP, [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]] {
            bench.drops("too big", flow.packet(1500).macs(SOURCE_MAC, group).build(), "drop_too_big");
            let spent = flow.packet(200).ttl(1).macs(SOURCE_MAC, group);
            bench.drops("spent", spent.build(), "drop_time_exceeded");
        }
    }
}

#[test]
fn time_that_ends_here_is_told() {
    let mut bench = Bench::new();
    for owns in [false, true] {
        if owns {
            bench.rig.own(INGRESS, Some(OWN_V4), Some(OWN_V6));
        }
        for flow in all_flows(1) {
            let from = if owns { own(&flow) } else { flow.to.ip() };
            for ttl in [0, 1] {
                for packet in [flow.first(), flow.packet(100), flow.packet(1400)] {
                    let packet = packet.ttl(ttl).traffic_class(0xb8);
                    let answer = time_exceeded(&flow, &packet.build(), from);
                    assert_eq!(check(&answer), Ok(()));
                    bench.answers("spent", packet.build(), answer, Delta::of(["answer_time_exceeded"]));
                }
            }
            let odd = if flow.is_v6() {
                flow.packet(100).extension(60, &[1, 4, 0, 0, 0, 0])
            } else {
                flow.packet(100).options(&[1; 8])
            };
            let odd = odd.ttl(1);
            let answer = time_exceeded(&flow, &odd.build(), from);
            bench.answers("with more headers", odd.build(), answer, Delta::of(["answer_time_exceeded"]));
            if !flow.is_v6() {
                let short = flow.first().options(&[1; 8]).ttl(1);
                bench.drops("too short to be quoted", short.build(), "drop_time_exceeded");
            }
            // For no service: the kernel says what it wants.
            let mut to = flow.to;
            to.set_port(4);
            bench.passes("elsewhere", flow.packet(1).to(to).ttl(1).build(), "pass_no_service");
        }
    }
    bench.not_pinned();
}

/// The interface's own addresses, one family of which may be missing.
#[test]
fn the_interface_answers() {
    let mut bench = Bench::new();
    for (v4, v6) in [(Some(OWN_V4), None), (None, Some(OWN_V6))] {
        bench.rig.own(INGRESS, v4, v6);
        for flow in flows(Mode::L2, 1) {
            let known = if flow.is_v6() { v6.is_some() } else { v4.is_some() };
            let from = if known { own(&flow) } else { flow.to.ip() };
            let spent = flow.packet(200).ttl(1).macs(SOURCE_MAC, DESTINATION_MAC).build();
            let answer = time_exceeded(&flow, &spent, from);
            bench.answers("spent", spent, answer, Delta::of(["answer_time_exceeded"]));
        }
    }
}
