//! Whole frames of every kind for the services of [`lb_laws::site`]: what fuzzing and random changes begin with.

use std::net::{IpAddr, SocketAddr};

use lb_laws::site::{PORTS, VIP_V4, VIP_V6};

use crate::packets::{Packet, too_big};

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
    for (family, from, vip) in ends(*PORTS.start()) {
        let tcp = Packet::tcp(from, vip).ack(1).payload(&[7; 40]);
        let mut push = |what: &str, frame| seeds.push((format!("{family}-{what}"), frame));
        push("vlan", tcp.clone().vlan(7).build());
        push("ping", Packet::ping(from.ip(), vip.ip(), 1, 1).build());
        push("too-big", too_big(from.ip(), &Packet::tcp(vip, from).ack(1).build(), 1300));
        push("padded", [tcp.build(), vec![0; 12]].concat());
        for (number, frame) in tcp.fragments(24).into_iter().enumerate() {
            push(&format!("fragment-{number}"), frame);
        }
        if vip.is_ipv4() {
            push("options", tcp.clone().options(&[1; 40]).build());
        } else {
            push("extension", tcp.extension(0, &[1, 4, 0, 0, 0, 0]).build());
        }
    }
    seeds
}

/// A client and a service's address on a port, for each family.
fn ends(port: u16) -> [(&'static str, SocketAddr, SocketAddr); 2] {
    let end = |ip: IpAddr, port| SocketAddr::new(ip, port);
    [
        ("v4", "10.0.0.1:40000".parse().expect("an address"), end(VIP_V4.into(), port)),
        ("v6", "[2001:db8:c::1]:40000".parse().expect("an address"), end(VIP_V6.into(), port)),
    ]
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

/// Frames for the decapsulator of a backend.
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
                let frame =
                    Packet::other(source, destination, protocol).traffic_class(ce).payload(&packet).build();
                seeds.push((format!("decap-{family}-{what}-in-{outer}-{ce}"), frame));
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
