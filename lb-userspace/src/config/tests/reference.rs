//! docs/configuration-reference.md is made of the tables of fields; documents and example for operators say what the code does.

use std::fmt::Write as _;

use super::super::limits::{self, default};
use super::super::reader::unit;
use super::super::schema::{Change, Field, Form, INTERFACE, TABLES, Table, Usual};
use super::super::{Loaded, parse};
use super::EXAMPLE;

const EXPLANATION: &str = include_str!("../../../../docs/configuration.md");
const LIMITS: &str = include_str!("../../../../docs/limits.md");

const BEFORE: &str = "# Configuration reference

<!-- Made from the tables of fields, lb-userspace/src/config/schema: SLUICE_WRITE_DOCS=1 cargo test -p lb-userspace --lib reference -->

Every table and field of the config file. What is behind them, and a file to begin with: [configuration](configuration.md).

- *Default*: what counts where a file has no such line. *Required*: it must have one.
- *Change*: what brings another value in force. *Apply*: [`sluice apply`](operations.md#the-config-changed), or a reload; no live flow is lost.
  *Restart*: [a restart of the daemon](operations.md#another-version-another-size) with its own file changed, which loses none either.
  *Detach*: `sluice detach` and a start, which forgets all flows.
- A *duration* is a number with its unit, in quotes: `\"500ms\"`, `\"90s\"`, `\"1h 30m\"`. A *percentage* is a whole one, in quotes: `\"50%\"`.
- A field that is not here is refused, as is a value that does not fit.
";

fn accepted(toml: &str) -> Loaded {
    parse(toml, "test.toml").unwrap_or_else(|errors| panic!("{errors}\n{toml}"))
}

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn heading(header: &str) -> String {
    match header {
        "" => "Top of the file".to_owned(),
        header if header.starts_with('[') => format!("`{header}`"),
        header => {
            let mut letters = header.chars();
            letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
        }
    }
}

/// Digits in groups, as TOML takes them, where there are many.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    if number < 100_000 {
        return digits;
    }
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

fn form(form: &Form) -> String {
    let linked = |header: &str| format!("[`{header}`](#{})", anchor(header));
    match form {
        Form::Text(of) => format!("string: {of}"),
        Form::Texts(of) => format!("array of strings: {of}"),
        Form::Any(what) => (*what).to_owned(),
        Form::Choice(words) => {
            let quoted: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            quoted.join(", ")
        }
        Form::Number(first, last, of) => {
            format!("integer, {} to {} {of}", grouped(*first), grouped(*last)).trim_end().to_owned()
        }
        Form::Duration(first, last, of) => {
            format!("duration, {} to {}, whole {of}", unit(*first), unit(*last))
        }
        Form::Percent(first, last) => format!("percentage, {first}% to {last}%"),
        Form::Flag => "`true` or `false`".to_owned(),
        Form::Table(header) => format!("table {}", linked(header)),
        Form::Tables(header) => format!("array of tables {}", linked(header)),
    }
}

fn row(field: &Field) -> String {
    let usual = match field.usual {
        Usual::Required => "required".to_owned(),
        Usual::Value(value) => format!("`{value}`"),
        Usual::As(what) => what.to_owned(),
        Usual::None => "none".to_owned(),
    };
    let change = match field.change {
        Change::Apply => "apply",
        Change::Restart => "restart",
        Change::Detach => "detach",
    };
    let cells =
        [format!("`{}`", field.name), form(&field.form), usual, change.to_owned(), prose(field.about)];
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn reference() -> String {
    let mut text = BEFORE.to_owned();
    for Table { header, about, fields } in TABLES {
        let lines: Vec<&str> = about.iter().map(|line| line.trim()).collect();
        write!(text, "\n## {}\n\n{}\n\n", heading(header), lines.join("\n")).unwrap();
        text += "| field | type and range | default | change | meaning |\n|---|---|---|---|---|\n";
        fields.iter().for_each(|field| text += &row(field));
    }
    text
}

#[test]
fn the_reference_in_docs_is_this_one() {
    crate::made::is_kept("configuration-reference.md", &reference());
}

/// Each field is described in one place.
#[test]
fn the_explanation_has_no_row_of_a_field() {
    for field in TABLES.iter().flat_map(|table| table.fields) {
        assert!(!EXPLANATION.contains(&format!("| `{}` |", field.name)), "{}", field.name);
    }
    assert!(EXPLANATION.contains("(configuration-reference.md)"));
}

#[test]
fn a_small_file_comes_to_the_defaults_of_the_code() {
    let model = accepted(
        "interfaces = [\"eth0\"]\n[hosts.a]\naddresses = [\"10.0.0.1\"]\n[hosts.b]\naddresses = [\"10.0.0.2\"]\n\
         [[services]]\nname = \"s\"\nvip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 1\n",
    )
    .model;
    assert_eq!(model.timeouts, default::TIMEOUTS);
    assert_eq!(model.services[0].hosts, ["a", "b"], "all hosts of the VIP's family");
    assert_eq!(model.hash_key, None);
}

/// Those that stand in a comment, and not in a range.
#[test]
fn the_limits_of_the_reference_are_those_of_the_code() {
    let numbers = [
        limits::MAX_HOSTS,
        limits::MAX_MEMBER_SETS,
        limits::MAX_SERVICES,
        limits::MAX_BACKENDS,
        limits::MAX_RECORDS,
        limits::MAX_RANGES,
        limits::MAX_PREFIX_LENGTHS,
        limits::MAX_OWN_TIMEOUTS,
        limits::MAX_NAME,
        limits::MAX_CHECKS,
        limits::MAX_ALL_CHECKS,
        limits::MAX_PAYLOAD,
        limits::MAX_COMMAND,
        limits::MAX_INTERFACE_NAME,
        limits::SLOTS_PER_MEMBER as usize,
    ];
    let reference = reference();
    let words = reference.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let plain: Vec<String> = words.map(|word| word.replace('_', "")).collect();
    for number in numbers {
        assert!(plain.contains(&number.to_string()), "{number} is not in the reference");
    }
    assert!(EXPLANATION.contains(&super::super::ONE_PIECE.to_string()));
    let lengths = [limits::VIP_V4, limits::VIP_V6, limits::OUTER_V4, limits::OUTER_V6];
    assert_eq!(lengths, [8..=32, 32..=128, 8..=31, 32..=127], "as the reference has them");
}

/// Each row of their table has the numbers of the code, in its order.
#[test]
fn the_page_of_limits_has_those_of_the_code() {
    let rows = [
        ("hosts", vec![limits::MAX_HOSTS]),
        ("services", vec![limits::MAX_SERVICES]),
        ("pairs", vec![limits::MAX_BACKENDS]),
        ("records", vec![limits::MAX_RECORDS]),
        ("different sets of hosts", vec![limits::MAX_MEMBER_SETS]),
        ("slots", vec![*limits::RING_SIZE.end() as usize]),
        ("pins", vec![*limits::PINS.end() as usize]),
        ("ranges", vec![limits::MAX_RANGES]),
        ("lengths", vec![limits::MAX_PREFIX_LENGTHS]),
        ("sets of timeouts", vec![limits::MAX_OWN_TIMEOUTS]),
        ("checks", vec![limits::MAX_CHECKS, limits::MAX_ALL_CHECKS]),
        ("letters", vec![limits::MAX_NAME]),
    ];
    for (begins, numbers) in rows {
        let row = LIMITS.lines().find(|line| line.starts_with(&format!("| {begins}")));
        let row = row.unwrap_or_else(|| panic!("no row {begins}"));
        let most = row.split('|').nth(2).unwrap().trim();
        let said: Vec<usize> =
            most.split("; ").map(|number| number.replace('_', "").parse().unwrap()).collect();
        assert_eq!(said, numbers, "{row}");
    }
    assert!(LIMITS.contains(&format!("{} for each host of a service", limits::SLOTS_PER_MEMBER)));
}

#[test]
fn toml_of_the_explanation_parses() {
    let blocks: Vec<&str> =
        EXPLANATION.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
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
    // Those of an interface are shown in the text and in a comment.
    let [name, mode] = INTERFACE.fields else { panic!("{INTERFACE:?}") };
    let own = format!("{{ {} = \"eth1\", {} = \"generic\" }}", name.name, mode.name);
    assert!(EXAMPLE.contains(&own) && reference().contains(&own));
    for table in TABLES.iter().filter(|table| table.header != INTERFACE.header) {
        for field in table.names() {
            let shown = with_key.lines().map(|line| line.trim_start_matches("# ")).any(|line| {
                line.starts_with(&format!("{field} = "))
                    || line.starts_with(&format!("[{field}"))
                    || line.starts_with(&format!("[[{field}"))
                    || line.starts_with(&format!("[health.{field}]"))
                    || line.starts_with(&format!("[[services.{field}]]"))
            });
            assert!(shown, "{field} of {:?} is not in the example", table.header);
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
