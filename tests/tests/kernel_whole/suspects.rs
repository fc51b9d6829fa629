//! Packets for a service that no honest client sends: each with its reason, whichever program sees it first.

use std::net::{IpAddr, SocketAddr};

use lb_common::layout::FEATURE_PING;
use sluice_tests::packets::{DESTINATION_MAC, Packet};
use sluice_tests::rig::Delta;

use super::bench::{Bench, Flow, L3, Mode, NOTHING, TCP, all_flows, flows};

/// The packet in forms that the plain program knows, and that it does not.
fn forms(flow: &Flow, packet: Packet) -> Vec<Packet> {
    let odd = if flow.is_v6() {
        packet.clone().extension(0, &[1, 4, 0, 0, 0, 0])
    } else {
        packet.clone().options(&[1; 4])
    };
    vec![packet.clone(), packet.vlan(5), odd]
}

/// Elsewhere: packets for no service.
fn elsewhere(flow: &Flow, packet: &Packet) -> Packet {
    let mut to = flow.to;
    to.set_port(7);
    packet.clone().to(to)
}

fn source(flow: &Flow, address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, flow.from.port())
}

const MARTIANS_V4: [&str; 9] = [
    "0.0.0.0",
    "0.1.2.3",
    "0.255.255.255",
    "127.0.0.1",
    "127.255.0.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
];
const MARTIANS_V6: [&str; 10] = [
    "::",
    "::1",
    "::2",
    "::1.2.3.4",
    "::ffff:10.0.0.1",
    "::ffff:0:0",
    "fe80::1",
    "febf:ffff::1",
    "ff02::1",
    "ff00::",
];
const HONEST_V4: [&str; 7] =
    ["1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255", "169.254.1.1", "100.64.0.1", "192.0.2.9"];
const HONEST_V6: [&str; 6] = ["0:0:0:1::", "2001::1", "fec0::1", "fe7f::1", "feff:ffff::1", "fd00::5"];

fn addresses<'a>(flow: &Flow, v4: &'a [&'static str], v6: &'a [&'static str]) -> Vec<IpAddr> {
    let all = if flow.is_v6() { v6 } else { v4 };
    all.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn martians() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        for address in addresses(&flow, &MARTIANS_V4, &MARTIANS_V6) {
            for packet in [flow.first(), flow.packet(20)] {
                let packet = packet.from(source(&flow, address));
                for form in forms(&flow, packet.clone()) {
                    bench.drops(&format!("from {address}"), form.build(), "drop_martian");
                    let other = elsewhere(&flow, &form).build();
                    bench.passes(&format!("from {address}"), other, "pass_no_service");
                }
            }
        }
    }
    bench.not_pinned();
}

#[test]
fn neighbours_of_martians_are_honest() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        for address in addresses(&flow, &HONEST_V4, &HONEST_V6) {
            let flow = Flow { from: source(&flow, address), ..flow };
            let [plain, tagged, odd] = forms(&flow, flow.packet(20)).try_into().unwrap();
            bench.sent("plain", flow, &plain, 1, flow.found());
            bench.sent("tagged", flow, &tagged, 1, ("forward_pin", NOTHING));
            bench.sent("odd", flow, &odd, 1, ("forward_pin", NOTHING));
        }
    }
}

#[test]
fn land() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        for from in [flow.to, source(&flow, flow.to.ip())] {
            for form in forms(&flow, flow.first().from(from)) {
                bench.drops("from itself", form.build(), "drop_land");
                bench.passes("from itself", elsewhere(&flow, &form).build(), "pass_no_service");
            }
        }
    }
    bench.not_pinned();
}

/// From a VIP begins no flow, whatever the mode, and no packet of an unknown one goes on.
#[test]
fn from_a_vip() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let other = all_flows(2).find(|other| other.is_v6() == flow.is_v6() && other.to.ip() != flow.to.ip());
        for port in [flow.from.port(), flow.to.port()] {
            let from = SocketAddr::new(other.expect("several VIPs").to.ip(), port);
            for packet in [flow.first(), flow.packet(20)] {
                for form in forms(&flow, packet.from(from)) {
                    bench.drops("from a VIP", form.build(), "drop_vip_source");
                    bench.passes("from a VIP", elsewhere(&flow, &form).build(), "pass_no_service");
                }
            }
        }
    }
    bench.not_pinned();
}

#[test]
fn port_zero() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let from = SocketAddr::new(flow.from.ip(), 0);
        for form in forms(&flow, flow.first().from(from)) {
            bench.drops("from port 0", form.build(), "drop_zero_port");
            bench.passes("from port 0", elsewhere(&flow, &form).build(), "pass_no_service");
        }
    }
    bench.not_pinned();
}

