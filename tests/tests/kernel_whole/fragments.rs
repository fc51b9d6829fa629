//! Fragments: the first one shows the way, the others follow it.

use std::net::{IpAddr, SocketAddr};

use lb_common::hash::FlowHash;
use lb_common::layout::{HostState, Slot, Tuple, VipFlags};
use sluice_tests::packets::Packet;
use sluice_tests::rig::{Delta, KEY};

use super::bench::{Bench, Flow, L3, Mode, NOTHING, TCP, all_flows, flows, on_its_way, pattern, wrapped};

/// A packet in fragments that a bench has not seen yet.
fn packet(flow: Flow, payload: usize, id: u16) -> Packet {
    flow.packet(payload).identification(id)
}

/// Hash that the outer headers of later fragments vary by.
fn hash_without_ports(flow: Flow) -> u64 {
    FlowHash::of(&Tuple { ports: 0, ..flow.tuple() }, KEY).0
}

/// Checks that a part of a packet goes to a host.
#[track_caller]
fn follows(bench: &mut Bench, flow: Flow, packet: &Packet, part: (usize, usize, bool), host: u8) {
    let (offset, len, more) = part;
    let inner = on_its_way(flow, packet, host).part(offset, len, more);
    let output = wrapped(&inner, &bench.backend(flow, host), packet.class(), hash_without_ports(flow));
    let input = packet.part(offset, len, more);
    bench.sent_as("later fragment", flow, input, output, host, ("forward_fragment", NOTHING));
}

/// Checks that the first part of a packet goes to a host, as any packet of the flow.
#[track_caller]
fn leads(
    bench: &mut Bench,
    flow: Flow,
    packet: &Packet,
    len: usize,
    host: u8,
    reason: (&'static str, sluice_tests::rig::PairDelta),
) {
    let inner = on_its_way(flow, packet, host).part(0, len, true);
    let output = wrapped(&inner, &bench.backend(flow, host), packet.class(), lb_hash(flow));
    bench.sent_as("first fragment", flow, packet.part(0, len, true), output, host, reason);
}

fn lb_hash(flow: Flow) -> u64 {
    FlowHash::of(&flow.tuple(), KEY).0
}

#[test]
fn later_ones_follow_the_first() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        // Of IPv6 all protocols number their packets together.
        let id = 100 * flow.service();
        let packet = packet(flow, 300, id).traffic_class(0x2b);
        leads(&mut bench, flow, &packet, 64, 1, flow.found());
        let rest = packet.fragments(64).len();
        assert!(rest >= 5);
        // In any order, and more than once.
        for number in [3, 1, 2, rest - 1, 1] {
            follows(&mut bench, flow, &packet, (number * 64, 64, number != rest - 1), 1);
        }
        // Tags are no part of it.
        let tagged = packet.clone().vlan(3);
        follows(&mut bench, flow, &tagged, (64, 64, true), 1);
        // The first one of another packet of the same flow.
        let other = packet.clone().identification(id + 1);
        bench.drops("another packet's", other.part(64, 64, true), "drop_fragment");
        leads(&mut bench, flow, &other, 64, 1, ("forward_pin", NOTHING));
        follows(&mut bench, flow, &other, (64, 64, true), 1);
    }
}

/// The slot has a new owner between the first fragment and the others.
#[test]
fn they_stay_together_when_the_slot_moves() {
    let mut bench = Bench::new();
    for flow in all_flows(2) {
        bench.setup.state(1, HostState::Up);
        bench.slots(Slot::settled(1));
        let packet = packet(flow, 300, 5);
        leads(&mut bench, flow, &packet, 128, 1, flow.found());
        for slot in [Slot::open(2, 1), Slot::settled(3)] {
            bench.setup.state(1, HostState::Draining);
            bench.slots(slot);
            follows(&mut bench, flow, &packet, (128, 128, true), 1);
        }
    }
    // And when the host is gone, there is nobody to follow.
    let flow = Flow::of(Mode::L2, 1, 3);
    bench.setup.state(1, HostState::Up);
    bench.slots(Slot::settled(1));
    let packet = packet(flow, 300, 6);
    leads(&mut bench, flow, &packet, 128, 1, flow.found());
    bench.slots(Slot::settled(2));
    bench.setup.without(1);
    bench.publish();
    bench.drops("gone", packet.part(128, 128, true), "drop_no_next_hop");
}

