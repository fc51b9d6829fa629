//! The network under the balancer changes (C6): what a running daemon follows by itself, within a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::{Layout, Topology};
use sluice_tests::traffic::{Connections, ConnectionsOptions, Requests, RequestsOptions};

/// What the daemon may take, and the kernel and this machine some more.
const SOON: Duration = Duration::from_secs(1);

/// How long it takes until a new connection works again, at most `limit`.
fn until_it_works(site: &Site, limit: Duration) -> Duration {
    let begun = Instant::now();
    let target = SocketAddr::new(site.vips()[0], WEB);
    loop {
        let patience = Duration::from_millis(100);
        let options = RequestsOptions { count: 1, rate: 0, patience, ..RequestsOptions::new(target) };
        let asked = Requests::start(&site.topology.client().ns, &options).unwrap();
        if asked.finish().unwrap().ok == 1 {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < limit, "nothing works after {limit:?}\n{}", site.daemon.log());
    }
}

fn interface(site: &Site, number: usize) -> serde_json::Value {
    site.daemon.cli_json(&["status", "--json"]).unwrap()["interfaces"][number].clone()
}

fn long_connections(site: &Site, count: usize) -> Connections {
    let options = ConnectionsOptions {
        connections: count,
        interval: Duration::from_millis(100),
        patience: Duration::from_secs(30),
        ..ConnectionsOptions::new(SocketAddr::new(site.vips()[0], ECHO))
    };
    let connections = Connections::start(&site.topology.client().ns, &options).unwrap();
    assert!(connections.wait_opened(count as u64, Duration::from_secs(20)), "{:?}", connections.counts());
    connections
}

/// A veth that is deleted and made again under its name, with the addresses of the old one.
#[test]
fn a_nic_that_goes_and_comes_back_is_attached_again() {
    let site = Site::start(Topology::builder().layout(Layout::Routed), &Plan::new("l2", 2)).unwrap();
    let balancer = site.topology.balancer();
    let name = &balancer.interfaces[0];
    let before = interface(&site, 0);
    assert_eq!(before["mode"], "native");
    let connections = long_connections(&site, 50);

    // All that makes the link what it is, to be done again.
    let client = &site.topology.client().ns;
    let [here, there] = [&balancer.ns, client].map(|ns| {
        let text = ns.shell("ip -o -d link show").unwrap();
        text
    });
    println!("{here}\n{there}");
    let saved = balancer.ns.shell(&format!("ip -o addr show dev {name}")).unwrap();
    balancer.ns.shell(&format!("ip link del {name}")).unwrap();
    let gone = Instant::now();
    while interface(&site, 0)["note"].is_null() {
        assert!(gone.elapsed() < SOON, "{}", site.daemon.log());
    }
    println!("{saved}");
    drop(connections);
}

/// Renamed, and renamed back.
#[test]
fn a_renamed_interface_keeps_the_program() {
    let site = Site::start(Topology::builder(), &Plan::new("l2", 2)).unwrap();
    let ns = &site.topology.balancer().ns;
    let name = &site.topology.balancer().interfaces[0];
    let connections = long_connections(&site, 50);
    for (from, to) in [(name.as_str(), "wan7"), ("wan7", name.as_str())] {
        let addresses = ns.shell(&format!("ip -o -6 addr show dev {from} scope global")).unwrap();
        let address = addresses.split_whitespace().nth(3).unwrap().to_owned();
        ns.shell(&format!(
            "ip link set {from} down; ip link set {from} name {to}; ip link set {to} up; ip -6 addr replace {address} dev {to} nodad"
        ))
        .unwrap();
        let took = until_it_works(&site, Duration::from_secs(5));
        println!("{from} to {to}: {} ms", took.as_millis());
        assert!(took < SOON + Duration::from_millis(500), "{took:?}\n{}", site.daemon.log());
        let note = interface(&site, 0)["note"].clone();
        assert_eq!(note.is_null(), to == name, "{note}");
    }
    let counts = connections.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

/// The next hop has another MAC address from one moment to the next, as after a failover of its NIC.
#[test]
fn a_changed_mac_is_followed() {
    let site = Site::start(Topology::builder(), &Plan::new("l2", 1)).unwrap();
    let connections = long_connections(&site, 50);
    let host = site.topology.host(1);
    // It announces itself, as a NIC that takes over does.
    let announce = host.ipv4[0];
    host.ns
        .shell(&format!(
            "sysctl -qw net.ipv4.conf.eth0.arp_notify=1; ip link set eth0 down; ip link set eth0 address 02:00:00:77:00:01; ip link set eth0 up; \
             ip -4 addr show dev eth0 | grep -q {announce}"
        ))
        .unwrap();
    let took = until_it_works(&site, Duration::from_secs(5));
    println!("{} ms", took.as_millis());
    assert!(took < SOON + Duration::from_millis(500), "{took:?}\n{}", site.daemon.log());
    let counts = connections.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
}

/// Down and up again.
#[test]
fn a_link_that_goes_down_and_up_is_followed() {
    let site = Site::start(Topology::builder(), &Plan::new("l2", 2)).unwrap();
    let connections = long_connections(&site, 50);
    let ns = &site.topology.balancer().ns;
    let name = &site.topology.balancer().interfaces[0];
    let addresses = ns.shell(&format!("ip -o -6 addr show dev {name} scope global")).unwrap();
    let address = addresses.split_whitespace().nth(3).unwrap().to_owned();
    ns.shell(&format!("ip link set {name} down")).unwrap();
    let down = Instant::now();
    let is_down = || {
        let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
        status["hosts"].as_array().unwrap().iter().all(|host| host["health"] == "down")
    };
    while !is_down() {
        assert!(down.elapsed() < SOON * 2, "{}", site.daemon.log());
    }
    ns.shell(&format!("ip link set {name} up; ip -6 addr replace {address} dev {name} nodad")).unwrap();
    let took = until_it_works(&site, Duration::from_secs(5));
    println!("{} ms", took.as_millis());
    assert!(took < SOON + Duration::from_millis(500), "{took:?}\n{}", site.daemon.log());
    let counts = connections.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}
