//! The built binary against a fake daemon: exit codes, streams, signals, terminals.

mod events;
mod fake;
mod terminal;
mod trace;
mod waiting;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::json;

use fake::*;

#[test]
fn help_usage_and_version() {
    let run = |args: &[&str]| Run::from(sluice(args).output().unwrap());
    let help = run(&["--help"]).expect(0).prints("5  a deadline passed with flows left");
    let help = help.prints("6  drained, and flows were ended: by the deadline, or kicked");
    help.prints("7  the drain was taken back by an undrain").prints("8  the drain's lease ran out");
    run(&["drain", "a", "--at-deadline", "drop"]).expect(2).says("keep, move, reset");
    run(&["drain", "a", "--deadline", "10"]).expect(2).says("write it like 30s, 5m or 1h30m");
    run(&["receipt"]).expect(2).says("<ID>");
    run(&["receipts", "-n", "0"]).expect(2);
    run(&["drain", "--help"]).expect(0).prints("sluice drain web-3 web-4 --wait --timeout 10m");
    run(&["-V"]).expect(0).prints(env!("CARGO_PKG_VERSION"));
    let version = run(&["--version"]).expect(0).prints(env!("CARGO_PKG_VERSION"));
    version.prints(&format!("map layout {})", lb_common::layout::LAYOUT_VERSION));
    run(&[]).expect(2);
    run(&["drain"]).expect(2).says("<HOST>...");
    run(&["drain", ""]).expect(2);
    run(&["drain", "a", "--timeout", "5m"]).expect(2).says("--wait");
    run(&["drain", "a", "--wait", "--timeout", "5"]).expect(2).says("write it like 30s, 5m or 1h30m");
    run(&["--instance", "a/b", "status"]).expect(2).says("1 to 32 letters");
    run(&["flows", "--limit", "0"]).expect(2);
    run(&["flows", "--older", "90"]).expect(2).says("write it like");
    run(&["flows", "--phase", "open"]).expect(2).says("established");
    run(&["plan"]).expect(2);
    run(&["plan", "drain"]).expect(2).says("<HOST>...");
    run(&["plan", "drain", "--help"]).expect(0).prints("sluice plan drain @rack-7 --json");
    run(&["nonsense"]).expect(2);
    for (shell, words) in [("bash", "complete -o"), ("zsh", "#compdef sluice"), ("fish", "complete --")] {
        run(&["completions", shell]).expect(0).prints(words).prints("SLUICE_COMPLETE");
    }
}

#[test]
fn a_daemon_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("x.sock");
    let status = || Run::from(sluice(&["status", "--socket", socket.to_str().unwrap()]).output().unwrap());
    status().expect(4).says("there is no socket at").says("hint: start the daemon with");
    std::fs::write(&socket, "").unwrap();
    status().expect(4).says("is not a socket");
    std::fs::remove_file(&socket).unwrap();
    drop(UnixListener::bind(&socket).unwrap());
    status().expect(4).says("the socket of a daemon that has ended").says("hint: start the daemon again");
    let run = Run::from(sluice(&["status", "--instance", "no-such-instance"]).output().unwrap());
    run.expect(4).says("/run/sluice/no-such-instance.sock");
}

#[test]
fn what_the_daemon_refuses() {
    let fake = Fake::new(|what, body| match what {
        "POST /v1/drain" => {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body, json!({"hosts": ["a", "b"], "reason": "why", "by": "me"}));
            refusal(404, "not_found", "no host \"b\" in the config")
        }
        "POST /v1/undrain" => refusal(409, "conflict", "the host \"a\" is in service"),
        "GET /v1/rings" => (502, "<html>".to_owned()),
        "GET /v1/status" => ok(json!({"instance": 5})),
        _ => (0, String::new()),
    });
    let run = fake.run(&["drain", "a", "b", "a", "--reason", "why", "--by", "me"]).expect(3);
    assert_eq!(run.err, "error: no host \"b\" in the config\nhint: look at `sluice status`\n");
    assert_eq!(run.out, "");
    fake.run(&["undrain", "a"]).expect(1).says("error: the host \"a\" is in service");
    fake.run(&["rings"]).expect(1).says("is not JSON").says("hint: another program");
    fake.run(&["status"]).expect(1).says("does not understand").says("different versions");
    fake.run(&["flows"]).expect(4).says("broke the connection off");
}

