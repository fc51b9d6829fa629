//! What the program in force cannot do, or the next one can no longer: program and tables change one after the other, and no packet meets
//! one that does not understand the other.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_tests::site::ECHO;
use sluice_tests::traffic::{UdpFlows, UdpFlowsOptions};

use super::*;

/// Applies two configs in turns, and then starts with each of them while the other is in force, under 10,000 datagrams a second; one that is
/// lost is not sent again, as TCP would.
fn in_turns(other: impl Fn(&str) -> String) {
    let plan = Plan::new("l2", 3);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let flows = site.vips().map(|vip| {
        let options = UdpFlowsOptions {
            flows: 50,
            interval: Duration::from_millis(10),
            payload_bytes: 64,
            ..UdpFlowsOptions::new(SocketAddr::new(vip, ECHO))
        };
        UdpFlows::start(&site.topology.client().ns, &options).unwrap()
    });
    let first = site::config(&site.topology, &plan);
    let other = other(&first);
    assert_ne!(first, other);
    for config in [&other, &first].repeat(3) {
        apply_json(&site, config, &[]);
    }
    // With another flow table as well: services are in the same maps before and after.
    let larger = |config: &str| config.replace("pins = 65536\n", "pins = 131072\n");
    assert_ne!(first, larger(&first));
    for config in [&other, &first, &larger(&other), &first] {
        site.daemon.write_config(config).unwrap();
        site.daemon.terminate().unwrap();
        site.daemon.start_again().unwrap();
    }
    for flows in flows {
        let counts = site.finish_udp(flows);
        assert_eq!(counts.moved, 0, "{counts:?}");
    }
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_port_becomes_a_range_and_back_without_a_lost_datagram() {
    in_turns(|config| config.replace("port = 7\n", "port = \"7-9\"\n"));
}

#[test]
fn an_address_becomes_a_prefix_and_back_without_a_lost_datagram() {
    in_turns(|config| config.replace("vip = \"198.51.100.1\"", "vip = \"198.51.100.0/31\""));
}
