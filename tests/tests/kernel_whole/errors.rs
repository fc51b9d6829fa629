//! ICMP errors to a VIP: they go where the packets of the flow go that they quote, and change nothing of it.

use std::net::IpAddr;

use lb_common::layout::{HostState, Policy, Slot};
use sluice_tests::packets::{Packet, quote};
use sluice_tests::rig::Delta;

use super::bench::{Bench, Flow, L3, Mode, NOTHING, TCP, all_flows, flows, on_its_way, pattern, wrapped};

const KINDS_V4: [([u8; 2], [u8; 4]); 8] = [
    ([3, 0], [0; 4]),
    ([3, 1], [0; 4]),
    ([3, 3], [0; 4]),
    ([3, 4], [0, 0, 5, 0]),
    ([3, 13], [0; 4]),
    ([11, 0], [0; 4]),
    ([11, 1], [0; 4]),
    ([12, 0], [20, 0, 0, 0]),
];
const KINDS_V6: [([u8; 2], [u8; 4]); 7] = [
    ([1, 0], [0; 4]),
    ([1, 3], [0; 4]),
    ([1, 4], [0; 4]),
    ([2, 0], [0, 0, 5, 0]),
    ([3, 0], [0; 4]),
    ([3, 1], [0; 4]),
    ([4, 1], [0, 0, 0, 6]),
];

fn kinds(flow: &Flow) -> Vec<([u8; 2], [u8; 4])> {
    if flow.is_v6() { KINDS_V6.to_vec() } else { KINDS_V4.to_vec() }
}

/// Somewhere between VIP and client.
fn router(flow: &Flow) -> IpAddr {
    if flow.is_v6() { "2001:db8:77::1" } else { "192.0.2.77" }.parse().unwrap()
}

/// An error from a router to an address, about a packet.
fn error(flow: &Flow, to: IpAddr, (kind, rest): ([u8; 2], [u8; 4]), about: &[u8]) -> Packet {
    Packet::icmp(router(flow), to, kind, rest, about)
}

/// Checks that an error about a packet from the VIP goes to a host. Both packets begin with so many bytes in it.
#[track_caller]
fn steered(bench: &mut Bench, flow: Flow, kind: ([u8; 2], [u8; 4]), quoted: usize, host: u8) {
    let about = |from| flow.answer(from, 200).build();
    steered_about(bench, flow, kind, &about, quoted, host);
}

#[track_caller]
fn steered_about(
    bench: &mut Bench,
    flow: Flow,
    kind: ([u8; 2], [u8; 4]),
    about: &dyn Fn(std::net::SocketAddr) -> Vec<u8>,
    quoted: usize,
    host: u8,
) {
    let before = bench.rig.pins();
    let input = error(&flow, flow.to.ip(), kind, quote(&about(flow.to), quoted)).traffic_class(0xc0);
    let inner = if flow.mode == Mode::Nat {
        let backend = flow.backend(host);
        error(&flow, backend.ip(), kind, quote(&about(backend), quoted)).traffic_class(0xc0).hop().build()
    } else {
        on_its_way(flow, &input, host).build()
    };
    let hash = sluice_tests::rig::Rig::hash(&flow.tuple()).0;
    let output = wrapped(&inner, &bench.backend(flow, host), 0xc0, hash);
    for input in [input.clone(), input.vlan(6)] {
        let description = format!("{kind:?}, {quoted} bytes quoted");
        bench.sent_as(&description, flow, input.build(), output.clone(), host, ("forward_icmp", NOTHING));
    }
    assert_eq!(bench.rig.pins(), before);
}

#[test]
fn errors_go_where_the_flow_goes() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        bench.setup.state(1, HostState::Up);
        bench.slots(Slot::settled(1));
        for kind in kinds(&flow) {
            // Without a pin: the owner.
            steered(&mut bench, flow, kind, 128, 1);
        }
        let mut flows = vec![flow];
        bench.rig.run(&flow.first().build());
        if flow.protocol == TCP {
            // Established, and closing.
            let more = [2, 3].map(|number| Flow::of(flow.mode, flow.kind(), number));
            for flow in more {
                bench.rig.run(&flow.packet(1).build());
                flows.push(flow);
            }
            bench.rig.run(&flows[2].packet(0).fin().build());
        }
        bench.rig.pass(3);
        bench.setup.state(1, HostState::Draining);
        for slot in [Slot::settled(1), Slot::open(2, 1), Slot::open(3, 2), Slot::settled(3)] {
            bench.slots(slot);
            for &flow in &flows {
                assert_eq!(bench.pin(flow).unwrap().word.host(), 1);
                for kind in kinds(&flow) {
                    steered(&mut bench, flow, kind, 128, 1);
                }
            }
            // Without a pin: the previous owner while the handover is open.
            let unknown = Flow::of(flow.mode, flow.kind(), 9);
            let host = if slot.is_open() { slot.previous() } else { slot.owner() };
            steered(&mut bench, unknown, kinds(&flow)[3], 128, host as u8);
            assert_eq!(bench.pin(unknown), None);
        }
    }
}