#[test]
fn drain_and_undrain() {
    let fake = Fake::new(|what, _| match what {
        "POST /v1/drain" => drains(&[drain("a", "draining", 4), drain("b", "drained", 0)]),
        _ => drains(&[drain("a", "undrained", 4)]),
    });
    let run = fake.run(&["drain", "a", "b"]).expect(0);
    assert_eq!(
        run.out,
        "\
a: draining (drain 7), gets no new flows; 4 live flows go on (4 established)
b: drained in 1m00s (drain 7, by bob). 10 flows at the start, 10 ended on the host; 0 new flows
  since, 0 misrouted packets. No flow is left.
"
    );
    assert_eq!(fake.run(&["drain", "a", "b", "--json"]).expect(0).json()["drains"][0]["flows_at_start"], 10);
    fake.run(&["undrain", "a"])
        .expect(0)
        .prints("a: takes new flows again; drain 7 was taken back after 1m00s");
    assert_eq!(fake.run(&["undrain", "a", "--json"]).expect(0).json()["drains"][0]["state"], "undrained");
}

#[test]
fn plans_and_rules() {
    let rule = json!({"rule": "min_healthy", "service": "web", "message": "too few", "mend": "undrain b first",
        "weight": 200, "healthy_before": 100, "healthy_after": 0});
    let plan = move |rules: Vec<serde_json::Value>| {
        json!({"hosts": [], "survivors": [], "unserved": null, "expected_seconds": null, "at_least_seconds": 0,
            "rules": rules, "notes": []})
    };
    let refused = json!({"code": "rule", "message": "too few", "hint": "undrain b first; or give --force",
        "rules": [rule.clone()]});
    let fake = Fake::new(move |what, body| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        match (what, &body["force"]) {
            ("POST /v1/plan/drain", _) if body == json!({"hosts": ["a"]}) => ok(plan(vec![rule.clone()])),
            ("POST /v1/plan/drain", _) => ok(plan(vec![])),
            (_, serde_json::Value::Bool(true)) => drains(&[drain("a", "draining", 4)]),
            _ => (409, refused.to_string()),
        }
    });
    let run = fake.run(&["plan", "drain", "a"]).expect(10).says("error: this drain would break 1 rule");
    assert!(run.out.contains("min_healthy: too few\n    mend: undrain b first\n"), "{}", run.out);
    assert_eq!(fake.run(&["plan", "drain", "a", "--json"]).expect(10).json()["rules"][0]["service"], "web");
    fake.run(&["plan", "drain", "@b"]).expect(0).prints("no rule would be broken");
    fake.run(&["drain", "a"]).expect(10).says("error: too few\nhint: undrain b first; or give --force\n");
    fake.run(&["drain", "a", "--force"]).expect(0).prints("a: draining");
}

fn flow(n: u64) -> serde_json::Value {
    json!({"protocol": "tcp", "client": format!("198.51.100.7:{n}"), "vip": "192.0.2.1:80", "service": "web", "host": "a",
        "phase": "established", "age": 5, "idle": 1, "slot": n})
}

