//! The largest configs, and one more.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::super::limits::{MAX_BACKENDS, MAX_HOSTS, MAX_MEMBER_SETS, MAX_SERVICES};
use super::super::parse;
use super::{line, refused};

/// Hosts take a line each from line 3 on, then services.
fn config(hosts: usize, services: impl IntoIterator<Item = String>) -> String {
    let mut toml = "interfaces = [\"eth0\"]\nring_size = 409_433\n".to_owned();
    for host in 0..hosts {
        let (high, low) = (host / 250, host % 250 + 1);
        writeln!(toml, "hosts.h{host}.addresses = [\"10.0.{high}.{low}\"]").unwrap();
    }
    toml.push_str("services = [\n");
    for (index, hosts) in services.into_iter().enumerate() {
        let (vip, port) = (index / 60_000 + 1, index % 60_000 + 1);
        writeln!(
            toml,
            "{{ name = \"s{index}\", vip = \"203.0.113.{vip}\", protocol = \"tcp\", port = {port}{hosts} }},"
        )
        .unwrap();
    }
    toml + "]\n"
}

fn only(toml: &str) -> String {
    let errors = refused(toml);
    assert_eq!(errors.problems.len(), 1, "{errors}");
    line(&errors.problems[0])
}

#[test]
fn hosts() {
    let full = config(MAX_HOSTS, [String::new()]);
    assert_eq!(parse(&full, "f").unwrap().model.hosts.len(), MAX_HOSTS);
    let place = format!("{}:7 hosts.h4094: 4095 hosts are too many", 3 + MAX_HOSTS);
    assert_eq!(only(&config(MAX_HOSTS + 1, [])), place);
}

#[test]
fn services() {
    let service = || ", hosts = [\"h0\"]".to_owned();
    let full = config(1, (0..MAX_SERVICES).map(|_| service()));
    assert_eq!(parse(&full, "f").unwrap().model.services.len(), MAX_SERVICES);
    let over = config(1, (0..=MAX_SERVICES).map(|_| service()));
    assert_eq!(only(&over), "10005:1 services[10000]: 10001 services are too many");
}

#[test]
fn member_sets() {
    let set = |index: usize| format!(", hosts = [\"h{}\", \"h{}\"]", index / 10, 10 + index % 10);
    // The same members in another order are the same set.
    let again = ", hosts = [\"h10\", \"h0\"]".to_owned();
    let full = config(20, (0..MAX_MEMBER_SETS).map(set).chain([again]));
    parse(&full, "f").unwrap();
    let over = config(20, (0..MAX_MEMBER_SETS + 2).map(set));
    assert_eq!(only(&over), "88:1 services[64]: this service has set of hosts number 65");
}

#[test]
fn backends() {
    let full = config(1024, (0..MAX_BACKENDS / 1024).map(|_| String::new()));
    parse(&full, "f").unwrap();
    let over = config(1024, (0..17).map(|_| String::new()));
    assert_eq!(only(&over), "1044:1 services[16]: with this service there are 17408 backends");
}

#[test]
fn a_default_ring_that_is_too_small_names_the_service() {
    let toml = config(656, [String::new()]).replace("ring_size = 409_433", "");
    let errors = refused(&toml);
    assert_eq!(
        line(&errors.problems[0]),
        "660:1 services[0].hosts: the 656 hosts are too many for a ring of 65537 slots, the default"
    );
    assert!(errors.problems[0].hint.as_deref().unwrap().contains("ring_size = 65609"), "{errors}");
}

#[test]
fn a_hopeless_config_is_refused_in_a_short_time() {
    let start = Instant::now();
    let wrong = config(MAX_HOSTS, (0..MAX_SERVICES).map(|index| format!(", hosts = [\"x{index}\"]")));
    assert_eq!(refused(&wrong).problems.len(), MAX_SERVICES);
    let large = config(MAX_HOSTS, (0..MAX_SERVICES).map(|_| String::new()));
    assert_eq!(refused(&large).problems.len(), 1);
    // Far more than it takes; a guess for each name or a list for each service would take minutes.
    assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
}
