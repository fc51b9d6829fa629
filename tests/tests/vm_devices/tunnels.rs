//! What the kernel itself has at the other end: its tunnels take off what the balancer puts on, and its emulated links lose packets,
//! delay them and bring them in another order.

use std::process::Command;

use sluice_tests::topology::Topology;

use crate::site::{NIC, Plan, Site, ip};

/// The hosts' own addresses, by which the balancer reaches them.
fn own(topology: &Topology) -> Vec<[std::net::IpAddr; 2]> {
    topology.hosts().iter().map(|host| [host.ipv4[0].into(), host.ipv6[0].into()]).collect()
}

fn plan<'a>(topology: &Topology, forward: &'a str) -> Plan<'a> {
    Plan { interfaces: NIC, forward, hosts: own(topology), decap: Vec::new() }
}

#[test]
#[ignore = "needs tunnel devices: cargo xtask vm"]
fn ipip_to_the_kernels_tunnels() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    for host in topology.hosts() {
        ip(&host.ns, &["link set tunl0 up", "link set ip6tnl0 up"]);
    }
    let plan = plan(&topology, "ipip");
    Site::start(topology, plan).run_load_and_drain("h1");
}

/// Foo over UDP takes the GUE header off, and hands what is inside to the tunnels.
#[test]
#[ignore = "needs tunnel devices: cargo xtask vm"]
fn gue_to_the_kernels_foo_over_udp() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    for host in topology.hosts() {
        ip(
            &host.ns,
            &[
                "link set tunl0 up",
                "link set ip6tnl0 up",
                "fou add port 6080 gue",
                "-6 fou add port 6080 gue",
            ],
        );
    }
    let plan = plan(&topology, "gue");
    Site::start(topology, plan).run_load_and_drain("h1");
}

/// Both ways: 5 ms, give or take 4, and every 50th packet lost.
#[test]
#[ignore = "needs netem: cargo xtask vm"]
fn over_a_link_that_loses_and_reorders() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    for node in topology.hosts().iter().chain([topology.client()]) {
        // By a shell of busybox it would be busybox's own.
        let mut tc = Command::new("tc");
        tc.args("qdisc add dev eth0 root netem delay 5ms 4ms loss 2%".split(' '));
        node.ns.run(tc).unwrap();
    }
    let plan = plan(&topology, "l2");
    Site::start(topology, plan).run_load_and_drain("h1");
}
