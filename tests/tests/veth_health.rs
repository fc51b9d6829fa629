//! Hosts fail and come back, under traffic: new flows leave a sick host by themselves, and no flow of a well one breaks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::site::{Plan, Site, WEB};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Requests, RequestsOptions};

/// The config of a site with these lines behind the fields of its web services.
fn site(forward: &'static str, hosts: usize, web: &'static str) -> Site {
    let plan = Plan { web, ..Plan::new(forward, hosts) };
    Site::start(Topology::builder(), &plan).unwrap()
}

const TCP: &str = "[[services.checks]]\ntype = \"tcp\"\n\
                   [services.health]\ninterval = \"500ms\"\ntimeout = \"500ms\"\njitter = \"0%\"\nfall = 2\nrise = 2\n";

#[test]
fn a_host_whose_server_is_killed_gets_no_new_flows_and_comes_back() {
    let mut site = site("l2", 3, TCP);
    let client = site.topology.client().ns.clone();
    let options = RequestsOptions {
        rate: 200,
        patience: Duration::from_secs(2),
        ..RequestsOptions::new(SocketAddr::new(site.vips()[0], WEB))
    };
    let web = Requests::start(&client, &options).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let killed = Instant::now();
    drop(site.nginx.remove(2));
    std::thread::sleep(Duration::from_secs(4));
    let log = web.log();
    let failed =
        log.iter().filter(|request| !matches!(request.outcome, sluice_tests::traffic::Outcome::Ok(_)));
    let last = failed.map(|request| request.begun).max();
    println!("{:?}", last.map(|last| last - killed));
    println!("{}", site.daemon.log());
}
