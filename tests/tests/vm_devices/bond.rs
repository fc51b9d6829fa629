//! Bonds: the program on one runs on its slaves, which fail in turn.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use sluice_tests::topology::{Layout, Namespace, Node, Replies, Topology, XdpProgram};

use crate::site::{Load, Plan, Site, addresses, ethtool, ip, join, mac, shown, vips};
use crate::tap::{TOO_LONG, Tags, Tap};

const BOND: &str = "bond0";
const HOSTS_V4: &str = "10.77.0.0/16";
const HOSTS_V6: &str = "fd77::/64";

/// Puts the balancer's interface towards the hosts and another one of its kind into a bond, active-backup, that has its addresses.
/// What is returned keeps a program on the far end of the new one, without which a veth takes no frames from XDP.
fn bond(topology: &Topology) -> OwnedFd {
    let (balancer, switch) = (topology.balancer(), topology.switch());
    let first = balancer.interfaces.last().unwrap();
    let (v4, v6) = (balancer.ipv4[0], balancer.ipv6[0]);
    let end = |name: &str| format!("name {name} mtu 1600 numtxqueues 2 numrxqueues 2");
    let far = format!("{} netns {}", end("p-lb2"), switch.name());
    ip(
        &balancer.ns,
        &[
            &format!("link add {} type veth peer {far}", end("second")),
            &format!("link add {BOND} mtu 1600 type bond mode active-backup miimon 50"),
            &format!("addr flush dev {first}"),
            &format!("link set {first} down"),
            &format!("link set {first} master {BOND}"),
            &format!("link set second master {BOND}"),
            &format!("link set {BOND} up"),
            &format!("addr add {v4}/16 dev {BOND} noprefixroute"),
            &format!("addr add {v6}/64 dev {BOND} noprefixroute nodad"),
            &format!("route add {HOSTS_V4} dev {BOND}"),
            &format!("route add {HOSTS_V6} dev {BOND}"),
        ],
    );
    ip(switch, &["link set p-lb2 master br0 up"]);
    ethtool(switch, "-K p-lb2 tx off");
    switch.enter(|| XdpProgram::pass(false)?.attach("p-lb2")).unwrap().unwrap()
}

/// The slave that the bond sends by.
fn active(ns: &Namespace) -> String {
    shown(ns, BOND)["linkinfo"]["info_data"]["active_slave"].as_str().unwrap_or_default().to_owned()
}

/// Cuts the active slave off, and waits until the other one has its part.
fn fail_over(topology: &Topology) {
    let ns = &topology.balancer().ns;
    let before = active(ns);
    let port = |slave: &str| if slave == "second" { "p-lb2" } else { "p-lb" };
    ip(topology.switch(), &[&format!("link set {} down", port(&before))]);
    let end = Instant::now() + sluice_tests::LIMIT;
    while active(ns) == before || active(ns).is_empty() {
        assert!(Instant::now() < end, "{before} is active still");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Gives both slaves their links back.
fn mend(topology: &Topology) {
    ip(topology.switch(), &["link set p-lb up", "link set p-lb2 up"]);
    std::thread::sleep(Duration::from_secs(1));
}

fn own(hosts: &[Node]) -> Vec<[IpAddr; 2]> {
    hosts.iter().map(|host| [host.ipv4[0].into(), host.ipv6[0].into()]).collect()
}

/// A site whose balancer has the program natively on the bond, and on `others`, with hosts `at` these addresses.
fn start(topology: Topology, others: &str, at: fn(&[Node]) -> Vec<[IpAddr; 2]>, forward: &str) -> Site {
    let interfaces = format!("{others}{{ name = \"{BOND}\", xdp_mode = \"native\" }}");
    let hosts = at(topology.hosts());
    Site::start(topology, Plan { interfaces: &interfaces, forward, hosts, decap: Vec::new() })
}

/// A link fails while connections speak, and comes back.
fn a_slave_fails(site: &Site, load: &Load) {
    fail_over(&site.topology);
    load.go_on(50);
    mend(&site.topology);
}

#[test]
#[ignore = "needs a bond: cargo xtask vm"]
fn a_bond_fails_over() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let _program = bond(&topology);
    let site = start(topology, "", own, "l2");
    let load = Load::start(&site.topology);
    load.go_on(30);
    a_slave_fails(&site, &load);
    a_slave_fails(&site, &load);
    site.drain(load, "h1");
    site.assert_clean();
}

#[test]
#[ignore = "needs a bond: cargo xtask vm"]
fn a_vlan_device_over_a_bond() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let _program = bond(&topology);
    let ends = (11..).zip(topology.hosts()).map(|(last, host)| (last, &host.ns, "eth0"));
    for (last, ns, beneath) in ends.chain([(1, &topology.balancer().ns, BOND)]) {
        ip(ns, &[&format!("link add link {beneath} name tagged type vlan id 20")]);
        join(ns, "tagged", 20, last);
    }
    let at_host = Tap::open(topology.switch(), "p-h1");
    let site = start(topology, "", |_| vec![addresses(20, 11), addresses(20, 12)], "l2");
    site.run_load();
    let to = mac(&site.topology.host(1).ns, "tagged");
    let seen: Vec<Tags> = at_host.tags_to(to, &vips(&site.topology)).into_keys().collect();
    assert_eq!(seen, [[(0x8100, 20)]]);
}

