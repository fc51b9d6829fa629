//! IPv4 options, and chains of IPv6 extension headers.

use sluice_tests::packets::Packet;

use super::bench::{Bench, Flow, L3, Mode, NOTHING, all_flows};

const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];

#[test]
fn options_are_stepped_over() {
    let mut bench = Bench::new();
    for flow in all_flows(0).filter(|flow| !flow.is_v6()) {
        for words in 1..=10 {
            let flow = Flow::of(flow.mode, flow.kind(), words as u16);
            let packet = flow.packet(5).options(&vec![1; words * 4]);
            bench.sent("options", flow, &packet, 1, flow.found());
            assert_eq!(bench.pin(flow).unwrap().cold.tuple(), flow.tuple());
            bench.sent("without", flow, &flow.packet(5), 1, ("forward_pin", NOTHING));
            bench.sent("with both", flow, &packet.vlan(7), 1, ("forward_pin", NOTHING));
        }
    }
    // The options are no part of the payload that a FIN's sequence number counts.
    let flow = Flow::of(Mode::L2, 0, 99);
    let fin = Packet::tcp(flow.from, flow.to).seq(100).ack(1).fin().payload(&[0; 7]);
    let fin = fin.options(&[1; 8]).tcp_options(&[1; 4]);
    bench.sent("FIN", flow, &fin, 1, ("forward_owner", super::bench::phases(0, 0, 1)));
    assert_eq!(bench.pin(flow).unwrap().cold.sequence, 108);
}

/// Header lengths that contradict themselves.
#[test]
fn options_that_lie_are_malformed() {
    let mut bench = Bench::new();
    for flow in [0, 1].map(|kind| Flow::of(Mode::L2, kind, 1)) {
        let frame = flow.packet(0).build();
        for words in (0..5).chain(6..16) {
            let mut frame = frame.clone();
            frame[L3] = 0x40 | words;
            bench.passes(&format!("{words} words"), frame, "pass_malformed");
        }
        let long = flow.packet(0).options(&[1; 40]).build();
        for len in L3..long.len() {
            bench.passes(&format!("{len} bytes"), long[..len].to_vec(), "pass_malformed");
        }
    }
    bench.not_pinned();
}

type Header = (u8, Vec<u8>);

fn chained(packet: Packet, chain: &[Header]) -> Packet {
    chain.iter().fold(packet, |packet, (kind, content)| packet.extension(*kind, content))
}

fn hop_by_hop() -> Header {
    (0, PADDING.to_vec())
}

fn destination(len: usize) -> Header {
    (60, [&[1, (len - 4) as u8][..], &vec![0; len - 4]].concat())
}

/// Type 0, nothing left.
fn routing(left: u8) -> Header {
    (43, [&[4, left][..], &[0; 4 + 16]].concat()[..22].to_vec())
}

fn authentication() -> Header {
    (51, vec![0x5a; 22])
}

/// Of a packet that is in one piece (RFC 6946).
fn atomic() -> Header {
    (44, vec![0, 0, 1, 2, 3, 4])
}

#[test]
fn extension_headers_are_stepped_over() {
    let chains: Vec<Vec<Header>> = vec![
        vec![hop_by_hop()],
        vec![destination(8)],
        vec![destination(64)],
        vec![routing(0)],
        vec![authentication()],
        vec![atomic()],
        vec![hop_by_hop(), destination(8), routing(0), atomic(), authentication(), destination(8)],
        vec![hop_by_hop(), atomic(), destination(16)],
        // As long as it may be: 248 of 255 bytes with the IPv6 header, and what is behind it.
        vec![destination(104), destination(104)],
        vec![destination(208)],
    ];
    let mut bench = Bench::new();
    for (number, chain) in chains.iter().enumerate() {
        for flow in all_flows(number as u16).filter(Flow::is_v6) {
            let packet = chained(flow.packet(40), chain);
            bench.sent("chain", flow, &packet, 1, flow.found());
            assert_eq!(bench.pin(flow).unwrap().cold.tuple(), flow.tuple());
            bench.sent("plain", flow, &flow.packet(40), 1, ("forward_pin", NOTHING));
        }
    }
}

#[test]
fn other_chains_pass() {
    let chains: Vec<Vec<Header>> = vec![
        vec![routing(1)],
        vec![hop_by_hop(), routing(2)],
        vec![destination(216)],
        vec![destination(104), destination(112)],
        vec![destination(8); 7],
        vec![destination(8); 10],
        vec![(135, PADDING.to_vec())],
        vec![hop_by_hop(), (135, PADDING.to_vec())],
        vec![(50, vec![7; 30])],
    ];
    let mut bench = Bench::new();
    for chain in &chains {
        for flow in all_flows(1).filter(Flow::is_v6) {
            let packet = chained(flow.packet(40), chain).build();
            bench.passes(&format!("{chain:?}"), packet, "pass_other_protocol");
        }
    }
    bench.not_pinned();
}

#[test]
fn cut_chains_are_malformed() {
    let mut bench = Bench::new();
    let chain = [hop_by_hop(), destination(24), atomic(), authentication()];
    for flow in all_flows(1).filter(Flow::is_v6) {
        let frame = chained(flow.packet(0), &chain).build();
        for len in L3..frame.len() {
            bench.passes(&format!("{len} bytes"), frame[..len].to_vec(), "pass_malformed");
            // The same with a length that says so.
            if len >= L3 + 40 {
                let mut frame = frame.clone();
                frame[L3 + 4..L3 + 6].copy_from_slice(&((len - L3 - 40) as u16).to_be_bytes());
                bench.passes(&format!("{len} bytes, padded"), frame, "pass_malformed");
            }
        }
    }
    bench.not_pinned();
}
