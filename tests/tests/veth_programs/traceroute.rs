//! traceroute by UDP, TCP and ICMP: the balancer is a hop, and the VIP the next.

use std::net::IpAddr;

use sluice_tests::site::{Extra, Site};

use crate::site::counted;

/// The hops to a VIP, in order.
fn trace(site: &Site, vip: IpAddr, method: &str) -> Vec<IpAddr> {
    let line = format!("traceroute -n -q 1 -w 20 -m 6 {method} {vip}");
    let told = site.topology.client().ns.shell(&line).unwrap();
    let hops = told
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().nth(1).and_then(|address| address.parse().ok()));
    hops.collect::<Option<_>>().unwrap_or_else(|| panic!("{line}: {told}"))
}

/// Ports on which nobody listens, so that hosts answer with an error.
pub fn service() -> Extra {
    Extra { name: "trace", protocol: "\"udp\"", port: "\"33434-33534\"", more: "" }
}

/// The balancer is a hop, and the VIP the last.
pub fn trace_all(site: &Site) {
    let before = counted(site, "answer_time_exceeded");
    let gateways = [gateway(site, false), gateway(site, true)];
    for (vip, gateway) in site.vips().into_iter().zip(gateways) {
        for method in ["", "-T -p 80", "-U -p 7"] {
            let hops = trace(site, vip, method);
            assert_eq!(hops, [gateway, vip], "{method:?}");
        }
        // It answers pings to its VIP itself.
        assert_eq!(trace(site, vip, "-I"), [vip]);
    }
    assert!(counted(site, "answer_time_exceeded") >= before + 2 * 3);
}

/// The balancer's address that the client knows.
fn gateway(site: &Site, is_v6: bool) -> IpAddr {
    let vip = site.vips()[usize::from(is_v6)];
    let told = site.topology.client().ns.shell(&format!("ip route get {vip}")).unwrap();
    let (_, rest) = told.split_once(" via ").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}
