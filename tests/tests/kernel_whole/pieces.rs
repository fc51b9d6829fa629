//! Frames in several pieces (`xdp.frags`, Linux 5.18): longer than a page, and with their headers apart from what is behind them.

use lb_common::layout::FEATURE_PING;
use sluice_tests::kernel::{PIECES, lacks};
use sluice_tests::packets::Packet;
use sluice_tests::rig::Delta;

use super::answers::{pong, time_exceeded, too_big};
use super::bench::{Bench, Flow, NOTHING, TCP, all_flows, on_its_way, pattern, wrapped};

/// `None`: there are none on this kernel.
fn bench() -> Option<Bench> {
    if lacks("frames in several pieces", PIECES) {
        return None;
    }
    Some(Bench::with(
        |abilities| {
            abilities.frags = true;
            abilities.features |= FEATURE_PING;
            abilities.mss = 1200;
        },
        |mut backend| {
            backend.record.mtu = 9200;
            backend
        },
    ))
}

#[test]
fn long_packets_go_in_every_mode() {
    let Some(mut bench) = bench() else { return };
    for (number, payload) in [0, 100, 1400, 3000, 3500, 4000, 4096, 8900, 9000].into_iter().enumerate() {
        for flow in all_flows(number as u16) {
            let packet = flow.packet(payload);
            bench.sent("plain", flow, &packet, 1, flow.found());
            bench.sent("tagged", flow, &packet.clone().tag(0x88a8, 3).vlan(4), 1, ("forward_pin", NOTHING));
            let odd = if flow.is_v6() {
                packet.extension(60, &[1, 4, 0, 0, 0, 0])
            } else {
                packet.options(&[1; 20])
            };
            bench.sent("odd", flow, &odd, 1, ("forward_pin", NOTHING));
        }
    }
}

#[test]
fn long_packets_pass_as_they_came() {
    let Some(mut bench) = bench() else { return };
    for flow in all_flows(1) {
        let mut to = flow.to;
        to.set_port(9);
        bench.passes("no service", flow.packet(9000).to(to).build(), "pass_no_service");
        bench.passes("tagged", flow.packet(9000).to(to).vlan(9).build(), "pass_no_service");
        let other = Packet::other(flow.from.ip(), flow.to.ip(), 47).payload(&pattern(9000));
        bench.passes("GRE", other.build(), "pass_other_protocol");
        // A byte is missing at the very end.
        let mut cut = flow.packet(9000).build();
        cut.pop();
        bench.passes("cut", cut, "pass_malformed");
        let mut cut = flow.packet(9000).vlan(2).build();
        cut.pop();
        bench.passes("cut and tagged", cut, "pass_malformed");
    }
    bench.not_pinned();
}

#[test]
fn long_packets_are_answered() {
    let Some(mut bench) = bench() else { return };
    for flow in all_flows(1) {
        let ping = Packet::ping(flow.from.ip(), flow.to.ip(), 5, 6).payload(&pattern(8000)).build();
        let answer = pong(&flow, 5, 6, &pattern(8000)).build();
        bench.answers("ping", ping, answer, Delta::of(["answer_echo"]));
        let spent = flow.packet(8000).ttl(1).build();
        let answer = time_exceeded(&flow, &spent, flow.to.ip());
        bench.answers("spent", spent, answer, Delta::of(["answer_time_exceeded"]));
        let fits = 9200 - flow.mode.added();
        let headers = flow.ip_header() + if flow.protocol == TCP { 20 } else { 8 };
        let long = flow.packet(fits + 1 - headers).build();
        let (_, change) = flow.found();
        let counters = |change| Delta::of(["answer_too_big"]).pair(flow.service(), 1, change);
        let answer = too_big(&flow, &long, flow.to.ip(), fits as u16);
        bench.answers("too big", long, answer, counters(change));
        let longer = flow.packet(12_000).build();
        let answer = too_big(&flow, &longer, flow.to.ip(), fits as u16);
        bench.answers("much too big", longer, answer, counters(NOTHING));
        bench.sent("fits", flow, &flow.packet(fits - headers), 1, ("forward_pin", NOTHING));
    }
}

#[test]
fn long_fragments() {
    let Some(mut bench) = bench() else { return };
    for flow in all_flows(1) {
        let packet = flow.packet(16_000).identification(20 + flow.service());
        let sent = |bench: &Bench, offset, more, hash| {
            let inner = on_its_way(flow, &packet, 1).part(offset, 8000, more);
            wrapped(&inner, &bench.backend(flow, 1), 0, hash)
        };
        let tuple = flow.tuple();
        let hash = sluice_tests::rig::Rig::hash(&tuple).0;
        let output = sent(&bench, 0, true, hash);
        bench.sent_as("first", flow, packet.part(0, 8000, true), output, 1, flow.found());
        let tuple = lb_common::layout::Tuple { ports: 0, ..tuple };
        let output = sent(&bench, 8000, true, sluice_tests::rig::Rig::hash(&tuple).0);
        let found = ("forward_fragment", NOTHING);
        bench.sent_as("later", flow, packet.part(8000, 8000, true), output, 1, found);
    }
}

/// The headers of short frames, and sizes of segments, are as without pieces.
#[test]
fn syns_are_clamped() {
    let Some(mut bench) = bench() else { return };
    for flow in all_flows(1).filter(|flow| flow.protocol == TCP) {
        let most = if flow.is_v6() { 1180_u16 } else { 1200 }.to_be_bytes();
        let [input, output] =
            [[2, 4, 0x23, 0x28], [2, 4, most[0], most[1]]].map(|options| flow.syn(1).tcp_options(&options));
        let output = bench.leaving(flow, &output, 1);
        bench.sent_as("SYN", flow, input.build(), output, 1, flow.begun());
    }
    let flow = Flow::of(super::bench::Mode::L2, 0, 7);
    bench.sent("no option", flow, &flow.syn(2), 1, flow.begun());
}
