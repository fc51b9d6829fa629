//! The checks that need a machine.

use std::net::IpAddr;

use super::super::{Machine, check_against_machine, parse, switches};
use super::{EXAMPLE, line};
use crate::netlink::Interface;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// With these addresses and interfaces, on a recent kernel.
fn machine(addresses: &[(&str, &str)], interfaces: &[&str]) -> Machine {
    let interface = |name: &&str| Interface {
        name: name.to_string(),
        index: 1,
        mac: None,
        mtu: 1500,
        up: true,
        kind: "ethernet".to_owned(),
        beneath: None,
        bond: None,
    };
    Machine {
        addresses: addresses.iter().map(|(name, text)| (name.to_string(), address(text))).collect(),
        interfaces: interfaces.iter().map(interface).collect(),
        kernel: (6, 1),
        ..Machine::default()
    }
}

#[test]
fn a_fitting_machine_is_accepted() {
    let loaded = parse(EXAMPLE, "example").unwrap();
    let here = machine(&[("lo", "127.0.0.1"), ("eth0", "10.0.0.1")], &["lo", "eth0"]);
    check_against_machine(&loaded, &here).unwrap();
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
    let addresses = [("lo", "127.0.0.1"), ("eth1", "10.0.0.1"), ("eth2", "10.0.0.2"), ("eth2", "fd00::2")];
    let errors = check_against_machine(&loaded, &machine(&addresses, &["lo", "eth1", "exh0"])).unwrap_err();
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

#[test]
fn an_own_address_in_a_prefix_of_vips_is_refused() {
    let toml = "interfaces = [\"eth0\"]
hosts.a.addresses = [\"10.0.0.2\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1 },
  { name = \"b\", vip = \"203.0.113.0/28\", protocol = \"tcp\", port = \"all\" },
]
";
    let loaded = parse(toml, "test.toml").unwrap();
    let fits = machine(&[("eth0", "203.0.113.16")], &["eth0"]);
    check_against_machine(&loaded, &fits).unwrap();
    let errors = check_against_machine(&loaded, &machine(&[("eth0", "203.0.113.1")], &["eth0"])).unwrap_err();
    assert_eq!(errors.problems.len(), 1, "{errors}");
    assert_eq!(
        line(&errors.problems[0]),
        "5:23 services[1].vip: 203.0.113.1 in 203.0.113.0/28 is this machine's own, on eth0: its packets would go to hosts"
    );
    assert!(errors.problems[0].hint.as_deref().unwrap().contains("a prefix without it"));
}

#[test]
fn native_mode_with_a_large_mtu_needs_a_kernel_that_takes_frames_in_pieces() {
    let loaded = parse(
        "xdp_mode = \"native\"\ninterfaces = [\"eth0\", { name = \"eth1\", xdp_mode = \"auto\" }]\n",
        "test.toml",
    )
    .unwrap();
    let mut here = machine(&[], &["eth0", "eth1"]);
    here.kernel = (5, 15);
    check_against_machine(&loaded, &here).unwrap();
    here.interfaces.iter_mut().for_each(|interface| interface.mtu = 9000);
    let errors = check_against_machine(&loaded, &here).unwrap_err();
    assert_eq!(errors.problems.len(), 1, "with auto eth1 gets generic mode: {errors}");
    assert_eq!(
        line(&errors.problems[0]),
        "2:15 interfaces[0]: eth0 has an MTU of 9000, and native XDP of Linux 5.15 takes frames of one piece only"
    );
    assert!(errors.problems[0].hint.as_deref().unwrap().contains("mtu 3498"), "{errors}");
    here.kernel = (5, 18);
    check_against_machine(&loaded, &here).unwrap();
}

/// `eth0`, a bond of it, a VLAN device over that, and another over that one.
fn stacked() -> Machine {
    let mut here = machine(&[], &["eth0", "bond0", "bond0.1", "bond0.1.2", "eth1"]);
    (1..).zip(&mut here.interfaces).for_each(|(index, interface)| interface.index = index);
    here.interfaces[0].bond = Some(2);
    here.interfaces[2].beneath = Some(2);
    here.interfaces[3].beneath = Some(3);
    here
}

fn problems(toml: &str, machine: &Machine) -> Vec<(String, String)> {
    let checked = check_against_machine(&parse(toml, "test.toml").unwrap(), machine);
    let problems = checked.err().map(|errors| errors.problems).unwrap_or_default();
    problems.iter().map(|problem| (line(problem), problem.hint.clone().unwrap_or_default())).collect()
}

#[test]
fn a_part_of_a_bond_is_no_interface_to_name() {
    let found = problems("interfaces = [\"eth1\", \"eth0\"]\n", &stacked());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0].0,
        "1:23 interfaces[1]: eth0 belongs to bond0, whose packets come in by its other parts as well"
    );
    assert!(found[0].1.starts_with("name \"bond0\" instead"), "{found:?}");
    assert_eq!(problems("interfaces = [\"eth1\", \"bond0\"]\n", &stacked()), []);
}

