//! The balancer itself is changed under load (C6): restarts, kills at any moment, another version in both directions, another size of
//! the flow table. No client may notice.
//!
//! `SLUICE_TEST_SECONDS` of 300 or more lets it be 20 restarts and 20 kills.

mod check;
mod load;
mod refused;

use std::time::{Duration, Instant};

use load::Load;
use sluice_tests::servers::next_sluice_binary;
use sluice_tests::site::{Plan, Site, config};
use sluice_tests::topology::Topology;

/// Restarts, and kills.
fn rounds() -> u32 {
    let seconds = std::env::var("SLUICE_TEST_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    if seconds.unwrap_or(0) >= 300 { 20 } else { 2 }
}

fn plan(pins: u32) -> Plan {
    // No flow ends by its timeout while it speaks, on the slowest machine.
    Plan { pins, timeouts: [20, 20, 5, 8], ..Plan::new("l2", 3) }
}

/// Another number each time, without a seed to keep: what is random is when the daemon dies.
fn moment(round: u32, most: u64) -> Duration {
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.subsec_nanos());
    Duration::from_millis(u64::from(nanos.wrapping_mul(2_654_435_761).wrapping_add(round)) % most)
}

#[test]
fn no_client_notices_that_the_balancer_is_restarted_killed_or_another() {
    let mut site = Site::start(Topology::builder(), &plan(65_536)).unwrap();
    let old = site.daemon.binary().to_owned();
    let new = next_sluice_binary().unwrap();
    let load = Load::start(&site);
    // Slots in handover for as long as this lasts.
    site.daemon.cli_ok(&["drain", "h3"]).unwrap();
    let drained = Instant::now();

    for _ in 0..rounds() {
        assert!(site.daemon.terminate().unwrap().success());
        site.daemon.start_again().unwrap();
    }
    load.check(&site, "restarts");
    for round in 0..rounds() {
        site.daemon.sigkill();
        site.daemon.start_unawaited().unwrap();
        std::thread::sleep(moment(round, 1500));
        site.daemon.sigkill();
        site.daemon.start_again().unwrap();
    }
    load.check(&site, "kills");

    let change = |site: &mut Site, what: &str, change: &mut dyn FnMut(&mut Site)| {
        let before = site.live("h3").unwrap();
        let packets = site.reasons().unwrap();
        assert!(site.daemon.terminate().unwrap().success());
        change(site);
        let begun = Instant::now();
        site.daemon.start_again().unwrap();
        println!("{what}: {} ms", begun.elapsed().as_millis());
        assert!(site.daemon.log().contains("took over"), "{}", site.daemon.log());
        let live = site.live("h3").unwrap();
        assert!(live > before / 2, "{what}: {before} flows of h3 were live, {live} are");
        load.check(site, what);
        let after = site.reasons().unwrap();
        for (reason, count) in &packets {
            assert!(after[reason] >= *count, "{what}: {reason} was {count}, is {}", after[reason]);
        }
        assert_eq!(site.violations().unwrap(), "{}", "{what}");
    };
    change(&mut site, "upgrade", &mut |site| site.daemon.use_binary(&new));
    change(&mut site, "downgrade", &mut |site| site.daemon.use_binary(&old));
    let resize = |site: &mut Site, pins| {
        let config = config(&site.topology, &plan(pins));
        site.daemon.write_config(&config).unwrap();
    };
    change(&mut site, "a larger table", &mut |site| resize(site, 200_000));
    change(&mut site, "a smaller table", &mut |site| resize(site, 16_384));

    // Killed while it takes over: at any moment of it.
    for round in 0..rounds() {
        let binary = if round % 2 == 0 { &new } else { &old };
        site.daemon.terminate().unwrap();
        site.daemon.use_binary(binary);
        site.daemon.start_unawaited().unwrap();
        std::thread::sleep(moment(round, 1500));
        site.daemon.sigkill();
        // By the same version, or by the one before.
        site.daemon.use_binary(if round % 3 == 0 { &old } else { binary });
        site.daemon.start_again().unwrap();
        load.check(&site, "killed upgrades");
    }
    site.daemon.terminate().unwrap();
    site.daemon.use_binary(&old);
    site.daemon.start_again().unwrap();

    load.end(&site, drained);
    assert_eq!(site.violations().unwrap(), "{}");
    let waited = site.daemon.cli(&["drain", "h3", "--wait", "--timeout", "40s"]).unwrap();
    assert!(waited.status.success(), "{waited:?}\n{}", site.daemon.log());
}
