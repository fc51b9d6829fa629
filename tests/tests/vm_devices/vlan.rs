//! VLAN devices: hosts behind one, clients behind one, one over another, and the program on one itself.

use std::net::IpAddr;

use sluice_tests::site::Decap;
use sluice_tests::topology::{Namespace, Topology};

use crate::site::{NIC, Plan, Site, addresses, ethtool, ip, join, mac, vips};
use crate::tap::{Tags, Tap};

const IEEE_802_1Q: u16 = 0x8100;
const IEEE_802_1AD: u16 = 0x88a8;

/// A VLAN device over `eth0` with the VLAN's number for its network's, on balancer and hosts.
fn hosts_behind(topology: &Topology, vlan: u8) -> Vec<[IpAddr; 2]> {
    add(&topology.balancer().ns, vlan, 1);
    let hosts = (11..).zip(topology.hosts());
    hosts
        .map(|(last, host)| {
            add(&host.ns, vlan, last);
            addresses(vlan, last)
        })
        .collect()
}

fn add(ns: &Namespace, vlan: u8, last: u8) {
    let device = format!("eth0.{vlan}");
    ip(ns, &[&format!("link add link eth0 name {device} type vlan id {vlan}")]);
    join(ns, &device, vlan, last);
}

/// The first client reaches the VIPs by this VLAN only.
fn client_behind(topology: &Topology, vlan: u8) {
    let client = &topology.client().ns;
    add(client, vlan, 9);
    for (vip, balancer) in vips(topology).iter().zip(addresses(vlan, 1)) {
        ip(client, &[&format!("route replace {vip} via {balancer}")]);
    }
}

/// Answers take the VLAN of the client, in which hosts have an address as well.
fn hosts_reach(topology: &Topology, vlan: u8) {
    (11..).zip(topology.hosts()).for_each(|(last, host)| add(&host.ns, vlan, last));
}

fn taps(topology: &Topology) -> Vec<Tap> {
    topology.hosts().iter().map(|host| Tap::open(topology.switch(), &format!("p-{}", host.name))).collect()
}

/// Every frame to the hosts had these tags: at least as many as a connection has packets.
fn assert_tagged(topology: &Topology, taps: Vec<Tap>, destinations: &[IpAddr], tags: &[(u16, u16)]) {
    for (host, tap) in topology.hosts().iter().zip(taps) {
        let seen = tap.tags_to(mac(&host.ns, "eth0"), destinations);
        let all: Vec<&Tags> = seen.keys().collect();
        assert_eq!(all, [tags], "{seen:?}");
        assert!(seen[tags] > 10, "{seen:?}");
    }
}

#[test]
#[ignore = "needs VLAN devices: cargo xtask vm"]
fn hosts_behind_a_vlan_device() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let hosts = hosts_behind(&topology, 20);
    let taps = taps(&topology);
    let plan = Plan { interfaces: NIC, forward: "l2", hosts, decap: Vec::new() };
    let site = Site::start(topology, plan);
    site.run_load_and_drain("h1");
    assert_tagged(&site.topology, taps, &vips(&site.topology), &[(IEEE_802_1Q, 20)]);
}

/// `h1` has our decapsulator, `h2` the kernel's tunnels.
#[test]
#[ignore = "needs VLAN and tunnel devices: cargo xtask vm"]
fn ipip_through_a_vlan_device() {
    let topology = Topology::builder().hosts(2).xdp_on_hosts(true).build().unwrap();
    let hosts = hosts_behind(&topology, 20);
    let decap = vec![Decap::start(&topology, topology.host(1), &hosts[0]).unwrap()];
    // XDP would not see a tag that comes beside the frame.
    ethtool(topology.switch(), "-K p-h1 txvlan off");
    ip(&topology.host(2).ns, &["link set tunl0 up", "link set ip6tnl0 up"]);
    let (taps, outer) = (taps(&topology), hosts.concat());
    let site = Site::start(topology, Plan { interfaces: NIC, forward: "ipip", hosts, decap });
    site.run_load();
    assert_tagged(&site.topology, taps, &outer, &[(IEEE_802_1Q, 20)]);
}

