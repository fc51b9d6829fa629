//! Each rule, broken once: what is reported, where, and what is said to be right.

use super::drains::DRAINS;
use super::packets::PACKETS;
use super::{line, refused};

pub(super) struct Case {
    pub description: &'static str,
    /// Where it begins with an empty line, that line is `interfaces = ["eth0"]`.
    pub toml: &'static str,
    /// Each problem as `line:column path: message`, and a part of its hint.
    pub expected: &'static [(&'static str, &'static str)],
}

#[test]
fn broken_rules_are_reported_with_place_and_mend() {
    let mut wrong = Vec::new();
    for case in FILE.iter().chain(FIELDS).chain(HOSTS).chain(SERVICES).chain(PACKETS).chain(DRAINS) {
        let toml = match case.toml.starts_with('\n') {
            true => format!("interfaces = [\"eth0\"]{}", case.toml),
            false => case.toml.to_owned(),
        };
        let errors = refused(&toml);
        let lines: Vec<String> = errors.problems.iter().map(line).collect();
        let expected: Vec<&str> = case.expected.iter().map(|(line, _)| *line).collect();
        if lines != expected {
            wrong.push(format!("{}:\n  expected {expected:#?}\n  reported {lines:#?}", case.description));
            continue;
        }
        for (problem, (_, hint)) in errors.problems.iter().zip(case.expected) {
            let given = problem.hint.as_deref().unwrap_or_default();
            if !given.contains(hint) || (hint.is_empty() && !given.is_empty()) {
                wrong.push(format!("{}:\n  expected hint {hint:?}\n  reported {given:?}", case.description));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const FILE: &[Case] = &[
    Case { description: "empty", toml: "", expected: &[("1:1 : the file is empty", "interfaces")] },
    Case {
        description: "comments only",
        toml: "# nothing yet\n",
        expected: &[("1:1 : the file is empty", "interfaces")],
    },
    Case {
        description: "syntax: all of its errors",
        toml: "\nring_size = \n[hosts\n",
        expected: &[
            ("2:13 : string values must be quoted, expected literal string", ""),
            ("3:7 : unclosed table, expected `]`", ""),
        ],
    },
    Case {
        description: "a host defined twice, and the rest checked all the same",
        toml: "
[hosts.a]
addresses = [\"10.0.0.1\"]
[hosts.a]
weight = 0
",
        expected: &[
            ("4:8 hosts.a: defined twice", "keep one"),
            ("5:10 hosts.a.weight: 0 is out of range", "1 to 65535"),
        ],
    },
    Case {
        description: "a field given twice",
        toml: "\nring_size = 101\nring_size = 103\n[timeouts]\nudp = \"9s\"\nudp = \"8s\"\n",
        expected: &[("3:1 ring_size: defined twice", "keep"), ("6:1 timeouts.udp: defined twice", "keep")],
    },
    Case {
        description: "a field given twice in the second service",
        toml: "
[hosts.a]
addresses = [\"10.0.0.1\"]
[[services]]
name = \"x\"
vip = \"203.0.113.1\"
protocol = \"tcp\"
port = 1
[[services]]
name = \"y\"
vip = \"203.0.113.2\"
protocol = \"tcp\"
port = 1
port = 2
",
        expected: &[("14:1 services[1].port: defined twice", "keep one")],
    },
];

const FIELDS: &[Case] = &[
    Case {
        description: "no interfaces",
        toml: "ring_size = 101\n",
        expected: &[("1:1 interfaces: missing", "interfaces = [\"eth0\"]")],
    },
    Case {
        description: "no interface",
        toml: "interfaces = []\n",
        expected: &[("1:14 interfaces: no interface is named", "at least one")],
    },
    Case {
        description: "interface names",
        toml: "interfaces = [\"eth0\", \"a/b\", \"a b\", \"\", \"sixteen-letters-\", \"eth0\", \"..\", \"a:1\", 7]\n",
        expected: &[
            ("1:23 interfaces[1]: \"a/b\" cannot be an interface: the name has the character '/'", "ip link"),
            ("1:30 interfaces[2]: \"a b\" cannot be an interface: the name has the character ' '", "ip link"),
            ("1:37 interfaces[3]: \"\" cannot be an interface: the name is empty", "ip link"),
            (
                "1:41 interfaces[4]: \"sixteen-letters-\" cannot be an interface: the name has 16 bytes",
                "1 to 15",
            ),
            ("1:61 interfaces[5]: interface \"eth0\" (line 1) is named twice", "once"),
            ("1:69 interfaces[6]: \"..\" cannot be an interface: the kernel refuses this name", "ip link"),
            ("1:75 interfaces[7]: \"a:1\" cannot be an interface: the name has the character ':'", "ip link"),
            ("1:82 interfaces[8]: expected a string, found the integer 7", "{ name = \"eth0\""),
        ],
    },
    Case {
        description: "unknown fields, near and far and misplaced",
        toml: "
rnig_size = 101
colour = 1
[flow_table]
pin = 2048
vip_mode = \"local\"
[timeouts]
weight = 3
[service]
",
        expected: &[
            ("2:1 rnig_size: unknown field", "did you mean \"ring_size\"?"),
            ("3:1 colour: unknown field", "known here are interfaces, xdp_mode"),
            ("5:1 flow_table.pin: unknown field", "did you mean \"pins\"?"),
            ("6:1 flow_table.vip_mode: unknown field", "vip_mode belongs to the top of the file"),
            ("8:1 timeouts.weight: unknown field", "weight belongs under [hosts.NAME]"),
            ("9:2 service: unknown field", "did you mean \"services\"?"),
        ],
    },
    Case {
        description: "wrong types",
        toml: "interfaces = \"eth0\"
xdp_mode = 1
vip_mode = true
ring_size = \"101\"
hash_key = 12345678901234567890123456789012
flow_table = 5
timeouts = []
hosts = \"a\"
services = {}
",
        expected: &[
            ("1:14 interfaces: expected an array of strings, found the string \"eth0\"", "[\"eth0\"]"),
            ("2:12 xdp_mode: expected a string, found the integer 1", "xdp_mode = \"1\""),
            ("3:12 vip_mode: expected a string, found the boolean true", "vip_mode = \"external\""),
            ("4:13 ring_size: expected an integer, found the string \"101\"", "101, without quotes"),
            ("5:12 hash_key: expected a string, found a value of type integer", "32 hex digits in quotes"),
            ("6:14 flow_table: expected a table, found the integer 5", "[flow_table]"),
            ("7:12 timeouts: expected a table, found an array", "[timeouts]"),
            ("8:9 hosts: expected a table, found the string \"a\"", "[hosts.NAME]"),
            ("9:12 services: expected an array of tables, found a table", "[[services]]"),
        ],
    },
    Case {
        description: "a host list where tables are wanted, and one service in single brackets",
        toml: "\n[[hosts]]\naddresses = [\"10.0.0.1\"]\n[services]\nname = \"a\"\n",
        expected: &[
            ("2:1 hosts: expected a table, found an array", "[hosts.NAME]"),
            ("4:1 services: expected an array of tables, found a table", "double brackets"),
        ],
    },
    Case {
        description: "elements that are no tables",
        toml: "\nservices = [1]\nhosts.a = \"10.0.0.1\"\n",
        expected: &[
            ("2:13 services[0]: expected a table, found the integer 1", "[[services]]"),
            ("3:11 hosts.a: expected a table, found a value of type string", "[hosts.a]"),
        ],
    },
    Case {
        description: "modes",
        toml: "\nxdp_mode = \"naitve\"\nvip_mode = \"bgp\"\n",
        expected: &[
            ("2:12 xdp_mode: \"naitve\" is not known", "did you mean \"native\"?"),
            ("3:12 vip_mode: \"bgp\" is not known", "write \"external\" or \"local\""),
        ],
    },
    Case {
        description: "ring size: no prime",
        toml: "\nring_size = 65_536\n",
        expected: &[("2:13 ring_size: 65536 is not a prime", "ring_size = 65537")],
    },
    Case {
        description: "ring size: too small for anything",
        toml: "\nring_size = 97\n",
        expected: &[("2:13 ring_size: 97 is out of range", "from 101 to 1048573")],
    },
    Case {
        description: "ring size: too large",
        toml: "\nring_size = 1_048_583\n",
        expected: &[("2:13 ring_size: 1048583 is out of range", "from 101 to 1048573")],
    },
    Case {
        description: "ring size: no integer of any machine",
        toml: "\nring_size = 999999999999999999999999999999999999999999\n",
        expected: &[(
            "2:13 ring_size: 999999999999999999999999999999999999999… is out of range",
            "from 101 to 1048573",
        )],
    },
    Case {
        description: "ring size: what begins like a number, with a control character",
        toml: "\nring_size = 1_0\u{1}1\n",
        expected: &[("2:13 ring_size: 10\u{fffd}1 is not a whole number", "from 101 to 1048573")],
    },
    Case {
        description: "ring size: too small for the largest service, and no prime either",
        toml: "
ring_size = 150
[hosts]
a = { addresses = [\"10.0.0.1\"] }
b = { addresses = [\"10.0.0.2\"] }
[[services]]
name = \"web\"
vip = \"203.0.113.1\"
protocol = \"tcp\"
port = 80
",
        expected: &[(
            "2:13 ring_size: 150 slots are too few for the 2 hosts of service \"web\"",
            "ring_size = 211",
        )],
    },
    Case {
        description: "ring size: a prime one short of what the largest service needs",
        toml: "
ring_size = 199
hosts.a.addresses = [\"10.0.0.1\"]
hosts.b.addresses = [\"10.0.0.2\"]
[[services]]
name = \"web\"
vip = \"203.0.113.1\"
protocol = \"tcp\"
port = 80
",
        expected: &[(
            "2:13 ring_size: 199 slots are too few for the 2 hosts of service \"web\"",
            "ring_size = 211",
        )],
    },
    Case {
        description: "hash key: length and digits, never shown",
        toml: "\nhash_key = \"00112233445566778899aabbccddee\"\n",
        expected: &[("2:12 hash_key: 30 characters are not 32 hex digits", "openssl rand -hex 16")],
    },
    Case {
        description: "hash key: a sign is no digit",
        toml: "\nhash_key = \"+0112233445566778899aabbccddeeff\"\n",
        expected: &[("2:12 hash_key: not all of its characters are hex digits", "32 hex digits")],
    },
    Case {
        description: "pins: range",
        toml: "\n[flow_table]\npins = 1023\n",
        expected: &[("3:8 flow_table.pins: 1023 is out of range", "from 1024 to 16777216")],
    },
    Case {
        description: "pins: upper end",
        toml: "\n[flow_table]\npins = 16_777_217\n",
        expected: &[("3:8 flow_table.pins: 16777217 is out of range", "from 1024 to 16777216")],
    },
    Case {
        description: "timeouts",
        toml: "
[timeouts]
half_open = 64
established = \"25h\"
closing = \"1500ms\"
udp = \"0s\"
",
        expected: &[
            ("3:13 timeouts.half_open: expected a duration, found the integer 64", "half_open = \"64s\""),
            ("4:15 timeouts.established: \"25h\" is out of range", "from 1s to 24h"),
            ("5:11 timeouts.closing: \"1500ms\" is not a whole number of seconds", "closing = \"2s\""),
            ("6:7 timeouts.udp: \"0s\" is out of range", "from 1s to 24h"),
        ],
    },
    Case {
        description: "timeouts that are no durations",
        toml: "\n[timeouts]\nudp = \"ninety\"\nclosing = \"90\"\nhalf_open = \"5 parsecs\"\n",
        expected: &[
            ("3:7 timeouts.udp: \"ninety\" is no duration: expected number at 0", "\"90s\""),
            (
                "4:11 timeouts.closing: \"90\" is no duration: time unit needed, for example 90sec or 90ms",
                "\"90s\"",
            ),
            (
                "5:13 timeouts.half_open: \"5 parsecs\" is no duration: unknown time unit \"parsecs\", supported units: ns, us/µs, ms, sec, min, hours, days, weeks, months, years (and few variations)",
                "\"90s\"",
            ),
        ],
    },
];

const HOSTS: &[Case] = &[
    Case {
        description: "host names",
        toml: "
[hosts]
\"\" = { addresses = [\"10.0.0.1\"] }
\"a b\" = { addresses = [\"10.0.0.2\"] }
abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-0123456789 = { addresses = [\"10.0.0.3\"] }
",
        expected: &[
            ("3:6 hosts.\"\": the host name is empty", "1 to 63"),
            ("4:9 hosts.\"a b\": host name \"a b\" has the character ' '", "letters, digits"),
            (
                "5:68 hosts.abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-0123456789: host name \"abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-0123456789\" has 64 characters",
                "1 to 63",
            ),
        ],
    },
    Case {
        description: "a dotted host name without quotes",
        toml: "\n[hosts.web.1]\naddresses = [\"10.0.0.1\"]\n",
        expected: &[
            ("2:8 hosts.web.addresses: missing", "addresses ="),
            ("2:12 hosts.web.1: unknown field", "[hosts.\"NAME.1\"]"),
        ],
    },
    Case {
        description: "weights",
        toml: "
[hosts]
a = { addresses = [\"10.0.0.1\"], weight = 0 }
b = { addresses = [\"10.0.0.2\"], weight = 65536 }
c = { addresses = [\"10.0.0.3\"], weight = -1 }
d = { addresses = [\"10.0.0.4\"], weight = 1.5 }
",
        expected: &[
            ("3:42 hosts.a.weight: 0 is out of range", "from 1 to 65535"),
            ("4:42 hosts.b.weight: 65536 is out of range", "from 1 to 65535"),
            ("5:42 hosts.c.weight: -1 is out of range", "from 1 to 65535"),
            ("6:42 hosts.d.weight: expected an integer, found the float 1.5", "from 1 to 65535"),
        ],
    },
    Case {
        description: "addresses that are none",
        toml: "
[hosts]
a = { addresses = [\"10.0.0.1:80\", 5] }
b = { addresses = [\"10.0.0.2/24\"] }
c = { addresses = [\"[fd00::3]:80\"] }
d = { addresses = [\"web.example\"] }
e = { addresses = [] }
f = {}
",
        expected: &[
            ("3:20 hosts.a.addresses[0]: \"10.0.0.1:80\" is not an IP address", "write \"10.0.0.1\" alone"),
            ("3:35 hosts.a.addresses[1]: expected a string, found the integer 5", "[\"10.0.0.11\"]"),
            ("4:20 hosts.b.addresses[0]: \"10.0.0.2/24\" is not an IP address", "write \"10.0.0.2\" alone"),
            ("5:20 hosts.c.addresses[0]: \"[fd00::3]:80\" is not an IP address", "write \"fd00::3\" alone"),
            ("6:20 hosts.d.addresses[0]: \"web.example\" is not an IP address", "such as \"10.0.0.11\""),
            ("7:19 hosts.e.addresses: host \"e\" has no address", "IPv4 address, an IPv6"),
            ("8:5 hosts.f.addresses: missing", "addresses = [\"10.0.0.11\"]"),
        ],
    },
    Case {
        description: "addresses of no use",
        toml: "
[hosts]
a = { addresses = [\"0.0.0.0\", \"::\"] }
b = { addresses = [\"127.0.0.1\", \"::1\"] }
c = { addresses = [\"224.0.0.1\", \"ff02::1\"] }
d = { addresses = [\"169.254.1.1\", \"fe80::1\"] }
e = { addresses = [\"255.255.255.255\", \"::ffff:10.0.0.1\"] }
",
        expected: &[
            ("3:20 hosts.a.addresses[0]: 0.0.0.0 is the unspecified address", "unicast"),
            ("3:31 hosts.a.addresses[1]: :: is the unspecified address", "unicast"),
            ("4:20 hosts.b.addresses[0]: 127.0.0.1 is a loopback address", "unicast"),
            ("4:33 hosts.b.addresses[1]: ::1 is a loopback address", "unicast"),
            ("5:20 hosts.c.addresses[0]: 224.0.0.1 is a multicast address", "unicast"),
            ("5:33 hosts.c.addresses[1]: ff02::1 is a multicast address", "unicast"),
            ("6:20 hosts.d.addresses[0]: 169.254.1.1 is a link-local address", "unicast"),
            ("6:35 hosts.d.addresses[1]: fe80::1 is a link-local address", "unicast"),
            ("7:20 hosts.e.addresses[0]: 255.255.255.255 is the broadcast address", "unicast"),
            (
                "7:39 hosts.e.addresses[1]: ::ffff:10.0.0.1 is an IPv4 address in an IPv6 mapping",
                "write \"10.0.0.1\"",
            ),
        ],
    },
    Case {
        description: "two of one family, and one address of two hosts",
        toml: "
[hosts]
b = { addresses = [\"10.0.0.1\", \"10.0.0.2\"] }
a = { addresses = [\"fd00::1\", \"10.0.0.1\"] }
c = { addresses = [\"fd00::2\", \"fd00:0:0::2\"] }
",
        expected: &[
            ("3:32 hosts.b.addresses[1]: host \"b\" has a second IPv4 address", "at most one"),
            ("4:31 hosts.a.addresses[1]: 10.0.0.1 is also an address of host \"b\" (line 3)", "of its own"),
            ("5:31 hosts.c.addresses[1]: host \"c\" has a second IPv6 address", "at most one"),
        ],
    },
];

const SERVICES: &[Case] = &[
    Case {
        description: "policies of the other protocol",
        toml: "
hosts.a.addresses = [\"10.0.0.1\"]
[[services]]
name = \"dns\"
vip = \"203.0.113.10\"
protocol = \"udp\"
port = 53
tracking = \"edges\"
[[services]]
name = \"web\"
vip = \"203.0.113.10\"
protocol = \"tcp\"
port = 80
udp_handover = \"gap\"
affinity = \"clients\"
",
        expected: &[
            ("8:12 services[0].tracking: edges are SYNs, and UDP has none", "take the line out"),
            (
                "14:16 services[1].udp_handover: this is a TCP service, whose connections stay where they are",
                "take the line out",
            ),
            ("15:12 services[1].affinity: \"clients\" is not known", "did you mean \"client\"?"),
        ],
    },
    Case {
        description: "everything missing",
        toml: "\n[[services]]\n",
        expected: &[
            ("2:1 services[0].name: missing", "name = \"web\""),
            ("2:1 services[0].vip: missing", "vip = \"203.0.113.10\""),
            ("2:1 services[0].protocol: missing", "protocol = \"tcp\""),
            ("2:1 services[0].port: missing", "port = 80"),
        ],
    },
    Case {
        description: "values",
        toml: "
hosts.a.addresses = [\"10.0.0.1\"]
[[services]]
name = \"we b\"
vip = \"203.0.113.10:80\"
protocol = \"TCP\"
port = 0
forward = \"ip-ip\"
hosts = \"a\"
",
        expected: &[
            ("4:8 services[0].name: service name \"we b\" has the character ' '", "1 to 63"),
            ("5:7 services[0].vip: \"203.0.113.10:80\" is not an IP address", "write \"203.0.113.10\" alone"),
            ("6:12 services[0].protocol: \"TCP\" is not known", "did you mean \"tcp\"?"),
            ("7:8 services[0].port: 0 is out of range", "from 1 to 65535"),
            ("8:11 services[0].forward: \"ip-ip\" is not known", "did you mean \"ipip\"?"),
            ("9:9 services[0].hosts: expected an array of strings, found the string \"a\"", "[\"web-1\""),
        ],
    },
    Case {
        description: "names and endpoints are unique; another protocol is another endpoint",
        toml: "
hosts.a.addresses = [\"10.0.0.1\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 53 },
  { name = \"b\", vip = \"203.0.113.1\", protocol = \"udp\", port = 53 },
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 54 },
  { name = \"c\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 53 },
]
",
        expected: &[
            ("6:12 services[2].name: service \"a\" (line 4) has the same name", "of its own"),
            (
                "7:23 services[3].vip: service \"a\" (line 4) has the same VIP, protocol and port: 203.0.113.1, tcp, 53",
                "change one of the three",
            ),
        ],
    },
    Case {
        description: "VIPs of no use, and a host's own",
        toml: "
hosts.a.addresses = [\"10.0.0.1\", \"fd00::1\"]
services = [
  { name = \"a\", vip = \"10.0.0.1\", protocol = \"tcp\", port = 1 },
  { name = \"b\", vip = \"fd00:0::1\", protocol = \"tcp\", port = 1 },
  { name = \"c\", vip = \"224.0.0.1\", protocol = \"tcp\", port = 1 },
  { name = \"d\", vip = \"127.0.0.1\", protocol = \"tcp\", port = 1 },
  { name = \"e\", vip = \"::\", protocol = \"tcp\", port = 1 },
  { name = \"f\", vip = \"fe80::1\", protocol = \"tcp\", port = 1 },
]
",
        expected: &[
            ("4:23 services[0].vip: 10.0.0.1 is an address of host \"a\" (line 2)", "no host has"),
            ("5:23 services[1].vip: fd00::1 is an address of host \"a\" (line 2)", "no host has"),
            ("6:23 services[2].vip: 224.0.0.1 is a multicast address", "unicast"),
            ("7:23 services[3].vip: 127.0.0.1 is a loopback address", "unicast"),
            ("8:23 services[4].vip: :: is the unspecified address", "unicast"),
            ("9:23 services[5].vip: fe80::1 is a link-local address", "unicast"),
        ],
    },
    Case {
        description: "members",
        toml: "
hosts.web-1.addresses = [\"10.0.0.1\"]
hosts.\"six.net\".addresses = [\"fd00::1\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1, hosts = [\"wbe-1\", \"nobody\", \"x y\"] },
  { name = \"b\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 2, hosts = [] },
  { name = \"c\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 3, hosts = [\"web-1\", \"six.net\"] },
  { name = \"d\", vip = \"2001:db8::1\", protocol = \"tcp\", port = 4, hosts = [\"web-1\"] },
  { name = \"e\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 5, hosts = [\"web-1\", \"web-1\"] },
]
",
        expected: &[
            ("5:75 services[0].hosts[0]: there is no host \"wbe-1\"", "did you mean \"web-1\"?"),
            ("5:84 services[0].hosts[1]: there is no host \"nobody\"", "under [hosts.nobody]"),
            ("5:94 services[0].hosts[2]: there is no host \"x y\"", "under [hosts.\"x y\"]"),
            ("6:74 services[1].hosts: the service has no hosts", "leave the field out for all that have an IPv4"),
            (
                "7:84 services[2].hosts[1]: host \"six.net\" has no IPv4 address, VIP 203.0.113.1 needs one",
                "under [hosts.\"six.net\"]",
            ),
            (
                "8:75 services[3].hosts[0]: host \"web-1\" has no IPv6 address, VIP 2001:db8::1 needs one",
                "add an IPv6 address",
            ),
            ("9:84 services[4].hosts[1]: host \"web-1\" is listed twice", "once"),
        ],
    },
    Case {
        description: "nobody of the VIP's family, by default",
        toml: "
hosts.a.addresses = [\"10.0.0.1\"]
[[services]]
name = \"a\"
vip = \"2001:db8::1\"
protocol = \"tcp\"
port = 1
",
        expected: &[(
            "3:1 services[0].hosts: there is no host with an IPv6 address for VIP 2001:db8::1",
            "add a host with an IPv6 address",
        )],
    },
    Case {
        description: "a host whose address is wrong brings no second complaint",
        toml: "
hosts.a.addresses = [\"10.0.0.256\"]
services = [
  { name = \"a\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 1, hosts = [\"a\"] },
  { name = \"b\", vip = \"203.0.113.1\", protocol = \"tcp\", port = 2 },
]
",
        expected: &[("2:22 hosts.a.addresses[0]: \"10.0.0.256\" is not an IP address", "IPv4 address such as")],
    },
];
