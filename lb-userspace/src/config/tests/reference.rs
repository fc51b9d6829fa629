//! The example and the reference for operators say what the code does.

use std::time::Duration;

use super::super::limits::{self, default};
use super::super::schema::{self, Fields};
use super::super::{Loaded, parse};
use super::EXAMPLE;

const REFERENCE: &str = include_str!("../../../../docs/configuration.md");

/// Each section's heading in the reference, its header in TOML, and its fields.
const SECTIONS: [(&str, &str, Fields); 12] = [
    ("## Top of the file", "", schema::TOP),
    ("## `[flow_table]`", "[flow_table]", schema::FLOW_TABLE),
    ("## `[timeouts]`", "[timeouts]", schema::TIMEOUTS),
    ("## `[rules]`", "[rules]", schema::RULES),
    ("## `[health]`", "[health]", schema::HEALTH),
    ("## `[hooks]`", "[hooks]", schema::HOOKS),
    ("## `[journal]`", "[journal]", schema::JOURNAL),
    ("## `[api]`", "[api]", schema::API),
    ("## `[announce]`", "[announce]", schema::ANNOUNCE),
    ("## `[hosts.NAME]`", "[hosts.a]", schema::HOST),
    ("## `[[services]]`", "[[services]]", schema::SERVICE),
    ("## `[[services.checks]]`", "[[services.checks]]", schema::CHECK),
];

fn accepted(toml: &str) -> Loaded {
    parse(toml, "test.toml").unwrap_or_else(|errors| panic!("{errors}\n{toml}"))
}

/// The rows of a section's table: field, default, and the rest.
fn rows(heading: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let start = REFERENCE.find(heading).unwrap_or_else(|| panic!("no section {heading}"));
    let section = &REFERENCE[start + heading.len()..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let cells = |line: &'static str| {
        let mut cells = line.strip_prefix("| `")?.splitn(3, '|').map(str::trim);
        Some((cells.next()?.trim_matches('`'), cells.next()?, cells.next()?))
    };
    section.lines().filter_map(cells).collect()
}

#[test]
fn every_field_has_a_row_in_its_section_and_no_other_has() {
    for (heading, _, fields) in SECTIONS {
        let documented: Vec<&str> = rows(heading).iter().map(|(field, ..)| *field).collect();
        let sections = [
            "flow_table",
            "timeouts",
            "rules",
            "health",
            "hooks",
            "journal",
            "api",
            "announce",
            "hosts",
            "services",
        ];
        let is_section = |field: &&&str| heading.contains("Top") && sections.contains(*field);
        let expected: Vec<&str> = fields.iter().filter(|field| !is_section(field)).copied().collect();
        assert_eq!(documented, expected, "under {heading}");
    }
}

/// Their table is one of an array, so they have no row of their own.
#[test]
fn what_an_interface_may_have_of_its_own_is_shown() {
    let [name, mode] = schema::INTERFACE else { panic!("{:?}", schema::INTERFACE) };
    for text in [REFERENCE, EXAMPLE] {
        assert!(text.contains(&format!("{{ {name} = \"eth1\", {mode} = \"generic\" }}")));
    }
}

#[test]
fn defaults_of_the_reference_are_those_of_the_code() {
    let hosts_and_service = |host: &str, service: &str| {
        format!(
            "[hosts.a]\naddresses = [\"10.0.0.1\"]\n{host}[hosts.b]\naddresses = [\"10.0.0.2\"]\n\
             [[services]]\nname = \"s\"\nvip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 1\n{service}"
        )
    };
    let sparse = accepted(&format!("interfaces = [\"eth0\"]\n{}", hosts_and_service("", "")));
    let mut written = vec![String::new(); SECTIONS.len()];
    let mut count = 0;
    for (index, (heading, _, _)) in SECTIONS.iter().enumerate() {
        for (field, default, _) in rows(heading) {
            if let Some(value) = default.strip_prefix('`').and_then(|value| value.strip_suffix('`')) {
                written[index] += &format!("{field} = {value}\n");
                count += 1;
            }
        }
    }
    assert_eq!(count, 5 + 2 + 5 + 2 + 12 + 1 + 2 + 2 + 6, "defaults that are values: {written:?}");
    let full = format!(
        "interfaces = [\"eth0\"]\n{}[flow_table]\n{}[timeouts]\n{}[rules]\n{}[health]\n{}[hooks]\n{}[journal]\n{}{}",
        written[0],
        written[1],
        written[2],
        written[3],
        written[4],
        written[5],
        written[6],
        hosts_and_service(&written[9], &written[10])
    );
    assert_eq!(accepted(&full).model, sparse.model);
    assert_eq!(sparse.model.timeouts, default::TIMEOUTS);
    assert_eq!(sparse.model.services[0].hosts, ["a", "b"], "all hosts of the VIP's family");
    assert_eq!(sparse.model.hash_key, None);
}

