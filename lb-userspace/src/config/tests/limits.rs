//! The largest configs, and one more.

use std::fmt::Write as _;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::super::limits::{
    MAX_BACKENDS, MAX_HOSTS, MAX_MEMBER_SETS, MAX_PREFIX_LENGTHS, MAX_RANGES, MAX_RECORDS, MAX_SERVICES,
};
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

/// Services on VIPs of their own, over two hosts.
fn services_with(fields: impl IntoIterator<Item = String>) -> String {
    let mut toml =
        "interfaces = [\"eth0\"]\nhosts.a.addresses = [\"10.0.0.1\"]\nhosts.b.addresses = [\"10.0.0.2\"]\n\
                    hosts.c.addresses = [\"fd00::1\"]\nservices = [\n"
            .to_owned();
    for (index, fields) in fields.into_iter().enumerate() {
        let vip = format!(", vip = \"203.0.{}.{}\"", index / 250, index % 250 + 1);
        let vip = if fields.contains("vip =") { "" } else { &vip };
        writeln!(toml, "{{ name = \"s{index}\"{vip}, protocol = \"tcp\", {fields} }},").unwrap();
    }
    toml + "]\n"
}

#[test]
fn records() {
    let ports = |count: usize| format!("port = {:?}", (1..=count).collect::<Vec<_>>());
    parse(&services_with([ports(MAX_RECORDS)]), "f").unwrap();
    let over = services_with([ports(MAX_RECORDS - 1), ports(1), ports(1)]);
    assert_eq!(only(&over), "8:1 services[2]: with this service there are 10241 records");
    parse(&services_with([ports(MAX_RECORDS - 1), "port = \"all\"".to_owned()]), "f").unwrap();
    // One for clients, and one for each of the two hosts.
    let nat = |count| format!("{}, forward = \"nat\"", ports(count));
    parse(&services_with([nat(MAX_RECORDS / 3), ports(1)]), "f").unwrap();
    let over = services_with([nat(MAX_RECORDS / 3 + 1)]);
    assert_eq!(only(&over), "6:1 services[0]: with this service there are 10242 records");
}

#[test]
fn ranges() {
    let ranges = |from: usize, count: usize| {
        let ranges = (from..from + count).map(|n| format!("{}-{}", n * 10, n * 10 + 1)).collect::<Vec<_>>();
        format!("vip = \"203.0.113.1\", port = {ranges:?}")
    };
    parse(&services_with([ranges(1, MAX_RANGES), "vip = \"203.0.113.1\", port = 11".to_owned()]), "f")
        .unwrap();
    let over = services_with([ranges(1, MAX_RANGES - 1), ranges(100, 2)]);
    assert_eq!(
        only(&over),
        "7:62 services[1].port: with this service 203.0.113.1, tcp has 17 ranges of ports"
    );
    // Of a host that answers for several VIPs.
    let nat = |from, count, vip: &str| {
        format!("{}, forward = \"nat\", hosts = [\"a\"]", ranges(from, count).replace("113.1", vip))
    };
    parse(&services_with([nat(1, 8, "113.1"), nat(100, 8, "113.2")]), "f").unwrap();
    let over = services_with([nat(1, 8, "113.1"), nat(100, 9, "113.2")]);
    assert_eq!(
        only(&over),
        "7:62 services[1].port: with this service host \"a\" answers from 17 ranges of ports over tcp"
    );
}

#[test]
fn lengths_of_prefixes() {
    let v4 = |length: usize| format!("vip = \"198.0.0.0/{length}\", port = 80");
    // An IPv4 prefix is as long as an IPv6 one with 96 bits more.
    let v6 = |length: usize| format!("vip = \"2001:db8::/{length}\", port = 80");
    let full =
        (0..MAX_PREFIX_LENGTHS).map(|n| v4(16 + n)).chain([v6(112), v6(128), v4(16).replace("80", "81")]);
    parse(&services_with(full.clone()), "f").unwrap();
    let over = services_with(full.chain([v6(111)]));
    assert_eq!(only(&over), "17:41 services[11].vip: with this service VIPs have 9 lengths of prefixes");
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
    // Of the processor, as a busy machine gives few.
    let worked = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap();
    let start = worked();
    let wrong = config(MAX_HOSTS, (0..MAX_SERVICES).map(|index| format!(", hosts = [\"x{index}\"]")));
    assert_eq!(refused(&wrong).problems.len(), MAX_SERVICES);
    let large = config(MAX_HOSTS, (0..MAX_SERVICES).map(|_| String::new()));
    assert_eq!(refused(&large).problems.len(), 1);
    // Far more than it takes; a guess for each name or a list for each service would take minutes.
    let took = worked() - start;
    assert!(took < Duration::from_secs(30), "took {took:?}");
}
