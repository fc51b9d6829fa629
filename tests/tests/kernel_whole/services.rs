//! Services of ranges of ports and of prefixes: which one a packet finds, and where its flows go.

use std::net::{IpAddr, SocketAddr};

use lb_common::hash::FlowHash;
use lb_common::layout::{FEATURE_RANGES, Policy, ServiceKey, Slot};
use lb_userspace::dataplane::BackendTable;
use sluice_tests::packets::Packet;
use sluice_tests::rig::{Delta, KEY, PairDelta, XDP_TX, l2, tuple, words};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Fixture, HOSTS, TCP, UDP, wrapped};

const FIRST: u16 = 30;

/// A bench with services of these keys, numbered from [`FIRST`] on, with backends next door.
fn bench(features: u32, prefixes: &[u8], services: &[Vec<ServiceKey>]) -> Bench {
    let change = |abilities: &mut lb_userspace::dataplane::Abilities| {
        abilities.features |= features;
        abilities.prefixes = prefixes.to_vec();
    };
    let mut bench = Bench::with(change, |backend| backend);
    for (number, keys) in (FIRST..).zip(services) {
        bench.setup.service(number, "192.0.2.1:1".parse().unwrap(), TCP, 0).keys(number, keys.clone());
        for host in HOSTS {
            bench.setup.backend(number, host.into(), BackendTable::from(l2(host)));
        }
    }
    bench.publish();
    bench
}

/// A service's key: a prefix as it is written, and its ports.
fn key(address: &str, prefix: u8, ports: std::ops::RangeInclusive<u16>, protocol: u8) -> ServiceKey {
    let address: IpAddr = address.parse().unwrap();
    let prefix = if address.is_ipv4() { prefix + 96 } else { prefix };
    let exact = ServiceKey::exact(words(address), 1, protocol);
    ServiceKey { prefix, first: *ports.start(), last: *ports.end(), ..exact }
}

fn client(to: SocketAddr, port: u16) -> SocketAddr {
    let address = if to.is_ipv4() { "10.0.0.9" } else { "2001:db8:c::9" };
    SocketAddr::new(address.parse().unwrap(), port)
}

fn packet(from: SocketAddr, to: SocketAddr, protocol: u8) -> Packet {
    if protocol == TCP { Packet::tcp(from, to).syn(1) } else { Packet::udp(from, to).payload(b"datagram") }
}