#[test]
fn a_vlan_device_and_what_is_beneath_it_are_not_named_together() {
    let found = problems("interfaces = [\"bond0.1.2\", \"eth1\", \"bond0\"]\n", &stacked());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0].0,
        "1:15 interfaces[0]: bond0.1.2 lies over bond0, where the program has had its packets before"
    );
    assert!(found[0].1.starts_with("leave bond0.1.2 out"), "{found:?}");
    assert_eq!(problems("interfaces = [\"bond0.1\", \"eth1\"]\n", &stacked()), []);
}

#[test]
fn with_nat_a_vlan_device_goes_with_generic_mode_alone() {
    let toml = |mode: &str, forward: &str| {
        format!(
            "interfaces = [\"bond0.1\", {{ name = \"eth1\", xdp_mode = {mode:?} }}]\nhosts.a.addresses = [\"10.0.0.2\"]\n\
             services = [{{ name = \"s\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1, forward = {forward:?} }}]\n"
        )
    };
    for mode in ["native", "auto"] {
        let found = problems(&toml(mode, "nat"), &stacked());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            found[0].0,
            "1:15 interfaces[0]: bond0.1 is a VLAN device, by which answers that come in by eth1 in native mode cannot leave (nat)"
        );
        assert!(found[0].1.starts_with("name \"bond0\" instead"), "{found:?}");
        assert_eq!(problems(&toml(mode, "l2"), &stacked()), []);
    }
    assert_eq!(problems(&toml("generic", "nat"), &stacked()), []);
}

#[test]
fn nat_needs_a_kernel_that_forwards() {
    let toml = "interfaces = [\"eth0\", \"eth1.7\"]
hosts.a.addresses = [\"10.0.0.2\", \"fd00::2\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1 },
  { name = \"b\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 2, forward = \"nat\" },
  { name = \"c\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 3, forward = \"nat\" },
  { name = \"d\", vip = \"2001:db8::1\", protocol = \"tcp\", port = 2, forward = \"nat\" },
]
";
    let loaded = parse(toml, "test.toml").unwrap();
    let all: Vec<String> = switches(&loaded.model).into_iter().collect();
    assert_eq!(
        all,
        [
            "net/ipv4/conf/eth0/forwarding",
            "net/ipv4/conf/eth1.7/forwarding",
            "net/ipv6/conf/all/forwarding",
            "net/ipv6/conf/eth0/forwarding",
            "net/ipv6/conf/eth1.7/forwarding",
        ]
    );
    let mut here = machine(&[], &["eth0", "eth1.7"]);
    check_against_machine(&loaded, &here).unwrap();
    here.off = all.into_iter().filter(|switch| !switch.contains("ipv4/conf/eth0")).collect();
    let errors = check_against_machine(&loaded, &here).unwrap_err();
    let lines: Vec<String> = errors.problems.iter().map(line).collect();
    let message = "with nat this machine forwards hosts' answers, which its kernel is told not to";
    assert_eq!(
        lines,
        [format!("5:76 services[1].forward: {message}"), format!("7:76 services[3].forward: {message}")]
    );
    let hints: Vec<&str> = errors.problems.iter().filter_map(|problem| problem.hint.as_deref()).collect();
    assert_eq!(hints[0], "`sysctl -w net/ipv4/conf/eth1.7/forwarding=1`");
    assert!(hints[1].contains("net.ipv6.conf.all.forwarding=1 net.ipv6.conf.eth0.forwarding=1"), "{errors}");
    // A config without nat asks for nothing.
    let without = parse(&toml.replace("nat", "l2"), "test.toml").unwrap();
    assert!(switches(&without.model).is_empty());
}