/// From and to another interface. The slaves themselves forward nothing: routes know the bond alone.
#[test]
#[ignore = "needs a bond: cargo xtask vm"]
fn a_bond_fails_over_with_nat() {
    let builder = Topology::builder().layout(Layout::Routed).replies(Replies::ThroughBalancer);
    let topology = builder.hosts(2).vips_on_hosts(false).build().unwrap();
    let _program = bond(&topology);
    let no_forwarding = || {
        for slave in ["b0", "second"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{slave}/forwarding"), "0").unwrap();
        }
    };
    topology.balancer().ns.enter(no_forwarding).unwrap();
    let site = start(topology, "\"c0\", ", own, "nat");
    let load = Load::start(&site.topology);
    load.go_on(30);
    a_slave_fails(&site, &load);
    load.finish();
    site.assert_clean();
    assert!(site.reason("forward_reply") > 100);
}

/// The program runs on the slave that rests, too. What a switch sends to both, as it has forgotten where the bond is, is forwarded
/// twice: no connection minds.
#[test]
#[ignore = "needs a bond: cargo xtask vm"]
fn a_switch_that_floods() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let _program = bond(&topology);
    let forget =
        ["p-lb", "p-lb2"].map(|port| format!("link set {port} type bridge_slave learning off fdb_flush"));
    ip(topology.switch(), &forget.each_ref().map(String::as_str));
    let taps = ["p-lb", "p-lb2"].map(|port| Tap::open(topology.switch(), port));
    let site = start(topology, "", own, "l2");
    site.run_load();
    let (to, vips) = (mac(&site.topology.balancer().ns, BOND), vips(&site.topology));
    let [one, other] = taps.map(|tap| tap.tags_to(to, &vips).into_values().sum::<u64>());
    assert!(one > 200 && other > 200, "{one} and {other}");
    // Taps may lose some when much comes at once.
    let forwarded: u64 = site.reasons("forward_").values().sum();
    assert!(forwarded > (one + other) * 9 / 10, "{forwarded} of {one} and {other}");
}

/// What is said in the balancer's own name comes from the bond's addresses, whichever slave the packet came in by.
#[test]
#[ignore = "needs a bond: cargo xtask vm"]
fn answers_come_from_the_bond() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let _program = bond(&topology);
    ip(
        &topology.balancer().ns,
        &[
            &format!("route replace {HOSTS_V4} dev {BOND} mtu 1400"),
            &format!("route replace {HOSTS_V6} dev {BOND} mtu 1400"),
        ],
    );
    let tap = Tap::open(topology.switch(), "p-client");
    let site = start(topology, "", own, "l2");
    site.run_load();
    assert!(site.reason("answer_too_big") > 0);
    let passed = tap.end();
    let balancer = site.topology.balancer();
    let own = [IpAddr::from(balancer.ipv4[0]), balancer.ipv6[0].into()];
    for (protocol, own) in TOO_LONG.iter().zip(own) {
        let errors = passed.keys().filter(|packet| packet.protocol == *protocol);
        let from: BTreeSet<IpAddr> = errors.map(|packet| packet.from).collect();
        assert_eq!(from, BTreeSet::from([own]));
    }
}
