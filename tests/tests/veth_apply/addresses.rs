//! Where the VIPs are, as configs want them on another interface, or on none.

use std::time::Instant;

use sluice_tests::site::{self, Plan, Site};
use sluice_tests::topology::Topology;

use super::{apply, apply_json, stderr, wait_for};

/// VIPs on an interface of the balancer.
fn on(site: &Site, interface: &str) -> usize {
    let addresses = site.topology.balancer().ns.shell(&format!("ip -o addr show dev {interface}")).unwrap();
    site.vips().iter().filter(|vip| addresses.contains(&format!(" {vip}/"))).count()
}

#[test]
fn addresses_follow_the_config() {
    let plan = Plan::new("l2", 2);
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let first = site.topology.balancer().interfaces[0].clone();
    let external = site::config(&site.topology, &plan);
    let local = external.replace("vip_mode = \"external\"", "vip_mode = \"local\"");
    let announced = format!("{external}[announce]\ninterface = \"lo\"\n");
    let expect = |what: &str, on_first: usize, on_lo: usize| {
        wait_for(what, || (on(&site, &first), on(&site, "lo")) == (on_first, on_lo));
    };
    expect("external", 0, 0);
    for (what, config, on_first, on_lo) in [
        ("local", &local, 2, 0),
        ("announced", &announced, 0, 2),
        ("local again", &local, 2, 0),
        ("external again", &external, 0, 0),
        ("announced at last", &announced, 0, 2),
    ] {
        apply_json(&site, config, &[]);
        expect(what, on_first, on_lo);
    }
    // Both at once are refused, and nothing moves.
    let both = announced.replace("vip_mode = \"external\"", "vip_mode = \"local\"");
    let output = apply(&site, &both, &[]);
    assert_eq!(output.status.code(), Some(9), "{}", stderr(&output));
    expect("refused", 0, 2);
    // What nobody confirms takes its addresses along.
    let begun = Instant::now();
    apply_json(&site, &local, &["--confirm", "20s"]);
    expect("on trial", 2, 0);
    expect("taken back", 0, 2);
    assert!(begun.elapsed().as_secs() >= 19, "nobody waited");
    assert_eq!(site.violations().unwrap(), "{}");
}
