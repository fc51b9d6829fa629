//! ping: the balancer answers for its VIPs, by the XDP program or by its kernel; hosts behind `nat` reach clients.

use std::net::IpAddr;

use sluice_tests::site::{Plan, Site};

use crate::site::{finish, in_each_mode, plan, start, topology};

const COUNT: u64 = 10;

/// Pings with short and with long packets, and asserts that each was answered, once.
fn ping(site: &Site, vip: IpAddr) {
    for size in [56, 1400] {
        let line = format!("ping -n -c {COUNT} -i 0.05 -W 2 -s {size} {vip}");
        let told = site.topology.client().ns.shell(&line).unwrap();
        assert!(
            told.contains(&format!("{COUNT} packets transmitted, {COUNT} received, 0% packet loss")),
            "{told}"
        );
        assert!(!told.contains("DUP"), "{told}");
    }
}

fn the_balancer_answers_for_its_vips(forward: &'static str) {
    let site = start(&Plan { top: "ping = \"answer\"", ..plan(forward) });
    site.vips().into_iter().for_each(|vip| ping(&site, vip));
    assert_eq!(site.reasons().unwrap()["answer_echo"], 2 * 2 * COUNT);
    if forward == "nat" {
        let client = site.topology.client();
        let addresses = [IpAddr::from(client.ipv4[0]), client.ipv6[0].into()];
        for address in addresses {
            site.topology.host(1).ns.shell(&format!("ping -n -c 3 -i 0.05 -W 2 {address}")).unwrap();
        }
    }
    finish(site, &[]);
}

in_each_mode!(the_balancer_answers_for_its_vips);

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