#[test]
fn wrong_ipv4_checksums() {
    let mut bench = Bench::new();
    for flow in all_flows(1).filter(|flow| !flow.is_v6()) {
        for form in forms(&flow, flow.first()) {
            for (what, frame, reason, drops) in [
                ("for a service", form.build(), "drop_checksum", true),
                ("for none", elsewhere(&flow, &form).build(), "pass_no_service", false),
            ] {
                let at = frame.len() - form.clone().untagged().build().len() + L3;
                for bit in 0..16 {
                    let mut frame = frame.clone();
                    frame[at + 10 + bit / 8] ^= 1 << (bit % 8);
                    if drops {
                        bench.drops(&format!("{what}, bit {bit}"), frame, reason);
                    } else {
                        bench.passes(&format!("{what}, bit {bit}"), frame, reason);
                    }
                }
            }
        }
        // An option that changed on the way.
        let mut frame = flow.first().options(&[1; 8]).build();
        frame[L3 + 25] ^= 4;
        bench.drops("option", frame, "drop_checksum");
    }
    bench.not_pinned();
}

/// The frame comes from the backend that it would go to. Where the next hop may be a router, that says nothing.
#[test]
fn loops() {
    let mut bench = Bench::new();
    for flow in all_flows(1) {
        let mac = bench.backend(flow, 1).record.destination_mac;
        for (number, form) in forms(&flow, flow.packet(9).macs(mac, DESTINATION_MAC)).into_iter().enumerate()
        {
            let found = if number == 0 { flow.found() } else { ("forward_pin", NOTHING) };
            if flow.mode == Mode::L2 {
                let counters = Delta::of(["drop_loop"]).pair(flow.service(), 1, found.1);
                bench.drops_with("from the backend", form.build(), counters);
            } else {
                bench.sent("by the router", flow, &form, 1, found);
            }
        }
        // Another backend may be a client.
        let mac = bench.backend(flow, 2).record.destination_mac;
        bench.sent("another", flow, &flow.packet(9).macs(mac, DESTINATION_MAC), 1, ("forward_pin", NOTHING));
    }
}

/// The first thing that is wrong is said, in the order of the headers.
#[test]
fn several_things_at_once() {
    let mut bench = Bench::new();
    for flow in flows(Mode::L2, 1) {
        let zero = SocketAddr::new(if flow.is_v6() { "::1" } else { "127.0.0.1" }.parse().unwrap(), 0);
        bench.drops("martian", flow.first().from(zero).ttl(1).build(), "drop_martian");
        let land = SocketAddr::new(flow.to.ip(), 0);
        bench.drops("LAND", flow.first().from(land).ttl(1).build(), "drop_land");
        let port = SocketAddr::new(flow.from.ip(), 0);
        bench.drops("port", flow.first().from(port).ttl(0).build(), "drop_zero_port");
    }
}

/// Flags that no TCP sends begin no flow, and go where the flow's packets go.
#[test]
fn odd_flags() {
    let mut bench = Bench::new();
    for flow in all_flows(1).filter(|flow| flow.protocol == TCP) {
        let none = Packet::tcp(flow.from, flow.to);
        let both = flow.syn(1).fin();
        for packet in [none, both] {
            for form in forms(&flow, packet) {
                bench.sent("odd flags", flow, &form, 1, ("forward_owner", NOTHING));
            }
        }
    }
    bench.not_pinned();
}

/// Pings and errors are inspected when they are ours, and not when the kernel is to have them.
#[test]
fn icmp() {
    let mut bench = Bench::featured(FEATURE_PING);
    for flow in flows(Mode::L2, 1) {
        let vip = flow.to.ip();
        for address in addresses(&flow, &MARTIANS_V4, &MARTIANS_V6) {
            let ping = Packet::ping(address, vip, 1, 1).payload(&[1; 9]);
            let [plain, tagged, odd] = forms(&flow, ping).try_into().unwrap();
            for ping in [plain, tagged] {
                bench.drops(&format!("ping from {address}"), ping.build(), "drop_martian");
            }
            // The kernel is to have it.
            bench.passes(&format!("ping from {address}"), odd.build(), "pass_icmp");
        }
        bench.drops("ping of itself", Packet::ping(vip, vip, 1, 1).build(), "drop_land");
    }
    // A router that asks for the VIP's address of the link.
    let flow = Flow::of(Mode::L2, 2, 1);
    let IpAddr::V6(vip) = flow.to.ip() else { unreachable!() };
    let router: IpAddr = "fe80::1".parse().unwrap();
    let solicitation = Packet::icmp(router, vip.into(), [135, 0], [0; 4], &vip.octets()).ttl(255);
    bench.passes("neighbour solicitation", solicitation.build(), "pass_icmp");
    let advertisement = Packet::icmp(router, vip.into(), [136, 0], [0x60, 0, 0, 0], &[0xfe; 16]).ttl(255);
    bench.passes("neighbour advertisement", advertisement.build(), "pass_icmp");
}
