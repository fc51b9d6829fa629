//! Checks, and what follows from them.

use super::super::parse;
use crate::model::{Check, DownFlows, Percent, Probe, Request, Service, Through};

const TOP: &str = "interfaces = [\"eth0\"]\n[hosts.a]\naddresses = [\"10.0.0.1\"]\n\
                   [hosts.b]\naddresses = [\"10.0.0.2\"]\n";

/// A TCP service of port 80 with these lines behind its fields.
fn toml(lines: &str) -> String {
    format!("{TOP}[[services]]\nname = \"s\"\nvip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 80\n{lines}")
}

fn service(lines: &str) -> Service {
    let loaded = parse(&toml(lines), "f").unwrap_or_else(|errors| panic!("{errors}"));
    loaded.model.services.into_iter().next().unwrap()
}

/// The only problem: line behind `port`, field, message and hint.
fn problem(lines: &str) -> String {
    let errors = parse(&toml(lines), "f").expect_err(lines);
    let [problem] = errors.problems.as_slice() else { panic!("{errors}") };
    let line = problem.line - 10;
    format!("{line} {}: {}", problem.path, problem.message)
}

#[test]
fn a_check_asks_the_service_s_port_unless_told_otherwise() {
    let tcp = Check { probe: Probe::Tcp, port: Some(80), through: Through::Host };
    assert_eq!(service("[[services.checks]]\ntype = \"tcp\"\n").checks, std::slice::from_ref(&tcp));
    let other = Check { port: Some(8080), ..tcp.clone() };
    assert_eq!(service("[[services.checks]]\ntype = \"tcp\"\nport = 8080\n").checks, [other]);
    let nat = "forward = \"nat\"\nbackend_port = 8443\n";
    let both =
        "[[services.checks]]\ntype = \"tcp\"\n[[services.checks]]\ntype = \"tcp\"\nthrough = \"vip\"\n";
    let translated = Check { port: Some(8443), ..tcp.clone() };
    let through = Check { through: Through::Vip, ..tcp };
    assert_eq!(service(&format!("{nat}{both}")).checks, [translated, through]);
}

#[test]
fn each_kind_is_read() {
    let http = "[[services.checks]]\ntype = \"http\"\nstatus = [200, \"301-302\"]\nbody = \"ok\"\nhost = \"x.org\"\n";
    let request = Request {
        path: "/".to_owned(),
        host: Some("x.org".to_owned()),
        status: vec![200..=200, 301..=302],
        body: Some("ok".to_owned()),
    };
    let check = &service(http).checks[0];
    assert_eq!(check.probe, Probe::Http(request));
    assert_eq!(check.to_string(), "http :80/ host x.org 200,301-302 body \"ok\"");
    let command = &service("[[services.checks]]\ntype = \"command\"\ncommand = \"true\"\n").checks[0];
    assert_eq!((command.port, command.to_string().as_str()), (None, "command true"));
}

#[test]
fn health_of_a_service_begins_with_that_of_the_instance() {
    let top = "[health]\nfall = 7\ndown_flows = \"reset\"\ninterval = \"250ms\"\n";
    let own = "standby = [\"b\"]\n[services.health]\npanic = \"30%\"\ninterval = \"1s\"\n";
    let text = toml(own).replacen("[hosts.a]", &format!("{top}[hosts.a]"), 1);
    let model = parse(&text, "f").unwrap_or_else(|errors| panic!("{errors}")).model;
    let service = &model.services[0];
    assert_eq!((service.health.fall, service.health.down_flows), (7, DownFlows::Reset));
    assert_eq!((service.health.panic, model.health.panic), (Percent(30), Percent(1)));
    assert_eq!(service.health.interval.as_millis(), 1000);
    assert_eq!(model.health.interval.as_millis(), 250);
    assert_eq!(service.standby, ["b"]);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let check = |lines: &str| format!("[[services.checks]]\n{lines}");
    for (lines, expected) in [
        (check("type = \"tpc\""), "2 services[0].checks[0].type: \"tpc\" is not known"),
        (check("port = 5"), "1 services[0].checks[0].type: missing"),
        (
            check("type = \"tcp\"\npath = \"/\""),
            "3 services[0].checks[0].path: a check of type \"tcp\" has no path",
        ),
        (
            check("type = \"http\"\npath = \"x\""),
            "3 services[0].checks[0].path: \"x\" is no path of a request",
        ),
        (
            check("type = \"http\"\nstatus = 99"),
            "3 services[0].checks[0].status: expected a status from 100 to 599 or a range, found the integer 99",
        ),
        (check("type = \"udp\""), "1 services[0].checks[0].send: missing"),
        (
            check("type = \"http\"\nthrough = \"vip\""),
            "3 services[0].checks[0].through: the way through the VIP is asked by a TCP handshake or a datagram, not by a request",
        ),
        (
            check("type = \"tcp\"\nthrough = \"vip\"\nport = 81"),
            "2 services[0].checks[0].type: the service has no such port, so nothing is forwarded to it",
        ),
        (
            check("type = \"udp\"\nthrough = \"vip\"\nsend = \"x\""),
            "2 services[0].checks[0].type: the service does not have this protocol, so nothing of it is forwarded",
        ),
        (
            check("type = \"tcp\"\n[[services.checks]]\ntype = \"tcp\""),
            "4 services[0].checks[1].type: the same check stands above",
        ),
        ("standby = [\"c\"]".to_owned(), "1 services[0].standby[0]: \"c\" is no host of this service"),
        (
            "standby = [\"a\", \"b\"]".to_owned(),
            "1 services[0].standby: all hosts stand by, and none is primary",
        ),
        (
            "[services.health]\nleave_at = \"40%\"".to_owned(),
            "2 services[0].health.leave_at: standby hosts that join below 50% would leave at 40% already, and join again",
        ),
        (
            "[services.health]\ninterval = \"5ms\"".to_owned(),
            "2 services[0].health.interval: \"5ms\" is out of range",
        ),
        ("[services.health]\nfall = 0".to_owned(), "2 services[0].health.fall: 0 is out of range"),
    ] {
        assert_eq!(problem(&lines), expected);
    }
    let ranges = toml(&check("type = \"tcp\"")).replace("port = 80", "port = \"all\"");
    let errors = parse(&ranges, "f").unwrap_err().to_string();
    assert!(errors.contains("the service has many ports"), "{errors}");
}
