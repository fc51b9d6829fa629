//! Whole frames of every kind for the services of [`lb_laws::site`]: what fuzzing and random changes begin with.

use std::net::{IpAddr, SocketAddr};

use lb_common::decap::GUE_PORT;
use lb_laws::site::{NAT_PORT, PORTS, VIP_V4, VIP_V6, WITHIN, nat_address, next_hop};

use crate::packets::{DESTINATION_MAC, Packet, network_offset, too_big};

/// A frame, and what it is called.
pub type Seed = (String, Vec<u8>);

/// Packets of one client to one service's address and port, TCP and UDP.
pub const PACKETS: usize = 8;

/// Frames for the balancer, which does something else with each; those of a client and a service lie side by side, [`PACKETS`]
/// each.
pub fn frames() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for port in PORTS {
        for (family, from, vip) in ends(port) {
            for (what, packet) in packets(from, vip) {
                seeds.push((format!("{family}-{port}-{what}"), packet.build()));
            }
        }
    }
    for within in WITHIN.concat() {
        for port in [80, 83, 90] {
            let vip = SocketAddr::new(within, port);
            let family = if within.is_ipv4() { "v4" } else { "v6" };
            let packets = packets(client(family), vip);
            seeds.extend(packets.map(|(what, packet)| (format!("{family}-{vip}-{what}"), packet.build())));
        }
    }
    for [within, _] in WITHIN {
        let vip: IpAddr = if within.is_ipv4() { VIP_V4.into() } else { VIP_V6.into() };
        let packets = packets(SocketAddr::new(vip, 53), SocketAddr::new(within, 80));
        seeds.extend(packets.map(|(what, packet)| (format!("from-vip-{vip}-{what}"), packet.build())));
    }
    assert!(seeds.len().is_multiple_of(PACKETS));
    seeds.extend(PORTS.flat_map(rare));
    while !seeds.len().is_multiple_of(PACKETS) {
        let (what, frame) = seeds[seeds.len() - PACKETS].clone();
        seeds.push((format!("{what}-again"), frame));
    }
    seeds
}

/// Frames that are not plain for the services on a port; those of a packet follow each other.
fn rare(port: u16) -> Vec<Seed> {
    let named = |(family, from, vip)| {
        let seeds = others(from, vip).into_iter();
        seeds.map(move |(what, frame)| (format!("{family}-{port}-{what}"), frame))
    };
    ends(port).into_iter().flat_map(named).collect()
}

fn others(from: SocketAddr, vip: SocketAddr) -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut push = |what: &str, frame| seeds.push((what.to_owned(), frame));
    let tcp = Packet::tcp(from, vip).ack(1).payload(&[7; 40]);
    let udp = Packet::udp(from, vip).payload(&[7; 40]);
    let option = [1, 4, 0, 0, 0, 0];
    push("vlan", tcp.clone().vlan(7).build());
    push("vlans", udp.clone().tag(0x88a8, 7).vlan(8).build());
    push("long", tcp.clone().payload(&[7; 140]).build());
    push("long-datagram", udp.clone().payload(&[7; 140]).vlan(9).build());
    push("padded", [tcp.build(), vec![0; 12]].concat());
    push("spent", tcp.clone().ttl(1).build());
    push("looped", tcp.clone().macs(next_hop(1), DESTINATION_MAC).build());
    push("sizes", Packet::tcp(from, vip).syn(1).tcp_options(&[1, 2, 4, 5, 0xb4, 1, 2, 4, 5, 0xb0]).build());
    for (what, packet) in [("tcp", tcp.clone()), ("udp", udp.clone().identification(7))] {
        for (number, frame) in packet.fragments(24).into_iter().enumerate() {
            push(&format!("{what}-fragment-{number}"), frame);
        }
    }
    push("spent-fragment", udp.clone().identification(7).ttl(1).fragments(24)[1].clone());
    if vip.is_ipv4() {
        push("options", tcp.clone().options(&[1; 40]).build());
    } else {
        let extended = tcp.clone().extension(0, &option).extension(60, &[1; 14]);
        push("extensions", extended.build());
        push("extended-fragment", extended.fragments(24)[0].clone());
        push("authenticated", udp.clone().extension(51, &[0; 22]).build());
        push("routing", udp.clone().extension(43, &[4, 0, 0, 0, 0, 0]).build());
    }
    let answers =
        [Packet::tcp(vip, from).ack(1).payload(&[7; 100]), Packet::udp(vip, from).payload(b"answer")];
    for (what, answer) in ["too-big-tcp", "too-big-udp"].iter().zip(answers) {
        let error = too_big(from.ip(), &answer.build(), 1300);
        push(what, error.clone());
        push(&format!("{what}-vlan"), [&error[..12], &[0x81, 0, 0, 7], &error[12..]].concat());
    }
    push("ping", Packet::ping(from.ip(), vip.ip(), 1, 1).payload(&[7; 9]).build());
    push("pong", Packet::pong(from.ip(), vip.ip(), 1, 1).build());
    let land = SocketAddr::new(vip.ip(), 1);
    push("land", Packet::udp(land, vip).build());
    push("no-port", Packet::udp(SocketAddr::new(from.ip(), 0), vip).build());
    let [martian, host] =
        if vip.is_ipv4() { ["127.0.0.1:7", "10.9.20.1:7"] } else { ["[fe80::1]:7", "[2001:db8:e:14::1]:7"] };
    push("martian", Packet::udp(martian.parse().expect("an address"), vip).build());
    push("from-a-host", Packet::tcp(host.parse().expect("an address"), vip).syn(1).build());
    // Of a backend to a client, and of who did not take what was sent to it.
    let family = usize::from(vip.is_ipv6());
    for (kind, port) in [(20, vip.port()), (21, NAT_PORT)] {
        let backend = SocketAddr::new(nat_address(kind, 1, family), port);
        push("answer", Packet::tcp(backend, from).ack(1).build());
        for (number, frame) in
            Packet::udp(backend, from).payload(&[7; 40]).fragments(24).into_iter().enumerate()
        {
            push(&format!("answer-fragment-{number}"), frame);
        }
        let sent = Packet::tcp(from, backend).ack(1).payload(&[7; 90]).build();
        push("refused", too_big(backend.ip(), &sent, 1300));
    }
    seeds
}

