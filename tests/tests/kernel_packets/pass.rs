//! Packets that are not the balancer's: to the kernel, untouched, each with its reason.

use std::net::{IpAddr, SocketAddr};

use lb_common::layout::VipFlags;
use lb_laws::wire::mend_checksum;
use lb_userspace::dataplane::Vip;
use sluice_tests::packets::{Packet, too_big};
use sluice_tests::rig::Delta;

use super::bench::{Bench, Fixture, Flow};

fn check_all(fixtures: impl IntoIterator<Item = Fixture>) {
    let mut bench = Bench::new();
    for fixture in fixtures {
        bench.check(&fixture);
    }
    assert_eq!(bench.rig.pins(), []);
}

/// A frame with any EtherType.
fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], &ethertype.to_be_bytes()[..], payload].concat()
}

/// The same in a VLAN.
fn tagged(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(0x8100, &[&[0x20, 7], &ethertype.to_be_bytes()[..], payload].concat())
}

#[test]
fn frames_that_are_not_ip() {
    let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 198, 51, 100, 1];
    let syn = Flow::of(0, 1).tcp().syn(1);
    check_all([
        Fixture::pass("an ARP request for the VIP", ethernet(0x0806, &arp), "pass_not_ip"),
        Fixture::pass("an ARP request in a VLAN", tagged(0x0806, &arp), "pass_not_ip"),
        Fixture::pass("three tags", syn.tag(0x88a8, 7).vlan(8).vlan(9).build(), "pass_not_ip"),
        Fixture::pass("LLDP", ethernet(0x88cc, &[2, 7, 4, 2, 0, 0]), "pass_not_ip"),
        Fixture::pass("an 802.3 length", ethernet(46, &[0x42; 46]), "pass_not_ip"),
        Fixture::pass("an Ethernet header alone", ethernet(0x9000, &[]), "pass_not_ip"),
    ]);
}

#[test]
fn packets_for_nobody_here() {
    let mut fixtures = Vec::new();
    for service in [0, 2] {
        let (tcp, udp) = (Flow::of(service, 1), Flow::of(service + 1, 1));
        let family = if service == 0 { "IPv4" } else { "IPv6" };
        let port = |to: SocketAddr, port| SocketAddr::new(to.ip(), port);
        let elsewhere: SocketAddr =
            if service == 0 { "198.51.100.2:80" } else { "[2001:db8:f::2]:80" }.parse().unwrap();
        let mut pass = |what: &str, packet: Packet, reason| {
            fixtures.push(Fixture::pass(format!("{family}, {what}"), packet.build(), reason));
        };
        pass("another address", Packet::tcp(tcp.from, elsewhere).syn(1), "pass_no_service");
        pass("another port", Packet::tcp(tcp.from, port(tcp.to, 81)).syn(1), "pass_no_service");
        pass(
            "port with its bytes turned",
            Packet::tcp(tcp.from, port(tcp.to, 80 << 8)).syn(1),
            "pass_no_service",
        );
        pass("port 0", Packet::udp(udp.from, port(udp.to, 0)), "pass_no_service");
        pass("UDP on the TCP port", Packet::udp(tcp.from, tcp.to), "pass_no_service");
        pass("TCP on the UDP port", Packet::tcp(udp.from, udp.to).syn(1), "pass_no_service");
        pass("from the VIP to the client", Packet::tcp(tcp.to, tcp.from).syn(1).ack(2), "pass_no_service");
        pass("from the VIP's port", Packet::udp(udp.to, udp.from), "pass_no_service");
        let (from, to) = (tcp.from.ip(), tcp.to.ip());
        for protocol in [0, 2, 4, 41, 47, 50, 51, 59, 89, 103, 132, 255] {
            let packet = Packet::other(from, to, protocol).payload(&[0; 32]);
            // Zeros as IPv6 extension headers are one after the other, to the packet's end and on.
            let is_chain = to.is_ipv6() && matches!(protocol, 0 | 51 | 60);
            let reason = if is_chain { "pass_malformed" } else { "pass_other_protocol" };
            pass(&format!("protocol {protocol}"), packet, reason);
        }
        pass("ping", Packet::ping(from, to, 1, 1).payload(&[7; 56]), "pass_icmp");
        pass("pong", Packet::pong(from, to, 1, 1), "pass_icmp");
        let answer = Packet::tcp(tcp.to, tcp.from).ack(1).payload(&[0; 100]).build();
        let error = too_big(from, &answer, 1300);
        fixtures.push(Fixture::pass(format!("{family}, packet too big"), error, "pass_icmp"));
    }
    check_all(fixtures);
}

