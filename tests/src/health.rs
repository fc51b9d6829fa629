//! Sites whose hosts are asked how they are, and what the daemon says of them. For tests: what cannot be asked is a panic.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::LIMIT;
use crate::servers::Nginx;
use crate::site::{Plan, Site, served};
use crate::topology::{Layout, Topology};

/// Interval and fall of [`PACE`].
pub const INTERVAL: Duration = Duration::from_millis(500);
pub const FALL: u32 = 2;
pub const PACE: &str =
    "[services.health]\ninterval = \"500ms\"\ntimeout = \"500ms\"\njitter = \"0%\"\nfall = 2\nrise = 2\n";
/// Of the service's own port.
pub const TCP: &str = "[[services.checks]]\ntype = \"tcp\"\n";

/// Lines of a service, for ever.
pub fn lines(parts: &[&str]) -> &'static str {
    Box::leak(parts.concat().into_boxed_str())
}

/// A site with these sections of services, by name.
pub fn site(forward: &'static str, hosts: usize, sections: &[(&'static str, &[&str])]) -> Site {
    let sections = sections.iter().map(|(name, parts)| (*name, lines(parts))).collect();
    // A small table, so that flows that are ended take turns for a second alone.
    let plan = Plan { sections, timeouts: [4, 30, 2, 4], pins: 4096, ..Plan::new(forward, hosts) };
    let layout = if matches!(forward, "ipip" | "nat") { Layout::Routed } else { Layout::Flat };
    Site::start(Topology::builder().layout(layout), &plan).expect("the site starts")
}

/// nginx of a host, as the site starts it.
pub fn nginx(site: &Site, number: usize) -> Nginx {
    let host = site.topology.host(number);
    Nginx::start(host, &served(&site.topology, host, &Plan::new("l2", 3))).expect("nginx starts")
}

/// The checks of a host.
pub fn health(site: &Site, host: &str) -> Vec<Value> {
    let report = site.daemon.cli_json(&["health", host, "--json"]).expect("a report");
    report["checks"].as_array().expect("checks").clone()
}

/// What the health of a service comes to.
pub fn service(site: &Site, name: &str) -> Value {
    let report = site.daemon.cli_json(&["health", "--json"]).expect("a report");
    let services = report["services"].as_array().expect("services");
    services.iter().find(|service| service["service"] == name).expect("the service has checks").clone()
}

/// Whether all checks of the host are in this state.
pub fn is(site: &Site, host: &str, oper: &str) -> bool {
    let checks = health(site, host);
    !checks.is_empty() && checks.iter().all(|check| check["oper"] == oper)
}

/// What a machine with much else to do may add to a time that is promised: nothing with `SLUICE_STRICT`, which is for a machine that has
/// nothing else to do.
pub fn busy() -> Duration {
    if std::env::var_os("SLUICE_STRICT").is_some() { Duration::ZERO } else { Duration::from_secs(15) }
}

/// Waits for something that the daemon is to bring about, and says how long it took.
pub fn until(site: &Site, what: &str, is_so: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        let report = || site.daemon.cli_ok(&["health"]).expect("a report");
        assert!(begun.elapsed() < LIMIT, "{what}: {}\n{}", report(), site.daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    begun.elapsed()
}

/// Waits until all checks of these hosts are in this state.
pub fn until_all(site: &Site, hosts: &[&str], oper: &str) -> Duration {
    until(site, &format!("{hosts:?} are {oper}"), || hosts.iter().all(|host| is(site, host, oper)))
}

/// Events of a kind so far.
pub fn events(site: &Site, kind: &str) -> Vec<Value> {
    let text = site.daemon.cli_ok(&["events", "--event", kind, "--json"]).expect("events");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Slots that a host owns in the ring of the service.
pub fn slots(site: &Site, service: &str, host: &str) -> u64 {
    let rings = site.daemon.cli_json(&["rings", "--json"]).expect("rings");
    let rings = rings["rings"].as_array().expect("a list");
    let has =
        |ring: &&Value| ring["services"].as_array().is_some_and(|of| of.iter().any(|of| *of == service));
    let ring = rings.iter().find(has).expect("the service has a ring");
    let members = ring["members"].as_array().expect("members");
    let member = members.iter().find(|member| member["host"] == host).expect("the host is a member");
    member["slots"].as_u64().expect("a number")
}
