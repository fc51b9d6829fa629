//! The tables of fields say what the reader does: what it takes, what it refuses, and what counts where a line is missing.

use std::time::Duration;

use super::super::schema::{Change, Field, Form, TABLES, Table, Usual};
use super::super::suggest::one_of;
use super::super::{Loaded, Problem, parse};
use super::refused;
use crate::changes;

type Lines<'a> = &'a [(&'a str, &'a str)];

/// The lines that a table must have.
fn required(header: &str) -> Lines<'static> {
    match header {
        "" => &[("interfaces", "[\"eth0\"]")],
        "an element of interfaces" => &[("name", "\"eth1\"")],
        "[announce]" => &[("interface", "\"lo\"")],
        "[hosts.NAME]" => &[("addresses", "[\"10.0.0.1\", \"fd00::1\"]")],
        "[[services]]" => {
            &[("name", "\"s\""), ("vip", "\"203.0.113.1\""), ("protocol", "\"tcp\""), ("port", "80")]
        }
        "[[services.checks]]" => &[("type", "\"tcp\"")],
        _ => &[],
    }
}

/// What a field needs beside it to make sense.
fn beside(table: &Table, field: &str, value: &str) -> Lines<'static> {
    match (table.header, field, value) {
        ("[health]", "leave_at", _) => &[("join_below", "\"0%\"")],
        ("[health]", "join_below", _) => &[("leave_at", "\"100%\"")],
        ("[health.passive]", "hold", _) => &[("longest_hold", "\"24h\"")],
        ("[health.passive]", "longest_hold", _) => &[("hold", "\"1s\"")],
        ("[[services]]", "outer", _) => &[("forward", "\"ipip\"")],
        ("[[services]]", "backend_port", _) => &[("forward", "\"nat\"")],
        ("[[services]]", "udp_handover", _) => &[("protocol", "\"udp\"")],
        ("[[services.checks]]", "path" | "host" | "status" | "body", _) => &[("type", "\"http\"")],
        ("[[services.checks]]", "expect", _) => &[("type", "\"udp\""), ("send", "\"ping\"")],
        ("[[services.checks]]", "send", _) => &[("type", "\"udp\"")],
        ("[[services.checks]]", "command", _) => &[("type", "\"command\"")],
        ("[[services.checks]]", "type", "\"udp\"") => &[("send", "\"ping\"")],
        ("[[services.checks]]", "type", "\"command\"") => &[("command", "\"true\"")],
        _ => &[],
    }
}

/// A config in which a table has these lines, and all have what they must; a line without a value is left out.
fn config(table: &Table, lines: Lines<'_>) -> String {
    let body = |header: &str, separator: &str| {
        let own = if header == table.header { lines } else { &[] };
        let must = required(header).iter().filter(|(name, _)| !own.iter().any(|(own, _)| own == name));
        let all = must.chain(own).filter(|(_, value)| !value.is_empty());
        all.map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(separator) + "\n"
    };
    let mut top = body("", "\n");
    if table.header == "an element of interfaces" {
        top = format!("interfaces = [\"eth0\", {{ {} }}]\n", body(table.header, ", ").trim_end());
    }
    let zone = if lines.iter().any(|(name, _)| *name == "zone") { "" } else { "zone = \"z\"\n" };
    let (host, service) = (body("[hosts.NAME]", "\n"), body("[[services]]", "\n"));
    let rest = match table.header {
        "" | "an element of interfaces" | "[hosts.NAME]" | "[[services]]" => String::new(),
        header => format!("{header}\n{}", body(header, "\n")),
    };
    format!("{top}[hosts.a]\n{host}{zone}[[services]]\n{service}{rest}")
}

fn path(table: &Table, field: &str) -> String {
    let front = match table.header {
        "" => String::new(),
        "an element of interfaces" => "interfaces[1].".to_owned(),
        "[hosts.NAME]" => "hosts.a.".to_owned(),
        "[[services]]" => "services[0].".to_owned(),
        "[[services.checks]]" => "services[0].checks[0].".to_owned(),
        header => header.trim_matches(['[', ']']).to_owned() + ".",
    };
    front + field
}

/// With the field and what it needs beside it.
fn with(table: &Table, field: &str, value: &str) -> String {
    let mut lines = beside(table, field, value).to_vec();
    lines.push((field, value));
    config(table, &lines)
}

fn accepted(toml: &str) -> Loaded {
    parse(toml, "test.toml").unwrap_or_else(|errors| panic!("{errors}\n{toml}"))
}

fn takes(table: &Table, field: &Field, value: &str) {
    accepted(&with(table, field.name, value));
}

/// What is said of the value.
fn refuses(table: &Table, field: &Field, value: &str) -> Problem {
    let (toml, path) = (with(table, field.name, value), path(table, field.name));
    let errors = refused(&toml);
    let problem = errors.problems.iter().find(|problem| problem.path == path);
    problem.unwrap_or_else(|| panic!("nothing at {path}: {errors}\n{toml}")).clone()
}

fn all() -> impl Iterator<Item = (&'static Table, &'static Field)> {
    TABLES.iter().flat_map(|table| table.fields.iter().map(move |field| (*table, field)))
}