/// IPv4 addresses are kept as `::ffff:a.b.c.d`; an IPv6 packet to such an address is another thing.
#[test]
fn an_ipv4_mapped_address_is_not_the_ipv4_service() {
    let mut bench = Bench::new();
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    for (service, begun) in [(0, super::bench::BEGAN), (1, super::bench::BEGAN_UDP)] {
        let (v4, v6) = (Flow::of(service, 1), Flow::of(service + 2, 1));
        bench.sent(v4.first(), "forward_new", 1, begun);
        for (what, from) in [("a client", v6.from), ("the twin of a flow", mapped(v4.from))] {
            let twin = Flow { from, to: mapped(v4.to), ..v4 };
            bench.check(&Fixture::pass(what, twin.first(), "pass_no_service"));
        }
    }
    assert_eq!(bench.rig.pins().len(), 2);
}

/// Ports are in the first fragment only. Where it was not seen, the kernel gets the others, unless the VIP is known as one whose
/// services drop them.
#[test]
fn fragments_whose_first_one_was_not_seen() {
    let later = || {
        [0, 2].into_iter().flat_map(|service| {
            let (tcp, udp) = (Flow::of(service, 1), Flow::of(service + 1, 1));
            let tcp = tcp.tcp().seq(5).ack(6).payload(&[1; 64]).fragments(32);
            let udp = Packet::udp(udp.from, udp.to).payload(&[1; 64]).fragments(24);
            assert_eq!((tcp.len(), udp.len()), (3, 3));
            let frames = tcp.into_iter().skip(1).chain(udp.into_iter().skip(1));
            frames
                .enumerate()
                .map(move |(number, frame)| (format!("service {service}, frame {number}"), frame))
        })
    };
    check_all(later().map(|(what, frame)| Fixture::pass(what, frame, "pass_fragment")));
    let mut bench = Bench::new();
    for (flags, passes) in [(VipFlags::VIP | VipFlags::PASS_FRAGMENTS, true), (VipFlags::VIP, false)] {
        for service in [0, 2] {
            let vip = match Flow::of(service, 1).to.ip() {
                IpAddr::V4(vip) => vip.to_ipv6_mapped(),
                IpAddr::V6(vip) => vip,
            };
            bench.setup.tables.vips.insert((vip.octets(), 128), Vip(flags));
        }
        bench.publish();
        for (what, frame) in later() {
            bench.check(&if passes {
                Fixture::pass(what, frame, "pass_fragment")
            } else {
                Fixture::drop(what, frame, Delta::of(["drop_fragment"]))
            });
        }
    }
    assert_eq!(bench.rig.pins(), []);
}

/// What is no fragment: "don't fragment", and the reserved bit ("evil", RFC 3514).
#[test]
fn flags_that_make_no_fragment() {
    let mut bench = Bench::new();
    let flow = Flow::of(0, 1);
    let open = flow.tcp().seq(1).ack(1).dont_fragment(false).build();
    bench.sent(open.clone(), "forward_owner", 1, super::bench::phases(0, 1, 0));
    let mut evil = open;
    evil[14 + 6] |= 0x80;
    mend_checksum(&mut evil[14..]);
    bench.sent(evil, "forward_pin", 1, super::bench::NOTHING);
}

/// More of them than are looked at; a routing header that has stops left; and what no packet can be.
#[test]
fn ipv6_extension_headers() {
    let flow = Flow::of(2, 1);
    let syn = || flow.tcp().syn(1);
    let seven = (0..7).fold(syn(), |packet, _| packet.extension(60, &[1, 4, 0, 0, 0, 0]));
    let long = syn().extension(60, &[0; 214]);
    check_all(
        [
            ("routing with a stop left", syn().extension(43, &[4, 1, 0, 0, 0, 0])),
            ("seven of them", seven),
            ("too long for an offset", long),
        ]
        .map(|(what, packet)| Fixture::pass(what, packet.build(), "pass_other_protocol")),
    );
}
