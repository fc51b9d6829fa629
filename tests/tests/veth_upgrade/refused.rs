//! A switch that one of several interfaces refuses: the others go back, and all is as it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use sluice_tests::LIMIT;
use sluice_tests::kernel::{PIECES, lacks};
use sluice_tests::servers::next_sluice_binary;
use sluice_tests::site::{ECHO, Plan, Site, config, without};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, UdpFlows, UdpFlowsOptions};

use super::check::{connections, pins_of};
use super::plan;

/// The program of each interface, by its number in the kernel.
fn programs(site: &Site) -> BTreeMap<String, u64> {
    let links = site.topology.balancer().ns.shell("ip -json link show").unwrap();
    let links: Vec<serde_json::Value> = serde_json::from_str(&links).unwrap();
    let of = |link: &serde_json::Value| {
        Some((link["ifname"].as_str()?.to_owned(), link["xdp"]["prog"]["id"].as_u64()?))
    };
    links.iter().filter_map(of).collect()
}

/// Files below the folder of the instance: without them nothing holds maps that no packet goes by.
fn all_pins(site: &Site) -> Vec<String> {
    let folder = pins_of(site);
    let mut found = Vec::new();
    for part in std::fs::read_dir(&folder).unwrap().flatten() {
        let entries = std::fs::read_dir(part.path()).unwrap().flatten();
        found.extend(entries.map(|entry| entry.path().strip_prefix(&folder).unwrap().display().to_string()));
    }
    found.sort();
    found
}

/// Of three more interfaces the one in the middle refuses, so one has been switched before it, in whatever order they come.
#[test]
fn a_program_that_one_interface_refuses_is_on_none_of_them() {
    if lacks("programs for long frames", PIECES) {
        return;
    }
    let mut site = Site::start(Topology::builder(), &plan(65_536)).unwrap();
    let lb = site.topology.balancer().ns.clone();
    let more = ["x1", "x2", "x3"];
    for name in more {
        let mtu = if name == "x2" { 9000 } else { 1500 };
        lb.shell(&format!(
            "ip link add {name} mtu {mtu} type veth peer name p-{name} mtu {mtu} && ip link set {name} up && ip link set p-{name} up"
        ))
        .unwrap();
    }
    site.daemon.terminate().unwrap();
    let text = config(&site.topology, &plan(65_536));
    let with_more = text.replacen("interfaces = [", "interfaces = [\"x1\", \"x2\", \"x3\", ", 1);
    assert_ne!(text, with_more);
    site.daemon.write_config(&with_more).unwrap();
    site.daemon.start_again().unwrap();
    let load = connections(&site, 100);
    // In fragments, which are for the program that the attached one calls.
    let (client, vip) = (&site.topology.client().ns, site.vips()[0]);
    client
        .shell(&format!(
            "ip route replace {vip} $(ip -o route get {vip} | grep -o 'via [^ ]* dev [^ ]*') mtu lock 1280"
        ))
        .unwrap();
    let options = UdpFlowsOptions {
        flows: 30,
        interval: Duration::from_millis(200),
        payload_bytes: 1400,
        ..UdpFlowsOptions::new(SocketAddr::new(vip, ECHO))
    };
    let fragments = UdpFlows::start(client, &options).unwrap();
    let (before, pins) = (programs(&site), all_pins(&site));
    assert_eq!(before.len(), 4, "{before:?}");
    site.daemon.terminate().unwrap();

    // The next program is one for short frames, which a veth pair refuses whose other end still sends long ones.
    lb.shell("ip link set x2 mtu 1500").unwrap();
    // One of another layout, and one of the same.
    let (old, next) = (site.daemon.binary().to_owned(), next_sluice_binary().unwrap());
    for binary in [&next, &next, &old] {
        site.daemon.use_binary(binary);
        let said = site.daemon.log().len();
        site.daemon.start_again().unwrap_err();
        let error = site.daemon.log().split_off(said);
        assert!(error.contains("x2 does not take the new program"), "{error}");
        assert!(
            error.contains("the one before runs on") && error.contains("MTU of its other end"),
            "{error}"
        );
        assert_eq!(programs(&site), before);
        assert_eq!(all_pins(&site), pins, "a table that nobody goes by is not kept");
        assert!(!error.contains("could not be put back") && !error.contains("cannot put"), "{error}");
    }

    // Either goes on from there, with all pins.
    lb.shell("ip link set x2 mtu 9000").unwrap();
    site.daemon.start_again().unwrap();
    let live: u64 = ["h1", "h2", "h3"].iter().map(|host| site.live(host).unwrap()).sum();
    assert!(live >= 100, "{live}");
    site.daemon.terminate().unwrap();
    site.daemon.use_binary(&next);
    site.daemon.start_again().unwrap();
    let after = programs(&site);
    assert!(after.len() == 4 && after.iter().all(|(name, program)| before[name] != *program), "{after:?}");

    // One that is to go is not asked.
    lb.shell("ip link set x2 mtu 1500").unwrap();
    site.daemon.write_config(&with_more.replace("\"x2\", ", "")).unwrap();
    site.daemon.cli_ok(&["apply", site.daemon.config_path().to_str().unwrap()]).unwrap();
    let left = programs(&site);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["eth0", "x1", "x3"]);
    assert!(left.iter().all(|(name, program)| after[name] != *program), "for short frames: {left:?}");
    assert_eq!(site.finish_udp(fragments).moved, 0);
    assert!(site.reasons().unwrap()["forward_fragment"] > 100);
    let counts = load.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

