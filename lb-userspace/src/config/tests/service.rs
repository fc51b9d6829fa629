//! What the daemon's surroundings are told: `[api]` and `[announce]`.

use super::super::{Machine, check_against_machine, parse};
use super::{line, refused};

fn config(text: &str, vip: &str) -> String {
    format!(
        "interfaces = [\"eth0\"]\n{text}[hosts.a]\naddresses = [\"10.0.0.1\"]\n\
         [[services]]\nname = \"s\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\nport = 1\n"
    )
}

fn only(text: &str, vip: &str) -> (String, String) {
    let errors = refused(&config(text, vip));
    assert_eq!(errors.problems.len(), 1, "{errors}");
    (line(&errors.problems[0]), errors.problems[0].hint.clone().unwrap_or_default())
}

#[test]
fn what_is_left_out_lets_nobody_in_and_announces_nothing() {
    let model = parse(&config("", "203.0.113.1"), "f").unwrap().model;
    assert_eq!((model.api.read_group, model.api.change_group, model.announce), (None, None, None));
    let full = "[api]\nread_group = \"staff\"\nchange_group = \"ops\"\n[announce]\ninterface = \"lo\"\n";
    let model = parse(&config(full, "203.0.113.1"), "f").unwrap().model;
    assert_eq!(
        (model.api.read_group.as_deref(), model.api.change_group.as_deref()),
        (Some("staff"), Some("ops"))
    );
    assert_eq!(model.announce.as_deref(), Some("lo"));
}

#[test]
fn metrics_are_served_where_it_says_and_nowhere_else() {
    let listen = |text: &str| parse(&config(text, "203.0.113.1"), "f").unwrap().model.metrics.listen;
    assert_eq!(listen(""), None);
    assert_eq!(listen("[metrics]\n"), None);
    assert_eq!(listen("[metrics]\nlisten = \"[::1]:9464\"\n"), Some("[::1]:9464".parse().unwrap()));
    for wrong in ["9464", "localhost:9464", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", ""] {
        let (problem, hint) = only(&format!("[metrics]\nlisten = \"{wrong}\"\n"), "203.0.113.1");
        assert!(problem.starts_with("3:10 metrics.listen: "), "{problem}");
        assert!(hint.contains("127.0.0.1:9464"), "{hint}");
    }
}

#[test]
fn the_page_is_where_it_says_and_elsewhere_than_here_with_tls_alone() {
    let ui = |text: &str| parse(&config(text, "203.0.113.1"), "f").unwrap().model.ui;
    assert_eq!((ui("").listen, ui("[ui]\n").listen), (None, None));
    for here in ["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
        assert_eq!(ui(&format!("[ui]\nlisten = \"{here}\"\n")).listen, Some(here.parse().unwrap()));
    }
    let tls = "certificate = \"/a/b.pem\"\nkey = \"/a/k.pem\"\n";
    let whole =
        format!("[ui]\nlisten = \"[::]:8443\"\nnames = [\"LB1.example.net\"]\n{tls}token_file = \"/t\"\n");
    let whole = ui(&whole);
    assert_eq!(whole.names, ["lb1.example.net"]);
    assert_eq!(whole.tls.unwrap().key.to_str(), Some("/a/k.pem"));
    for elsewhere in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80"] {
        let (problem, hint) = only(&format!("[ui]\nlisten = \"{elsewhere}\"\n"), "203.0.113.1");
        assert!(problem.starts_with("3:10 ui.listen: others reach"), "{problem}");
        assert!(hint.contains("certificate and key") && hint.contains("ssh -L"), "{hint}");
    }
    for (wrong, path) in [
        ("listen = \"8080\"", "ui.listen"),
        ("listen = \"localhost:8080\"", "ui.listen"),
        ("certificate = \"/a\"", "ui.certificate"),
        ("key = \"/a\"", "ui.key"),
        ("token_file = \"relative\"", "ui.token_file"),
        ("names = [\"http://a\"]", "ui.names[0]"),
        ("names = [\"a:8080\"]", "ui.names[0]"),
        ("names = [\"\"]", "ui.names[0]"),
        ("token_to_look = 1", "ui.token_to_look"),
    ] {
        let (problem, hint) = only(&format!("[ui]\n{wrong}\n"), "203.0.113.1");
        assert!(problem.contains(&format!(" {path}: ")) && !hint.is_empty(), "{wrong}: {problem}");
    }
}

#[test]
fn a_certificate_that_is_of_no_use_is_told_before_anything_is_done() {
    let text = "[ui]\nlisten = \"[::]:8443\"\ncertificate = \"/a\"\nkey = \"/b\"\n";
    let loaded = parse(&config(text, "203.0.113.1"), "f").unwrap();
    let machine = Machine { unusable_tls: Some("/a is empty".to_owned()), ..Machine::default() };
    let errors = check_against_machine(&loaded, &machine).unwrap_err();
    let lines: Vec<String> = errors.problems.iter().map(line).collect();
    assert!(lines.contains(&"4:15 ui.certificate: /a is empty".to_owned()), "{lines:?}");
}

#[test]
fn groups_and_interfaces_that_cannot_be_are_refused() {
    for group in ["", "a b", "a:b", "123456789012345678901234567890123"] {
        let (problem, _) = only(&format!("[api]\nread_group = \"{group}\"\n"), "203.0.113.1");
        assert!(
            problem.starts_with("3:14 api.read_group: ") && problem.ends_with("cannot be a group"),
            "{problem}"
        );
    }
    let (problem, hint) = only("[api]\nreadgroup = \"a\"\n", "203.0.113.1");
    assert_eq!(
        (problem.as_str(), hint.as_str()),
        ("3:1 api.readgroup: unknown field", "did you mean \"read_group\"?")
    );
    assert_eq!(only("[announce]\n", "203.0.113.1").0.split(": ").nth(1), Some("missing"));
    assert!(only("[announce]\ninterface = \"a/b\"\n", "203.0.113.1").0.contains("cannot be an interface"));
    assert!(only("[announce]\ninterface = \"lo\"\n", "203.0.113.0/28").0.contains("is a prefix"));
    let (problem, _) = only("vip_mode = \"local\"\n[announce]\ninterface = \"lo\"\n", "203.0.113.1");
    assert!(problem.starts_with("3:1 announce: with vip_mode"), "{problem}");
}

#[test]
fn a_host_cannot_be_called_what_the_balancer_is() {
    let errors = refused("interfaces = [\"eth0\"]\n[hosts.self]\naddresses = [\"10.0.0.1\"]\n");
    assert!(line(&errors.problems[0]).contains("the balancer itself"), "{errors}");
}

#[test]
fn groups_and_the_interface_must_be_there() {
    let text = "[api]\nread_group = \"staff\"\nchange_group = \"ops\"\n[announce]\ninterface = \"dummy7\"\n";
    let loaded = parse(&config(text, "203.0.113.1"), "f").unwrap();
    let machine = Machine { missing_groups: ["ops".to_owned()].into(), ..Machine::default() };
    let errors = check_against_machine(&loaded, &machine).unwrap_err();
    let lines: Vec<String> = errors.problems.iter().map(line).collect();
    assert_eq!(
        lines[1..],
        [
            "4:16 api.change_group: there is no group \"ops\" here",
            "6:13 announce.interface: there is no interface \"dummy7\" here",
        ]
    );
}
