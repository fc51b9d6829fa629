//! Checks, and what follows from them.

use super::super::parse;
use crate::model::{Check, DownFlows, PassiveAction, Percent, Probe, Request, Service, Through};

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
    let https = "[[services.checks]]\ntype = \"https\"\nport = 8443\npath = \"/ready\"\nhost = \"x.org:443\"\nstatus = 204\n";
    let request = Request {
        path: "/ready".to_owned(),
        host: Some("x.org:443".to_owned()),
        status: vec![204..=204],
        body: None,
    };
    let check = &service(https).checks[0];
    assert_eq!(
        (&check.probe, check.port, check.through),
        (&Probe::Https(request), Some(8443), Through::Host)
    );
    assert_eq!(check.to_string(), "https :8443/ready host x.org:443 204");
    let request = Request { path: "/".to_owned(), host: None, status: vec![200..=399], body: None };
    assert_eq!(service("[[services.checks]]\ntype = \"https\"\n").checks[0].probe, Probe::Https(request));
    let udp = "[[services.checks]]\ntype = \"udp\"\nport = 53\nsend = \"ping\"\nexpect = \"pong\"\n";
    let check = &service(udp).checks[0];
    assert_eq!(check.probe, Probe::Udp { send: "ping".to_owned(), expect: Some("pong".to_owned()) });
    assert_eq!(check.to_string(), "udp :53 \"ping\" > \"pong\"");
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
fn clients_are_watched_where_handshakes_tell_something() {
    let own = "[services.health.passive]\naction = \"eject\"\nleast_flows = 50\n";
    let of_all = "[health.passive]\nhold = \"45s\"\naction = \"warn\"\n";
    let text = toml(own).replacen("[hosts.a]", &format!("{of_all}[hosts.a]"), 1);
    let other = "[[services]]\nname = \"t\"\nvip = \"203.0.113.2\"\nprotocol = \"udp\"\nport = 53\n";
    let edges = other
        .replace("\"t\"", "\"u\"")
        .replace("\"udp\"\nport = 53", "\"tcp\"\nport = 80\ntracking = \"edges\"");
    let model =
        parse(&format!("{text}{other}{edges}"), "f").unwrap_or_else(|errors| panic!("{errors}")).model;
    let [s, t, u] = model.services.as_slice() else { panic!("{:?}", model.services) };
    let passive = s.health.passive;
    assert_eq!((passive.action, passive.least_flows, passive.hold.as_secs()), (PassiveAction::Eject, 50, 45));
    assert_eq!(passive.max_ejected, Percent(34));
    assert!(s.is_watched() && s.ejects() && s.chooses());
    // The instance says it of all, which is no mistake.
    assert!(!t.is_watched() && !u.is_watched() && !t.chooses());
    assert_eq!(t.health.passive.action, PassiveAction::Warn);
    let udp = toml(own).replace("\"tcp\"", "\"udp\"");
    let errors = parse(&udp, "f").unwrap_err().to_string();
    assert!(errors.contains("told by TCP handshakes, and the service has none"), "{errors}");
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
        (
            check("type = \"https\"\nstatus = \"300-200\""),
            "3 services[0].checks[0].status: expected a status from 100 to 599 or a range, found the string \"300-200\"",
        ),
        (check("type = \"https\"\nhost = \"a b\""), "3 services[0].checks[0].host: \"a b\" is no host"),
        (
            check("type = \"https\"\nsend = \"x\""),
            "3 services[0].checks[0].send: a check of type \"https\" has no send",
        ),
        (
            check("type = \"https\"\nthrough = \"vip\""),
            "3 services[0].checks[0].through: the way through the VIP is asked by a TCP handshake or a datagram, not by a request",
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
        (
            "[services.health.passive]\naction = \"evict\"".to_owned(),
            "2 services[0].health.passive.action: \"evict\" is not known",
        ),
        (
            "[services.health.passive]\nfailing = \"5%\"".to_owned(),
            "2 services[0].health.passive.failing: clients with bad lines alone may have 5% of all handshakes fail",
        ),
        (
            "[services.health.passive]\nhold = \"10m\"".to_owned(),
            "1 services[0].health.passive.longest_hold: the longest time is shorter than the first one",
        ),
        (
            "[services.health.passive]\nwindow = \"2m\"".to_owned(),
            "2 services[0].health.passive.window: \"2m\" is out of range",
        ),
        (
            "[services.health.passive]\nmax_ejected = 50".to_owned(),
            "2 services[0].health.passive.max_ejected: expected a percentage, found the integer 50",
        ),
        (
            "timeouts = { half_open = \"4s\" }\n[services.health.passive]\naction = \"eject\"\nwindow = \"5s\"".to_owned(),
            "4 services[0].health.passive.window: flows that nobody answered are forgotten after 4s, within 5s",
        ),
        (
            "timeouts = { closing = \"4s\" }\n[services.health.passive]\naction = \"eject\"\nwindow = \"5s\"".to_owned(),
            "4 services[0].health.passive.window: flows that have ended are forgotten after 4s, within 5s",
        ),
        (
            "tracking = \"edges\"\n[services.health.passive]\naction = \"warn\"".to_owned(),
            "3 services[0].health.passive.action: with tracking = \"edges\" it is not seen whether handshakes come to their end",
        ),
    ] {
        assert_eq!(problem(&lines), expected);
    }
    let ranges = toml(&check("type = \"tcp\"")).replace("port = 80", "port = \"all\"");
    let errors = parse(&ranges, "f").unwrap_err().to_string();
    assert!(errors.contains("the service has many ports"), "{errors}");
}
