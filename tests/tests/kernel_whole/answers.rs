//! What the balancer's own answers are to look like, by the RFCs.

use std::net::IpAddr;

use sluice_tests::packets::{DESTINATION_MAC, Packet, SOURCE_MAC, quote};

use super::bench::Flow;

/// The answer to a ping of the flow's client to its VIP.
pub fn pong(flow: &Flow, id: u16, sequence: u16, payload: &[u8]) -> Packet {
    let (client, vip) = (flow.from.ip(), flow.to.ip());
    Packet::pong(vip, client, id, sequence).payload(payload).macs(DESTINATION_MAC, SOURCE_MAC)
}

/// An error about a frame of the flow's client: type and code, and the 4 bytes behind the checksum.
fn error(flow: &Flow, frame: &[u8], from: IpAddr, kind: [u8; 2], rest: [u8; 4]) -> Vec<u8> {
    let packet = quote(frame, usize::MAX);
    let shortest = flow.ip_header() + 8;
    let quoted = if packet.len() >= 128 { 128 } else { shortest };
    let error = Packet::icmp(from, flow.from.ip(), kind, rest, &packet[..quoted]);
    let error = error.macs(DESTINATION_MAC, SOURCE_MAC).identification(0);
    // RFC 1812 wants the precedence of network control, RFC 4443 nothing.
    if flow.is_v6() { error.build() } else { error.traffic_class(0xc0).build() }
}

pub fn time_exceeded(flow: &Flow, frame: &[u8], from: IpAddr) -> Vec<u8> {
    error(flow, frame, from, if flow.is_v6() { [3, 0] } else { [11, 0] }, [0; 4])
}

pub fn too_big(flow: &Flow, frame: &[u8], from: IpAddr, mtu: u16) -> Vec<u8> {
    let [a, b] = mtu.to_be_bytes();
    error(flow, frame, from, if flow.is_v6() { [2, 0] } else { [3, 4] }, [0, 0, a, b])
}
