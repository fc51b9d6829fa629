//! What backends of `nat` services send: to the client in the service's name, by the kernel's routes. In a network namespace with two
//! pairs of veths.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use lb_common::layout::{ServiceKey, Side, VipFlags};
use lb_common::reason::Reason;
use lb_userspace::dataplane::Dry;
use sluice_tests::kernel::{PIECES, lacks};
use sluice_tests::packets::{Packet, check, quote};
use sluice_tests::rig::{Delta, Rig, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, words};

use super::bench::{Bench, Fixture, Flow, L3, Mode, NOTHING, TCP, UDP, flows, pattern};

/// MAC addresses of the ways to clients: the next hop's by `to-clients`, and by the interface that backends answer through.
const NEXT_HOP: [u8; 6] = [0x02, 0xc1, 0, 0, 0, 0x01];
const NEXT_HOP_BACK: [u8; 6] = [0x02, 0xc1, 0, 0, 0, 0x02];

/// Interfaces of the namespace.
struct Ways {
    /// Where backends' answers come in.
    backends: u32,
    backends_mac: [u8; 6],
    /// Where the clients are.
    clients: u32,
    clients_mac: [u8; 6],
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn mac(name: &str) -> [u8; 6] {
    // Of this thread's namespace, which /sys may not show.
    let out = Command::new("ip").args(["-o", "link", "show", name]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mac = text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

fn sysctl(name: &str, value: &str) {
    // /proc/thread-self shows the thread's own namespace; /proc/sys goes by the task that opens it.
    std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value).unwrap();
}

fn hex(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A namespace of the calling thread's own; the thread's end removes it. Clients are at 10.0.0.0/24 and 2001:db8:c::/64 by the
/// interface `clients`, at 10.0.1.0/24 and 2001:db8:c1::/64 by that of the backends, at 10.0.2.0/24 and 2001:db8:c2::/64 behind a
/// router whose address is not known; 10.0.3.0/24 and 2001:db8:c3::/64 are unreachable; 10.0.4.1 and 2001:db8:c4::1 are here.
fn with_ways(test: impl FnOnce(Ways) + Send) {
    std::thread::scope(|scope| {
        let test = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            for (name, v4, v6) in [
                ("backends", "203.0.113.1/24", "2001:db8:b:2::ff/64"),
                ("clients", "192.0.2.1/24", "2001:db8:a::1/64"),
            ] {
                ip(&format!("link add {name} type veth peer name {name}-peer"));
                ip(&format!("addr add {v4} dev {name}"));
                ip(&format!("addr add {v6} dev {name} nodad"));
                ip(&format!("link set {name} up"));
                ip(&format!("link set {name}-peer up"));
            }
            ip("link set lo up");
            sysctl("net.ipv4.conf.all.forwarding", "1");
            sysctl("net.ipv6.conf.all.forwarding", "1");
            let (next, back) = (hex(NEXT_HOP), hex(NEXT_HOP_BACK));
            for (via, route, link, hop) in [
                ("192.0.2.2", "10.0.0.0/24", "clients", &next),
                ("2001:db8:a::2", "2001:db8:c::/64", "clients", &next),
                ("203.0.113.9", "10.0.1.0/24", "backends", &back),
                ("2001:db8:b:2::9", "2001:db8:c1::/64", "backends", &back),
            ] {
                ip(&format!("neigh add {via} lladdr {hop} dev {link} nud permanent"));
                ip(&format!("route add {route} via {via}"));
            }
            ip("route add 10.0.2.0/24 via 192.0.2.77");
            ip("route add 2001:db8:c2::/64 via 2001:db8:a::77");
            ip("route add unreachable 10.0.3.0/24");
            ip("route add unreachable 2001:db8:c3::/64");
            ip("addr add 10.0.4.1/32 dev lo");
            ip("addr add 2001:db8:c4::1/128 dev lo nodad");
            let index = |name| nix::net::if_::if_nametoindex(name).unwrap();
            test(Ways {
                backends: index("backends"),
                backends_mac: mac("backends"),
                clients: index("clients"),
                clients_mac: mac("clients"),
            });
        });
        test.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn bench(ways: &Ways) -> Bench {
    let mut bench = Bench::new();
    own_all(&mut bench, ways);
    bench.ingress = ways.backends;
    bench
}

fn own_all(bench: &mut Bench, ways: &Ways) {
    let v6 = |text: &str| Some(text.parse().unwrap());
    bench.rig.own(ways.backends, Some([203, 0, 113, 1].into()), v6("2001:db8:b:2::ff"));
    bench.rig.own(ways.clients, Some([192, 0, 2, 1].into()), v6("2001:db8:a::1"));
}

/// A flow of a client in the network with this number, see [`with_ways`].
fn client(kind: u16, network: u8) -> Flow {
    let flow = Flow::of(Mode::Nat, kind, 1);
    let address: IpAddr = match (flow.is_v6(), network) {
        (false, network) => format!("10.0.{network}.1").parse().unwrap(),
        (true, 0) => "2001:db8:c::1".parse().unwrap(),
        (true, network) => format!("2001:db8:c{network}::1").parse().unwrap(),
    };
    Flow { from: SocketAddr::new(address, flow.from.port()), ..flow }
}

fn clients(network: u8) -> [Flow; 4] {
    [0, 1, 2, 3].map(|kind| client(kind, network))
}

/// A frame with other MAC addresses.
fn with_macs(frame: &[u8], destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    [&destination[..], &source, &frame[12..]].concat()
}

/// Checks a frame from a backend: what becomes of it, its bytes, and its reason, which alone is counted.
#[track_caller]
fn replied(bench: &mut Bench, input: Vec<u8>, verdict: u32, output: Vec<u8>, reason: &'static str) {
    assert_eq!(check(&output), Ok(()));
    let pins = bench.rig.pins();
    let description = reason.to_owned();
    bench.check(&Fixture { description, input, verdict, output, counters: Delta::of([reason]) });
    assert_eq!(bench.rig.pins(), pins);
}

#[test]
fn answers_go_to_clients_in_the_service_s_name() {
    with_ways(|ways| {
        let mut bench = bench(&ways);
        for flow in clients(0).into_iter().chain(clients(1)) {
            let across = !matches!(flow.from.ip().to_string().as_str(), "10.0.1.1" | "2001:db8:c1::1");
            let (verdict, to, from) = if across {
                (XDP_REDIRECT, NEXT_HOP, ways.clients_mac)
            } else {
                (XDP_TX, NEXT_HOP_BACK, ways.backends_mac)
            };
            for host in [1, 3] {
                for payload in [0, 1, 1000] {
                    for class in [0, 0xb9] {
                        let answer = flow.answer(flow.backend(host), payload).traffic_class(class);
                        let output = answer.clone().from(flow.to).hop().build();
                        let output = with_macs(&output, to, from);
                        for answer in [answer.clone(), answer.clone().vlan(7)] {
                            replied(&mut bench, answer.build(), verdict, output.clone(), "forward_reply");
                        }
                    }
                }
            }
            if flow.protocol == UDP && !flow.is_v6() {
                let answer = flow.answer(flow.backend(1), 9).without_checksum();
                let output = with_macs(&answer.clone().from(flow.to).hop().build(), to, from);
                replied(&mut bench, answer.build(), verdict, output, "forward_reply");
            }
            // With more headers than a plain packet has.
            let answer = flow.answer(flow.backend(1), 30);
            let answer = if flow.is_v6() {
                answer.extension(60, &[1, 4, 0, 0, 0, 0])
            } else {
                answer.options(&[1; 12])
            };
            let output = with_macs(&answer.clone().from(flow.to).hop().build(), to, from);
            replied(&mut bench, answer.build(), verdict, output, "forward_reply");
        }
        bench.not_pinned();
    });
}

/// A dry run asks the same routes, and tells the interface that no verdict does.
#[test]
fn a_dry_run_foresees_the_way_of_an_answer() {
    with_ways(|ways| {
        let mut bench = Bench::on(Rig::open_with(Bench::options()), |backend| backend);
        own_all(&mut bench, &ways);
        let mut dry = Dry::load(&bench.rig.dataplane.options).unwrap();
        let mut verdicts = std::collections::BTreeSet::new();
        for (network, flow) in (0..5).flat_map(|network| clients(network).map(|flow| (network, flow))) {
            let answer = flow.answer(flow.backend(1), 100).build();
            let run = dry.run(&answer, ways.backends, false).unwrap();
            let live = bench.rig.run_from(&answer, ways.backends);
            assert_eq!((run.verdict, &run.bytes), (live.verdict, &live.bytes), "{flow:?}");
            assert_eq!(live.delta, Delta::of([Reason::from_number(run.record.reason).name()]), "{flow:?}");
            let out = match network {
                0 => ways.clients,
                // By the interface of the backends, or behind a router whose address is not known yet.
                1 => ways.backends,
                2 => run.record.ifindex,
                _ => 0,
            };
            assert_eq!(run.record.ifindex, out, "{flow:?}");
            assert_eq!((run.record.side, run.record.service), (Side::Backend as u8, flow.service()));
            verdicts.insert(run.verdict);
        }
        assert_eq!(verdicts.into_iter().collect::<Vec<_>>(), [XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT]);
    });
}

/// Ports that no service has answer nobody.
#[test]
fn what_is_no_answer_passes() {
    with_ways(|ways| {
        let mut bench = bench(&ways);
        for flow in clients(0) {
            let backend = flow.backend(1);
            let mut port = backend;
            port.set_port(22);
            bench.passes("another port", flow.answer(port, 9).build(), "pass_no_service");
            let mut stranger = backend;
            stranger.set_ip(if flow.is_v6() { "2001:db8:b:2::77" } else { "203.0.113.77" }.parse().unwrap());
            bench.passes("another host", flow.answer(stranger, 9).build(), "pass_no_service");
            // To the backend directly: the service is not known by that address.
            bench.passes("to the backend", flow.packet(9).to(backend).build(), "pass_no_service");
            let turned = if flow.protocol == TCP {
                Packet::udp(backend, flow.from)
            } else {
                Packet::tcp(backend, flow.from).ack(1)
            };
            // TCP and UDP have ports of their own.
            bench.passes("another protocol", turned.build(), "pass_no_service");
        }
    });
}

#[test]
fn the_kernel_finds_what_is_not_known_yet() {
    with_ways(|ways| {
        let mut bench = bench(&ways);
        for flow in clients(2) {
            let answer = flow.answer(flow.backend(1), 100);
            let output = answer.clone().from(flow.to).hop().build();
            replied(&mut bench, answer.build(), XDP_PASS, output, "forward_reply_slow");
            // The kernel sees the tags, too.
            let answer = answer.vlan(5);
            let output = answer.clone().from(flow.to).hop().build();
            replied(&mut bench, answer.build(), XDP_PASS, output, "forward_reply_slow");
        }
        // An interface that is not the balancer's.
        bench.rig.dataplane.maps.own.remove(&ways.clients).unwrap();
        for flow in clients(0) {
            let answer = flow.answer(flow.backend(1), 100);
            let output = answer.clone().from(flow.to).hop().build();
            replied(&mut bench, answer.build(), XDP_PASS, output, "forward_reply_slow");
        }
    });
}

#[test]
fn without_a_route_they_are_dropped() {
    with_ways(|ways| {
        let mut bench = bench(&ways);
        for flow in clients(3) {
            bench.drops("unreachable", flow.answer(flow.backend(1), 9).build(), "drop_no_route");
        }
        // No route at all: the kernel tells the backend, about the packet as that sent it.
        for flow in clients(9) {
            bench.passes("no route", flow.answer(flow.backend(1), 9).build(), "pass_no_service");
        }
        // This machine itself, which asked the backend directly: for its health, say.
        for flow in clients(4) {
            bench.passes("for this machine", flow.answer(flow.backend(1), 9).build(), "pass_no_service");
        }
        for name in ["net.ipv4.conf.all.forwarding", "net.ipv6.conf.all.forwarding"] {
            sysctl(name, "0");
        }
        for flow in clients(0) {
            bench.drops("forwarding is off", flow.answer(flow.backend(1), 9).build(), "drop_no_route");
        }
    });
}

#[test]
fn answers_that_do_not_fit_are_told_to_the_backend() {
    with_ways(|ways| {
        ip("link set clients mtu 1400");
        let mut bench = bench(&ways);
        for flow in clients(0) {
            let headers = flow.ip_header() + if flow.protocol == TCP { 20 } else { 8 };
            let fits = flow.answer(flow.backend(1), 1400 - headers);
            let output = with_macs(&fits.clone().from(flow.to).hop().build(), NEXT_HOP, ways.clients_mac);
            replied(&mut bench, fits.build(), XDP_REDIRECT, output, "forward_reply");
            let long = flow.answer(flow.backend(1), 1401 - headers);
            let own: IpAddr = if flow.is_v6() { "2001:db8:b:2::ff" } else { "203.0.113.1" }.parse().unwrap();
            // The error goes to the backend: the flow as seen from there.
            let turned = Flow { from: flow.backend(1), to: flow.from, ..flow };
            let answer = super::answers::too_big(&turned, &long.build(), own, 1400);
            replied(&mut bench, long.build(), XDP_TX, answer, "answer_too_big");
            let spent = flow.answer(flow.backend(1), 200).ttl(1);
            let answer = super::answers::time_exceeded(&turned, &spent.build(), own);
            replied(&mut bench, spent.build(), XDP_TX, answer, "answer_time_exceeded");
        }
    });
}

/// Of a page and more.
#[test]
fn long_answers() {
    if lacks("frames in several pieces", PIECES) {
        return;
    }
    with_ways(|ways| {
        ip("link set clients mtu 9000");
        let mut bench = Bench::with(|abilities| abilities.frags = true, |backend| backend);
        own_all(&mut bench, &ways);
        bench.ingress = ways.backends;
        for flow in clients(0) {
            for payload in [1400, 4000, 8900] {
                let answer = flow.answer(flow.backend(1), payload);
                let output =
                    with_macs(&answer.clone().from(flow.to).hop().build(), NEXT_HOP, ways.clients_mac);
                for answer in [answer.clone(), answer.vlan(7)] {
                    replied(&mut bench, answer.build(), XDP_REDIRECT, output.clone(), "forward_reply");
                }
            }
            let long = flow.answer(flow.backend(1), 9000);
            let own: IpAddr = if flow.is_v6() { "2001:db8:b:2::ff" } else { "203.0.113.1" }.parse().unwrap();
            let turned = Flow { from: flow.backend(1), to: flow.from, ..flow };
            let answer = super::answers::too_big(&turned, &long.build(), own, 9000);
            replied(&mut bench, long.build(), XDP_TX, answer, "answer_too_big");
        }
    });
}

#[test]
fn answers_are_inspected() {
    with_ways(|ways| {
        let mut bench = bench(&ways);
        for flow in clients(0).into_iter().filter(|flow| !flow.is_v6()) {
            let mut wrong = flow.answer(flow.backend(1), 9).build();
            wrong[L3 + 11] ^= 1;
            bench.drops("checksum", wrong, "drop_checksum");
            let land = flow.answer(flow.backend(1), 9).to(flow.backend(1));
            bench.drops("LAND", land.build(), "drop_land");
        }
    });
}

#[test]
fn fragments_of_answers() {
    with_ways(|ways| {
        let mut bench = bench(&ways);
        for flow in clients(0) {
            let answer = flow.answer(flow.backend(1), 300).identification(9 + flow.kind());
            let later = answer.part(64, 64, true);
            bench.passes("before the first", later.clone(), "pass_fragment");
            let whole = answer.clone().from(flow.to).hop();
            for (offset, reason) in
                [(0, "forward_reply"), (128, "forward_fragment"), (64, "forward_fragment")]
            {
                let output = with_macs(&whole.part(offset, 64, true), NEXT_HOP, ways.clients_mac);
                let input = answer.part(offset, 64, true);
                replied(&mut bench, input, XDP_REDIRECT, output, reason);
            }
        }
    });
}

/// Errors from the backends' side are about a client's packet as the backend got it, and go to the client about the packet as it
/// sent it.
#[test]
fn errors_about_clients_packets() {
    with_ways(|ways| {
        let mut bench = bench(&ways);
        for flow in clients(0) {
            let kinds: &[[u8; 2]] = if flow.is_v6() {
                &[[1, 4], [2, 0], [3, 0], [4, 0]]
            } else {
                &[[3, 3], [3, 4], [11, 0], [12, 0]]
            };
            let router: IpAddr =
                if flow.is_v6() { "2001:db8:b:2::7" } else { "203.0.113.7" }.parse().unwrap();
            for &kind in kinds {
                let is_too_big = matches!(kind, [3, 4] | [2, 0]);
                let rest = if is_too_big { [0, 0, 5, 0] } else { [0; 4] };
                // The backend speaks as the service; a router on the way to it as itself.
                for (by, as_whom) in [(flow.backend(1).ip(), flow.to.ip()), (router, router)] {
                    for quoted in [flow.ip_header() + 8, 128] {
                        let got = flow.packet(200).to(flow.backend(1)).build();
                        let error = Packet::icmp(by, flow.from.ip(), kind, rest, quote(&got, quoted));
                        let sent = flow.packet(200).build();
                        let output = Packet::icmp(as_whom, flow.from.ip(), kind, rest, quote(&sent, quoted));
                        let output = with_macs(&output.hop().build(), NEXT_HOP, ways.clients_mac);
                        replied(&mut bench, error.build(), XDP_REDIRECT, output, "forward_icmp");
                    }
                }
            }
            // About anything else.
            let own = flow.packet(200).to(SocketAddr::new(router, 80)).build();
            let other = Packet::icmp(router, flow.from.ip(), kinds[0], [0; 4], quote(&own, 128));
            bench.passes("another host's", other.build(), "pass_icmp");
            let got = flow.packet(200).to(flow.backend(1)).build();
            let forged = Packet::icmp(router, router, kinds[0], [0; 4], quote(&got, 128));
            bench.passes("for another client", forged.build(), "pass_icmp");
            let spent = Packet::icmp(router, flow.from.ip(), kinds[0], [0; 4], quote(&got, 128)).ttl(1);
            bench.drops("spent", spent.build(), "drop_time_exceeded");
            let ping = Packet::ping(flow.backend(1).ip(), flow.from.ip(), 1, 1).payload(&pattern(20));
            bench.passes("ping", ping.build(), "pass_icmp");
        }
    });
}

#[test]
fn answers_to_a_syn_are_clamped() {
    with_ways(|ways| {
        let mut bench = Bench::with(|abilities| abilities.mss = 1300, |backend| backend);
        own_all(&mut bench, &ways);
        bench.ingress = ways.backends;
        for flow in clients(0).into_iter().filter(|flow| flow.protocol == TCP) {
            let most = if flow.is_v6() { 1280_u16 } else { 1300 };
            for (size, lowered) in [(1460, most), (most, most), (500, 500)] {
                let with = |size: u16, from| {
                    let [a, b] = size.to_be_bytes();
                    Packet::tcp(from, flow.from).syn(1).ack(2).tcp_options(&[1, 3, 3, 7, 2, 4, a, b])
                };
                let output = with_macs(&with(lowered, flow.to).hop().build(), NEXT_HOP, ways.clients_mac);
                let input = with(size, flow.backend(1)).build();
                replied(&mut bench, input, XDP_REDIRECT, output, "forward_reply");
            }
            // Options of other segments are their own affair.
            let odd = flow.answer(flow.backend(1), 5).tcp_options(&[2, 4, 0x20, 0]);
            let output = with_macs(&odd.clone().from(flow.to).hop().build(), NEXT_HOP, ways.clients_mac);
            replied(&mut bench, odd.build(), XDP_REDIRECT, output, "forward_reply");
        }
    });
}

/// Backends with the service's own port.
#[test]
fn ports_that_are_the_same_stay() {
    with_ways(|ways| {
        let mut bench = bench(&ways);
        for flow in flows(Mode::Nat, 1) {
            let service = bench.setup.tables.services.get_mut(&flow.service()).unwrap();
            service.policy = Default::default();
            service.keys.retain(|key| !key.is_reply);
            let key = ServiceKey::exact(words(flow.backend(1).ip()), flow.to.port(), flow.protocol);
            service.keys.push(ServiceKey { is_reply: true, ..key });
        }
        bench.publish();
        for flow in clients(0) {
            let mut backend = flow.backend(1);
            backend.set_port(flow.to.port());
            let answer = flow.answer(backend, 77);
            let output = with_macs(&answer.clone().from(flow.to).hop().build(), NEXT_HOP, ways.clients_mac);
            replied(&mut bench, answer.build(), XDP_REDIRECT, output, "forward_reply");
            bench.passes("another port", flow.answer(flow.backend(1), 7).build(), "pass_no_service");
        }
    });
}

/// A new flow from a host that has a backend of a `nat` service; other modes and other clients do not care.
#[test]
fn hairpins_are_refused() {
    let mut bench = Bench::new();
    let hosts = Flow::of(Mode::Nat, 0, 1);
    let hosts = [hosts.backend(2).ip(), Flow::of(Mode::Nat, 2, 1).backend(2).ip()];
    for mode in Mode::ALL {
        for flow in flows(mode, 1) {
            let host = hosts[usize::from(flow.is_v6())];
            bench.setup.vip(host, if flow.is_v6() { 128 } else { 32 }, VipFlags::NAT_HOST);
            bench.publish();
            let flow = Flow { from: SocketAddr::new(host, 7000), ..flow };
            let (reason, change) = flow.begun();
            if mode != Mode::Nat {
                bench.sent("another mode", flow, &flow.first(), 1, (reason, change));
                continue;
            }
            let counters = Delta::of(["drop_hairpin"]).pair(flow.service(), 1, change);
            bench.drops_with("first", flow.first().build(), counters);
            if flow.protocol == TCP {
                bench.drops("again", flow.first().build(), "drop_hairpin");
                bench.drops("again, tagged", flow.first().vlan(3).build(), "drop_hairpin");
            }
            let other = Flow { from: SocketAddr::new(host, 7001), ..flow };
            let counters = Delta::of(["drop_hairpin"]).pair(flow.service(), 1, change);
            bench.drops_with("tagged", other.first().vlan(3).build(), counters);
            // Its address is a VIP only if it says so.
            let ping = Packet::ping(flow.to.ip(), host, 1, 1);
            bench.passes("no VIP", ping.build(), "pass_icmp");
            let client = Flow::of(Mode::Nat, flow.kind(), 5);
            bench.sent("a client", client, &client.first(), 1, client.begun());
            // A flow that is there already goes on.
            let established = Flow { from: SocketAddr::new(host, 7002), ..flow };
            if flow.protocol == TCP {
                bench.sent("mid-flow", established, &established.packet(1), 1, established.found());
                bench.sent("mid-flow", established, &established.packet(1), 1, ("forward_pin", NOTHING));
            }
        }
    }
}

/// Without `nat` nobody answers in anybody's name.
#[test]
fn without_the_feature_answers_pass() {
    let mut bench =
        Bench::with(|abilities| abilities.features &= !lb_common::layout::FEATURE_NAT, |backend| backend);
    for flow in flows(Mode::Nat, 1) {
        bench.passes("answer", flow.answer(flow.backend(1), 9).build(), "pass_no_service");
        bench.passes("fragment", flow.answer(flow.backend(1), 99).part(64, 64, true), "pass_fragment");
    }
}
