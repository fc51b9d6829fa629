//! The checks that need a machine.

use std::net::IpAddr;

use super::super::{check_against_machine, parse};
use super::{EXAMPLE, line};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn a_fitting_machine_is_accepted() {
    let loaded = parse(EXAMPLE, "example").unwrap();
    let local = [("lo".to_owned(), address("127.0.0.1")), ("eth0".to_owned(), address("10.0.0.1"))];
    check_against_machine(&loaded, &local, &names(&["lo", "eth0"])).unwrap();
}

#[test]
fn own_addresses_and_unknown_interfaces_are_refused_with_their_places() {
    let toml = "interfaces = [\"eth1\", \"ehx0\"]
[hosts.a]
addresses = [\"fd00::1\", \"10.0.0.1\"]
[hosts.\"b.c\"]
addresses = [\"10.0.0.2\"]
";
    let loaded = parse(toml, "test.toml").unwrap();
    let local = [
        ("lo".to_owned(), address("127.0.0.1")),
        ("eth1".to_owned(), address("10.0.0.1")),
        ("eth2".to_owned(), address("10.0.0.2")),
        ("eth2".to_owned(), address("fd00::2")),
    ];
    let errors = check_against_machine(&loaded, &local, &names(&["lo", "eth1", "exh0"])).unwrap_err();
    let lines: Vec<String> = errors.problems.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "1:23 interfaces[1]: there is no interface \"ehx0\" here",
            "3:25 hosts.a.addresses[1]: 10.0.0.1 of host \"a\" is this machine's own address, on eth1",
            "5:14 hosts.\"b.c\".addresses[0]: 10.0.0.2 of host \"b.c\" is this machine's own address, on eth2",
        ]
    );
    let hint = errors.problems[0].hint.as_deref().unwrap();
    assert_eq!(hint, "did you mean \"exh0\"? This machine has \"eth1\" or \"exh0\"");
    assert!(errors.to_string().contains("   3 | addresses = [\"fd00::1\", \"10.0.0.1\"]"), "{errors}");
}

#[test]
fn spans_know_fields_and_what_is_around_missing_ones() {
    let loaded = parse(EXAMPLE, "example").unwrap();
    let line_of = |text: &str| EXAMPLE.lines().position(|line| line.starts_with(text)).unwrap() as u32 + 1;
    assert_eq!(loaded.spans.position("ring_size"), (line_of("ring_size"), 13));
    assert_eq!(loaded.spans.position("hosts.dns-1"), (line_of("[hosts.dns-1]"), 1));
    assert_eq!(loaded.spans.position("hosts.dns-1.none"), (line_of("[hosts.dns-1]"), 1));
    assert_eq!(loaded.spans.position("hash_key"), (1, 1));
}
