//! The network under the balancer changes (C6): what a running daemon follows by itself, within a second.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::health::busy;
use sluice_tests::site::{self, ECHO, Plan, Site, WEB};
use sluice_tests::topology::{Namespace, Node, Topology, VipRoutes, XdpProgram};
use sluice_tests::traffic::{Connections, ConnectionsOptions, Requests, RequestsOptions};

/// What the daemon may take, and the kernel and this machine some more.
const SOON: Duration = Duration::from_secs(1);

/// How long it takes until a new connection works again, at most `limit`.
fn until_it_works(site: &Site, limit: Duration) -> Duration {
    let begun = Instant::now();
    let target = SocketAddr::new(site.vips()[0], WEB);
    loop {
        // As long as a look may take to tell when it was; a busy machine may need more for an answer.
        let patience = if busy().is_zero() { Duration::from_millis(100) } else { Duration::from_secs(1) };
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
    assert!(connections.wait_opened(count as u64, LIMIT), "{:?}", connections.counts());
    connections
}

/// Makes the interface up as it was: the kernel takes routes, and addresses of IPv6, away with it.
fn set_up(ns: &Namespace, node: &Node, interface: &str) {
    let mut lines = vec![format!("ip link set {interface} up")];
    for (address, length) in [(node.ipv4[0].to_string(), 16), (node.ipv6[0].to_string(), 64)] {
        lines.push(format!("ip addr replace {address}/{length} dev {interface} noprefixroute nodad"));
    }
    for network in ["10.77.0.0/16", "fd77::/64"] {
        lines.push(format!("ip route replace {network} dev {interface}"));
    }
    ns.shell(&lines.join(" && ")).unwrap();
}

fn is_soon(site: &Site) {
    let took = until_it_works(site, LIMIT);
    println!("{} ms", took.as_millis());
    assert!(took < SOON + busy(), "{took:?}\n{}", site.daemon.log());
}

fn nothing_broke(site: &Site, connections: Connections) {
    let counts = connections.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

fn local_plan(hosts: usize) -> Plan {
    Plan { vip_mode: "local", ..Plan::new("l2", hosts) }
}

/// Where the balancer answers for its VIPs itself.
fn local(hosts: usize) -> Site {
    let site = Site::start(Topology::builder().vip_routes(VipRoutes::OnLink), &local_plan(hosts)).unwrap();
    has_vips(&site, "eth0");
    site
}

/// Waits until all VIPs are on the interface, and then that it is ready.
fn has_vips(site: &Site, interface: &str) {
    let begun = Instant::now();
    let shown = || site.topology.balancer().ns.shell(&format!("ip -o addr show dev {interface}")).unwrap();
    while let Some(vip) = site.vips().iter().find(|vip| !shown().contains(&format!(" {vip}/"))) {
        assert!(begun.elapsed() < SOON * 2 + busy(), "no {vip}: {}\n{}", shown(), site.daemon.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    while site.daemon.cli_json(&["status", "--json"]).unwrap()["problems"].to_string().contains("VIPs") {
        assert!(begun.elapsed() < SOON * 3 + busy(), "{}", site.daemon.log());
    }
}

/// The balancer's veth made again under its name after it was deleted, with the addresses of the old one; what its other end needs lives as
/// long as what is returned.
fn plug_in(site: &Site) -> OwnedFd {
    let (balancer, switch) = (site.topology.balancer(), site.topology.switch());
    let (queues, lb) = ("numtxqueues 1 numrxqueues 1", balancer.ns.name());
    switch
        .shell(&format!(
            "ip link add p-lb {queues} type veth peer name eth0 netns {lb} {queues} && ip link set p-lb mtu 1600 master br0 up && \
             ethtool -K p-lb tx off"
        ))
        .unwrap();
    let far_end = switch.enter(|| XdpProgram::pass(false).unwrap().attach("p-lb").unwrap()).unwrap();
    balancer.ns.shell("ip link set eth0 mtu 1600").unwrap();
    set_up(&balancer.ns, balancer, "eth0");
    far_end
}

/// A NIC that is missing when the daemon starts: what was in force goes on without it, and it is attached to when it comes.
#[test]
fn a_nic_that_comes_after_the_start_is_attached() {
    let mut site = local(2);
    let connections = long_connections(&site, 50);
    site.daemon.terminate().unwrap();
    site.topology.balancer().ns.shell("ip link del eth0").unwrap();
    site.daemon.start_again().unwrap();
    let missing = interface(&site, 0);
    assert_eq!((&missing["note"], &missing["mode"]), (&"it is not there".into(), &"no".into()));
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let problems = status["problems"].to_string();
    for part in ["nothing that comes in by eth0 is balanced", "the VIPs cannot be announced"] {
        assert!(problems.contains(part), "{problems}");
    }
    assert!(!problems.contains("was refused at the start"), "nothing is wrong with the file: {problems}");
    site.daemon.cli_ok(&["drain", "h1", "--force"]).unwrap();
    site.daemon.cli_ok(&["undrain", "h1"]).unwrap();
    // What is new is held against the machine as ever.
    let heavier = site::config(&site.topology, &local_plan(2)).replacen("weight = 100", "weight = 300", 1);
    let other = site.daemon.config_path().with_file_name("other.toml");
    std::fs::write(&other, heavier).unwrap();
    let refused = site.daemon.cli(&["apply", other.to_str().unwrap()]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(9) && said.contains("there is no interface \"eth0\" here"),
        "{said}"
    );

    let _far_end = plug_in(&site);
    is_soon(&site);
    let after = interface(&site, 0);
    assert!(after["note"].is_null() && after["mode"] == "native", "{after}");
    has_vips(&site, "eth0");
    nothing_broke(&site, connections);
}

/// A veth that is deleted and made again under its name, with the addresses of the old one.
#[test]
fn a_nic_that_goes_and_comes_back_is_attached_again() {
    let site = local(2);
    let balancer = site.topology.balancer();
    let before = interface(&site, 0);
    assert_eq!(before["mode"], "native");
    let connections = long_connections(&site, 50);

    balancer.ns.shell("ip link del eth0").unwrap();
    let gone = Instant::now();
    while interface(&site, 0)["note"].is_null() {
        assert!(gone.elapsed() < SOON + busy(), "{}", site.daemon.log());
    }
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    assert!(status["problems"].to_string().contains("the VIPs cannot be announced"), "{status}");
    let _far_end = plug_in(&site);
    is_soon(&site);
    let after = interface(&site, 0);
    assert!(after["note"].is_null() && after["mode"] == "native", "{after}");
    assert_ne!(after["ifindex"], before["ifindex"]);
    has_vips(&site, "eth0");
    nothing_broke(&site, connections);
}

/// Renamed, and renamed back.
#[test]
fn a_renamed_interface_keeps_the_program() {
    let site = local(2);
    let ns = &site.topology.balancer().ns;
    let name = &site.topology.balancer().interfaces[0];
    let connections = long_connections(&site, 50);
    for (from, to) in [(name.as_str(), "wan7"), ("wan7", name.as_str())] {
        ns.shell(&format!("ip link set {from} down && ip link set {from} name {to}")).unwrap();
        set_up(ns, site.topology.balancer(), to);
        is_soon(&site);
        // Packets go on all the while, so the daemon may not have seen it yet.
        let renamed = Instant::now();
        while interface(&site, 0)["note"].is_null() != (to == name) {
            assert!(renamed.elapsed() < SOON * 2 + busy(), "{}", interface(&site, 0));
        }
        has_vips(&site, to);
        // They are taken off it, whatever its name is.
        let said = site.daemon.cli_ok(&["drain", "self"]).unwrap();
        assert!(said.contains("its VIPs are off"), "{said}");
        let shown = ns.shell(&format!("ip -o addr show dev {to}")).unwrap();
        assert!(site.vips().iter().all(|vip| !shown.contains(&format!(" {vip}/"))), "{shown}");
        site.daemon.cli_ok(&["undrain", "self"]).unwrap();
        has_vips(&site, to);
    }
    nothing_broke(&site, connections);
}

/// The next hop has another MAC address from one moment to the next, as after a failover of its NIC.
#[test]
fn a_changed_mac_is_followed() {
    let site = Site::start(Topology::builder(), &Plan::new("l2", 1)).unwrap();
    let connections = long_connections(&site, 50);
    let host = site.topology.host(1);
    // It announces itself, as one that takes over does.
    host.ns
        .shell(
            "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_notify; echo 1 > /proc/sys/net/ipv6/conf/eth0/ndisc_notify; \
             ip link set eth0 down && ip link set eth0 address 02:00:00:77:00:01",
        )
        .unwrap();
    set_up(&host.ns, host, "eth0");
    // What it says before the link has its carrier is lost, so it says more.
    let balancer = site.topology.balancer().ipv4[0];
    host.ns.shell(&format!("ping -c 1 -i 0.2 -w 60 {balancer}")).unwrap();
    is_soon(&site);
    nothing_broke(&site, connections);
}

/// Packets that a node has forwarded from one to another.
fn forwarded(ns: &Namespace) -> u64 {
    let said = ns.shell("awk '$1 == \"Ip:\" && $2 != \"Forwarding\" { print $7 }' /proc/net/snmp").unwrap();
    said.trim().parse().unwrap()
}

/// The way to a host leads over another gateway from one moment to the next.
#[test]
fn a_changed_route_is_followed() {
    let site = Site::start(Topology::builder(), &Plan::new("ipip", 2)).unwrap();
    let connections = long_connections(&site, 50);
    let balancer = &site.topology.balancer().ns;
    let [one, other] = [1, 2].map(|number| site.topology.host(number));
    other
        .ns
        .shell("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/conf/eth0/send_redirects")
        .unwrap();
    balancer.shell(&format!("ip route add {} via {}", one.ipv4[0], other.ipv4[0])).unwrap();
    let gateway = format!("via {}", other.ipv4[0]);
    let changed = Instant::now();
    while !site.daemon.log().contains(&gateway) {
        assert!(changed.elapsed() < SOON + busy(), "{}", site.daemon.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    is_soon(&site);
    let before = forwarded(&other.ns);
    std::thread::sleep(Duration::from_secs(2));
    let through = forwarded(&other.ns) - before;
    assert!(through > 20, "{through} packets took the new way");
    nothing_broke(&site, connections);
}

/// Down and up again.
#[test]
fn a_link_that_goes_down_and_up_is_followed() {
    let site = local(2);
    let connections = long_connections(&site, 50);
    let ns = &site.topology.balancer().ns;
    let name = &site.topology.balancer().interfaces[0];
    ns.shell(&format!("ip link set {name} down")).unwrap();
    let down = Instant::now();
    let is_down = || {
        let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
        status["hosts"].as_array().unwrap().iter().all(|host| host["oper"] == "down")
    };
    while !is_down() {
        assert!(down.elapsed() < SOON * 2 + busy(), "{}", site.daemon.log());
    }
    set_up(ns, site.topology.balancer(), name);
    is_soon(&site);
    has_vips(&site, name);
    nothing_broke(&site, connections);
}
