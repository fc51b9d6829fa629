//! A host that the config disables.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sluice_tests::servers::SluiceDaemon;
use sluice_tests::site::{Plan, Site, WEB, config};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{RequestCounts, Requests, RequestsOptions};

fn restart(daemon: &mut SluiceDaemon, config: &str) {
    daemon.write_config(config).unwrap();
    daemon.terminate().unwrap();
    daemon.start_again().unwrap();
}

/// Sixty requests, each over a connection of its own.
fn ask(site: &Site, vip: SocketAddr) -> RequestCounts {
    let options = RequestsOptions { count: 60, rate: 0, ..RequestsOptions::new(vip) };
    let requests = Requests::start(&site.topology.client().ns, &options).unwrap();
    assert!(requests.wait_for(sluice_tests::LIMIT, |counts| counts.ok + counts.failed == 60));
    requests.finish().unwrap()
}

/// It gets no new flows and keeps its old ones, and an operator is told why it cannot be undrained.
#[test]
fn a_disabled_host_gets_no_new_flows() {
    let plan = Plan::new("l2", 2);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let vip = SocketAddr::new(site.vips()[0], WEB);
    let client = &site.topology.client().ns;
    let mut open = Vec::new();
    client
        .enter(|| {
            for _ in 0..20 {
                open.push(TcpStream::connect_timeout(&vip, Duration::from_secs(5)).unwrap());
            }
        })
        .unwrap();
    let before = site.live("h1").unwrap();
    assert!(before > 0);

    let enabled = config(&site.topology, &plan);
    let disabled = enabled.replace("[hosts.h1]\n", "[hosts.h1]\ndisabled = true\n");
    assert_ne!(enabled, disabled);
    restart(&mut site.daemon, &disabled);
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let host = &status["hosts"][0];
    assert_eq!(
        (&host["name"], &host["admin"], &host["share"]),
        (&"h1".into(), &"disabled".into(), &0.0.into())
    );
    assert_eq!(host["live_flows"]["total"], before, "{status}");
    let counts = ask(&site, vip);
    assert_eq!((counts.failed, counts.hosts.get("h1")), (0, None), "{counts:?}");
    // The rule about the last host knows it.
    assert_eq!(site.daemon.cli(&["drain", "h2"]).unwrap().status.code(), Some(10));
    let refused = site.daemon.cli(&["undrain", "h1"]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("disabled"), "{refused:?}");

    restart(&mut site.daemon, &enabled);
    let counts = ask(&site, vip);
    assert_eq!(counts.failed, 0, "{counts:?}");
    assert!(counts.hosts.contains_key("h1"), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}