#[test]
fn services_that_track_edges() {
    let mut bench = Bench::new();
    for service in 0..24 {
        bench.setup.policy(service, Policy::EDGES | if service >= 20 { Policy::PORT } else { 0 });
    }
    bench.publish();
    for flow in all_flows(1) {
        for kind in kinds(&flow) {
            steered(&mut bench, flow, kind, 128, 1);
        }
    }
    bench.setup.state(1, HostState::Draining);
    bench.slots(Slot::open(2, 1));
    for flow in all_flows(1) {
        steered(&mut bench, flow, kinds(&flow)[0], 128, 1);
    }
    bench.not_pinned();
}

#[test]
fn quotes_of_any_length() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let kind = kinds(&flow)[3];
        let headers = flow.ip_header() + if flow.protocol == TCP { 20 } else { 8 };
        let whole = flow.ip_header() + 8;
        let about = flow.answer(flow.to, 200).build();
        for len in (0..headers + 4).chain([headers + 199, headers + 200]) {
            // Half of a checksum is not mended.
            if flow.mode == Mode::Nat && flow.protocol == TCP && len == flow.ip_header() + 17 {
                continue;
            }
            if len < whole {
                let short = error(&flow, flow.to.ip(), kind, quote(&about, len)).build();
                bench.passes(&format!("{len} bytes quoted"), short, "pass_icmp");
            } else {
                steered(&mut bench, flow, kind, len, 1);
            }
        }
        // The frame goes on, but the packet does not: what is behind it was never quoted.
        let mut padded = error(&flow, flow.to.ip(), kind, quote(&about, whole - 1)).build();
        padded.extend([0; 30]);
        bench.passes("padded", padded, "pass_icmp");
    }
    bench.not_pinned();
}

#[test]
fn quotes_with_more_headers() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let about = |from| {
            let answer = flow.answer(from, 60);
            let answer = if flow.is_v6() {
                answer.extension(0, &[1, 4, 0, 0, 0, 0]).extension(60, &[0; 14])
            } else {
                answer.options(&[1; 12])
            };
            answer.build()
        };
        steered_about(&mut bench, flow, kinds(&flow)[0], &about, 128, 1);
        // A first fragment has its ports.
        let about = |from| flow.answer(from, 200).part(0, 64, true);
        steered_about(&mut bench, flow, kinds(&flow)[0], &about, 128, 1);
    }
}

/// The error itself may have options.
#[test]
fn errors_with_more_headers() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let kind = kinds(&flow)[3];
        let with = |to, from| {
            let error = error(&flow, to, kind, quote(&flow.answer(from, 100).build(), 100));
            if flow.is_v6() { error.extension(0, &[1, 4, 0, 0, 0, 0]) } else { error.options(&[1; 8]) }
        };
        let input = with(flow.to.ip(), flow.to).build();
        let inner = match flow.mode {
            Mode::Nat => with(flow.backend(1).ip(), flow.backend(1)).hop().build(),
            _ => with(flow.to.ip(), flow.to).hop().build(),
        };
        let hash = sluice_tests::rig::Rig::hash(&flow.tuple()).0;
        let output = wrapped(&inner, &bench.backend(flow, 1), 0, hash);
        bench.sent_as("with options", flow, input, output, 1, ("forward_icmp", NOTHING));
    }
    bench.not_pinned();
}