#[test]
fn without_the_first_the_vip_says() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        bench.setup.vip(flow.to.ip(), if flow.is_v6() { 128 } else { 32 }, VipFlags::VIP);
        bench.publish();
        for (offset, more) in [(64, true), (256, false)] {
            bench.drops("unknown", packet(flow, 300, 9).part(offset, 64, more), "drop_fragment");
        }
        let vip = flow.to.ip();
        let prefix = if flow.is_v6() { 128 } else { 32 };
        bench.setup.vip(vip, prefix, VipFlags::VIP | VipFlags::PASS_FRAGMENTS);
        bench.publish();
        bench.passes("unknown", packet(flow, 300, 9).part(64, 64, true), "pass_fragment");
        bench.passes("tagged", packet(flow, 300, 9).vlan(4).part(64, 64, true), "pass_fragment");
        // Of a prefix: the longest one counts.
        let vips = bench.setup.tables.vips.clone();
        bench.setup.tables.vips.retain(|_, _| false);
        bench.setup.vip(vip, prefix - 8, VipFlags::VIP);
        bench.setup.vip(vip, prefix - 16, VipFlags::VIP | VipFlags::PASS_FRAGMENTS);
        bench.publish();
        bench.drops("unknown", packet(flow, 300, 9).part(64, 64, true), "drop_fragment");
        bench.setup.tables.vips.retain(|_, _| false);
        bench.publish();
        bench.passes("no VIP", packet(flow, 300, 9).part(64, 64, true), "pass_fragment");
        bench.setup.tables.vips = vips;
        bench.publish();
    }
    bench.not_pinned();
}

/// RFC 1858 and RFC 3128: what would overwrite headers that were looked at, or hides them.
#[test]
fn overlapping_and_tiny_ones_are_dropped() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let other: SocketAddr =
            if flow.is_v6() { "[2001:db8:ee::1]:80" } else { "192.0.2.200:80" }.parse().unwrap();
        let mut bad = Vec::new();
        if flow.protocol == TCP {
            let whole = packet(flow, 100, 3);
            bad.extend([(whole.clone(), 0, 8), (whole.clone(), 0, 16), (whole.clone(), 8, 64)]);
            bad.extend([(whole.clone(), 16, 64), (whole, 16, 8)]);
            // The options are not whole.
            let options = packet(flow, 100, 3).tcp_options(&[1; 20]);
            bad.extend([(options.clone(), 0, 24), (options, 0, 32)]);
        }
        let nothing = packet(flow, 100, 3);
        bad.push((nothing, 0, 0));
        for (whole, offset, len) in bad {
            let what = format!("{len} bytes at {offset}");
            bench.drops(&what, whole.part(offset, len, true), "drop_fragment_overlap");
            bench.passes(&what, whole.to(other).part(offset, len, true), "pass_fragment");
        }
        // Also when the first one is known.
        if flow.protocol == TCP {
            let whole = packet(flow, 100, 4);
            leads(&mut bench, flow, &whole, 64, 1, flow.found());
            bench.drops("overlap", whole.part(8, 64, true), "drop_fragment_overlap");
            follows(&mut bench, flow, &whole, (24, 64, true), 1);
        } else {
            // The shortest first fragment of UDP holds its header and nothing else.
            leads(&mut bench, flow, &packet(flow, 100, 4), 8, 1, flow.found());
            follows(&mut bench, flow, &packet(flow, 100, 4), (8, 64, true), 1);
        }
    }
}

