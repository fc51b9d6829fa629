//! `sluice events` and `sluice wait`.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::fake::*;

/// A stream that ends behind these events.
fn stream(events: &[Value]) -> (u16, String) {
    let message =
        |event: &Value| format!("id: {}\nevent: {}\ndata: {event}\n\n", event["seq"], event["event"]);
    (200, format!(": hello\n\n{}", events.iter().map(message).collect::<String>()))
}

fn drained(seq: u64) -> Value {
    json!({"seq": seq, "at": 1_790_000_000, "event": "drained", "host": "a", "drain": 7, "by": "bob", "reason": "tr\u{fc}b", "outcome": "reset"})
}

fn stopping(seq: u64) -> Value {
    json!({"seq": seq, "at": 1_790_000_000, "event": "daemon_stopping"})
}

#[test]
fn what_is_remembered_is_printed_once() {
    let fake = Fake::new(|_, _| stream(&[drained(5), stopping(6)]));
    let run = fake.run(&["events", "--host", "a/1", "--event", "drained"]).expect(0);
    assert_eq!(
        run.out,
        "2026-09-21T14:13:20Z drained a: reset (drain 7, by bob: tr\\u{fc}b)\n2026-09-21T14:13:20Z daemon_stopping\n"
    );
    let asked = fake.asked.lock().unwrap().clone();
    assert_eq!(asked, ["GET /v1/events?after=0&host=a%2F1&event=drained&follow=false"]);
    let run = fake.run(&["events", "--json", "--after", "4"]);
    let lines: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [drained(5), stopping(6)]);
    fake.run(&["events", "--event", "birthday"]).expect(2).says("'birthday'");
}

#[test]
fn a_restart_is_followed_behind_the_last_event() {
    let looks = AtomicU64::new(0);
    let fake = Fake::new(move |_, _| match looks.fetch_add(1, Ordering::Relaxed) {
        0 => stream(&[drained(5), stopping(6)]),
        1 => (0, String::new()),
        2 => stream(&[
            json!({"seq": 10, "at": 1, "event": "lost", "count": null}),
            json!({"seq": 11, "at": 1, "event": "published", "generation": 3}),
        ]),
        3 => stream(&[json!({"seq": 14, "at": 1, "event": "lost", "count": 3})]),
        _ => refusal(500, "internal", "enough"),
    });
    let run = fake.run(&["events", "--follow"]).expect(1).says("enough");
    assert_eq!(run.err.matches("; trying again for 30s\n").count(), 3, "{run:?}");
    let run = run.says("the daemon has ended; trying again");
    // What an earlier daemon might have told is nothing, as it had told that it ends.
    assert!(!run.out.contains("earlier daemon"), "{run:?}");
    let run = run.prints("published generation 3\n").prints(" lost 3 events\n");
    let asked = fake.asked.lock().unwrap().clone();
    let after = asked.iter().map(|what| what.split(['=', '&']).nth(1).unwrap()).collect::<Vec<_>>();
    assert_eq!(after, ["0", "6", "6", "11", "14"], "{run:?}");
}

#[test]
fn no_daemon_at_all_is_told_at_once() {
    let mut fake = Fake::new(|_, _| stream(&[]));
    fake.run(&["events", "--host", "a"]).expect(0);
    fake.stop();
    fake.run(&["events", "--follow"]).expect(4).says("cannot reach the daemon");
    fake.run(&["wait", "a", "--for", "up"]).expect(4).says("cannot reach the daemon");
}

fn hosts(admin: &str, oper: &str, live: u64) -> (u16, String) {
    let (_, body) = status();
    let mut body: Value = serde_json::from_str(&body).unwrap();
    let flows = json!({"half_open": 0, "established": live, "closing": 0, "udp": 0, "total": live});
    let traffic = json!({"packets": 0, "bytes": 0, "new_flows": 0, "packets_per_second": 0.0, "bytes_per_second": 0.0,
        "new_flows_per_second": 0.0});
    body["hosts"] = json!([{"name": "a", "admin": admin, "oper": oper, "weight": 1, "share": 0.0, "live_flows": flows,
        "traffic": traffic, "drain": null}]);
    ok(body)
}

#[test]
fn a_state_is_waited_for_whoever_brings_it() {
    let looks = AtomicU64::new(0);
    let fake = Fake::new(move |_, _| match looks.fetch_add(1, Ordering::Relaxed) {
        0 => hosts("active", "up", 9),
        1 => hosts("draining", "up", 4),
        2 => (0, String::new()),
        _ => hosts("drained", "up", 0),
    });
    let run = fake.run(&["wait", "a", "a", "--for", "drained", "--timeout", "1m"]).expect(0);
    let run = run
        .says("waiting for a (active, 9 flows)\nwaiting for a (draining, 4 flows)\n")
        .says("; trying again for 30s\n");
    assert_eq!(run.out, "a (drained)\n");
}

#[test]
fn each_end_of_waiting_has_its_code() {
    let fake = Fake::new(|_, _| hosts("active", "up", 9));
    fake.run(&["wait", "a", "--for", "down", "--timeout", "1s"]).expect(5).says("not down after 1s: a (up)");
    let run = fake.run(&["wait", "a", "--for", "down", "--timeout", "0s", "--json"]).expect(5);
    assert_eq!(run.json()["hosts"][0]["oper"], "up");
    fake.run(&["wait", "b", "--for", "up"]).expect(3).says("there is no host named b\n");
    fake.run(&["wait", "a", "--for", "gone"]).expect(2);
    fake.run(&["wait", "a"]).expect(2);
}
