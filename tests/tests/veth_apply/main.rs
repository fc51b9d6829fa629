//! Another config while the daemon runs: as a whole or not at all, and nothing that lives breaks.

mod abilities;
mod addresses;
mod killed;
mod load;
mod waiting;

use std::process::Output;
use std::time::{Duration, Instant};

use load::Load;
use nix::sys::signal::Signal;
use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::site::{self, Plan, Site};
use sluice_tests::topology::Topology;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The site's config without some hosts.
fn without(site: &Site, plan: &Plan, hosts: &[&str]) -> String {
    let text = site::config(&site.topology, plan);
    hosts.iter().fold(text, |text, host| site::without(&text, host))
}

/// Writes a config beside the daemon's own, and applies it.
fn apply(site: &Site, config: &str, more: &[&str]) -> Output {
    let path = site.daemon.config_path().with_file_name("other.toml");
    std::fs::write(&path, config).unwrap();
    let args: Vec<&str> = ["apply", path.to_str().unwrap()].into_iter().chain(more.iter().copied()).collect();
    site.daemon.cli(&args).unwrap()
}

fn apply_json(site: &Site, config: &str, more: &[&str]) -> Value {
    let args: Vec<&str> = more.iter().copied().chain(["--json"]).collect();
    let output = apply(site, config, &args);
    assert!(output.status.success(), "{}\n{}", stderr(&output), site.daemon.log());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn status(site: &Site) -> Value {
    site.daemon.cli_json(&["status", "--json"]).unwrap()
}

fn host_names(site: &Site) -> Vec<String> {
    let status = status(site);
    status["hosts"].as_array().unwrap().iter().map(|host| host["name"].as_str().unwrap().to_owned()).collect()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn hosts_come_and_go_under_load_and_nothing_breaks() {
    let plan = Plan::new("l2", 4);
    let site = Site::start(Topology::builder(), &plan).unwrap();
    // h3 goes; then h3 comes back and h2 goes, in one change.
    let mut load = Load::start(&site, 300);
    let dry = apply_json(&site, &without(&site, &plan, &["h3"]), &["--dry-run"]);
    let generation = status(&site)["generation"].clone();
    assert_eq!(dry["revision"], Value::Null);
    assert_eq!(host_names(&site).len(), 4);
    let done = apply_json(&site, &without(&site, &plan, &["h3"]), &["--reason", "smaller"]);
    let removed = Instant::now();
    assert_eq!(dry["plan"]["slots_moved"], done["plan"]["slots_moved"], "planned as it is done");
    assert!(done["plan"]["slots_moved"].as_u64().unwrap() > 0);
    assert_eq!(done["plan"]["changes"][0]["name"], "h3");
    assert!(status(&site)["generation"].as_u64() > generation.as_u64());
    assert_eq!(host_names(&site), ["h1", "h2", "h4"]);
    let leaving = status(&site)["leaving"].clone();
    assert!(
        leaving
            .as_array()
            .unwrap()
            .iter()
            .any(|left| left["host"] == "h3" && left["live_flows"].as_u64().unwrap() > 0)
    );
    std::thread::sleep(Duration::from_secs(3));
    load.assert_whole();
    assert_eq!(load.new_on("h3", removed), 0, "no new flow for one that is gone");
    assert!(load.open_on("h3") > 20, "its flows go on");
    // It is drained, though no host has its name any more.
    let number = leaving[0]["drain"].as_u64().expect("a drain");
    let drains = site.daemon.cli_json(&["drains", "--json"]).unwrap();
    let of_h3 = drains["drains"].as_array().unwrap().iter().find(|drain| drain["host"] == "h3").unwrap();
    assert_eq!((&of_h3["id"], &of_h3["state"]), (&number.into(), &"draining".into()), "{of_h3}");
    assert_eq!(of_h3["order"]["leaving"], true, "{of_h3}");
    // It has left once its last flow has ended.
    load.close_on(&site, "h3");
    wait_for("h3 has left", || status(&site)["leaving"].as_array().unwrap().is_empty());
    let receipts =
        || site.daemon.cli_json(&["receipts", "--host", "h3", "--json"]).unwrap()["receipts"].clone();
    wait_for("h3 has its receipt", || receipts()[0].is_object());
    let receipt = receipts()[0].clone();
    assert_eq!((&receipt["drain"], &receipt["outcome"]), (&number.into(), &"drained".into()), "{receipt}");
    assert!(receipt["flows_at_start"].as_u64().unwrap() > 20, "{receipt}");
    for zero in ["new_flows", "misrouted", "left"] {
        assert_eq!(receipt[zero], 0, "{receipt}");
    }
    let history = site.daemon.cli_json(&["history", "--host", "h3", "--json"]).unwrap();
    let kinds: Vec<&str> =
        history["revisions"].as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["drained", "left", "drain", "apply"], "{history}");
    assert_eq!(history["revisions"][3]["reason"], "smaller");

    apply_json(&site, &without(&site, &plan, &["h2"]), &[]);
    assert_eq!(host_names(&site), ["h1", "h3", "h4"]);
    // A host that comes back before its last flow has ended takes up new ones at once.
    let outcome = |host: &str| {
        let receipts = site.daemon.cli_json(&["receipts", "--host", host, "--json"]).unwrap();
        receipts["receipts"][0]["outcome"].clone()
    };
    apply_json(&site, &without(&site, &plan, &["h4"]), &[]);
    assert_eq!(outcome("h2"), "undrained");
    apply_json(&site, &without(&site, &plan, &["h2"]), &[]);
    assert_eq!(outcome("h4"), "undrained");
    let changed = Instant::now();
    let more = Load::start(&site, 200);
    std::thread::sleep(Duration::from_secs(3));
    wait_for("what came back gets its share", || more.new_on("h3", changed) > 20);
    assert_eq!(more.new_on("h2", changed), 0);
    load.finish(&site);
    more.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn what_another_program_is_needed_for_is_put_in_force_too() {
    let plan = Plan::new("l2", 3);
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let load = Load::start(&site, 200);
    // Ranges of ports, answers to pings, and other timeouts: read-only data of the program.
    let text = site::config(&site.topology, &plan);
    let other = format!("ping = \"answer\"\nmss_clamp = 1300\n{text}")
        .replace("port = 80\n", "port = \"80-89\"\n")
        .replace("established = \"6s\"", "established = \"9s\"");
    for config in [&other, &text, &other] {
        let done = apply_json(&site, config, &[]);
        assert!(done["revision"].as_u64().is_some(), "{done}");
        std::thread::sleep(Duration::from_secs(2));
        load.assert_whole();
    }
    let client = site.topology.client();
    let ping = client.ns.shell(&format!("ping -c 3 -i 0.2 -W 30 {}", site.vips()[0]));
    assert!(ping.is_ok(), "{ping:?}");
    assert!(site.reasons().unwrap().contains_key("answer_echo"), "{:?}", site.reasons());
    load.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn what_is_wrong_changes_nothing() {
    let plan = Plan::new("l2", 3);
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let text = site::config(&site.topology, &plan);
    let load = Load::start(&site, 100);
    let before = (status(&site)["revision"].clone(), status(&site)["generation"].clone());
    let pins = format!("pins = {}", plan.pins);
    for (config, code, says) in [
        (text.replace("weight = 100", "wieght = 100"), 9, "did you mean \"weight\"?"),
        (text.replace("\"eth0\"", "\"eht0\""), 9, "there is no interface \"eht0\" here"),
        ("interfaces = [".to_owned(), 9, "other.toml:1:"),
        (text.replace(&pins, "pins = 16384"), 1, "flow_table.pins is 65536, and would be 16384"),
        (format!("ring_size = 131071\n{text}"), 1, "ring_size is 65537, and would be 131071"),
        (format!("hash_key = \"{}\"\n{text}", "5a".repeat(16)), 1, "hash_key is another one"),
    ] {
        let output = apply(&site, &config, &[]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{says}: {}", stderr(&output));
    }
    assert_eq!(apply(&site, &text, &["--confirm", "60"]).status.code(), Some(2), "a duration has a unit");
    assert_eq!(site.daemon.cli(&["apply", "/nowhere.toml"]).unwrap().status.code(), Some(1));
    let after = (status(&site)["revision"].clone(), status(&site)["generation"].clone());
    assert_eq!(before, after);
    // The same once more is no change.
    let same = apply(&site, &text, &[]);
    assert!(same.status.success() && String::from_utf8_lossy(&same.stdout).contains("nothing was changed"));
    assert_eq!(status(&site)["revision"], before.0);
    load.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn what_cannot_be_put_in_force_is_taken_back_whole() {
    let plan = Plan::new("l2", 3);
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let balancer = &site.topology.balancer().ns;
    // A bridge has no native XDP.
    balancer.shell("ip link add d0 type bridge && ip link set d0 up").unwrap();
    let load = Load::start(&site, 200);
    let rings = || {
        let rings = site.daemon.cli_json(&["rings", "--json"]).unwrap();
        let members =
            rings["rings"].as_array().unwrap().iter().flat_map(|ring| ring["members"].as_array().unwrap());
        members.map(|member| member["slots"].clone()).collect::<Vec<_>>()
    };
    let before = rings();
    // Another program, other hosts, another interface.
    let config = without(&site, &plan, &["h3"])
        .replacen("\"eth0\"", "\"eth0\", { name = \"d0\", xdp_mode = \"native\" }", 1)
        .replacen("vip_mode", "ping = \"answer\"\nvip_mode", 1);
    let said = site.daemon.log().len();
    let output = apply(&site, &config, &["--confirm", "60s"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("the config before is in force again"), "{}", stderr(&output));
    // Interfaces are asked first, so no flow has begun by the other rings.
    assert!(!site.daemon.log()[said..].contains("change hands"), "{}", &site.daemon.log()[said..]);
    assert_eq!((host_names(&site).len(), rings()), (3, before));
    assert!(status(&site)["leaving"].as_array().unwrap().is_empty());
    assert_eq!(status(&site)["interfaces"].as_array().unwrap().len(), 1);
    let history = site.daemon.cli_json(&["history", "--json", "-n", "2"]).unwrap();
    let outcome =
        |n: usize| (history["revisions"][n]["kind"].clone(), history["revisions"][n]["outcome"].clone());
    assert_eq!(outcome(0).0, "failed");
    assert!(outcome(1).1.as_str().unwrap().starts_with("failed, see revision"), "{history}");
    let back = Instant::now();
    wait_for("h3 gets new flows as before", || load.new_on("h3", back) > 20);
    // And the next one is taken as if nothing had been.
    apply_json(&site, &without(&site, &plan, &["h3"]), &[]);
    assert_eq!(host_names(&site), ["h1", "h2"]);
    std::thread::sleep(Duration::from_secs(1));
    load.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_signal_reloads_the_file_and_a_broken_one_changes_nothing() {
    let plan = Plan::new("l2", 3);
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let load = Load::start(&site, 100);
    let good = site::config(&site.topology, &plan);
    let hangup = || site.daemon.process().unwrap().signal(Signal::SIGHUP).unwrap();
    site.daemon.cli_ok(&["drain", "h3", "--reason", "mine"]).unwrap();
    let revision = status(&site)["revision"].clone();

    site.daemon.write_config(&good.replace("weight = 100", "weight = zero")).unwrap();
    hangup();
    let is_refused = || status(&site)["problems"].to_string().contains("the last reload was refused");
    wait_for("the reload is refused", is_refused);
    assert!(site.daemon.log().contains("weight = zero"), "the line is shown: {}", site.daemon.log());
    assert_eq!(status(&site)["revision"], revision);

    site.daemon.write_config(&good.replacen("weight = 100", "weight = 300", 1)).unwrap();
    hangup();
    wait_for("the reload is in force", || status(&site)["hosts"][0]["weight"] == 300);
    assert!(!is_refused());
    let last = site.daemon.cli_json(&["history", "-n", "1", "--json"]).unwrap()["revisions"][0].clone();
    assert_eq!((&last["kind"], &last["by"]), (&"apply".into(), &"SIGHUP".into()));
    assert!(site.daemon.log().contains(": ~ host h1: weight 100 -> 300"), "{}", site.daemon.log());
    // An operator's drain is not undone by it, and the file is no news for the next start.
    assert_eq!(status(&site)["hosts"][2]["admin"], "draining");
    load.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn the_daemons_file_may_be_a_link_and_a_broken_one_keeps_nothing_from_a_start() {
    let plan = Plan::new("l2", 2);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let (own, good) = (site.daemon.config_path(), site::config(&site.topology, &plan));
    let release = |name: &str, weight: &str| {
        let (file, link) = (own.with_file_name(name), own.with_file_name("link"));
        std::fs::write(&file, good.replacen("weight = 100", &format!("weight = {weight}"), 1)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::fs::rename(&link, &own).unwrap();
    };
    let weight = |site: &Site| status(site)["hosts"][0]["weight"].clone();
    site.daemon.terminate().unwrap();
    release("41.toml", "100");
    site.daemon.start_again().unwrap();
    release("42.toml", "300");
    site.daemon.process().unwrap().signal(Signal::SIGHUP).unwrap();
    wait_for("the reload is in force", || weight(&site) == 300);
    // It is the daemon's own that waits to be confirmed, so it is no news for a start.
    release("43.toml", "200");
    site.daemon.cli_ok(&["apply", own.to_str().unwrap(), "--confirm", "5m"]).unwrap();
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    assert_eq!(weight(&site), 200);
    assert!(status(&site)["config_in_force"]["confirm_by"].is_u64(), "{}", status(&site)["config_in_force"]);
    site.daemon.cli_ok(&["confirm"]).unwrap();

    release("44.toml", "zero");
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    assert_eq!(weight(&site), 200, "it goes on by what was in force");
    let problems = status(&site)["problems"].to_string();
    assert!(problems.contains("the file was refused at the start"), "{problems}");
    assert!(site.daemon.log().contains("weight = zero"), "the line is shown: {}", site.daemon.log());
    release("45.toml", "250");
    site.daemon.process().unwrap().signal(Signal::SIGHUP).unwrap();
    wait_for("the reload is in force", || weight(&site) == 250);
    assert!(!status(&site)["problems"].to_string().contains("refused"), "{}", status(&site)["problems"]);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn what_operators_want_outlives_reloads() {
    let plan = Plan::new("l2", 4);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let mut load = Load::start(&site, 200);
    site.daemon.cli_ok(&["drain", "h4", "--reason", "mine"]).unwrap();
    let drained = Instant::now();
    site.daemon.cli_ok(&["drain", "h3"]).unwrap();
    site.daemon.cli_ok(&["undrain", "h3", "--ramp", "10m"]).unwrap();
    let drain = |site: &Site, host: usize| status(site)["hosts"][host]["drain"].clone();
    let share = |site: &Site| status(site)["hosts"][2]["ramp"]["share"].as_f64();
    let (id, before) = (drain(&site, 3)["id"].clone(), share(&site).unwrap());
    assert!(before < 0.2, "{before}");
    let heavier = site::config(&site.topology, &plan).replacen("weight = 100", "weight = 150", 1);
    apply_json(&site, &heavier, &[]);
    assert_eq!(drain(&site, 3)["id"], id);
    assert!(drain(&site, 3)["flows_at_start"].as_u64().unwrap() > 0);
    let after = share(&site).unwrap();
    assert!(after >= before && after < 0.3, "{before} {after}");
    // Gone from the config and back: still drained, by the same drain.
    apply_json(&site, &without(&site, &plan, &["h4"]), &[]);
    std::thread::sleep(Duration::from_secs(1));
    apply_json(&site, &heavier, &[]);
    assert_eq!(
        (drain(&site, 3)["id"].clone(), status(&site)["hosts"][3]["admin"].clone()),
        (id.clone(), "draining".into())
    );
    assert_eq!(load.new_on("h4", drained), 0);
    // A config that was applied outlives the daemon, though the file still says something else.
    site.daemon.sigkill();
    site.daemon.start_again().unwrap();
    assert_eq!(status(&site)["hosts"][0]["weight"], 150);
    assert!(status(&site)["problems"].to_string().contains("not that of"), "{}", status(&site)["problems"]);
    assert_eq!(drain(&site, 3)["id"], id);
    load.assert_whole();
    load.close_on(&site, "h4");
    let waited = site.daemon.cli(&["drain", "h4", "--wait", "--timeout", "40s"]).unwrap();
    assert!(waited.status.success(), "{}\n{}", stderr(&waited), site.daemon.log());
    load.finish(&site);
    assert_eq!(site.violations().unwrap(), "{}");
}
