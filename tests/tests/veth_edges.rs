//! A service that tracks edges only: a drain breaks nothing, takes at least the idle timeout, and counts exactly after it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::{Topology, leftovers_of};
use sluice_tests::traffic::{Connections, ConnectionsOptions, Requests, RequestsOptions};

/// The longest idle timeout of [`Plan::new`].
const IDLE: Duration = Duration::from_secs(6);

/// A host's entry in the status.
fn host(site: &Site, name: &str) -> serde_json::Value {
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let hosts = status["hosts"].as_array().unwrap();
    hosts.iter().find(|host| host["name"] == name).unwrap().clone()
}

#[test]
fn a_drain_of_edges_breaks_nothing_and_ends_when_every_flow_has_spoken() {
    let plan = Plan { tracking: "edges", ..Plan::new("l2", 3) };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let client = &site.topology.client().ns;
    let interval = Duration::from_millis(500);
    let connections: Vec<Connections> = site
        .vips()
        .into_iter()
        .map(|vip| {
            let options = ConnectionsOptions {
                connections: 100,
                interval,
                ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
            };
            Connections::start(client, &options).unwrap()
        })
        .collect();
    let options = RequestsOptions { rate: 100, ..RequestsOptions::new(SocketAddr::new(site.vips()[0], WEB)) };
    let web = Requests::start(client, &options).unwrap();
    for tcp in &connections {
        assert!(tcp.wait_opened(100, LIMIT), "{:?}", tcp.counts());
    }
    // Every half-open pin has aged: no pin is left of the long connections.
    std::thread::sleep(IDLE + Duration::from_secs(1));
    let at_host: u64 = connections.iter().map(|tcp| tcp.counts().hosts["h2"].open).sum();
    assert!(at_host > 30, "{at_host} long connections at h2");
    let before = host(&site, "h2");
    assert_eq!(before["live_flows"]["hidden"], true, "{before}");
    assert_eq!(before["live_flows"]["established"], 0, "{before}");
    assert!(site.daemon.cli_ok(&["status"]).unwrap().contains("unknown"));

    site.daemon.cli_ok(&["drain", "h2"]).unwrap();
    let drained = Instant::now();
    std::thread::sleep(IDLE + Duration::from_secs(3));
    let settled = host(&site, "h2");
    assert_eq!(settled["live_flows"]["hidden"], false, "{settled}");
    assert_eq!(settled["live_flows"]["established"], at_host, "{settled}");
    assert_eq!(web.answered_since(drained).get("h2"), None);

    // Another drain, all of whose connections end at once: it waits until silent ones must have spoken.
    site.daemon.cli_ok(&["undrain", "h2"]).unwrap();
    for tcp in &connections {
        tcp.close(1.0, Some("h2"));
        tcp.close(1.0, Some("h3"));
    }
    let begun = Instant::now();
    let waited = site.daemon.cli(&["drain", "h3", "--wait", "--timeout", "60s", "--json"]).unwrap();
    assert!(waited.status.success(), "{waited:?}\n{}", site.daemon.log());
    assert!(begun.elapsed() > IDLE, "after {:?}", begun.elapsed());
    let answer: serde_json::Value = serde_json::from_slice(&waited.stdout).unwrap();
    let receipt = &answer["drains"][0]["receipt"];
    assert_eq!((&receipt["new_flows"], &receipt["misrouted"]), (&0.into(), &0.into()), "{answer}");
    assert_eq!(web.answered_since(begun + Duration::from_secs(1)).get("h3"), None);

    for tcp in connections {
        let counts = tcp.finish().unwrap();
        assert_eq!((counts.broken, counts.missing, counts.open), (0, 0, 0), "{counts:?}");
    }
    assert_eq!(web.finish().unwrap().failed, 0);
    assert_eq!(site.violations().unwrap(), "{}");
    let prefix = site.topology.prefix().to_owned();
    drop(site);
    assert_eq!(leftovers_of(&prefix), [""; 0]);
}