/// 2500 flows; a page as long as asked for, at most 1000.
fn pages(what: &str) -> (u16, String) {
    let query = |name: &str| {
        let (_, query) = what.split_once('?')?;
        query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    let (from, limit) = (query("cursor").unwrap_or(0), query("limit").unwrap_or(1000).min(1000));
    let to = (from + limit).min(2500);
    let next = if to < 2500 { json!(to) } else { json!(null) };
    ok(json!({"flows": (from..to).map(flow).collect::<Vec<_>>(), "next": next}))
}

#[test]
fn flows_come_in_pages() {
    let fake = Fake::new(|what, _| pages(what));
    let run = fake.run(&["flows", "--host", "a b&c=d", "--service", "web"]).expect(0);
    assert_eq!(run.out.lines().count(), 2501);
    assert_eq!(
        fake.asked.lock().unwrap().as_slice(),
        [
            "GET /v1/flows?host=a%20b%26c%3Dd&service=web&limit=1000",
            "GET /v1/flows?host=a%20b%26c%3Dd&service=web&limit=1000&cursor=1000",
            "GET /v1/flows?host=a%20b%26c%3Dd&service=web&limit=1000&cursor=2000",
        ]
    );
    assert_eq!(fake.run(&["flows", "--limit", "1001"]).expect(0).out.lines().count(), 1002);
    let all = fake.run(&["flows", "--json"]).expect(0).json();
    assert_eq!((all["flows"].as_array().unwrap().len(), &all["next"]), (2500, &json!(null)));
    let some = fake.run(&["flows", "--json", "--limit", "3"]).expect(0).json();
    assert_eq!((some["flows"].as_array().unwrap().len(), &some["next"]), (3, &json!(3)));
}

#[test]
fn no_flows() {
    let fake = Fake::new(|_, _| ok(json!({"flows": [], "next": null})));
    assert_eq!(fake.run(&["flows", "--host", "a"]).expect(0).out, "no live flows on host a\n");
    assert_eq!(fake.run(&["flows", "--json"]).expect(0).json(), json!({"flows": [], "next": null}));
}

#[test]
fn empty_pages_before_the_last_do_not_break_the_document() {
    let fake = Fake::new(|what, _| {
        let at = ["cursor=1", "cursor=2", "cursor=3"].iter().position(|c| what.ends_with(c));
        let flows: Vec<_> = if at == Some(1) { vec![flow(1)] } else { Vec::new() };
        ok(
            json!({"flows": flows, "next": match at { None => Some(1), Some(0) => Some(2), Some(1) => Some(3), _ => None }}),
        )
    });
    let body = fake.run(&["flows", "--json"]).expect(0).json();
    assert_eq!(body["flows"].as_array().unwrap().len(), 1);
    assert_eq!(fake.run(&["flows"]).expect(0).out.lines().count(), 2);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    // Pages without end: only the broken pipe can end this.
    let fake = Fake::new(|_, _| {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        ok(json!({"flows": (0..1000).map(flow).collect::<Vec<_>>(), "next": next}))
    });
    let mut child = fake.spawn(&["flows"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("CLIENT"), "{line}");
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let fake = Fake::new(|what, _| pages(what));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = fake.command(&["flows"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    Run::from(run).expect(1).says("cannot write the output").says("caused by: No space left");
}

#[test]
fn rings() {
    let fake = Fake::new(|_, _| {
        let member = |host: &str, moves| json!({"host": host, "weight": 100, "slots": 5, "base_slots": 5, "previous_of": 0, "drain_moves": moves});
        ok(json!({"rings": [{"id": 0, "size": 10, "generation": 3, "services": ["web"], "open_slots": 0,
            "members": [member("a", json!({"b": 5})), member("b", json!({"a": 5}))]}]}))
    });
    fake.run(&["rings"]).expect(0).prints("ring 0: 10 slots, no handover open, generation 3, used by web\n");
    assert_eq!(fake.run(&["rings", "--json"]).expect(0).json()["rings"][0]["size"], 10);
}

#[test]
fn an_order_is_asked_for_in_seconds() {
    let fake = Fake::new(|what, body| {
        assert_eq!(what, "POST /v1/drain");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let asked = json!({"hosts": ["a"], "reason": null, "by": null, "deadline": 600, "at_deadline": "reset", "lease": 7200});
        if body != asked {
            return refusal(400, "bad_request", &format!("asked for {body}"));
        }
        let mut drain = drain("a", "draining", 10);
        drain["order"] = json!({"deadline": 1600, "at_deadline": "reset", "spread": 0, "lease": 8200});
        drain["as_of"] = json!(1020);
        drains(&[drain])
    });
    let order = ["drain", "a", "--deadline", "599s 1ms", "--at-deadline", "reset", "--lease", "2h"];
    let run = fake.run(&order).expect(0);
    assert!(run.out.replace("\n ", "").contains("; deadline in 9m40s: reset, lease for 1h59m\n"), "{run:?}");
    fake.run(&["drain", "a", "--deadline", "0s"]).expect(1).says(r#""deadline":0,"#);
}

#[test]
fn drains_in_force_and_one_of_them() {
    let of = |host: &str, blockers: bool| {
        let mut drain = drain(host, "draining", 4);
        let end = json!({"p50": 5, "p90": 90, "p99": null, "measured": 400, "unknown": 0});
        let flow = json!({"protocol": "tcp", "client": "198.51.100.7:5000", "vip": "192.0.2.10:443", "service": "web", "host": host,
            "phase": "established", "age": 7500, "idle": 61, "slot": 3});
        drain["progress"] = json!({"phases": {}, "idle": 1, "ended": 6, "packets_per_second": 10.0, "bytes_per_second": 900.0,
            "expected_end": end, "blockers": if blockers { json!([flow]) } else { json!(null) }});
        drain
    };
    let fake = Fake::new(move |what, _| match what {
        "GET /v1/drains" => drains(&[of("web-1", false), drain("web-2", "undrained", 3)]),
        "GET /v1/drains?blockers=2" => drains(&[of("web-1", true)]),
        "GET /v1/drains/web%2F1?blockers=9" => ok(of("web/1", true)),
        "GET /v1/drains/web-1" => ok(of("web-1", true)),
        _ => refusal(404, "not_found", "there is no host named x"),
    });
    let run = fake.run(&["drains"]).expect(0);
    assert!(run.out.starts_with("web-1: draining (drain ") && !run.out.contains("web-2"), "{run:?}");
    assert!(run.out.contains("expected end: p50 in 5s, p90 in 1m30s, p99 not known\n"), "{run:?}");
    assert!(!run.out.contains("198.51.100.7"), "{run:?}");
    for words in
        [&["drains", "--blockers", "2"][..], &["drains", "web/1", "--blockers", "9"], &["drains", "web-1"]]
    {
        let run = fake.run(words).expect(0);
        assert!(
            run.out.contains("198.51.100.7:5000  192.0.2.10:443  web      established  2h05m  1m01s\n"),
            "{run:?}"
        );
    }
    assert_eq!(
        fake.run(&["drains", "web-1", "--json"]).expect(0).json()["progress"]["expected_end"]["p90"],
        90
    );
    assert_eq!(fake.run(&["drains", "--json"]).expect(0).json()["drains"].as_array().unwrap().len(), 1);
    fake.run(&["drains", "x"]).expect(3).says("error: there is no host named x\n");
    fake.run(&["drains", "--blockers", "101"]).expect(2);
}

#[test]
fn receipts_and_one_of_them() {
    let receipt = || drain("web-1", "drained", 0)["receipt"].clone();
    let fake = Fake::new(move |what, _| match what {
        "GET /v1/receipts?host=web%2F1&limit=5" => ok(json!({"receipts": [receipt()]})),
        "GET /v1/receipts?limit=20" => ok(json!({"receipts": []})),
        "GET /v1/receipts/7" => ok(receipt()),
        _ => refusal(404, "not_found", "there is no drain 8"),
    });
    let run = fake.run(&["receipts", "--host", "web/1", "-n", "5"]).expect(0);
    assert_eq!(run.out.lines().count(), 2, "{run:?}");
    run.prints(" 7  web-1  drained ");
    fake.run(&["receipts"]).expect(0).prints("no drain is over yet\n");
    let run = fake.run(&["receipt", "7"]).expect(0).prints("drain 7 of web-1: drained in 1m00s\nby bob\n");
    run.prints("10 flows live at the start\n10 flows ended by themselves\n");
    assert_eq!(fake.run(&["receipt", "7", "--json"]).expect(0).json()["ended"], 10);
    fake.run(&["receipt", "8"]).expect(3).says("error: there is no drain 8\nhint: look at");
}
