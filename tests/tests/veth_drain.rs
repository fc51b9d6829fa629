//! The main job: a host is drained under real traffic, and no connection notices.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::kernel::slowness;
use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::{Layout, Topology, leftovers_of};
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, Requests, RequestsOptions, UdpFlows, UdpFlowsOptions,
};

/// Long connections, UDP flows and short requests on both VIPs.
struct Load {
    tcp: Vec<Connections>,
    udp: Vec<UdpFlows>,
    web: Vec<Requests>,
}

impl Load {
    /// Of 150 connections to each VIP, 60 UDP flows, and 150 requests a second, on a machine that is no slower than others.
    fn start(site: &Site) -> Self {
        let client = &site.topology.client().ns;
        let slow = slowness();
        let (connections, flows, rate) = (150 / slow as usize, 60 / slow as usize, 150 / slow);
        let (interval, patience) = (Duration::from_millis(500) * slow, Duration::from_secs(10) * slow);
        let (mut tcp, mut udp, mut web) = (Vec::new(), Vec::new(), Vec::new());
        for vip in site.vips() {
            let echo = SocketAddr::new(vip, ECHO);
            let options =
                ConnectionsOptions { connections, interval, patience, ..ConnectionsOptions::new(echo) };
            tcp.push(Connections::start(client, &options).unwrap());
            let options = UdpFlowsOptions { flows, interval, patience, ..UdpFlowsOptions::new(echo) };
            udp.push(UdpFlows::start(client, &options).unwrap());
            let options = RequestsOptions { rate, ..RequestsOptions::new(SocketAddr::new(vip, WEB)) };
            let options = RequestsOptions { patience: options.patience * slow, ..options };
            web.push(Requests::start(client, &options).unwrap());
        }
        let load = Load { tcp, udp, web };
        for tcp in &load.tcp {
            assert!(tcp.wait_opened(connections as u64, LIMIT), "{:?}", tcp.counts());
        }
        load
    }

    /// Ends the UDP flows and asserts that nothing was lost or moved.
    fn finish_udp(&mut self, site: &Site) {
        for udp in std::mem::take(&mut self.udp) {
            let counts = site.finish_udp(udp);
            assert_eq!(counts.moved, 0, "{counts:?}");
        }
    }

    /// Ends everything and asserts that nothing was broken, lost or moved.
    fn finish(mut self, site: &Site) {
        self.finish_udp(site);
        for tcp in self.tcp {
            let counts = tcp.finish().unwrap();
            assert_eq!((counts.broken, counts.missing, counts.open), (0, 0, 0), "{counts:?}");
        }
        for web in self.web {
            let counts = web.finish().unwrap();
            assert_eq!(counts.failed, 0, "{counts:?}");
        }
    }
}

fn drain_under_load(layout: Layout, forward: &'static str) {
    let slow = slowness();
    let mut plan = Plan::new(forward, 3);
    plan.timeouts = plan.timeouts.map(|seconds| seconds * slow);
    let site = Site::start(Topology::builder().layout(layout), &plan).unwrap();
    let mut load = Load::start(&site);
    // Until the balancer has seen every flow for longer than a flow may be silent.
    std::thread::sleep(Duration::from_secs(7) * slow);

    let at_host: u64 = load.tcp.iter().map(|tcp| tcp.counts().hosts["h2"].open).sum();
    // Of a third of all; of few it may be far from that.
    let least = if slow == 1 { 50 } else { 4 };
    assert!(at_host > least, "{at_host} long connections at h2");
    site.daemon.cli_ok(&["drain", "h2", "--reason", "test"]).unwrap();
    let drained = Instant::now();

    // Nothing has ended, so the wait must run into its timeout, and say so.
    let waited = site.daemon.cli(&["drain", "h2", "--wait", "--timeout", "2s"]).unwrap();
    assert_eq!(waited.status.code(), Some(5), "{waited:?}");
    assert!(site.live("h2").unwrap() >= at_host);
    for tcp in &load.tcp {
        tcp.close(1.0, Some("h2"));
    }
    load.finish_udp(&site);
    // No command of a test takes longer than two minutes.
    let timeout = format!("{}s", (30 * slow).min(110));
    let waited = site.daemon.cli(&["drain", "h2", "--wait", "--timeout", &timeout, "--json"]).unwrap();
    assert!(waited.status.success(), "{waited:?}\n{}", site.daemon.log());
    let answer: serde_json::Value = serde_json::from_slice(&waited.stdout).unwrap();
    let receipt = &answer["drains"][0]["receipt"];
    assert_eq!(receipt["outcome"], "drained", "{answer}");
    assert_eq!((&receipt["new_flows"], &receipt["misrouted"]), (&0.into(), &0.into()), "{answer}");
    assert!(receipt["ended"].as_u64().unwrap() >= at_host, "{answer}");
    for web in &load.web {
        assert_eq!(web.answered_since(drained).get("h2"), None);
        assert!(web.answered_since(drained).len() == 2);
    }

    site.daemon.cli_ok(&["undrain", "h2"]).unwrap();
    let back = Instant::now();
    for web in &load.web {
        let is_asked = || web.answered_since(back).contains_key("h2");
        assert!(web.wait_for(LIMIT, |_| is_asked()), "{:?}", web.answered_since(back));
    }
    load.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
    let prefix = site.topology.prefix().to_owned();
    drop(site);
    assert_eq!(leftovers_of(&prefix), [""; 0]);
}

#[test]
fn a_drain_breaks_nothing_flat_l2() {
    drain_under_load(Layout::Flat, "l2");
}

#[test]
fn a_drain_breaks_nothing_routed_l2() {
    drain_under_load(Layout::Routed, "l2");
}

#[test]
fn a_drain_breaks_nothing_flat_ipip() {
    drain_under_load(Layout::Flat, "ipip");
}

#[test]
fn a_drain_breaks_nothing_routed_ipip() {
    drain_under_load(Layout::Routed, "ipip");
}

#[test]
fn a_drain_breaks_nothing_flat_gue() {
    drain_under_load(Layout::Flat, "gue");
}

#[test]
fn a_drain_breaks_nothing_routed_gue() {
    drain_under_load(Layout::Routed, "gue");
}

#[test]
fn a_drain_breaks_nothing_nat() {
    drain_under_load(Layout::Routed, "nat");
}