#[test]
fn fields_without_a_default_are_said_to_be_required() {
    for (heading, _, _) in SECTIONS {
        for (field, default, _) in rows(heading) {
            let required = ["interfaces", "interface", "addresses", "name", "vip", "protocol", "type"]
                .contains(&field)
                || field == "port" && heading == "## `[[services]]`";
            assert_eq!(default == "required", required, "{field} under {heading}");
        }
    }
}

#[test]
fn the_limits_of_the_reference_are_those_of_the_code() {
    let numbers = [
        limits::MAX_HOSTS as u64,
        limits::MAX_MEMBER_SETS as u64,
        limits::MAX_SERVICES as u64,
        limits::MAX_BACKENDS as u64,
        limits::MAX_RECORDS as u64,
        limits::MAX_RANGES as u64,
        limits::MAX_PREFIX_LENGTHS as u64,
        (*limits::MSS.start()).into(),
        (*limits::MSS.end()).into(),
        super::super::ONE_PIECE.into(),
        limits::MAX_NAME as u64,
        limits::MAX_CHECKS as u64,
        limits::MAX_ALL_CHECKS as u64,
        limits::MAX_PAYLOAD as u64,
        limits::MAX_INTERFACE_NAME as u64,
        (*limits::RING_SIZE.start()).into(),
        (*limits::RING_SIZE.end()).into(),
        (*limits::PINS.start()).into(),
        (*limits::PINS.end()).into(),
        limits::SLOTS_PER_MEMBER.into(),
    ];
    let words: Vec<&str> = REFERENCE
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    let plain: Vec<String> = words.iter().map(|word| word.replace('_', "")).collect();
    for number in numbers {
        assert!(plain.contains(&number.to_string()), "{number} is not in the reference");
    }
    let lengths = [limits::VIP_V4, limits::VIP_V6, limits::OUTER_V4, limits::OUTER_V6];
    assert_eq!(lengths, [8..=32, 32..=128, 8..=31, 32..=127], "as the reference has them");
    let default = format!("| `gue_port` | `{}` |", default::GUE_PORT);
    assert!(REFERENCE.contains(&default));
    assert_eq!(limits::TIMEOUT, Duration::from_secs(1)..=Duration::from_secs(86_400));
    assert!(REFERENCE.contains("1s to 24h"));
}

#[test]
fn toml_of_the_reference_parses() {
    let blocks: Vec<&str> =
        REFERENCE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        accepted(block);
    }
}

#[test]
fn the_example_shows_every_field_and_each_line_of_it_is_used() {
    let with_key = EXAMPLE.replace("# hash_key", "hash_key");
    let full = accepted(&with_key).model;
    assert!(full.hash_key.is_some());
    assert_eq!(accepted(EXAMPLE).model.hash_key, None, "nobody should run with the example's key");
    for (_, header, fields) in SECTIONS {
        for field in fields {
            let shown = with_key.lines().map(|line| line.trim_start_matches("# ")).any(|line| {
                line.starts_with(&format!("{field} = "))
                    || line.starts_with(&format!("[{field}"))
                    || line.starts_with(&format!("[[{field}"))
                    || line.starts_with(&format!("[[services.{field}]]"))
            });
            assert!(shown, "{field} of {header:?} is not in the example");
        }
    }
    // A field that the reader took without looking at it could hold anything.
    for (number, line) in with_key.lines().enumerate() {
        let Some((field, _)) = line.split_once(" = ").filter(|(field, _)| !field.starts_with('#')) else {
            continue;
        };
        let lines = with_key.lines().enumerate();
        let broken: String = lines
            .map(
                |(n, line)| if n == number { format!("{field} = 1979-05-27\n") } else { format!("{line}\n") },
            )
            .collect();
        let errors = parse(&broken, "f").expect_err(field);
        assert!(errors.problems.iter().any(|p| p.line as usize == number + 1), "{field}: {errors}");
    }
}
