//! `sluice trace` and `sluice capture`.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::fake::*;

fn stream(messages: &[Value]) -> (u16, String) {
    let message = |message: &Value| format!("event: {}\ndata: {message}\n\n", message["message"]);
    (200, messages.iter().map(message).collect())
}

fn counts(wanted: u64, shown: u64, over_rate: u64) -> Value {
    json!({"message": "counts", "wanted": wanted, "shown": shown, "sampled": 0, "over_rate": over_rate, "no_room": 0, "too_slow": 0,
        "unseen_ms": 0})
}

fn packet(reason: &str) -> Value {
    json!({"message": "packet", "at": 1_790_000_000, "nanoseconds": 5_000, "interface": "eth0", "cpu": 1, "length": 60, "kind": "flow",
        "protocol": "tcp", "from": "198.51.100.7:40000", "to": "203.0.113.10:443", "signal": "syn", "verdict": "transmit", "reason": reason,
        "service": "web", "is_answer": false, "clients": null, "ring": 0, "slot": 7, "owner": "a", "handover": null, "pin": null,
        "pin_change": "made", "pin_phase": "half-open", "host": "a", "host_state": "active", "forward": "l2", "out": "eth0",
        "next_hop": null, "destination": null, "mtu": null, "length_out": 60, "frame_out": "ff00", "frame_in": "0102"})
}

/// A daemon that shows these, and the body of the last request.
fn shows(messages: Vec<Value>) -> (Fake, Arc<Mutex<Value>>) {
    let body = Arc::new(Mutex::new(Value::Null));
    let into = body.clone();
    let fake = Fake::new(move |_, asked| {
        *into.lock().unwrap() = serde_json::from_str(asked).unwrap();
        stream(&messages)
    });
    (fake, body)
}

#[test]
fn packets_are_printed_up_to_the_count_and_summed_up() {
    let (fake, body) =
        shows(vec![counts(0, 0, 0), packet("forward_new"), packet("forward_new"), counts(9, 2, 7)]);
    let args = [
        "trace",
        "tcp",
        "--client",
        "198.51.100.7",
        "--service",
        "web",
        "--reason",
        "forward_*",
        "--verdict",
        "transmit",
        "--sample",
        "3",
        "--by",
        "ann",
        "--count",
        "1",
    ];
    let run = fake
        .run(&args)
        .expect(0)
        .says("packets are shown from now on")
        .says("1 of 9 packets shown: 7 over the rate\n");
    assert_eq!(
        run.out,
        "2026-09-21T14:13:20.000005Z eth0  tcp 198.51.100.7:40000 -> 203.0.113.10:443, SYN, 60 bytes     \
         forward_new to a by l2 (service web, slot 7, pin made, half-open)\n"
    );
    let expected = json!({"protocol": "tcp", "client": "198.51.100.7", "service": "web", "reasons": ["forward_*"],
        "verdicts": ["transmit"], "sample": 3, "rate": 100, "by": "ann"});
    assert_eq!(*body.lock().unwrap(), expected);
    let run = fake.run(&["trace", "--json", "--count", "2"]).expect(0);
    let lines: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [packet("forward_new"), packet("forward_new"), counts(9, 2, 7)]);
}

#[test]
fn the_end_of_the_daemon_is_no_success() {
    let (fake, _) = shows(vec![counts(0, 0, 0), packet("forward_pin")]);
    fake.run(&["trace"]).expect(4).says("the daemon has ended").prints("forward_pin");
    for (why, code) in [("stopping", 4), ("failed", 1), ("over", 0)] {
        let ended = json!({"message": "ended", "why": why, "words": "as the moon is full"});
        let (fake, _) = shows(vec![counts(0, 0, 0), packet("forward_pin"), counts(5, 1, 4), ended]);
        let run = fake.run(&["trace"]).expect(code).prints("forward_pin").says("1 of 5 packets shown");
        assert_eq!(run.err.contains("as the moon is full"), code != 0, "{why}: {}", run.err);
    }
    let refused = Fake::new(|_, _| refusal(409, "conflict", "4 trace already, and no more can at once"));
    refused.run(&["trace"]).expect(1).says("4 trace already").says("hint: look at");
    let mut none = Fake::new(|_, _| stream(&[]));
    none.stop();
    none.run(&["trace"]).expect(4).says("cannot reach the daemon");
}

#[test]
fn a_capture_has_both_frames_and_its_bounds() {
    let (fake, body) = shows(vec![counts(0, 0, 0), packet("forward_new"), counts(1, 1, 0)]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.pcapng");
    let name = file.to_str().unwrap();
    fake.run(&["capture", "-w", name, "--count", "1", "-s", "96"]).expect(0).says("1 of 1 packet shown\n");
    assert_eq!(*body.lock().unwrap(), json!({"rate": 1000, "bytes": 96}));
    let written = std::fs::read(&file).unwrap();
    let has = |words: &[u8]| written.windows(words.len()).filter(|window| *window == words).count();
    assert_eq!(has(b"forward_new to a by l2 (service web, slot 7, pin made, half-open)"), 2);
    assert_eq!((has(b"eth0"), has(&[1, 2, 0, 0]) >= 1, has(&[0xff, 0, 0, 0]) >= 1), (1, true, true));
    // What users sent is for nobody else, and what is there already is not given up for a request that is refused.
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = Fake::new(|_, _| refusal(404, "not_found", "there is no service named wbe"));
    refused.run(&["capture", "-w", name, "--service", "wbe"]).expect(3).says("no service named wbe");
    assert_eq!(std::fs::read(&file).unwrap(), written);
    // A file of which nobody would know what is in it is not begun by mistake.
    fake.run(&["capture", "--count", "1"]).expect(2).says("--write");
    fake.run(&["capture", "-w", "/nonexistent/x.pcapng"]).expect(1).says("/nonexistent/x.pcapng");
    fake.run(&["capture", "-w", name, "--snaplen", "9217"]).expect(2);
    fake.run(&["capture", "-w", name, "--max-size", "0"]).expect(2);
    // The daemon ends it some time after this command should have, which may have been stopped.
    for (lasting, seconds) in [("30s", json!(40)), ("500ms", json!(10)), ("24h", Value::Null)] {
        fake.run(&["capture", "-w", name, "--count", "1", "--for", lasting]).expect(0);
        assert_eq!(body.lock().unwrap()["lasting"], seconds, "{lasting}");
    }
}