/// A file that names another interface, and other hosts, is no reason for packets to go otherwise, if the interface refuses.
#[test]
fn an_interface_that_refuses_at_a_start_leaves_all_as_it_was() {
    let mut site = Site::start(Topology::builder(), &plan(65_536)).unwrap();
    let lb = site.topology.balancer().ns.clone();
    // A bridge has no native XDP.
    lb.shell("ip link add d0 type bridge && ip link set d0 up").unwrap();
    let load = connections(&site, 100);
    site.daemon.terminate().unwrap();
    let (before, pins) = (programs(&site), all_pins(&site));
    let text = config(&site.topology, &plan(65_536));
    let other = without(&text, "h3").replacen(
        "interfaces = [",
        "interfaces = [{ name = \"d0\", xdp_mode = \"native\" }, ",
        1,
    );
    site.daemon.write_config(&other).unwrap();
    for _ in 0..2 {
        let error = format!("{:#}", site.daemon.start_again().unwrap_err());
        assert!(error.contains("d0"), "{error}");
        assert_eq!((programs(&site), all_pins(&site)), (before.clone(), pins.clone()));
    }
    // With another flow table, to which packets go whatever comes of the interface, and no host has changed for them.
    site.daemon.write_config(&other.replace("pins = 65536\n", "pins = 131072\n")).unwrap();
    for _ in 0..3 {
        let error = format!("{:#}", site.daemon.start_again().unwrap_err());
        assert!(error.contains("d0"), "{error}");
        assert_eq!(programs(&site).keys().collect::<Vec<_>>(), ["eth0"]);
        let left = all_pins(&site);
        assert_eq!(left.iter().filter(|pin| pin.starts_with("programs/")).count(), 2, "{left:?}");
    }
    let options =
        UdpFlowsOptions { flows: 60, ..UdpFlowsOptions::new(SocketAddr::new(site.vips()[0], ECHO)) };
    let flows = UdpFlows::start(&site.topology.client().ns, &options).unwrap();
    assert!(flows.wait_for(LIMIT, |counts| counts.hosts.values().map(|host| host.flows).sum::<u64>() == 60));
    let counts = site.finish_udp(flows);
    assert!(counts.hosts["h3"].flows > 5, "{counts:?}");
    // By the file as it is right, all goes on, and by one that takes another interface, too.
    lb.shell("ip link add x1 type veth peer name p-x1 && ip link set x1 up && ip link set p-x1 up").unwrap();
    for config in [text.clone(), text.replacen("interfaces = [", "interfaces = [\"x1\", ", 1)] {
        site.daemon.write_config(&config).unwrap();
        site.daemon.start_again().unwrap();
        site.daemon.terminate().unwrap();
    }
    assert_eq!(programs(&site).keys().collect::<Vec<_>>(), ["eth0", "x1"]);
    site.daemon.start_again().unwrap();
    let counts = load.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

/// What a start makes and no packet comes to goes with it, so that the next one does not take it for that of an earlier daemon, nor flows
/// that are gone for ended. Nor does the start after that.
#[test]
fn a_first_start_that_an_interface_refuses_leaves_nothing() {
    // Nothing is taken for over while the test lasts.
    let plan = Plan { timeouts: [600, 600, 5, 8], ..plan(65_536) };
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    site.topology.balancer().ns.shell("ip link add d0 type bridge && ip link set d0 up").unwrap();
    // They say nothing while the test lasts, so no packet of theirs tells that they live.
    let options = ConnectionsOptions {
        connections: 60,
        interval: Duration::from_secs(3600),
        ..ConnectionsOptions::new(SocketAddr::new(site.vips()[0], ECHO))
    };
    let silent = Connections::start(&site.topology.client().ns, &options).unwrap();
    assert!(silent.wait_opened(60, LIMIT), "{:?}", silent.counts());
    site.daemon.cli_ok(&["drain", "h3"]).unwrap();
    site.daemon.terminate().unwrap();
    site.daemon.cli_ok(&["detach"]).unwrap();
    let text = config(&site.topology, &plan);
    let other =
        text.replacen("interfaces = [", "interfaces = [{ name = \"d0\", xdp_mode = \"native\" }, ", 1);
    assert_ne!(text, other);
    site.daemon.write_config(&other).unwrap();
    let error = format!("{:#}", site.daemon.start_again().unwrap_err());
    assert!(error.contains("d0"), "{error}");
    assert!(!pins_of(&site).exists(), "{:?}", all_pins(&site));
    site.daemon.write_config(&text).unwrap();
    let said = site.daemon.log().len();
    site.daemon.start_again().unwrap();
    assert!(site.daemon.log()[said..].contains("new data path"), "{}", &site.daemon.log()[said..]);
    site.daemon.terminate().unwrap();
    site.daemon.start_again().unwrap();
    site.daemon.cli_ok(&["undrain", "h3"]).unwrap();
    let receipts = site.daemon.cli_json(&["receipts", "--host", "h3", "--json"]).unwrap();
    let receipt = &receipts["receipts"][0];
    assert!(receipt["flows_at_start"].as_u64().unwrap() > 5, "{receipt}");
    assert_eq!((&receipt["left"], &receipt["ended"]), (&receipt["flows_at_start"], &0.into()), "{receipt}");
    drop(silent);
}

/// A start that fails when some of its tables are published leaves its program, and that of the last one alone, however often it is tried.
#[test]
fn starts_that_fail_late_pile_nothing_up() {
    let mut site = Site::start(Topology::builder(), &plan(65_536)).unwrap();
    let load = connections(&site, 100);
    let pins = all_pins(&site);
    let journal = format!("/var/lib/sluice/{}.db", site.daemon.instance());
    let journal = rusqlite::Connection::open(journal).unwrap();
    // The start of a drain cannot be noted, neither now nor by a start.
    journal
        .execute_batch(
            "CREATE TRIGGER late BEFORE UPDATE OF counters_at_start ON drains BEGIN SELECT RAISE(ABORT, 'a test'); END",
        )
        .unwrap();
    site.daemon.cli_ok(&["drain", "h3"]).unwrap();
    site.daemon.terminate().unwrap();
    let text = config(&site.topology, &plan(65_536));
    site.daemon.write_config(&text.replace("port = 7\n", "port = \"7-9\"\n")).unwrap();
    for _ in 0..3 {
        let error = format!("{:#}", site.daemon.start_again().unwrap_err());
        assert!(error.contains("note the start of a drain"), "{error}");
        assert_eq!(all_pins(&site).len(), pins.len(), "{:?}", all_pins(&site));
    }
    journal.execute_batch("DROP TRIGGER late").unwrap();
    site.daemon.start_again().unwrap();
    let counts = load.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}
