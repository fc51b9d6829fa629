//! ping: the balancer answers for its VIPs, by the XDP program or by its kernel; hosts behind `nat` reach clients.

use std::net::IpAddr;

use sluice_tests::site::{Plan, Site};

use crate::site::{counted, finish, plan, topology};

const COUNT: u64 = 10;

/// Pings with short and with long packets, and asserts that each was answered, once.
fn ping(site: &Site, vip: IpAddr) {
    for size in [56, 1400] {
        let line = format!("ping -n -c {COUNT} -i 0.05 -W 30 -s {size} {vip}");
        let told = site.topology.client().ns.shell(&line).unwrap();
        assert!(
            told.contains(&format!("{COUNT} packets transmitted, {COUNT} received, 0% packet loss")),
            "{told}"
        );
        assert!(!told.contains("DUP"), "{told}");
    }
}

/// For a site whose balancer answers for its VIPs.
pub const ANSWER: &str = "ping = \"answer\"";

/// The balancer answers for its VIPs.
pub fn ping_all(site: &Site, plan: &Plan) {
    let before = counted(site, "answer_echo");
    site.vips().into_iter().for_each(|vip| ping(site, vip));
    assert_eq!(counted(site, "answer_echo") - before, 2 * 2 * COUNT);
    if plan.forward == "nat" {
        let client = site.topology.client();
        let addresses = [IpAddr::from(client.ipv4[0]), client.ipv6[0].into()];
        for address in addresses {
            site.topology.host(1).ns.shell(&format!("ping -n -c 3 -i 0.05 -W 30 {address}")).unwrap();
        }
    }
}

#[test]
fn the_kernel_answers_where_it_has_the_vips() {
    for forward in ["l2", "nat"] {
        let plan = Plan { vip_mode: "local", ..plan(forward) };
        let site = Site::start(topology(forward), &plan).unwrap();
        site.vips().into_iter().for_each(|vip| ping(&site, vip));
        let reasons = site.reasons().unwrap();
        assert!(reasons["pass_icmp"] >= 2 * 2 * COUNT && !reasons.contains_key("answer_echo"), "{reasons:?}");
        finish(site, &[]);
    }
}
