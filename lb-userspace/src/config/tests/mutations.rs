//! Whatever the text, parsing ends with a model or with problems inside the text; a model survives being written.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::super::{Machine, check_against_machine, parse};
use super::EXAMPLE;
use super::models::model;
use super::written::write;

/// A change to the bytes of a text.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, &'static str),
    Delete(Index, usize),
    CopyLine(Index, Index),
    DeleteLine(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let tokens = select(vec![
        "\"",
        "'",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        "\n",
        "\r\n",
        ".",
        ",",
        "0",
        "-1",
        "1e9",
        "true",
        "#",
        "\\u0000",
        "\u{1b}",
        "\u{0}",
        "ä",
        "\u{feff}",
        "[hosts.x]",
        "[[services]]",
        "hosts = []",
        "99999999999",
        "\"\"\"",
        "1979-05-27",
        "nan",
        "::",
        "web-1",
        "\\",
        "[hosts.web-1.y]",
        "port = \"8000-8010\"",
        "port = [80, \"all\"]",
        "forward = \"nat\"",
        "backend_port = 80",
        "forward = \"gue\"",
        "outer = \"ipv6\"",
        "/24",
        "/0",
        "-",
        "outer_source = [\"10.0.0.0/8\"]",
        "services = 3",
        "zone = \"a\"",
        "groups = [\"a\", \"a\"]",
        "min_healthy = \"101%\"",
        "one_zone_at_a_time = true",
        "[hooks]",
        "on_drained = \"true\"",
        "[api]\nread_group = \"a\"",
        "[announce]\ninterface = \"lo\"",
        "[metrics]\nlisten = \"[::]:1\"",
        "[ui]\nlisten = \"[::]:1\"",
        "certificate = \"/a\"",
    ]);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), tokens).prop_map(|(at, token)| Mutation::Insert(at, token)),
        (any::<Index>(), 1..40usize).prop_map(|(at, count)| Mutation::Delete(at, count)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::CopyLine(from, to)),
        any::<Index>().prop_map(Mutation::DeleteLine),
    ]
}

fn mutate(text: &str, mutations: &[Mutation]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for mutation in mutations {
        let mut lines: Vec<Vec<u8>> =
            bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if bytes.is_empty() {
            break;
        }
        match mutation {
            Mutation::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Insert(at, token) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, token.bytes());
            }
            Mutation::Delete(at, count) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Mutation::CopyLine(from, to) => {
                let line = lines[from.index(lines.len())].clone();
                lines.insert(to.index(lines.len()), line);
                bytes = lines.concat();
            }
            Mutation::DeleteLine(at) => {
                lines.remove(at.index(lines.len()));
                bytes = lines.concat();
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Parses, prints and checks that problems are inside the text; `true` when the text was accepted.
fn stands(text: &str) -> bool {
    match parse(text, "mutated.toml") {
        Ok(loaded) => {
            let addresses = vec![("eth0".to_owned(), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11)))];
            let machine = Machine { addresses, ..Machine::default() };
            if let Err(errors) = check_against_machine(&loaded, &machine) {
                assert!(!errors.to_string().is_empty());
            }
            let written = write(&loaded.model);
            assert_eq!(parse(&written, "written.toml").expect(&written).model, loaded.model);
            true
        }
        Err(errors) => {
            let lines: Vec<&str> = text.split('\n').collect();
            assert!(!errors.problems.is_empty());
            for problem in &errors.problems {
                let line = lines.get(problem.line as usize - 1).expect("the line exists");
                assert!(
                    problem.column >= 1 && problem.column as usize <= line.chars().count() + 1,
                    "{problem:?}"
                );
                assert!(!problem.message.is_empty());
            }
            let printed = errors.to_string();
            assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{printed:?}");
            false
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_of_the_example_never_panic(mutations in prop::collection::vec(mutation(), 1..6)) {
        stands(&mutate(EXAMPLE, &mutations));
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,80}") {
        stands(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_model_survives_being_written_and_parsed(model in model()) {
        let toml = write(&model);
        let loaded = parse(&toml, "written.toml").unwrap_or_else(|errors| panic!("{errors}\n{toml}"));
        prop_assert_eq!(loaded.model, model);
    }
}

#[test]
fn the_example_itself_stands() {
    assert!(stands(EXAMPLE));
    assert!(!stands(&EXAMPLE.replace("10.0.0.12", "10.0.0.11")));
}

#[test]
fn deep_nesting_is_refused() {
    assert!(!stands(&"[".repeat(100_000)));
    assert!(!stands(&format!("a = {}", "[".repeat(100_000))));
    assert!(!stands(&format!("a = {}1{}", "[".repeat(50_000), "]".repeat(50_000))));
    assert!(!stands(&format!("a = {}", "{ a = ".repeat(5_000))));
    assert!(!stands(&format!("{}b = 1", "a.".repeat(50_000))));
}
