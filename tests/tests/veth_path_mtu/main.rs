//! Path MTU discovery through `ipip`, by real kernels' TCP: clients and hosts take packets of 1500 bytes, what is between them
//! does not, and only ICMP says so.

mod ear;
mod forger;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, Map, MapData};
use ear::{Ear, Said, forget_paths, route_mtu, until};
use lb_common::layout::{Own, Tuple};
use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Plan, Site, WEB, config};
use sluice_tests::topology::{Layout, Namespace, Topology};
use sluice_tests::traffic::{Connections, ConnectionsOptions};

/// What the narrowest link takes.
const NARROW: u32 = 1400;

/// What is left of it in outer headers, for each VIP.
fn inner(outer: u32, plan: &Plan) -> [u32; 2] {
    let gue = if plan.forward == "gue" { 12 } else { 0 };
    let ip =
        |(family, of_vip): (Option<&str>, &str)| if family.unwrap_or(of_vip) == "ipv4" { 20 } else { 40 };
    [(plan.outer[0], "ipv4"), (plan.outer[1], "ipv6")].map(|outer_of| outer - ip(outer_of) - gue)
}

/// Sends 600 kB to nginx, which answers with its name when it has read all of it.
fn post(site: &Site, vip: IpAddr) {
    let answer = site.topology.client().ns.enter(|| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(vip, WEB), LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let body = vec![b'x'; 600_000];
        let head = format!(
            "POST / HTTP/1.1\r\nHost: site\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    });
    let answer = answer.unwrap().unwrap_or_else(|error| panic!("POST to {vip}: {error}"));
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("h1\n"), "{answer}");
}

/// Messages of 60 kB there and back, every byte of which is looked at.
fn converse(site: &Site, vip: IpAddr) {
    let options = ConnectionsOptions {
        connections: 10,
        interval: Duration::from_millis(20),
        message_bytes: 60_000,
        ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
    };
    let run = Connections::start(&site.topology.client().ns, &options).unwrap();
    assert!(run.wait_for(LIMIT, |counts| counts.echoed > 200), "{:?}", run.counts());
    let counts = run.finish().unwrap();
    let wrong = (counts.broken, counts.missing, counts.missequenced);
    assert_eq!((counts.finished, wrong), (10, (0, 0, 0)), "{counts:?}");
}

fn status(site: &Site) -> serde_json::Value {
    site.daemon.cli_json(&["status", "--json"]).unwrap()
}

/// What the daemon has learnt of the paths to the backends of a service.
fn learnt(site: &Site, service: &str) -> Option<u64> {
    let status = status(site);
    let mut services = status["services"].as_array().unwrap().iter();
    let service = services.find(|entry| entry["name"] == service).unwrap();
    service["backends"][0]["path_mtu"].as_u64()
}

fn reason(site: &Site, name: &str) -> u64 {
    status(site)["reasons"][name].as_u64().unwrap_or(0)
}

/// Where answers to a client come from: the balancer's address towards it.
fn balancer(topology: &Topology, vip: IpAddr) -> IpAddr {
    match (topology.layout(), vip.is_ipv4()) {
        (Layout::Flat, true) => topology.balancer().ipv4[0].into(),
        (Layout::Flat, false) => topology.balancer().ipv6[0].into(),
        (Layout::Routed, true) => "10.78.0.254".parse().unwrap(),
        (Layout::Routed, false) => "fd78::fe".parse().unwrap(),
    }
}

/// The router's error reaches the client by way of the daemon; what the daemon learns makes the XDP program answer from then on.
fn a_narrow_link_is_discovered(layout: Layout, plan: &Plan) {
    let topology = Topology::builder().layout(layout).router(NARROW);
    discover(&Site::start(topology, plan).unwrap(), plan);
}

fn discover(site: &Site, plan: &Plan) {
    let (client, router) = (&site.topology.client().ns, site.topology.router().unwrap());
    let ear = Ear::open(client);
    let services = site.vips().into_iter().zip(["web-v4", "web-v6"]);
    for ((vip, service), mtu) in services.zip(inner(NARROW, plan)) {
        let too_big = (balancer(&site.topology, vip), Said::TooBig(mtu));
        let told = || status(site)["path_errors"]["told"].as_u64().unwrap();
        let (told_before, answered_before) = (told(), reason(site, "answer_too_big"));
        assert_eq!((route_mtu(client, vip), learnt(site, service)), (None, None));
        post(site, vip);
        assert_eq!(route_mtu(client, vip), Some(mtu));
        let heard = ear.heard();
        assert!(!heard.is_empty() && heard.iter().all(|error| *error == too_big), "{heard:?}");
        assert!(told() > told_before, "{}", status(site)["path_errors"]);
        converse(site, vip);

        // From here on the data path knows. The router has nothing to say any more.
        until("what was learnt", || learnt(site, service).filter(|mtu| *mtu == u64::from(NARROW)));
        let (told_after, errors) = (told(), router_errors(router));
        forget_paths(client);
        assert_eq!(route_mtu(client, vip), None);
        let _ = ear.heard();
        post(site, vip);
        assert_eq!(route_mtu(client, vip), Some(mtu));
        let heard = ear.heard();
        assert!(!heard.is_empty() && heard.iter().all(|error| *error == too_big), "{heard:?}");
        assert!(reason(site, "answer_too_big") > answered_before);
        assert_eq!((told(), router_errors(router)), (told_after, errors));
    }
    assert_eq!(site.violations().unwrap(), "{}");
    let log = site.daemon.log();
    let said = log.lines().filter(|line| line.contains("takes packets of 1400 bytes")).count();
    assert_eq!(said, 2, "once a backend: {log}");
    let shown = site.daemon.cli_ok(&["status"]).unwrap();
    let lines = shown.lines().filter(|line| line.starts_with("path to h1 (") && line.contains(" 1400 bytes"));
    assert_eq!(lines.count(), 2, "once a backend: {shown}");
}

/// Errors that a kernel has sent, of both families.
fn router_errors(ns: &Namespace) -> u64 {
    let text = ns.shell("cat /proc/thread-self/net/snmp /proc/thread-self/net/snmp6").unwrap();
    let mut icmp = text.lines().filter_map(|line| line.strip_prefix("Icmp:"));
    let (names, values) = (icmp.next().unwrap(), icmp.next().unwrap());
    let mut v4 = names.split_whitespace().zip(values.split_whitespace());
    let v4 = v4.find(|(name, _)| *name == "OutDestUnreachs").unwrap().1;
    let v6 = text.lines().find_map(|line| line.strip_prefix("Icmp6OutPktTooBigs")).unwrap();
    v4.parse::<u64>().unwrap() + v6.trim().parse::<u64>().unwrap()
}

#[test]
fn a_narrow_link_behind_a_router_is_discovered_when_hosts_and_clients_share_a_side() {
    a_narrow_link_is_discovered(Layout::Flat, &Plan::new("ipip", 1));
}

#[test]
fn a_narrow_link_behind_a_router_is_discovered_when_hosts_are_on_the_other_side() {
    a_narrow_link_is_discovered(Layout::Routed, &Plan::new("ipip", 1));
}

#[test]
fn a_narrow_link_behind_a_router_is_discovered_through_gue() {
    a_narrow_link_is_discovered(Layout::Routed, &Plan::new("gue", 1));
}

/// The VIPs' packets each in the other family: routers speak of the outer packet, in its family, and clients hear of theirs.
const CROSSED: [Option<&str>; 2] = [Some("ipv6"), Some("ipv4")];

#[test]
fn a_narrow_link_behind_a_router_is_discovered_through_tunnels_of_the_other_family() {
    a_narrow_link_is_discovered(Layout::Routed, &Plan { outer: CROSSED, ..Plan::new("ipip", 1) });
    a_narrow_link_is_discovered(Layout::Flat, &Plan { outer: CROSSED, ..Plan::new("gue", 1) });
}

/// Errors go to any address of the prefixes that outer packets come from; the balancer's kernel has to take those for its own.
#[test]
fn a_narrow_link_behind_a_router_is_discovered_from_a_prefix_of_outer_sources() {
    let topology = Topology::builder().layout(Layout::Routed).router(NARROW);
    let plan = Plan::new("ipip", 1);
    let mut site = Site::start(topology, &plan).unwrap();
    let router = site.topology.router().unwrap();
    for (prefix, balancer) in [("10.200.0.0/24", "10.77.0.1"), ("fd20::/64", "fd77::1")] {
        router.shell(&format!("ip route add {prefix} via {balancer}")).unwrap();
        site.topology.balancer().ns.shell(&format!("ip route add local {prefix} dev lo")).unwrap();
    }
    let config =
        format!("outer_source = [\"10.200.0.0/24\", \"fd20::/64\"]\n{}", config(&site.topology, &plan));
    site.daemon.terminate().unwrap();
    site.daemon.write_config(&config).unwrap();
    site.daemon.start_again().unwrap();
    discover(&site, &plan);
}

/// What the balancer's own interface does not take needs nobody else: the data path answers, in the name of the interface that the
/// packet came in by.
#[test]
fn the_balancers_own_narrow_link_is_answered_for() {
    the_own_link_is_answered_for(&Plan::new("ipip", 1));
    the_own_link_is_answered_for(&Plan { outer: CROSSED, ..Plan::new("ipip", 1) });
}

fn the_own_link_is_answered_for(plan: &Plan) {
    let mut site = Site::start(Topology::builder().layout(Layout::Routed), plan).unwrap();
    site.topology.balancer().ns.shell("ip link set b0 mtu 1450").unwrap();
    site.daemon.terminate().unwrap();
    site.daemon.start_again().unwrap();
    let client = &site.topology.client().ns;
    let ear = Ear::open(client);
    for (vip, mtu) in site.vips().into_iter().zip(inner(1450, plan)) {
        post(&site, vip);
        assert_eq!(route_mtu(client, vip), Some(mtu));
        let heard = ear.heard();
        let too_big = (balancer(&site.topology, vip), Said::TooBig(mtu));
        assert!(!heard.is_empty() && heard.iter().all(|error| *error == too_big), "{heard:?}");
        converse(&site, vip);
    }
    assert!(reason(&site, "answer_too_big") >= 2);
    assert_eq!(status(&site)["path_errors"]["heard"], 0);
    assert_eq!(site.violations().unwrap(), "{}");
}

/// The address that answers come from follows the interface's, and VIPs are none of them.
#[test]
fn answers_come_from_the_address_that_the_interface_has() {
    let site = Site::start(Topology::builder().layout(Layout::Routed), &Plan::new("l2", 1)).unwrap();
    let client = &site.topology.client().ns;
    let ear = Ear::open(client);
    let from = |vip: IpAddr, expected: &str| {
        let expected: IpAddr = expected.parse().unwrap();
        until(&format!("an answer from {expected}"), || {
            client
                .enter(|| {
                    let socket = UdpSocket::bind((if vip.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).unwrap();
                    if vip.is_ipv4() {
                        socket.set_ttl(1).unwrap();
                    } else {
                        socket2::SockRef::from(&socket).set_unicast_hops_v6(1).unwrap();
                    }
                    socket.send_to(b"x", (vip, ECHO)).unwrap();
                })
                .unwrap();
            std::thread::sleep(Duration::from_millis(20));
            ear.heard().into_iter().find(|heard| *heard == (expected, Said::TimeExceeded))
        });
    };
    let [v4, v6] = site.vips();
    from(v4, "10.78.0.254");
    from(v6, "fd78::fe");
    // Its neighbours need not know.
    let balancer = &site.topology.balancer().ns;
    let mac = balancer.shell("ip -o link show c0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'").unwrap();
    for gateway in ["10.78.0.254", "fd78::fe"] {
        let entry = format!("ip neigh replace {gateway} lladdr {} dev eth0 nud permanent", mac.trim());
        client.shell(&entry).unwrap();
    }
    let change = |what: &str| balancer.shell(&format!("ip addr {what}")).unwrap();
    change(&format!("add {v4}/32 dev c0"));
    change("del 10.78.0.254/24 dev c0");
    change("add 10.78.0.253/24 dev c0 noprefixroute");
    from(v4, "10.78.0.253");
    // The kernel puts new ones first, and says when one is not to be used any more.
    change("add fd78::fd/64 dev c0 nodad");
    from(v6, "fd78::fd");
    change("change fd78::fd/64 dev c0 preferred_lft 0");
    from(v6, "fd78::fe");
    // None of the family: the VIP itself speaks.
    change("flush dev c0 scope global");
    from(v4, &v4.to_string());
    from(v6, &v6.to_string());
}

/// The data path takes the interfaces of the config for its own, with or without addresses, and no others.
#[test]
fn own_interfaces_are_those_of_the_config() {
    let plan = Plan::new("l2", 1);
    let mut site = Site::start(Topology::builder().layout(Layout::Routed), &plan).unwrap();
    let balancer = site.topology.balancer().ns.clone();
    let index = |name: &str| {
        let link = balancer.shell(&format!("ip -o link show {name}")).unwrap();
        link.split(':').next().unwrap().parse::<u32>().unwrap()
    };
    let pin = format!("/sys/fs/bpf/sluice/{}/maps/OWN", site.daemon.instance());
    let own = || -> BTreeMap<u32, Own> {
        let map = Map::HashMap(MapData::from_pin(&pin).unwrap());
        HashMap::try_from(map).unwrap().iter().collect::<Result<_, _>>().unwrap()
    };
    let of = |v4: [u8; 4], v6: &str| Own {
        v4: u32::from_ne_bytes(v4),
        v6: Tuple::words(v6.parse::<Ipv6Addr>().unwrap().octets()),
        bond: 0,
    };
    let c0 = (index("c0"), of([10, 78, 0, 254], "fd78::fe"));
    let b0 = index("b0");
    assert_eq!(own(), [c0, (b0, of([10, 77, 0, 1], "fd77::1"))].into());
    balancer.shell("ip addr flush dev b0 scope global").unwrap();
    until("an interface without addresses", || (own() == [c0, (b0, Own::default())].into()).then_some(()));
    let config = config(&site.topology, &plan);
    let (interfaces, rest) = config.split_once('\n').unwrap();
    assert!(interfaces.starts_with("interfaces = ") && interfaces.contains("b0"), "{interfaces}");
    site.daemon.terminate().unwrap();
    site.daemon.write_config(&format!("interfaces = [\"c0\"]\n{rest}")).unwrap();
    balancer.shell("ip addr add 10.77.0.1/16 dev b0; ip addr add fd77::1/64 dev b0 nodad").unwrap();
    site.daemon.start_again().unwrap();
    assert_eq!(own(), [c0].into());
}

/// Whoever can send a packet to the balancer can forge errors about its tunnels. They make clients' packets small, and no smaller
/// than every host takes; many of them are not passed on; and those about packets that are not ours do nothing.
#[test]
fn forged_errors_do_little() {
    let site = Site::start(Topology::builder().layout(Layout::Routed), &Plan::new("ipip", 1)).unwrap();
    let (client, ear) = (site.topology.client(), Ear::open(&site.topology.client().ns));
    let vip = site.topology.vip4();
    let (balancer, host) = (site.topology.balancer().ipv4[0], site.topology.host(1).ipv4[0]);
    let errors = |name: &str| status(&site)["path_errors"][name].as_u64().unwrap();
    let forge = |from, to, count| {
        let error = forger::too_big(68, (from, to), (client.ipv4[0], vip));
        site.topology.host(1).ns.enter(|| forger::send(balancer, &error, count)).unwrap();
    };
    forge(host, balancer, 10);
    forge(balancer, client.ipv4[0], 10);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(errors("heard"), 0, "no packets of ours");
    let begin = Instant::now();
    forge(balancer, host, 8000);
    until("what was learnt", || learnt(&site, "web-v4").filter(|mtu| *mtu == 576));
    let seconds = begin.elapsed().as_secs() + 2;
    let [heard, told, suppressed] = ["heard", "told", "suppressed"].map(errors);
    println!("{heard} heard, {told} told, {suppressed} suppressed in {seconds} s at most");
    assert!((1000..=8000).contains(&heard), "{heard}");
    assert_eq!(told + suppressed, heard);
    assert!(suppressed > 0 && told <= 1000 * seconds, "{told} told, {suppressed} not, in {seconds} s");
    assert!(ear.heard().len() as u64 <= told);

    post(&site, vip.into());
    assert_eq!(route_mtu(&client.ns, vip.into()), Some(576));
    converse(&site, vip.into());
}
