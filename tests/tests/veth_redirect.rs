//! The way out by an interface that takes no frames from native XDP programs of others: the daemon says so.

use std::time::{Duration, Instant};

use lb_userspace::netlink::takes_redirects;
use sluice_tests::site::{Plan, Site};
use sluice_tests::topology::{Layout, Namespace, Topology};

/// What the log says of it, since the daemon's last start.
fn warnings(site: &Site) -> Vec<String> {
    let log = site.daemon.log();
    let since = log.rfind("the daemon ends").unwrap_or(0);
    let lines = log[since..].lines().filter(|line| line.contains("frames that native XDP programs"));
    lines.map(str::to_owned).collect()
}

fn start_again(site: &mut Site, config: &str) {
    if site.daemon.process().is_some() {
        site.daemon.terminate().unwrap();
    }
    site.daemon.write_config(config).unwrap();
    site.daemon.start_again().unwrap();
    std::thread::sleep(Duration::from_millis(200));
}

fn wait_for_a_warning(site: &Site) {
    let begin = Instant::now();
    while warnings(site).is_empty() {
        assert!(begin.elapsed() < sluice_tests::LIMIT, "{}", site.daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn index_of(ns: &Namespace, interface: &str) -> u32 {
    ns.enter(|| nix::net::if_::if_nametoindex(interface).unwrap()).unwrap()
}

/// Hosts behind an interface that is not in the config, a veth whose other end has neither program nor GRO.
#[test]
fn a_way_out_that_takes_no_frames_is_told_once() {
    let plan = Plan::new("l2", 1);
    let mut site = Site::start(Topology::builder().layout(Layout::Routed), &plan).unwrap();
    assert_eq!(warnings(&site), [""; 0], "its other end has a program");

    let balancer = site.topology.balancer().ns.clone();
    let (v4, v6) = (site.topology.host(1).ipv4[0], site.topology.host(1).ipv6[0]);
    balancer.shell("ip link add x0 type veth peer x1; ip link set x0 up; ip link set x1 up").unwrap();
    for address in [v4.to_string(), v6.to_string()] {
        let neighbour = format!("ip neigh replace {address} lladdr 02:00:00:00:00:07 dev x0 nud permanent");
        balancer.shell(&format!("{neighbour}; ip route add {address} dev x0")).unwrap();
    }
    // Both backends go by it, and one line says so.
    let text = std::fs::read_to_string(site.daemon.config_path()).unwrap();
    let warned = |site: &Site, what: &str| {
        let [warning] = warnings(site).try_into().unwrap_or_else(|all| panic!("{all:?}"));
        assert!(warning.contains("WARN") && warning.contains(what), "{warning}");
        let problems = site.daemon.cli_json(&["status", "--json"]).unwrap()["problems"].to_string();
        assert_eq!(
            problems.contains("x0: hosts are reached by it"),
            what == "it does not take",
            "{problems}"
        );
        assert!(warning.contains("give its other end an XDP program or GRO"), "{warning}");
    };
    let index = index_of(&balancer, "x0");
    let takes = || balancer.enter(|| takes_redirects(index)).unwrap();
    let tells = takes().is_some();
    // The daemon that runs has seen the new way, too, and says so before it ends.
    wait_for_a_warning(&site);
    start_again(&mut site, &text);
    warned(&site, if tells { "it does not take" } else { "it has no native XDP program itself" });

    // From generic mode frames go by any interface. A running data path does not change its mode.
    let generic = text.replace("xdp_mode = \"native\"", "xdp_mode = \"generic\"");
    start_again(&mut site, &generic);
    assert!(site.daemon.log().contains("c0: native mode: generic mode takes a `sluice detach`"));
    site.daemon.terminate().unwrap();
    site.daemon.cli_ok(&["detach"]).unwrap();
    start_again(&mut site, &generic);
    assert_eq!(warnings(&site), [""; 0]);

    if tells {
        assert_eq!(takes(), Some(false));
        site.daemon.terminate().unwrap();
        site.daemon.cli_ok(&["detach"]).unwrap();
        balancer.shell("ethtool -K x1 gro on").unwrap();
        assert_eq!(takes(), Some(true));
        start_again(&mut site, &text);
        assert_eq!(warnings(&site), [""; 0]);
        let problems = || site.daemon.cli_json(&["status", "--json"]).unwrap()["problems"].to_string();
        assert!(!problems().contains("x0: "), "{}", problems());
        // In native mode itself, that is.
        balancer.shell("ethtool -K x1 gro off").unwrap();
        let (head, rest) = text.split_once("\"b0\"").unwrap();
        start_again(&mut site, &format!("{head}\"b0\", \"x0\"{rest}"));
        warned(&site, "it does not take");
    }
    assert_eq!(takes_redirects(u32::MAX), None, "no interface");
}

/// A way that comes to be known while the daemon runs.
#[test]
fn a_way_out_that_comes_later_is_told() {
    let site = Site::start(Topology::builder().layout(Layout::Routed), &Plan::new("l2", 1)).unwrap();
    let balancer = &site.topology.balancer().ns;
    balancer.shell("ip link add x0 type veth peer x1; ip link set x0 up; ip link set x1 up").unwrap();
    let address = site.topology.host(1).ipv4[0];
    let neighbour = format!("ip neigh replace {address} lladdr 02:00:00:00:00:07 dev x0 nud permanent");
    balancer.shell(&format!("{neighbour}; ip route add {address} dev x0")).unwrap();
    wait_for_a_warning(&site);
    assert_eq!(warnings(&site).len(), 1);
}
