//! Rules of what packets a service gets and how they reach its hosts.

use super::super::parse;
use super::rules::Case;
use crate::model::{PortRange, Ports, Protocol, Protocols, Vip, XdpMode};

pub(super) const PACKETS: &[Case] = &[
    Case {
        description: "interfaces with a mode of their own",
        toml: "interfaces = [{ name = \"eth0\", xdp_mode = \"nativ\" }, { xdp_mode = \"auto\" }, { name = \"eth0\", mode = 1 }]\n",
        expected: &[
            ("1:43 interfaces[0].xdp_mode: \"nativ\" is not known", "did you mean \"native\"?"),
            ("1:54 interfaces[1].name: missing", "name = \"eth1\""),
            ("1:86 interfaces[2].name: interface \"eth0\" (line 1) is named twice", "once"),
            ("1:94 interfaces[2].mode: unknown field", "known here are name, xdp_mode"),
        ],
    },
    Case {
        description: "ping, MSS and the port of GUE",
        toml: "\nping = \"yes\"\nmss_clamp = 535\ngue_port = 0\n",
        expected: &[
            ("2:8 ping: \"yes\" is not known", "\"pass\" or \"answer\""),
            ("3:13 mss_clamp: 535 is out of range", "from 536 to 65495"),
            ("4:12 gue_port: 0 is out of range", "from 1 to 65535"),
        ],
    },
    Case {
        description: "outer sources that are none",
        toml: "
outer_source = [\"100.64.0.0\", \"100.64.0.1/24\", \"100.64.0.0/32\", \"fd00::/16\", \"x/8\", \"127.0.0.0/8\", \"fe80::/64\"]
",
        expected: &[
            ("2:17 outer_source[0]: 100.64.0.0 is an address, not a prefix", "\"100.64.0.0/24\""),
            (
                "2:31 outer_source[1]: 100.64.0.1/24 does not begin with the first address of its prefix",
                "write \"100.64.0.0/24\"",
            ),
            ("2:48 outer_source[2]: a prefix of 32 bits is out of range", "from 8 to 31"),
            ("2:65 outer_source[3]: a prefix of 16 bits is out of range", "from 32 to 127"),
            ("2:78 outer_source[4]: \"x\" is not an IP address", "IPv4 address"),
            ("2:85 outer_source[5]: 127.0.0.0/8 overlaps 127.0.0.0/8, the loopback addresses", "of your own"),
            ("2:100 outer_source[6]: fe80::/64 overlaps fe80::/10, the link-local addresses", "of your own"),
        ],
    },
    Case {
        description: "outer sources that somebody has, and a second of a family",
        toml: "
outer_source = [\"10.0.0.0/24\", \"2001:db8::/64\", \"10.1.0.0/24\"]
hosts.a.addresses = [\"10.0.0.1\", \"fd00::1\"]
services = [
  { name = \"s\", vip = \"2001:db8::1\", protocol = \"tcp\", port = 1 },
]
",
        expected: &[
            (
                "2:17 outer_source[0]: 10.0.0.1 in 10.0.0.0/24 is an address of host \"a\" (line 3)",
                "nobody has an address",
            ),
            (
                "2:32 outer_source[1]: 2001:db8::/64 overlaps 2001:db8::1, the VIP of service \"s\" (line 5)",
                "nobody has an address",
            ),
            ("2:49 outer_source[2]: there is a second IPv4 prefix", "one of each family"),
        ],
    },
    Case {
        description: "prefixes of VIPs",
        toml: "
hosts.a.addresses = [\"10.0.0.1\", \"fd00::1\"]
services = [
  { name = \"a\", vip = \"203.0.113.5/28\", protocol = \"tcp\", port = 1 },
  { name = \"b\", vip = \"10.0.0.0/24\", protocol = \"tcp\", port = 1 },
  { name = \"c\", vip = \"169.0.0.0/8\", protocol = \"tcp\", port = 1 },
  { name = \"d\", vip = \"8.0.0.0/7\", protocol = \"tcp\", port = 1 },
  { name = \"e\", vip = \"2001:db8::/16\", protocol = \"tcp\", port = 1 },
  { name = \"f\", vip = \"203.0.113.0/\", protocol = \"tcp\", port = 1 },
  { name = \"g\", vip = \"203.0.113.0/999\", protocol = \"tcp\", port = 1 },
  { name = \"h\", vip = \"127.0.0.1/32\", protocol = \"tcp\", port = 1 },
]
",
        expected: &[
            (
                "4:23 services[0].vip: 203.0.113.5/28 does not begin with the first address of its prefix",
                "write \"203.0.113.0/28\"",
            ),
            (
                "5:23 services[1].vip: 10.0.0.1 in 10.0.0.0/24 is an address of host \"a\" (line 2)",
                "that no host has",
            ),
            (
                "6:23 services[2].vip: 169.0.0.0/8 overlaps 169.254.0.0/16, the link-local addresses",
                "global or private unicast",
            ),
            ("7:23 services[3].vip: a prefix of 7 bits is out of range", "from 8 to 32"),
            ("8:23 services[4].vip: a prefix of 16 bits is out of range", "from 32 to 128"),
            ("9:23 services[5].vip: \"203.0.113.0/\" has no length behind the slash", "from 8 to 32"),
            ("10:23 services[6].vip: a prefix of 999 bits is out of range", "from 8 to 32"),
            ("11:23 services[7].vip: 127.0.0.1 is a loopback address", "unicast"),
        ],
    },
    Case {
        description: "a prefix cannot be put on an interface, nor answer by nat",
        toml: "
vip_mode = \"local\"
hosts.a.addresses = [\"10.0.0.1\"]
services = [
  { name = \"a\", vip = \"203.0.113.0/28\", protocol = \"tcp\", port = 1 },
  { name = \"b\", vip = \"203.0.113.1/32\", protocol = \"tcp\", port = 1 },
]
",
        expected: &[(
            "5:23 services[0].vip: 203.0.113.0/28 is a prefix, and only single addresses can be put on an interface",
            "vip_mode = \"external\"",
        )],
    },
    Case {
        description: "ports that are none",
        toml: "
hosts.a.addresses = [\"10.0.0.1\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = \"80\" },
  { name = \"b\", vip = \"203.0.113.1\", protocol = \"tcp\", port = \"90-80\" },
  { name = \"c\", vip = \"203.0.113.1\", protocol = \"tcp\", port = \"0-80\" },
  { name = \"d\", vip = \"203.0.113.1\", protocol = \"tcp\", port = \"80-65536\" },
  { name = \"e\", vip = \"203.0.113.1\", protocol = \"tcp\", port = \"http\" },
  { name = \"f\", vip = \"203.0.113.1\", protocol = \"tcp\", port = [] },
  { name = \"g\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1.5 },
  { name = \"h\", vip = \"203.0.113.1\", protocol = \"tcp\", port = [70, true, 65536] },
]
",
        expected: &[
            ("4:63 services[0].port: expected a port, found the string \"80\"", "write 80, without quotes"),
            ("5:63 services[1].port: \"90-80\" ends before it begins", "\"80-90\""),
            ("6:63 services[2].port: \"0-80\" is out of range", "from 1 to 65535"),
            ("7:63 services[3].port: \"80-65536\" is out of range", "from 1 to 65535"),
            ("8:63 services[4].port: \"http\" is neither a port nor a range of ports", "\"8000-8010\""),
            ("9:63 services[5].port: the list is empty", "[80, 443"),
            ("10:63 services[6].port: expected a port, found the float 1.5", "write 80"),
            ("11:68 services[7].port[1]: expected a port, found the boolean true", "write 80"),
            ("11:74 services[7].port[2]: 65536 is out of range", "from 1 to 65535"),
        ],
    },
    Case {
        description: "lists with something twice",
        toml: "
hosts.a.addresses = [\"10.0.0.1\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = [\"tcp\", \"tcp\"], port = [80, 80] },
  { name = \"b\", vip = \"203.0.113.2\", protocol = [], port = [85, \"80-90\"] },
  { name = \"c\", vip = \"203.0.113.3\", protocol = [\"udp\", 6], port = [\"all\", 80] },
]
",
        expected: &[
            ("4:57 services[0].protocol[1]: the protocol is listed twice", "once"),
            ("4:77 services[0].port[1]: port 80 is listed twice", "each port once"),
            ("5:49 services[1].protocol: the list is empty", "[\"tcp\", \"udp\"]"),
            ("5:65 services[1].port[1]: 80-90 overlaps 85 in the same list", "each port once"),
            ("6:57 services[2].protocol[1]: expected a string, found the integer 6", "\"tcp\""),
            ("6:76 services[2].port[1]: 80 overlaps all in the same list", "each port once"),
        ],
    },
    Case {
        description: "ports that two services claim",
        toml: "
hosts.a.addresses = [\"10.0.0.1\"]
services = [
  { name = \"a\", vip = \"203.0.113.0/28\", protocol = [\"tcp\", \"udp\"], port = [80, \"8000-8010\"] },
  { name = \"b\", vip = \"203.0.113.0/28\", protocol = \"udp\", port = [81, 80] },
  { name = \"c\", vip = \"203.0.113.0/28\", protocol = \"tcp\", port = \"8010-8020\" },
  { name = \"d\", vip = \"203.0.113.0/28\", protocol = \"tcp\", port = \"all\" },
  { name = \"e\", vip = \"203.0.113.0/28\", protocol = \"tcp\", port = [8005, \"8011-8020\"] },
  { name = \"f\", vip = \"203.0.113.1\", protocol = \"tcp\", port = [80, 443] },
  { name = \"g\", vip = \"203.0.113.1\", protocol = \"tcp\", port = \"all\" },
  { name = \"h\", vip = \"203.0.113.1/32\", protocol = \"tcp\", port = \"1-65535\" },
]
",
        expected: &[
            (
                "5:23 services[1].vip: service \"a\" (line 4) has the same VIP, protocol and port: 203.0.113.0/28, udp, 80",
                "change one of the three",
            ),
            (
                "6:66 services[2].port: 8010-8020 overlaps the ports of service \"a\" (line 4): 203.0.113.0/28, tcp, 8000-8010",
                "only single ports may lie in the range of another",
            ),
            (
                "7:66 services[3].port: all overlaps the ports of service \"a\" (line 4): 203.0.113.0/28, tcp, 8000-8010",
                "be apart",
            ),
            (
                "11:66 services[7].port: all overlaps the ports of service \"g\" (line 10): 203.0.113.1, tcp, all",
                "be apart",
            ),
        ],
    },
    Case {
        description: "what only nat can do, and what it cannot",
        toml: "
hosts.a.addresses = [\"10.0.0.1\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1, backend_port = 2 },
  { name = \"b\", vip = \"203.0.113.1\", protocol = \"tcp\", port = [2, 3], forward = \"nat\", backend_port = 2 },
  { name = \"c\", vip = \"203.0.113.0/28\", protocol = \"tcp\", port = 4, forward = \"nat\" },
  { name = \"d\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 5, forward = \"nat\", backend_port = 0 },
  { name = \"e\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 6, fragments = \"keep\" },
]
",
        expected: &[
            ("4:81 services[0].backend_port: with forward = \"l2\" packets keep their port", "forward = \"nat\""),
            (
                "5:103 services[1].backend_port: the service has several ports, and answers from one would not tell which",
                "one port",
            ),
            (
                "6:23 services[2].vip: with nat 203.0.113.0/28 must be one address: an answer does not tell which one it is from",
                "name one address",
            ),
            ("7:98 services[3].backend_port: 0 is out of range", "from 1 to 65535"),
            ("8:78 services[4].fragments: \"keep\" is not known", "\"drop\" or \"pass\""),
        ],
    },
    Case {
        description: "hosts are of the family that packets have, or outer headers are to have",
        toml: "
hosts.four.addresses = [\"10.0.0.1\"]
hosts.six.addresses = [\"fd00::1\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1, hosts = [\"four\", \"six\"] },
  { name = \"b\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 2, forward = \"nat\", hosts = [\"six\"] },
  { name = \"c\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 3, forward = \"ipip\", hosts = [\"four\", \"six\"] },
  { name = \"d\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 4, forward = \"gue\", outer = \"ipv6\", hosts = [\"four\", \"six\"] },
  { name = \"e\", vip = \"2001:db8::1\", protocol = \"tcp\", port = 5, forward = \"ipip\", outer = \"ipv4\", hosts = [\"six\"] },
  { name = \"f\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 6, outer = \"ipv4\" },
  { name = \"g\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 7, forward = \"nat\", outer = \"ipv6\", hosts = [\"four\"] },
  { name = \"h\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 8, forward = \"ipip\", outer = \"inet6\", hosts = [\"six\"] },
  { name = \"i\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 9, forward = \"ipip\", outer = true, hosts = [\"six\"] },
  { name = \"j\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 10, forward = \"ippi\", outer = \"ipv6\", hosts = [\"six\"] },
  { name = \"k\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 11, forward = \"ipip\", hosts = [] },
]
",
        expected: &[
            (
                "5:83 services[0].hosts[1]: host \"six\" has no IPv4 address, VIP 203.0.113.1 needs one",
                "with forward = \"ipip\" or \"gue\" its other address will do",
            ),
            (
                "6:92 services[1].hosts[0]: host \"six\" has no IPv4 address, VIP 203.0.113.1 needs one",
                "or take the host out",
            ),
            (
                "8:108 services[3].hosts[0]: host \"four\" has no IPv6 address, outer = \"ipv6\" needs one",
                "add an IPv6 address to addresses under [hosts.four], or take the host out; without the line outer",
            ),
            (
                "9:109 services[4].hosts[0]: host \"six\" has no IPv4 address, outer = \"ipv4\" needs one",
                "add an IPv4 address",
            ),
            (
                "10:74 services[5].outer: with forward = \"l2\" packets get no outer header",
                "take the line out, or write forward = \"ipip\" or \"gue\"",
            ),
            ("11:91 services[6].outer: with forward = \"nat\" packets get no outer header", "take the line out"),
            ("12:92 services[7].outer: \"inet6\" is not known", "write \"ipv4\" or \"ipv6\""),
            ("13:92 services[8].outer: expected a string, found the boolean true", "outer = \"ipv4\""),
            ("14:77 services[9].forward: \"ippi\" is not known", "did you mean \"ipip\"?"),
            ("15:93 services[10].hosts: the service has no hosts", "for all that have an address"),
        ],
    },
    Case {
        description: "nobody of the family that outer headers are to have",
        toml: "
hosts.a.addresses = [\"10.0.0.1\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1, forward = \"gue\", outer = \"ipv6\" },
]
",
        expected: &[(
            "4:3 services[0].hosts: there is no host with an IPv6 address for outer = \"ipv6\"",
            "add a host with an IPv6 address",
        )],
    },
    Case {
        description: "nobody at all",
        toml: "
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1, forward = \"ipip\" },
]
",
        expected: &[(
            "3:3 services[0].hosts: there is no host with an address for VIP 203.0.113.1",
            "add a host with an address",
        )],
    },
    Case {
        description: "ports of a host that answer for two services",
        toml: "
hosts.a.addresses = [\"10.0.0.1\"]
hosts.b.addresses = [\"10.0.0.2\"]
services = [
  { name = \"p\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 80, forward = \"nat\", hosts = [\"a\"] },
  { name = \"q\", vip = \"203.0.113.2\", protocol = \"tcp\", port = 80, forward = \"nat\", hosts = [\"b\"] },
  { name = \"r\", vip = \"203.0.113.3\", protocol = \"udp\", port = 80, forward = \"nat\", hosts = [\"a\"] },
  { name = \"s\", vip = \"203.0.113.3\", protocol = \"tcp\", port = 81, forward = \"nat\", backend_port = 80 },
  { name = \"t\", vip = \"203.0.113.4\", protocol = \"tcp\", port = \"70-90\", forward = \"nat\" },
  { name = \"u\", vip = \"203.0.113.5\", protocol = \"tcp\", port = 80 },
  { name = \"v\", vip = \"203.0.113.1\", protocol = \"tcp\", port = \"79-99\", forward = \"nat\", hosts = [\"a\"] },
  { name = \"w\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 95, forward = \"nat\", hosts = [\"a\"] },
  { name = \"x\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1, forward = \"nat\", backend_port = 96, hosts = [\"a\"] },
  { name = \"y\", vip = \"203.0.113.9\", protocol = \"tcp\", port = 97, forward = \"nat\", hosts = [\"a\"] },
]
",
        expected: &[
            (
                "8:99 services[3].backend_port: host \"a\" answers for service \"p\" (line 5) from there: 10.0.0.1, tcp, 80",
                "another backend_port, or other hosts",
            ),
            (
                "9:63 services[4].port: host \"a\" answers for service \"p\" (line 5) from there: 10.0.0.1, tcp, 70-90",
                "or other hosts",
            ),
            (
                "13:98 services[8].backend_port: host \"a\" answers for service \"v\" (line 11) from there: 10.0.0.1, tcp, 96",
                "or other hosts",
            ),
            (
                "14:63 services[9].port: host \"a\" answers for service \"v\" (line 11) from there: 10.0.0.1, tcp, 97",
                "or other hosts",
            ),
        ],
    },
];

#[test]
fn each_way_to_write_it_is_understood() {
    let toml = "
mss_clamp = 1360
interfaces = [\"eth0\", { name = \"eth1\", xdp_mode = \"generic\" }]
xdp_mode = \"native\"
outer_source = [\"fd00:5::/64\", \"100.64.0.0/24\"]
hosts.a.addresses = [\"10.0.0.1\", \"fd00::1\"]
services = [
  { name = \"a\", vip = \"203.0.113.0/28\", protocol = [\"udp\", \"tcp\"], port = [443, \"8000-8010\", 80] },
  { name = \"b\", vip = \"2001:db8::/64\", protocol = \"udp\", port = \"all\" },
  { name = \"c\", vip = \"203.0.113.1/32\", protocol = \"tcp\", port = \"90 - 99\", forward = \"gue\" },
  { name = \"d\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 443, forward = \"nat\", backend_port = 8443 },
]
";
    let model = parse(toml, "f").unwrap_or_else(|errors| panic!("{errors}")).model;
    let modes: Vec<_> = model.interfaces.iter().map(|i| (i.name.as_str(), i.xdp_mode)).collect();
    assert_eq!(modes, [("eth0", XdpMode::Native), ("eth1", XdpMode::Generic)]);
    assert_eq!(model.outer_source.ipv4.unwrap().to_string(), "100.64.0.0/24");
    assert_eq!(model.outer_source.ipv6.unwrap().to_string(), "fd00:5::/64");
    assert_eq!((model.mss_clamp, model.gue_port), (Some(1360), 6080));
    let [a, b, c, d] = model.services.as_slice() else { panic!("{model:?}") };
    assert_eq!(a.vip, Vip::of("203.0.113.0/28".parse().unwrap()));
    assert_eq!(a.protocols, Protocols::of([Protocol::Tcp, Protocol::Udp]));
    let range = PortRange { first: 8000, last: 8010 };
    assert_eq!(a.ports, Ports::of([PortRange::one(80), PortRange::one(443), range]));
    assert_eq!((b.vip.to_string(), b.ports.to_string()), ("2001:db8::/64".into(), "all".into()));
    assert!(c.vip.is_single() && c.vip == d.vip);
    assert_eq!((d.ports.single(), d.backend_port), (Some(443), Some(8443)));
}

#[test]
fn a_tunnel_s_hosts_are_those_that_it_can_reach() {
    let model = parse(
        "
interfaces = [\"eth0\"]
hosts.both.addresses = [\"10.0.0.1\", \"fd00::1\"]
hosts.four.addresses = [\"10.0.0.2\"]
hosts.six.addresses = [\"fd00::3\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1, forward = \"ipip\" },
  { name = \"b\", vip = \"2001:db8::1\", protocol = \"tcp\", port = 1, forward = \"gue\" },
  { name = \"c\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 2, forward = \"gue\", outer = \"ipv6\" },
  { name = \"d\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 3 },
]
",
        "test.toml",
    )
    .unwrap_or_else(|errors| panic!("{errors}"))
    .model;
    let hosts = |service: usize| {
        let service = &model.services[service];
        let address = |name: &String| format!("{name} {}", model.address(service, name).unwrap());
        service.hosts.iter().map(address).collect::<Vec<_>>()
    };
    assert_eq!(hosts(0), ["both 10.0.0.1", "four 10.0.0.2", "six fd00::3"]);
    assert_eq!(hosts(1), ["both fd00::1", "four 10.0.0.2", "six fd00::3"]);
    assert_eq!(hosts(2), ["both fd00::1", "six fd00::3"]);
    assert_eq!(hosts(3), ["both 10.0.0.1", "four 10.0.0.2"]);
}
