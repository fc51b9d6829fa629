//! Rules, zones and groups: what is reported, where, and what is said to be right.

use super::rules::Case;

pub(super) const DRAINS: &[Case] = &[
    Case {
        description: "percentages and flags",
        toml: "
[rules]
min_healthy = 50
one_zone_at_a_time = \"true\"
[[services]]
rules = { min_healthy = \"101%\", one_zone_at_time = true }
when_empty = \"first\"
",
        expected: &[
            (
                "3:15 rules.min_healthy: expected a percentage, found the integer 50",
                "write min_healthy = \"50%\"",
            ),
            (
                "4:22 rules.one_zone_at_a_time: expected true or false, found the string \"true\"",
                "without quotes",
            ),
            ("5:1 services[0].name: missing", "name = "),
            ("5:1 services[0].vip: missing", "vip = "),
            ("5:1 services[0].protocol: missing", "protocol = "),
            ("5:1 services[0].port: missing", "port = "),
            (
                "6:25 services[0].rules.min_healthy: \"101%\" is not a whole percentage from 0% to 100%",
                "min_healthy = \"50%\"",
            ),
            (
                "6:33 services[0].rules.one_zone_at_time: unknown field",
                "did you mean \"one_zone_at_a_time\"?",
            ),
            ("7:14 services[0].when_empty: \"first\" is not known", "\"reject\", \"pass\" or \"last\""),
        ],
    },
    Case {
        description: "half percents",
        toml: "\n[rules]\nmin_healthy = \"12.5%\"\n",
        expected: &[(
            "3:15 rules.min_healthy: \"12.5%\" is not a whole percentage from 0% to 100%",
            "\"50%\"",
        )],
    },
    Case {
        description: "rules that stand elsewhere",
        toml: "\nmin_healthy = \"50%\"\n[timeouts]\nzone = \"a\"\n",
        expected: &[
            ("2:1 min_healthy: unknown field", "belongs under [rules]"),
            ("4:1 timeouts.zone: unknown field", "belongs under [hosts.NAME]"),
        ],
    },
    Case {
        description: "names of zones and groups",
        toml: "
[hosts.a]
addresses = [\"10.0.0.1\"]
zone = \"a:b\"
groups = [\"blue\", \"@red\", \"blue\", 7, \"\"]
[hosts.b]
addresses = [\"10.0.0.2\"]
zone = 1
groups = \"blue\"
",
        expected: &[
            ("4:8 hosts.a.zone: zone name \"a:b\" has the character ':'", "1 to 63 letters"),
            ("5:19 hosts.a.groups[1]: group name \"@red\" has the character '@'", "1 to 63 letters"),
            ("5:27 hosts.a.groups[2]: group \"blue\" is listed twice", "once"),
            ("5:35 hosts.a.groups[3]: expected a string, found the integer 7", "groups = [\"blue\"]"),
            ("5:38 hosts.a.groups[4]: the group name is empty", "1 to 63 letters"),
            ("8:8 hosts.b.zone: expected a string, found the integer 1", "zone = \"1\""),
            ("9:10 hosts.b.groups: expected an array of strings, found the string \"blue\"", "[\"blue\"]"),
        ],
    },
    Case {
        description: "a rule about zones without zones",
        toml: "
[rules]
one_zone_at_a_time = true
[hosts.a]
addresses = [\"10.0.0.1\"]
zone = \"a\"
[hosts.b]
addresses = [\"10.0.0.2\"]
[[services]]
name = \"x\"
vip = \"203.0.113.1\"
protocol = \"tcp\"
port = 1
[[services]]
name = \"y\"
vip = \"203.0.113.1\"
protocol = \"tcp\"
port = 2
hosts = [\"a\"]
[[services]]
name = \"z\"
vip = \"203.0.113.1\"
protocol = \"tcp\"
port = 3
hosts = [\"a\", \"b\"]
rules = { one_zone_at_a_time = false }
",
        expected: &[(
            "9:1 services[0].hosts: host \"b\" has no zone, and one_zone_at_a_time goes by zones",
            "zone = \"a\" under [hosts.b]",
        )],
    },
];