fn client(family: &str) -> SocketAddr {
    let address = if family == "v4" { "10.0.0.1:40000" } else { "[2001:db8:c::1]:40000" };
    address.parse().expect("an address")
}

/// A client and a service's address on a port, for each family.
fn ends(port: u16) -> [(&'static str, SocketAddr, SocketAddr); 2] {
    [("v4", VIP_V4.into()), ("v6", VIP_V6.into())]
        .map(|(family, vip): (_, IpAddr)| (family, client(family), SocketAddr::new(vip, port)))
}

fn packets(from: SocketAddr, to: SocketAddr) -> [(&'static str, Packet); PACKETS] {
    let tcp = || Packet::tcp(from, to);
    [
        ("syn", tcp().syn(1000).tcp_options(&[2, 4, 5, 0xb4])),
        ("syn-ack", tcp().syn(1000).ack(1)),
        ("ack", tcp().seq(1001).ack(1)),
        ("data", tcp().seq(1001).ack(1).psh().traffic_class(0xb9).payload(&[b'x'; 24])),
        ("fin", tcp().seq(1025).ack(1).fin()),
        ("rst", tcp().seq(1025).rst()),
        ("datagram", Packet::udp(from, to).payload(b"datagram")),
        ("marked", Packet::udp(from, to).traffic_class(3)),
    ]
}

/// Frames for the decapsulator of a backend: IP in IP, and GUE, some of them with VLAN tags.
pub fn encapsulated() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (family, from, vip) in ends(*PORTS.start()) {
        let inner = [
            ("tcp", Packet::tcp(from, vip).syn(1)),
            ("ect", Packet::udp(from, vip).traffic_class(2).payload(b"datagram")),
            ("options", Packet::tcp(from, vip).ack(1).tcp_options(&[1; 12])),
        ];
        for (what, packet) in inner {
            let packet = packet.build()[14..].to_vec();
            let protocol = if vip.is_ipv4() { 4 } else { 41 };
            for (outer, ce) in [("v4", 0), ("v6", 0), ("v4", 3), ("v6", 3)] {
                let [source, destination] = outer_ends(outer == "v6");
                let ipip = Packet::other(source, destination, protocol).traffic_class(ce).payload(&packet);
                let gue = |header: [u8; 4], surplus: &[u8]| {
                    let [source, destination] =
                        [(source, 49999), (destination, GUE_PORT)].map(SocketAddr::from);
                    let packet = [&header[..], surplus, &packet].concat();
                    Packet::udp(source, destination).traffic_class(ce).payload(&packet)
                };
                let plain = gue([0, protocol, 0, 0], &[]);
                let mut push = |how: &str, frame: Vec<u8>| {
                    seeds.push((format!("decap-{family}-{what}-{how}-{outer}-{ce}"), frame));
                };
                push("in", ipip.build());
                push("tagged-in", ipip.clone().vlan(7).build());
                push("gue", plain.build());
                push("gue-unsummed", with_checksum(0, &plain));
                push("gue-tagged", with_checksum(0, &plain.clone().tag(0x88a8, 8).vlan(7)));
                push("gue-surplus", with_checksum(0, &gue([2, protocol, 0, 0], &[7; 8])));
                push("gue-unverified", gue([1, protocol, 0, 0], &[7; 4]).build());
                push("gue-wrong", with_checksum(1, &plain));
                push("gue-control", gue([0x20, 0, 0, 0], &[]).build());
                push("gue-flags", gue([1, protocol, 0x80, 0], &[7; 4]).build());
                push("gue-variant", gue([0x40, protocol, 0, 0], &[]).build());
                push("gue-protocol", gue([0, 59, 0, 0], &[]).build());
            }
        }
    }
    seeds
}

/// Balancer and backend.
fn outer_ends(is_v6: bool) -> [IpAddr; 2] {
    let ends = if is_v6 { ["2001:db8:b::1", "2001:db8:b::65"] } else { ["192.0.2.1", "192.0.2.101"] };
    ends.map(|end| end.parse().expect("an address"))
}

/// The frame of a UDP packet with another checksum.
fn with_checksum(checksum: u16, packet: &Packet) -> Vec<u8> {
    let mut frame = packet.build();
    let ip = network_offset(&frame);
    let udp = ip + if frame[ip] >> 4 == 6 { 40 } else { 20 };
    frame[udp + 6..udp + 8].copy_from_slice(&checksum.to_be_bytes());
    frame
}