#[test]
fn fragments_of_pings_are_as_those_of_unknown_packets() {
    let mut bench = Bench::featured(lb_common::layout::FEATURE_PING);
    for flow in flows(Mode::L2, 1) {
        let (client, vip): (IpAddr, IpAddr) = (flow.from.ip(), flow.to.ip());
        let ping = Packet::ping(client, vip, 1, 1).payload(&pattern(100));
        for frame in ping.fragments(48) {
            bench.drops("ping", frame, "drop_fragment");
        }
        let elsewhere = Packet::ping(vip, client, 1, 1).payload(&pattern(100));
        for frame in elsewhere.fragments(48) {
            bench.passes("ping", frame, "pass_fragment");
        }
    }
}

#[test]
fn fragments_for_no_service_pass() {
    let mut bench = Bench::new();
    for flow in flows(Mode::L2, 1) {
        let mut to = flow.to;
        to.set_port(99);
        let whole = packet(flow, 100, 8).to(to);
        bench.passes("first", whole.part(0, 64, true), "pass_no_service");
        // A VIP's policy is for all its addresses: nobody knows which port they are for.
        bench.drops("later", whole.part(64, 64, true), "drop_fragment");
        let gre = Packet::other(flow.from.ip(), flow.to.ip(), 47).payload(&pattern(100));
        for frame in gre.fragments(48) {
            bench.passes("GRE", frame, "pass_other_protocol");
        }
    }
    bench.not_pinned();
}

/// Headers before the fragment header are in each fragment, those behind it only in the first one.
#[test]
fn extension_headers_on_either_side() {
    let mut bench = Bench::new();
    for flow in all_flows(1).filter(Flow::is_v6) {
        let before = packet(flow, 200, 11).extension(0, &[1, 4, 0, 0, 0, 0]);
        leads(&mut bench, flow, &before, 64, 1, flow.found());
        follows(&mut bench, flow, &before, (64, 64, true), 1);
    }
    for flow in flows(Mode::L2, 2).into_iter().filter(Flow::is_v6) {
        // Destination options behind the fragment header, by hand: the header's place is taken by their 8 bytes.
        let upper = flow.packet(120).build()[L3 + 40..].to_vec();
        let options = [&[flow.protocol, 0, 1, 4, 0, 0, 0, 0][..], &upper].concat();
        let part = |from: usize, to: usize, more: bool, ttl: u8| {
            let carrier = Packet::other(flow.from.ip(), flow.to.ip(), 60).identification(12).ttl(ttl);
            carrier.payload(&options).part(from, to - from, more)
        };
        let (reason, change) = flow.found();
        let out = |inner: Vec<u8>, bench: &Bench| wrapped(&inner, &bench.backend(flow, 1), 0, 0);
        let first = out(part(0, 64, true, 63), &bench);
        bench.sent_as("first", flow, part(0, 64, true, 64), first, 1, (reason, change));
        let later = out(part(64, 128, true, 63), &bench);
        bench.sent_as("later", flow, part(64, 128, true, 64), later, 1, ("forward_fragment", NOTHING));
    }
}

/// A fragment is inspected like any other packet, and is never answered.
#[test]
fn later_ones_are_inspected() {
    let mut bench = Bench::new();
    for flow in flows(Mode::L2, 1) {
        let whole = packet(flow, 200, 13);
        leads(&mut bench, flow, &whole, 64, 1, flow.found());
        bench.drops("spent", whole.clone().ttl(1).part(64, 64, true), "drop_time_exceeded");
        if !flow.is_v6() {
            let mut wrong = whole.part(64, 64, true);
            wrong[L3 + 10] ^= 1;
            bench.drops("checksum", wrong, "drop_checksum");
        }
        bench.change(|backend| backend.record.mtu = 80);
        bench.drops("too big", whole.part(64, 64, true), "drop_too_big");
        bench.change(|backend| backend.record.mtu = 1500);
        // A first one is answered.
        let spent = whole.clone().ttl(1).part(0, 128, true);
        let answer = super::answers::time_exceeded(&flow, &spent, flow.to.ip());
        bench.answers("spent", spent, answer, Delta::of(["answer_time_exceeded"]));
    }
}