/// The balancer's link takes no longer frames than a link with one tag: what is too long by the second is answered, not lost.
#[test]
#[ignore = "needs VLAN devices: cargo xtask vm"]
fn a_vlan_device_over_another() {
    let topology = Topology::builder().hosts(2).backend_mtu(1500).build().unwrap();
    let ends = (11..).zip(topology.hosts()).map(|(last, host)| (last, &host.ns));
    for (last, ns) in ends.chain([(1, &topology.balancer().ns)]) {
        ip(
            ns,
            &[
                "link add link eth0 name eth0.100 type vlan protocol 802.1ad id 100",
                "link set eth0.100 up",
                "link add link eth0.100 name eth0.100.20 type vlan id 20",
            ],
        );
        join(ns, "eth0.100.20", 20, last);
    }
    let taps = taps(&topology);
    let hosts = vec![addresses(20, 11), addresses(20, 12)];
    let plan = Plan { interfaces: NIC, forward: "l2", hosts, decap: Vec::new() };
    let site = Site::start(topology, plan);
    site.run_load();
    assert!(site.reason("answer_too_big") > 0);
    assert_tagged(&site.topology, taps, &vips(&site.topology), &[(IEEE_802_1AD, 100), (IEEE_802_1Q, 20)]);
}

/// Clients on one VLAN, hosts on another, and the program on what is beneath both.
#[test]
#[ignore = "needs VLAN devices: cargo xtask vm"]
fn from_one_vlan_to_another() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let hosts = hosts_behind(&topology, 20);
    add(&topology.balancer().ns, 30, 1);
    client_behind(&topology, 30);
    hosts_reach(&topology, 30);
    // XDP would not see a tag that comes beside the frame.
    ethtool(topology.switch(), "-K p-lb txvlan off");
    let (at_hosts, at_balancer) = (taps(&topology), Tap::open(topology.switch(), "p-lb"));
    let plan = Plan { interfaces: NIC, forward: "l2", hosts, decap: Vec::new() };
    let site = Site::start(topology, plan);
    site.run_load();
    let vips = vips(&site.topology);
    assert_tagged(&site.topology, at_hosts, &vips, &[(IEEE_802_1Q, 20)]);
    let to = mac(&site.topology.balancer().ns, "eth0");
    let passed: Vec<Tags> = at_balancer.tags_to(to, &vips).into_keys().collect();
    assert_eq!(passed, [[(IEEE_802_1Q, 30)]]);
}

/// Answers come in by one VLAN and leave by the other, sent by the kernel, as VLAN devices take nothing from native XDP.
#[test]
#[ignore = "needs VLAN devices: cargo xtask vm"]
fn from_one_vlan_to_another_with_nat() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let hosts = hosts_behind(&topology, 20);
    add(&topology.balancer().ns, 30, 1);
    client_behind(&topology, 30);
    for host in topology.hosts() {
        let [v4, v6] = addresses(20, 1);
        ip(
            &host.ns,
            &[&format!("route add 10.30.0.0/24 via {v4}"), &format!("route add fd30::/64 via {v6}")],
        );
    }
    let forward = || {
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{switch}"), "1").unwrap();
        }
    };
    topology.balancer().ns.enter(forward).unwrap();
    ethtool(topology.switch(), "-K p-lb txvlan off");
    let (at_hosts, at_client) = (taps(&topology), Tap::open(topology.switch(), "p-client"));
    let at = hosts.concat();
    let plan = Plan { interfaces: NIC, forward: "nat", hosts, decap: Vec::new() };
    let site = Site::start(topology, plan);
    site.run_load();
    assert!(site.reason("forward_reply_slow") > 100);
    assert_tagged(&site.topology, at_hosts, &at, &[(IEEE_802_1Q, 20)]);
    let to = mac(&site.topology.client().ns, "eth0");
    let passed: Vec<Tags> = at_client.tags_to(to, &addresses(30, 9)).into_keys().collect();
    assert_eq!(passed, [[(IEEE_802_1Q, 30)]]);
}

/// The program on the VLAN device itself, in generic mode, with clients and hosts behind it.
#[test]
#[ignore = "needs VLAN devices: cargo xtask vm"]
fn the_program_on_a_vlan_device() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let hosts = hosts_behind(&topology, 20);
    client_behind(&topology, 20);
    let taps = taps(&topology);
    let plan = Plan { interfaces: "\"eth0.20\"", forward: "l2", hosts, decap: Vec::new() };
    let site = Site::start(topology, plan);
    site.run_load();
    assert_tagged(&site.topology, taps, &vips(&site.topology), &[(IEEE_802_1Q, 20)]);
}
