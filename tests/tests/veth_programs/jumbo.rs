//! An MTU of 9000: frames in several pieces, of which the programs see the first only.

use sluice_tests::site::Site;

use crate::iperf;
use crate::site::{finish, in_each_mode, plan, topology};

/// Of the clients' links; the hosts' have room for outer headers as well.
const MTU: u32 = 9000;

fn packets_of_nine_thousand_bytes(forward: &'static str) {
    let mut plan = plan(forward);
    plan.services.push(crate::http::service());
    plan.services.push(iperf::service());
    let site = Site::start(topology(forward).client_mtu(MTU).backend_mtu(MTU + 100), &plan).unwrap();
    let balancer = site.topology.balancer();
    for interface in &balancer.interfaces {
        let shown = balancer.ns.shell(&format!("ip link show {interface}")).unwrap();
        // The kernel keeps 15 letters of a name.
        assert!(shown.contains("name sluice_plain_fr "), "{shown}");
    }
    crate::http::exchange(&site, forward, 0);
    crate::fragments::exchange(&site);
    iperf::transfer(&site, &plan, f64::from(MTU));
    finish(site, &[]);
}

in_each_mode!(packets_of_nine_thousand_bytes);
