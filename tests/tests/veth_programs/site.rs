//! A site for one mode, and what all tests ask of it at their end.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sluice_tests::site::{Plan, Site};
use sluice_tests::topology::{Builder, Layout, Node, Process, Topology, leftovers_of};
use tempfile::TempDir;

/// Makes a test of each mode out of `fn NAME(forward: &'static str)`.
macro_rules! in_each_mode {
    ($name:ident) => {
        mod $name {
            #[test]
            fn l2() {
                super::$name("l2");
            }
            #[test]
            fn ipip() {
                super::$name("ipip");
            }
            #[test]
            fn gue() {
                super::$name("gue");
            }
            #[test]
            fn nat() {
                super::$name("nat");
            }
        }
    };
}
pub(crate) use in_each_mode;

/// Two hosts, timeouts that no test waits for.
pub fn plan(forward: &'static str) -> Plan {
    Plan { timeouts: [10, 60, 5, 30], ..Plan::new(forward, 2) }
}

pub fn topology(forward: &str) -> Builder {
    Topology::builder().layout(if matches!(forward, "ipip" | "nat") { Layout::Routed } else { Layout::Flat })
}

pub fn start(plan: &Plan) -> Site {
    Site::start(topology(plan.forward), plan).unwrap()
}

/// Asserts that no packet was dropped but for one of `allowed` reasons, and that nothing is left once the site is gone.
pub fn finish(site: Site, allowed: &[&str]) {
    let reasons = site.reasons().unwrap();
    let is_bad = |name: &str| name.starts_with("drop_") && !allowed.contains(&name);
    let bad: Vec<_> = reasons.iter().filter(|(name, count)| is_bad(name) && **count > 0).collect();
    assert!(bad.is_empty(), "{reasons:?}");
    assert_eq!(site.violations().unwrap(), "{}");
    let prefix = site.topology.prefix().to_owned();
    drop(site);
    assert_eq!(leftovers_of(&prefix), [""; 0]);
}

/// How many packets had this reason so far.
pub fn counted(site: &Site, reason: &str) -> u64 {
    site.reasons().unwrap().get(reason).copied().unwrap_or_default()
}

/// An address as it stands in a URL or before a colon.
pub fn bracketed(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

/// A folder for a test's files.
pub fn folder(site: &Site, name: &str) -> TempDir {
    tempfile::Builder::new().prefix(&format!("{}-{name}.", site.topology.prefix())).tempdir().unwrap()
}

/// Starts a server on a host, which logs into a file there.
pub fn serve(host: &Node, mut command: Command, log: &Path) -> Process {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    host.ns.spawn(command).unwrap()
}

/// Waits until something is true; says `why` not if it takes too long.
pub fn until<T: std::fmt::Debug>(limit: Duration, is_so: impl Fn() -> bool, why: impl Fn() -> T) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not after {limit:?}: {:?}", why());
        std::thread::sleep(Duration::from_millis(50));
    }
}
