//! The segment sizes that SYNs announce.

use std::net::SocketAddr;

use lb_common::layout::{ServiceKey, VipFlags};
use lb_userspace::dataplane::BackendTable;
use sluice_tests::packets::{Packet, quote};
use sluice_tests::rig::{Delta, PairDelta, XDP_TX, l2, words};

use super::bench::{Bench, Fixture, Flow, NOTHING, TCP, all_flows, wrapped};

const MOST: u16 = 1400;

fn bench(mss: u32) -> Bench {
    Bench::with(|abilities| abilities.mss = mss, |backend| backend)
}

fn most(flow: &Flow) -> u16 {
    if flow.is_v6() { MOST - 20 } else { MOST }
}

/// The option, and others around it.
fn options(before: &[u8], mss: u16, after: &[u8]) -> Vec<u8> {
    let [a, b] = mss.to_be_bytes();
    [before, &[2, 4, a, b], after].concat()
}

/// Checks what becomes of the options of a packet.
#[track_caller]
fn becomes(
    bench: &mut Bench,
    flow: Flow,
    packet: &Packet,
    options: [&[u8]; 2],
    counts: (&'static str, PairDelta),
) {
    let [before, after] = options.map(|options| packet.clone().tcp_options(options));
    let output = bench.leaving(flow, &after, 1);
    bench.sent_as(&format!("{options:02x?}"), flow, before.build(), output, 1, counts);
}

#[test]
fn a_syn_s_size_is_lowered_and_never_raised() {
    let mut bench = bench(MOST.into());
    for flow in all_flows(0).filter(|flow| flow.protocol == TCP) {
        let most = most(&flow);
        let mut number = 0;
        for size in [0, 1, 536, most - 1, most, most + 1, 1460, 8960, 0xffff] {
            let lowered = size.min(most);
            for (before, after) in [
                (&[][..], &[][..]),
                (&[1], &[]),
                (&[1, 1], &[4, 2]),
                (&[3, 3, 7], &[1]),
                (&[8, 10, 1, 2, 3, 4, 5, 6, 7, 8], &[3, 3, 7, 1]),
                (&[1, 3, 3, 7], &[8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 4, 2]),
            ] {
                number += 1;
                let flow = Flow::of(flow.mode, flow.kind(), number);
                let [input, output] = [size, lowered].map(|size| options(before, size, after));
                becomes(&mut bench, flow, &flow.syn(1), [&input, &output], flow.begun());
                let tagged = flow.syn(1).vlan(4);
                becomes(&mut bench, flow, &tagged, [&input, &output], ("forward_syn_again", NOTHING));
            }
        }
    }
}

#[test]
fn other_packets_keep_what_they_say() {
    let mut bench = bench(MOST.into());
    for flow in all_flows(1) {
        if flow.protocol != TCP {
            bench.sent("UDP", flow, &flow.packet(40), 1, flow.found());
            continue;
        }
        let large = options(&[], 9000, &[]);
        let lowered = options(&[], most(&flow), &[]);
        let stray = ("forward_owner", NOTHING);
        becomes(&mut bench, flow, &Packet::tcp(flow.from, flow.to), [&large; 2].map(|o| &o[..]), stray);
        // SYN with ACK, and with FIN, are of no flow, but segments that announce a size.
        becomes(&mut bench, flow, &flow.syn(1).ack(2), [&large, &lowered], stray);
        becomes(&mut bench, flow, &flow.syn(1).fin(), [&large, &lowered], stray);
        becomes(&mut bench, flow, &flow.packet(3), [&large; 2].map(|o| &o[..]), flow.found());
        let flow = Flow::of(flow.mode, flow.kind(), 2);
        // No option, one that is cut, and an end before it.
        for odd in
            [&[][..], &[1, 2, 4, 0x23], &[0, 2, 4, 0x23, 0x28, 0, 0, 0], &[9, 1, 2, 4, 0x23, 0x28, 0, 0]]
        {
            let counts =
                if bench.pin(flow).is_none() { flow.begun() } else { ("forward_syn_again", NOTHING) };
            becomes(&mut bench, flow, &flow.syn(1), [odd; 2], counts);
        }
    }
}

#[test]
fn without_a_size_nothing_changes() {
    let mut bench = bench(0);
    for flow in all_flows(1).filter(|flow| flow.protocol == TCP) {
        let large = options(&[], 0xffff, &[]);
        becomes(&mut bench, flow, &flow.syn(1), [&large; 2].map(|o| &o[..]), flow.begun());
    }
}

/// An ICMP error quotes bytes that look like a SYN with a large size, to who takes it for TCP: they stay as they are.
#[test]
fn errors_are_not_searched_for_options() {
    let mut bench = bench(MOST.into());
    // Behind no operation (1): kind 2, length 4, and a large value.
    let vip: SocketAddr = "1.2.4.255:80".parse().unwrap();
    let client: SocketAddr = "10.0.0.1:4000".parse().unwrap();
    bench.setup.service(40, vip, TCP, 0).keys(40, vec![ServiceKey::exact(words(vip.ip()), 80, TCP)]);
    bench.setup.backend(40, 1, BackendTable::from(l2(1))).vip(vip.ip(), 32, VipFlags::VIP);
    bench.publish();
    // The number of the quoted packet lies where a TCP header has its length and flags.
    let about = Packet::tcp(vip, client).identification(0xf002).seq(1).ack(2).payload(&[1; 40]).build();
    let router = "192.0.2.77".parse().unwrap();
    let error = Packet::icmp(router, vip.ip(), [3, 4], [0, 0, 5, 0], quote(&about, 100));
    let inner = error.clone().hop().build();
    bench.check(&Fixture {
        description: "an error".into(),
        input: error.build(),
        verdict: XDP_TX,
        output: wrapped(&inner, &l2(1).into(), 0, 0),
        counters: Delta::of(["forward_icmp"]).pair(40, 1, PairDelta::packet(inner.len())),
    });
}