#[test]
fn each_has_a_comment_that_is_a_sentence() {
    let whole = |about: &[&str]| {
        let text = about.join(" ").trim().to_owned();
        assert!(!text.contains("\t") && !text.contains("TODO"), "{text}");
        text.len() > 3 && text.ends_with('.')
    };
    for table in TABLES {
        assert!(whole(table.about), "{:?} has no comment", table.header);
    }
    for (table, field) in all() {
        assert!(whole(field.about), "{} has no comment", path(table, field.name));
    }
    assert_eq!(
        all().count(),
        21 + 2 + 3 + 5 + 2 + 14 + 7 + 35 + 2 + 2 + 1 + 6 + 1 + 5 + 18 + 10,
        "all of them"
    );
}

#[test]
fn what_they_may_hold_is_what_the_reader_takes() {
    for (table, field) in all() {
        let hint = |value: &str| refuses(table, field, value).hint.unwrap_or_default();
        let message = |value: &str| refuses(table, field, value).message;
        match field.form {
            Form::Choice(words) => {
                words.iter().for_each(|word| takes(table, field, &format!("{word:?}")));
                let list = one_of(words.iter().copied());
                assert_eq!(hint("\"zzzzzzzzzzzz\""), format!("write {list}"), "{}", field.name);
            }
            Form::Number(first, last, _) => {
                let bounds = format!("from {first} to {last}");
                [first, last].iter().for_each(|number| takes(table, field, &number.to_string()));
                for number in [i128::from(first) - 1, i128::from(last) + 1] {
                    assert!(hint(&number.to_string()).contains(&bounds), "{}: {bounds}", field.name);
                }
            }
            Form::Duration(first, last, of) => {
                let unit = Duration::from_millis(if of == "seconds" { 1000 } else { 1 });
                let written = |duration: Duration| format!("\"{}us\"", duration.as_micros());
                for right in [first, last, first + unit] {
                    takes(table, field, &written(right));
                }
                for wrong in [first - unit, last + unit] {
                    assert!(message(&written(wrong)).contains("out of range"), "{}", field.name);
                }
                let finer = message(&written(first + unit / 2));
                assert!(finer.contains(&format!("not a whole number of {of}")), "{}: {finer}", field.name);
            }
            Form::Percent(first, last) => {
                [first, last].iter().for_each(|part| takes(table, field, &format!("\"{part}%\"")));
                for part in [i32::from(first) - 1, i32::from(last) + 1] {
                    message(&format!("\"{part}%\""));
                }
                message("\"50.5%\"");
            }
            Form::Flag => {
                ["true", "false"].iter().for_each(|flag| takes(table, field, flag));
                message("\"true\"");
            }
            // The file has these, and cannot have them twice.
            Form::Table("[hosts.NAME]") | Form::Tables("[[services]]") if table.header.is_empty() => {}
            Form::Text(_) => {
                assert!(message("1979-05-27").starts_with("expected a string"), "{}", field.name)
            }
            Form::Texts(_) => {
                assert!(message("1979-05-27").starts_with("expected an array of strings"), "{}", field.name);
            }
            Form::Table(_) => {
                assert!(message("1979-05-27").starts_with("expected a table"), "{}", field.name)
            }
            Form::Tables(_) => {
                assert!(message("1979-05-27").starts_with("expected an array of tables"), "{}", field.name);
            }
            Form::Any(_) => assert!(message("1979-05-27").starts_with("expected"), "{}", field.name),
        }
    }
}

#[test]
fn what_counts_without_a_line_is_what_is_said() {
    let mut count = 0;
    for (table, field) in all() {
        let must = required(table.header).iter().any(|(name, _)| *name == field.name);
        assert_eq!(must, matches!(field.usual, Usual::Required), "{}", path(table, field.name));
        if must {
            assert_eq!(refuses(table, field, "").message, "missing", "{}", field.name);
        } else if let Usual::Value(value) = field.usual {
            let without = config(table, beside(table, field.name, value));
            let written = accepted(&with(table, field.name, value)).model;
            assert_eq!(written, accepted(&without).model, "{}", path(table, field.name));
            count += 1;
        }
    }
    assert!(count > 40, "{count} defaults that are values");
}

/// Other values than those that a config without a line comes to.
#[test]
fn what_no_apply_puts_in_force_is_what_is_said() {
    const KEY: [u8; 16] = [7; 16];
    let mut refused = Vec::new();
    let usual = |(table, field): &(&Table, &Field)| {
        !required(table.header).iter().any(|(name, _)| *name == field.name)
    };
    for (table, field) in all().filter(usual) {
        let value = match field.form {
            Form::Number(first, _, _) => first.to_string(),
            Form::Text("32 hex digits") => format!("\"{}\"", "12".repeat(16)),
            Form::Choice(words) => format!("{:?}", words[words.len() - 1]),
            Form::Duration(first, ..) => format!("\"{}ms\"", first.as_millis()),
            Form::Percent(_, last) => format!("\"{last}%\""),
            _ => continue,
        };
        let before = accepted(&config(table, beside(table, field.name, &value))).model;
        let after = accepted(&with(table, field.name, &value)).model;
        let fixed = changes::fixed(&before, &after, KEY);
        // An interface goes on in the mode that it has, and the config is accepted.
        let is_mode = field.name == "xdp_mode";
        assert_eq!(
            fixed.is_empty(),
            field.change == Change::Apply || is_mode,
            "{}: {fixed:?}",
            path(table, field.name)
        );
        refused.extend((!fixed.is_empty()).then_some(field.name));
    }
    assert_eq!(refused, ["ring_size", "hash_key", "pins", "overflow"]);
}
