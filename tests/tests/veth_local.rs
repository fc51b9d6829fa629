//! `vip_mode = "local"`: the balancer itself answers for the VIPs.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_tests::site::{Plan, Site, WEB};
use sluice_tests::topology::{Topology, VipRoutes};
use sluice_tests::traffic::{Requests, RequestsOptions};

#[test]
fn the_balancer_answers_for_its_vips_until_it_is_detached() {
    let plan = Plan { vip_mode: "local", ..Plan::new("l2", 2) };
    let mut site = Site::start(Topology::builder().vip_routes(VipRoutes::OnLink), &plan).unwrap();
    let addresses = |site: &Site| site.topology.balancer().ns.shell("ip -o addr show dev eth0").unwrap();
    let answered = |site: &Site| {
        let mut ok = Vec::new();
        for vip in site.vips() {
            let patience = Duration::from_secs(10);
            let options =
                RequestsOptions { count: 20, patience, ..RequestsOptions::new(SocketAddr::new(vip, WEB)) };
            let run = Requests::start(&site.topology.client().ns, &options).unwrap();
            assert!(run.wait_for(sluice_tests::LIMIT, |counts| counts.ok + counts.failed == 20));
            ok.push(run.finish().unwrap().ok);
        }
        ok
    };
    assert_eq!(answered(&site), [20, 20]);
    for vip in site.vips() {
        assert!(addresses(&site).contains(&format!(" {vip}/")), "{}", addresses(&site));
    }
    // A daemon that ends takes nothing with it; one that comes back finds its own addresses and does not take them for
    // somebody else's.
    site.daemon.sigkill();
    assert_eq!(answered(&site), [20, 20]);
    site.daemon.start_again().unwrap();
    assert_eq!(answered(&site), [20, 20]);
    site.daemon.terminate().unwrap();
    site.daemon.cli_ok(&["detach"]).unwrap();
    for vip in site.vips() {
        assert!(!addresses(&site).contains(&format!(" {vip}/")), "{}", addresses(&site));
    }
}
