//! Files that cannot be read, are no text or are no files, and how problems are printed.

use std::fs;
use std::io;
use std::path::Path;

use super::super::{load, parse, unreadable};
use super::{line, refused};

fn message(path: &Path) -> String {
    load(path).expect_err("accepted").to_string()
}

#[test]
fn what_cannot_be_read_is_said_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    assert!(message(&missing).contains("none.toml: there is no such file"), "{}", message(&missing));
    assert!(message(folder.path()).contains(": this is a directory"), "{}", message(folder.path()));
    let denied = unreadable("x.toml", &io::Error::from(io::ErrorKind::PermissionDenied)).to_string();
    assert!(denied.starts_with("x.toml: reading it is not permitted\n"), "{denied}");

    let empty = folder.path().join("empty.toml");
    fs::write(&empty, "").unwrap();
    assert!(message(&empty).contains("empty.toml:1:1: the file is empty"));
    let huge = folder.path().join("huge.toml");
    fs::File::create(&huge).unwrap().set_len(super::super::limits::MAX_FILE + 1).unwrap();
    assert!(message(&huge).contains("larger than 16 MiB"));
}

/// What the package has for new users: nothing in it counts until the `#` goes, and then all of it is right.
#[test]
fn the_example_of_the_package_is_right_once_its_lines_count() {
    let text = include_str!("../../../../packaging/example.toml");
    assert!(refused(text).to_string().contains("the file is empty"), "{}", refused(text));
    let counts = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = text.lines().filter_map(|line| line.strip_prefix('#').filter(counts));
    let lines: Vec<&str> = lines.collect();
    let model = parse(&lines.join("\n"), "example.toml").unwrap_or_else(|errors| panic!("{errors}")).model;
    assert_eq!((lines.len() > 20, model.hosts.len(), model.services.len()), (true, 2, 1));
}

#[test]
fn text_that_is_not_utf8_is_pointed_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latin1.toml");
    fs::write(&path, b"interfaces = [\"eth0\"]\n# caf\xe9\n").unwrap();
    let errors = load(&path).unwrap_err();
    assert_eq!(line(&errors.problems[0]), "2:6 : byte 0xe9 is not UTF-8");
}

#[test]
fn a_byte_order_mark_and_crlf_do_not_shift_places() {
    let errors = refused("\u{feff}interfaces = [\"eth0\"]\r\nring_size = 102\r\n");
    assert_eq!(errors.problems.iter().map(line).collect::<Vec<_>>(), ["2:13 ring_size: 102 is not a prime"]);
    let errors = refused("\u{feff}interfaces = 1\r\n");
    assert_eq!((errors.problems[0].line, errors.problems[0].column), (1, 14));
}

#[test]
fn problems_print_like_a_compiler_and_serialise_flat() {
    let errors = refused("interfaces = [\"eth0\"]\nring_size = 102\nrnig = 1\n");
    let expected = "\
test.toml:2:13: ring_size: 102 is not a prime
   2 | ring_size = 102
     |             ^^^
     = write ring_size = 103, the next prime

test.toml:3:1: rnig: unknown field
   3 | rnig = 1
     | ^^^^
     = known here are interfaces, xdp_mode, vip_mode, ping, mss_clamp, outer_source, gue_port, ring_size, hash_key, flow_table, timeouts, rules, health, hooks, journal, api, metrics, ui, announce, hosts, services

2 problems in test.toml";
    assert_eq!(errors.to_string(), expected);
    let json = serde_json::to_value(&errors).unwrap();
    assert_eq!(
        json["problems"][0],
        serde_json::json!({
            "line": 2, "column": 13, "path": "ring_size",
            "message": "102 is not a prime", "hint": "write ring_size = 103, the next prime",
        })
    );
}

#[test]
fn no_message_shows_the_hash_key() {
    let key = "00112233445566778899aabbccddeeff";
    for toml in [
        format!("hash_key = \"{key}0\""),
        format!("hash_key = \"{key}"),
        format!("hash_kye = \"{key}\""),
        format!("hash_key = 0x{key}"),
        format!("hash_key = {{ {key} = 1 }}"),
        format!("hash_key = [\"{key}\"]"),
        format!("vip_mode = 1\nflow_table = {{ hash_key = \"{key}\" }}"),
        format!("hash_key = \"{key}\"\nhash_key = \"{key}\""),
    ] {
        let errors = refused(&toml);
        assert!(!errors.to_string().contains("aabbccdd"), "{errors}");
        assert!(!serde_json::to_string(&errors).unwrap().contains("aabbccdd"));
    }
}