#[test]
fn errors_about_other_packets_pass() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let vip = flow.to.ip();
        let about = flow.answer(flow.to, 200).build();
        let quoted = quote(&about, 128);
        for kind in kinds(&flow) {
            let other = Flow::of(if flow.mode == Mode::L2 { Mode::Nat } else { Mode::L2 }, flow.kind(), 1);
            let pass = |bench: &mut Bench, what: &str, to: IpAddr, about: &[u8]| {
                bench.passes(what, error(&flow, to, kind, about).build(), "pass_icmp");
            };
            pass(&mut bench, "about another VIP's", other.to.ip(), quoted);
            pass(&mut bench, "for the client", flow.from.ip(), quoted);
            pass(&mut bench, "about the client's", vip, quote(&flow.packet(100).build(), 128));
            let mut port = flow.to;
            port.set_port(4000);
            pass(&mut bench, "about no service's", vip, quote(&flow.answer(port, 9).build(), 128));
            let later = flow.answer(flow.to, 200).part(64, 64, true);
            pass(&mut bench, "about a later fragment", vip, quote(&later, 128));
            for protocol in [4, 41, 47, 50, 1, 58] {
                let tunnel = Packet::other(vip, flow.from.ip(), protocol).payload(&pattern(64)).build();
                pass(&mut bench, "about another protocol", vip, quote(&tunnel, 128));
            }
            // The other family, and no IP at all.
            let kind_of_other = flows(flow.mode, 1)[usize::from((flow.kind() + 2) % 4)];
            let other = kind_of_other.answer(kind_of_other.to, 100).build();
            pass(&mut bench, "about the other family", vip, quote(&other, 128));
            pass(&mut bench, "about nothing", vip, &[0; 100]);
            if !flow.is_v6() {
                let mut short = quoted.to_vec();
                short[0] = 0x44;
                pass(&mut bench, "about a header that is too short", vip, &short);
            }
        }
    }
    bench.not_pinned();
}

/// Redirects are for neighbours, source quench for nobody (RFC 6633), and the rest is no error.
#[test]
fn other_kinds_pass() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let about = flow.answer(flow.to, 200).build();
        let errors: &[u8] = if flow.is_v6() { &[1, 2, 3, 4] } else { &[3, 11, 12] };
        for kind in (0..=u8::MAX).filter(|kind| !errors.contains(kind)) {
            let other = error(&flow, flow.to.ip(), ([kind, 0], [0; 4]), quote(&about, 128));
            let (_, bytes) = bench.rig.run_uncounted(&other.build(), 1);
            assert_eq!(bytes, other.build());
            if matches!(kind, 4 | 5 | 8 | 13 | 128 | 137) {
                bench.passes(&format!("type {kind}"), other.build(), "pass_icmp");
                bench.passes(&format!("type {kind}"), other.ttl(1).build(), "pass_icmp");
            }
        }
    }
    bench.not_pinned();
}

/// An error is never answered by another one.
#[test]
fn errors_are_not_answered() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let about = flow.answer(flow.to, 600).build();
        for kind in kinds(&flow) {
            let spent = error(&flow, flow.to.ip(), kind, quote(&about, 128)).ttl(1);
            bench.drops("spent", spent.build(), "drop_time_exceeded");
        }
        bench.change(|backend| backend.record.mtu = 500);
        for kind in kinds(&flow) {
            let long = error(&flow, flow.to.ip(), kind, quote(&about, 548)).build();
            bench.drops("too big", long, "drop_too_big");
        }
        bench.change(|backend| backend.record.mtu = 1500);
        if !flow.is_v6() {
            let mut wrong = error(&flow, flow.to.ip(), kinds(&flow)[0], quote(&about, 128)).build();
            wrong[L3 + 10] ^= 0x80;
            bench.drops("checksum", wrong, "drop_checksum");
        }
        let martian: IpAddr = if flow.is_v6() { "::1" } else { "127.0.0.1" }.parse().unwrap();
        let martian = Packet::icmp(martian, flow.to.ip(), kinds(&flow)[0].0, [0; 4], quote(&about, 128));
        bench.drops("martian", martian.build(), "drop_martian");
    }
    bench.not_pinned();
}

#[test]
fn a_ring_without_hosts_drops_them() {
    let mut bench = Bench::new();
    bench.slots(Slot::settled(lb_common::layout::HOST_NONE));
    for flow in all_flows(1) {
        let about = flow.answer(flow.to, 100).build();
        let error = error(&flow, flow.to.ip(), kinds(&flow)[0], quote(&about, 128)).build();
        bench.drops_with("nobody", error, Delta::of(["drop_no_host"]));
    }
    bench.not_pinned();
}
