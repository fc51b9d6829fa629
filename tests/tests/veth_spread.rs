//! Where new flows go, and whether the gauges are exact.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Plan, Site};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, UdpFlows, UdpFlowsOptions};

/// Asks until `value` is `wanted`: gauges are exact at any moment, but the balancer and the clients are looked at one
/// after the other.
fn becomes<T: PartialEq + std::fmt::Debug>(wanted: &T, mut value: impl FnMut() -> T) {
    let end = Instant::now() + LIMIT;
    loop {
        let found = value();
        if found == *wanted {
            return;
        }
        assert!(Instant::now() < end, "{found:?}, not {wanted:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn phase(site: &Site, host: &str, phase: &str) -> u64 {
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let hosts = status["hosts"].as_array().unwrap();
    hosts.iter().find(|entry| entry["name"] == host).unwrap()["live_flows"][phase].as_u64().unwrap()
}

#[test]
fn ten_thousand_flows_spread_by_weight_and_the_gauges_count_each() {
    let plan = Plan { weights: vec![100, 200, 100], timeouts: [10, 60, 2, 4], ..Plan::new("l2", 3) };
    let site = Site::start(Topology::builder().client_sources(4), &plan).unwrap();
    let client = site.topology.client();
    let mut runs = Vec::new();
    for vip in site.vips() {
        let sources: Vec<_> = if vip.is_ipv4() {
            client.ipv4.iter().map(|&address| address.into()).collect()
        } else {
            client.ipv6.iter().map(|&address| address.into()).collect()
        };
        let options = ConnectionsOptions {
            connections: 6000,
            sources,
            interval: Duration::from_secs(20),
            patience: Duration::from_secs(30),
            ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
        };
        runs.push(Connections::start(&client.ns, &options).unwrap());
    }
    for run in &runs {
        assert!(run.wait_opened(6000, LIMIT), "{:?}", run.counts());
    }
    let open = |host: &str| -> u64 { runs.iter().map(|run| run.counts().hosts[host].open).sum() };
    for (host, part) in [("h1", 0.25), ("h2", 0.5), ("h3", 0.25)] {
        let (found, wanted) = (open(host) as f64, 12_000.0 * part);
        assert!((found - wanted).abs() <= wanted * 0.05, "{host} has {found} of {wanted} flows");
        becomes(&open(host), || phase(&site, host, "established"));
    }
    // A third of h2's connections end: closing for their timeout, then gone, each of them counted.
    let before = open("h2");
    for run in &runs {
        run.close(0.3, Some("h2"));
    }
    becomes(&0, || phase(&site, "h2", "closing"));
    assert!(open("h2") < before);
    becomes(&open("h2"), || phase(&site, "h2", "established"));
    for run in runs {
        let counts = run.finish().unwrap();
        assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    }
    for host in ["h1", "h2", "h3"] {
        becomes(&0, || site.live(host).unwrap());
    }
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn datagram_flows_stay_and_are_counted() {
    let site = Site::start(Topology::builder(), &Plan::new("l2", 3)).unwrap();
    let mut runs = Vec::new();
    for vip in site.vips() {
        let interval = Duration::from_millis(500);
        let options =
            UdpFlowsOptions { flows: 500, interval, ..UdpFlowsOptions::new(SocketAddr::new(vip, ECHO)) };
        runs.push(UdpFlows::start(&site.topology.client().ns, &options).unwrap());
    }
    for run in &runs {
        assert!(run.wait_for(LIMIT, |counts| counts.answered > 1500), "{:?}", run.counts());
    }
    for host in ["h1", "h2", "h3"] {
        let flows = || runs.iter().map(|run| run.counts().hosts[host].flows).sum::<u64>();
        assert!(flows() > 200, "{host}: {}", flows());
        becomes(&flows(), || phase(&site, host, "udp"));
    }
    for run in runs {
        let counts = site.finish_udp(run);
        assert_eq!(counts.moved, 0, "{counts:?}");
    }
    for host in ["h1", "h2", "h3"] {
        becomes(&0, || site.live(host).unwrap());
    }
}

#[test]
fn flows_and_rings_are_listed() {
    let site = Site::start(Topology::builder(), &Plan::new("l2", 2)).unwrap();
    let vip = site.vips()[1];
    let options =
        ConnectionsOptions { connections: 50, ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO)) };
    let run = Connections::start(&site.topology.client().ns, &options).unwrap();
    assert!(run.wait_opened(50, LIMIT));
    let list = |args: &[&str]| -> Vec<serde_json::Value> {
        let all: Vec<&str> = ["flows", "--json"].iter().chain(args).copied().collect();
        site.daemon.cli_json(&all).unwrap()["flows"].as_array().unwrap().clone()
    };
    let counts = run.counts();
    for host in ["h1", "h2"] {
        let flows = list(&["--host", host]);
        assert_eq!(flows.len() as u64, counts.hosts[host].open);
        assert!(flows.iter().all(|flow| flow["host"] == host && flow["service"] == "echo-v6"), "{flows:?}");
        assert!(flows.iter().all(|flow| flow["vip"] == format!("[{vip}]:{ECHO}")), "{flows:?}");
    }
    assert_eq!(list(&[]).len(), 50);
    assert_eq!(list(&["--service", "web-v4"]).len(), 0);
    let rings = site.daemon.cli_json(&["rings", "--json"]).unwrap();
    let members = rings["rings"][0]["members"].as_array().unwrap();
    let slots: u64 = members.iter().map(|member| member["slots"].as_u64().unwrap()).sum();
    assert_eq!(slots, 65_537);
    assert_eq!(members[0]["drain_moves"]["h2"], members[0]["slots"]);
    run.finish().unwrap();
}
