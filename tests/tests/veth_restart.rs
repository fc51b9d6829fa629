//! The daemon may end, be killed and come back (C6): packets flow on, pins and drains live on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::kernel::slowness;
use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, Requests, RequestsOptions, UdpFlows, UdpFlowsOptions,
};

/// Of a flow that speaks no pin times out, on a machine that is slow, too.
fn plan(hosts: usize) -> Plan {
    let plan = Plan::new("l2", hosts);
    Plan { timeouts: plan.timeouts.map(|seconds| seconds * slowness()), ..plan }
}

#[test]
fn traffic_and_a_drain_outlive_the_daemon() {
    let slow = slowness();
    let mut site = Site::start(Topology::builder(), &plan(3)).unwrap();
    let client = site.topology.client().ns.clone();
    let vip = site.vips()[0];
    let (connections, flows, rate) = (300 / slow as usize, 100 / slow as usize, 200 / slow);
    let (interval, patience) = (Duration::from_millis(100) * slow, Duration::from_secs(10) * slow);
    let echo = SocketAddr::new(vip, ECHO);
    let options = ConnectionsOptions { connections, interval, patience, ..ConnectionsOptions::new(echo) };
    let tcp = Connections::start(&client, &options).unwrap();
    let options = UdpFlowsOptions { flows, interval, patience, ..UdpFlowsOptions::new(echo) };
    let udp = UdpFlows::start(&client, &options).unwrap();
    let options = RequestsOptions { rate, ..RequestsOptions::new(SocketAddr::new(vip, WEB)) };
    let options = RequestsOptions { patience: options.patience * slow, ..options };
    let web = Requests::start(&client, &options).unwrap();
    assert!(tcp.wait_opened(connections as u64, LIMIT), "{:?}", tcp.counts());
    std::thread::sleep(Duration::from_secs(7) * slow);

    site.daemon.cli_ok(&["drain", "h3"]).unwrap();
    let drained = Instant::now();
    let drain_id = |site: &Site| {
        let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
        let hosts = status["hosts"].as_array().unwrap().clone();
        let h3 = hosts.into_iter().find(|host| host["name"] == "h3").unwrap();
        assert_eq!(h3["admin"], "draining");
        h3["drain"]["id"].as_u64().unwrap()
    };
    let before = drain_id(&site);
    for round in 0..3 {
        // Without a daemon, with all kinds of traffic.
        if round == 1 {
            assert!(site.daemon.terminate().unwrap().success());
        } else {
            site.daemon.sigkill();
        }
        let unreachable = site.daemon.cli(&["status"]).unwrap();
        assert_eq!(unreachable.status.code(), Some(4), "{unreachable:?}");
        std::thread::sleep(Duration::from_secs(2));
        site.daemon.start_again().unwrap();
        assert_eq!(drain_id(&site), before);
    }
    assert_eq!(web.answered_since(drained).get("h3"), None);
    let open = tcp.counts().hosts["h3"].open;
    // Of a third of all; of few it may be far from that.
    assert!(open > if slow == 1 { 50 } else { 4 }, "{open}");
    assert!(site.live("h3").unwrap() >= open);

    tcp.close(1.0, Some("h3"));
    let counts = site.finish_udp(udp);
    assert_eq!(counts.moved, 0, "{counts:?}");
    // No command of a test takes longer than two minutes.
    let timeout = format!("{}s", (30 * slow).min(110));
    let waited = site.daemon.cli(&["drain", "h3", "--wait", "--timeout", &timeout]).unwrap();
    assert!(waited.status.success(), "{waited:?}\n{}", site.daemon.log());
    // A drained host stays drained.
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    assert_eq!(status["hosts"][2]["admin"], "drained");
    assert_eq!(web.answered_since(drained).get("h3"), None);
    let (counts, requests) = (tcp.finish().unwrap(), web.finish().unwrap());
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(requests.failed, 0, "{requests:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_host_that_the_config_no_longer_names_keeps_its_flows() {
    let slow = slowness();
    let plan = plan(3);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let client = site.topology.client().ns.clone();
    let target = SocketAddr::new(site.vips()[0], ECHO);
    let (interval, patience) = (Duration::from_millis(200) * slow, Duration::from_secs(10) * slow);
    let connections = 200 / slow as usize;
    let options = ConnectionsOptions { connections, interval, patience, ..ConnectionsOptions::new(target) };
    let tcp = Connections::start(&client, &options).unwrap();
    assert!(tcp.wait_opened(connections as u64, LIMIT), "{:?}", tcp.counts());

    let config = sluice_tests::site::config(&site.topology, &plan);
    let (head, tail) = config.split_once("[hosts.h2]").unwrap();
    let rest = &tail[tail.find("[hosts.h3]").unwrap()..];
    site.daemon.write_config(&format!("{head}{rest}")).unwrap();
    site.daemon.terminate().unwrap();
    site.daemon.start_again().unwrap();
    let removed = Instant::now();
    let more = Connections::start(&client, &options).unwrap();
    assert!(more.wait_opened(connections as u64, LIMIT), "{:?}", more.counts());
    std::thread::sleep(Duration::from_secs(3) * slow);
    assert_eq!(more.opened_since(removed).get("h2"), None);
    for run in [tcp, more] {
        let counts = run.finish().unwrap();
        assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    }
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn detach_ends_forwarding_and_only_without_a_daemon() {
    let mut site = Site::start(Topology::builder(), &Plan::new("l2", 2)).unwrap();
    let refused = site.daemon.cli(&["detach"]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let reach = |site: &Site, seconds: u64| {
        let target = SocketAddr::new(site.vips()[0], WEB);
        let patience = Duration::from_secs(seconds) * slowness();
        let options = RequestsOptions { count: 4, rate: 0, patience, ..RequestsOptions::new(target) };
        Requests::start(&site.topology.client().ns, &options).unwrap().finish().unwrap().ok
    };
    assert_eq!(reach(&site, 10), 4);
    site.daemon.terminate().unwrap();
    assert_eq!(reach(&site, 10), 4);
    site.daemon.cli_ok(&["detach"]).unwrap();
    assert_eq!(reach(&site, 1), 0);
    site.daemon.start_again().unwrap();
    assert_eq!(reach(&site, 10), 4);
}
