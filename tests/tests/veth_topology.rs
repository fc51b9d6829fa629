//! The tools of the suites, tried without a balancer.

use std::time::Instant;

use sluice_tests::topology::{Layout, Replies, Topology, leftovers, leftovers_of};

fn reach_all(topology: &Topology) {
    let client = &topology.client().ns;
    for host in topology.hosts() {
        client.shell(&format!("ping -c1 -W2 -I {} {}", topology.client().ipv4[0], host.ipv4[0])).unwrap();
        client.shell(&format!("ping -6 -c1 -W2 -I {} {}", topology.client().ipv6[0], host.ipv6[0])).unwrap();
        topology.balancer().ns.shell(&format!("ping -c1 -W2 {}", host.ipv4[0])).unwrap();
        topology.balancer().ns.shell(&format!("ping -6 -c1 -W2 {}", host.ipv6[0])).unwrap();
    }
    // A VIP is reached by way of the balancer only, and there is none yet.
    client.shell(&format!("ping -c1 -W1 {}", topology.vip4())).unwrap_err();
}

#[test]
fn the_flat_layout_joins_everybody() {
    let begin = Instant::now();
    let topology = Topology::builder().build().unwrap();
    println!("built in {:?}", begin.elapsed());
    reach_all(&topology);
    let prefix = topology.prefix().to_owned();
    assert!(!leftovers_of(&prefix).is_empty());
    let begin = Instant::now();
    drop(topology);
    println!("removed in {:?}", begin.elapsed());
    assert_eq!(leftovers_of(&prefix), [""; 0]);
}

#[test]
fn the_routed_layout_joins_everybody() {
    for replies in [Replies::Direct, Replies::ThroughBalancer] {
        let topology =
            Topology::builder().layout(Layout::Routed).clients(2).replies(replies).build().unwrap();
        reach_all(&topology);
    }
    assert_eq!(leftovers(), [""; 0]);
}