/// Checks that a new flow is of the service with this number after [`FIRST`], or of none.
#[track_caller]
fn finds(bench: &mut Bench, to: &str, protocol: u8, service: Option<u16>) {
    let to: SocketAddr = to.parse().unwrap();
    static PORTS: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
    let from = client(to, PORTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    for (number, tags) in [0, 1].into_iter().enumerate() {
        let packet = (0..tags).fold(packet(from, to, protocol), |packet, _| packet.vlan(2));
        let Some(service) = service else {
            bench.passes(&format!("{to}"), packet.build(), "pass_no_service");
            continue;
        };
        let service = FIRST + service;
        let inner = packet.clone().untagged().hop().build();
        let counts = match (number, protocol) {
            (0, TCP) => ("forward_new", BEGAN),
            (0, _) => ("forward_new", BEGAN_UDP),
            (_, TCP) => ("forward_syn_again", super::bench::NOTHING),
            _ => ("forward_pin", super::bench::NOTHING),
        };
        let counters = Delta::of([counts.0]).pair(service, 1, PairDelta::packet(inner.len()));
        bench.check(&Fixture {
            description: format!("{to}, protocol {protocol}"),
            input: packet.build(),
            verdict: XDP_TX,
            output: wrapped(&inner, &l2(1).into(), 0, 0),
            counters: counters.pair(service, 1, counts.1),
        });
        let pin = bench.rig.pin(&tuple(from, to, protocol)).unwrap();
        assert_eq!(pin.cold.service(), service);
    }
}

#[test]
fn a_port_goes_before_a_range() {
    for address in ["198.51.101.1", "2001:db8:f:1::1"] {
        let at = |port: u16| SocketAddr::new(address.parse().unwrap(), port).to_string();
        let services = [
            vec![key(address, if address.contains(':') { 128 } else { 32 }, 1000..=2000, TCP)],
            vec![key(address, if address.contains(':') { 128 } else { 32 }, 1500..=1500, TCP)],
            vec![key(address, if address.contains(':') { 128 } else { 32 }, 3000..=65535, TCP)],
            vec![key(address, if address.contains(':') { 128 } else { 32 }, 1..=65535, UDP)],
        ];
        let mut bench = bench(FEATURE_RANGES, &[], &services);
        for (port, service) in [
            (0, None),
            (1, None),
            (999, None),
            (1000, Some(0)),
            (1499, Some(0)),
            (1500, Some(1)),
            (1501, Some(0)),
            (2000, Some(0)),
            (2001, None),
            (2999, None),
            (3000, Some(2)),
            (65535, Some(2)),
        ] {
            finds(&mut bench, &at(port), TCP, service);
        }
        for (port, service) in [(0, None), (1, Some(3)), (1500, Some(3)), (53, Some(3)), (65535, Some(3))] {
            finds(&mut bench, &at(port), UDP, service);
        }
        let next = if address.contains(':') { "[2001:db8:f:1::2]:1500" } else { "198.51.101.2:1500" };
        finds(&mut bench, next, TCP, None);
        // The services of one port beside them are found as ever.
        for flow in super::bench::all_flows(1) {
            bench.sent("beside", flow, &flow.packet(1), 1, flow.found());
        }
    }
}

#[test]
fn longer_prefixes_go_before_shorter_and_addresses_before_both() {
    let services = [
        vec![key("198.51.102.0", 24, 80..=80, TCP), key("2001:db8:f:2::", 64, 80..=80, TCP)],
        vec![key("198.51.102.128", 25, 1..=65535, TCP), key("2001:db8:f:2::8000:0", 97, 1..=65535, TCP)],
        vec![key("198.51.102.200", 32, 80..=80, TCP), key("2001:db8:f:2::8000:c8", 128, 80..=80, TCP)],
        vec![key("198.51.102.0", 24, 1..=65535, TCP), key("2001:db8:f:2::", 64, 1..=65535, TCP)],
        vec![key("198.51.102.0", 24, 53..=53, UDP), key("2001:db8:f:2::", 64, 53..=53, UDP)],
        vec![key("198.51.102.201", 32, 90..=99, TCP), key("2001:db8:f:2::8000:c9", 128, 90..=99, TCP)],
        vec![key("198.51.103.0", 31, 80..=80, TCP), key("2001:db8:f:3::", 127, 80..=80, TCP)],
    ];
    let mut bench = bench(FEATURE_RANGES, &[127, 121, 120, 97, 64], &services);
    for (to, protocol, service) in [
        ("198.51.102.0:80", TCP, Some(0)),
        ("198.51.102.5:80", TCP, Some(0)),
        ("198.51.102.5:81", TCP, Some(3)),
        ("198.51.102.5:0", TCP, None),
        ("198.51.102.130:80", TCP, Some(1)),
        ("198.51.102.255:65535", TCP, Some(1)),
        ("198.51.102.200:80", TCP, Some(2)),
        ("198.51.102.200:81", TCP, Some(1)),
        ("198.51.102.201:90", TCP, Some(5)),
        ("198.51.102.201:100", TCP, Some(1)),
        ("198.51.102.201:80", TCP, Some(1)),
        ("198.51.102.7:53", UDP, Some(4)),
        ("198.51.102.200:53", UDP, Some(4)),
        ("198.51.102.7:54", UDP, None),
        ("198.51.101.255:80", TCP, None),
        ("198.51.103.0:80", TCP, Some(6)),
        ("198.51.103.1:80", TCP, Some(6)),
        ("198.51.103.2:80", TCP, None),
        ("[2001:db8:f:2::]:80", TCP, Some(0)),
        ("[2001:db8:f:2:1::5]:80", TCP, Some(0)),
        ("[2001:db8:f:2::5]:81", TCP, Some(3)),
        ("[2001:db8:f:2::5]:0", TCP, None),
        ("[2001:db8:f:2::8000:1]:80", TCP, Some(1)),
        ("[2001:db8:f:2::ffff:ffff]:7", TCP, Some(1)),
        ("[2001:db8:f:2::8000:c8]:80", TCP, Some(2)),
        ("[2001:db8:f:2::8000:c8]:81", TCP, Some(1)),
        ("[2001:db8:f:2::8000:c9]:99", TCP, Some(5)),
        ("[2001:db8:f:2::7]:53", UDP, Some(4)),
        ("[2001:db8:f:2::7]:54", UDP, None),
        ("[2001:db8:f:3::]:80", TCP, Some(6)),
        ("[2001:db8:f:3::1]:80", TCP, Some(6)),
        ("[2001:db8:f:3::2]:80", TCP, None),
        ("[2001:db8:f:4::]:80", TCP, None),
    ] {
        finds(&mut bench, to, protocol, service);
    }
}

/// Prefixes without ranges, and a program that knows no ranges.
#[test]
fn prefixes_alone() {
    let services = [
        vec![key("198.51.102.0", 24, 80..=80, TCP), key("198.51.102.0", 24, 80..=80, UDP)],
        vec![key("2001:db8:f::", 48, 443..=443, TCP), key("2001:db8:f::", 48, 443..=443, UDP)],
    ];
    let mut bench = bench(0, &[120, 48], &services);
    for protocol in [TCP, UDP] {
        finds(&mut bench, "198.51.102.77:80", protocol, Some(0));
        finds(&mut bench, "198.51.102.77:81", protocol, None);
        finds(&mut bench, "198.51.103.77:80", protocol, None);
        finds(&mut bench, "[2001:db8:f:ffff::9]:443", protocol, Some(1));
        finds(&mut bench, "[2001:db8:e::9]:443", protocol, None);
    }
}

/// One service for both protocols.
#[test]
fn tcp_and_udp_together() {
    let services = [
        vec![key("198.51.101.1", 32, 53..=53, TCP), key("198.51.101.1", 32, 53..=53, UDP)],
        vec![key("2001:db8:f:1::1", 128, 7..=9, TCP), key("2001:db8:f:1::1", 128, 7..=9, UDP)],
    ];
    let mut bench = bench(FEATURE_RANGES, &[], &services);
    for protocol in [TCP, UDP] {
        finds(&mut bench, "198.51.101.1:53", protocol, Some(0));
        finds(&mut bench, "198.51.101.1:54", protocol, None);
        finds(&mut bench, "[2001:db8:f:1::1]:8", protocol, Some(1));
        finds(&mut bench, "[2001:db8:f:1::1]:10", protocol, None);
    }
}

/// With affinity all flows of a client have one slot: over ports, protocols and addresses of a prefix.
#[test]
fn a_client_has_one_host() {
    let services = [
        vec![
            key("198.51.101.1", 32, 1000..=2000, TCP),
            key("198.51.101.1", 32, 1000..=2000, UDP),
            key("2001:db8:f:1::1", 128, 1000..=2000, TCP),
        ],
        vec![
            key("198.51.102.0", 24, 80..=80, TCP),
            key("198.51.102.0", 24, 443..=443, TCP),
            key("2001:db8:f:2::", 64, 1..=65535, TCP),
        ],
    ];
    let mut bench = bench(FEATURE_RANGES, &[120, 64], &services);
    bench.setup.policy(FIRST, Policy::CLIENT).policy(FIRST + 1, Policy::CLIENT);
    let size = bench.rig.dataplane.options.sizes.ring_size;
    let cases: [(u16, ServiceKey, &[&str]); 4] = [
        (0, services[0][0], &["198.51.101.1:1000", "198.51.101.1:1500", "198.51.101.1:2000"]),
        (0, services[0][2], &["[2001:db8:f:1::1]:1000", "[2001:db8:f:1::1]:1999"]),
        (1, services[1][0], &["198.51.102.1:80", "198.51.102.200:443", "198.51.102.7:80"]),
        (1, services[1][2], &["[2001:db8:f:2::1]:5", "[2001:db8:f:2:9::]:80", "[2001:db8:f:2::77]:443"]),
    ];
    for (service, key, destinations) in cases {
        let to: SocketAddr = destinations[0].parse().unwrap();
        let of_client = FlowHash::of_client(&tuple(client(to, 1), to, TCP), &key.place().0, KEY);
        // Host 2 has that slot alone.
        bench.setup.ring(0, Slot::settled(1)).slot(0, of_client.slot(size), Slot::settled(2));
        bench.publish();
        for destination in destinations {
            let to: SocketAddr = destination.parse().unwrap();
            for protocol in if service == 0 && to.is_ipv4() { vec![TCP, UDP] } else { vec![TCP] } {
                for port in [1, 9, 40_000] {
                    let from = client(to, port);
                    let packet = packet(from, to, protocol);
                    for packet in [packet.clone(), packet.vlan(9)] {
                        let answer = bench.rig.run(&packet.build());
                        assert_eq!(answer.verdict, XDP_TX);
                        let pairs: Vec<_> = answer.delta.pairs.keys().copied().collect();
                        assert_eq!(pairs, [(FIRST + service, 2)], "{from} to {to}");
                        bench.rig.audit();
                    }
                }
            }
        }
    }
}
