//! `drain --wait`, `status --watch`: verbs that stay.

use std::io::Read;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fake::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A daemon whose host has `live(n)` flows at the n-th look; with none, the drain is done.
fn daemon(live: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Fake {
    let looks = AtomicU64::new(0);
    Fake::new(move |what, _| {
        if what == "POST /v1/drain" {
            return drains(&[drain("a/1", "draining", 10)]);
        }
        assert_eq!(what, "GET /v1/drains?host=a%2F1");
        match live(looks.fetch_add(1, Ordering::Relaxed)) {
            0 => drains(&[drain("a/1", "drained", 0)]),
            n => drains(&[drain("a/1", "draining", n)]),
        }
    })
}

fn finish(mut child: Child) -> Run {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("still running: {:?}", Run::from(child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap().into()
}

/// Until the daemon was asked `n` times.
fn asked(fake: &Fake, n: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while fake.asked.lock().unwrap().len() < n {
        assert!(Instant::now() < deadline, "asked {:?}", fake.asked.lock().unwrap());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn waits_until_done() {
    let run = daemon(|n| 2u64.saturating_sub(n)).run(&["drain", "a/1", "--wait"]).expect(0);
    assert!(
        run.out.starts_with("a/1: draining (drain 7), gets no new flows; 10 live flows go on"),
        "{run:?}"
    );
    assert!(run.out.contains("\na/1: drained in 1m00s (drain 7, by bob)."), "{run:?}");
    assert!(run.out.ends_with("No flow is left.\n"), "{run:?}");
}

#[test]
fn plain_progress_has_the_time() {
    // 250 ms a look: the change at the first look is told when two seconds have passed.
    let run = daemon(|n| if n < 10 { 9 } else { 0 }).run(&["drain", "a/1", "--wait"]).expect(0);
    let (seconds, line) = run.err.split_once("s: ").unwrap();
    assert!((2..10).contains(&seconds.parse::<u64>().unwrap()), "{run:?}");
    assert_eq!(line, "a/1: draining, 9 of 10 flows live (9 established), waiting for 9 live flows\n");
}

#[test]
fn json_is_the_last_body_and_nothing_else() {
    let run = daemon(|n| 1u64.saturating_sub(n)).run(&["drain", "a/1", "--wait", "--json"]).expect(0);
    assert_eq!(run.json()["drains"][0]["state"], "drained");
    assert_eq!(run.err, "");
    let run = daemon(|_| 3).run(&["drain", "a/1", "--wait", "--json", "--timeout", "300ms"]).expect(5);
    assert_eq!(run.json()["drains"][0]["live_flows"]["total"], 3);
}

#[test]
fn the_timeout_bounds_the_waiting() {
    let fake = daemon(|_| 3);
    let run = fake.run(&["drain", "a/1", "--wait", "--timeout", "600ms"]).expect(5);
    let run = run.says("a/1 (3 of 10 flows live, waiting for 3 live flows); the drain goes on\n");
    run.says("undrain a/1`\n");
    // No call takes the drain back.
    assert!(fake.asked.lock().unwrap().iter().skip(1).all(|a| a.starts_with("GET ")));
}

#[test]
fn a_hung_daemon_does_not_stretch_the_timeout() {
    let fake = daemon(|_| {
        std::thread::sleep(Duration::from_secs(3));
        3
    });
    let start = Instant::now();
    fake.run(&["drain", "a/1", "--wait", "--timeout", "200ms"]).expect(5);
    assert!(start.elapsed() < Duration::from_millis(2900), "{:?}", start.elapsed());
}

#[test]
fn ctrl_c_leaves_the_drain() {
    let fake = daemon(|_| 3);
    let child = fake.spawn(&["drain", "a/1", "--wait"]);
    asked(&fake, 2);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    finish(child).expect(130).says("error: interrupted while waiting for a/1 (").says("the drain goes on");
    assert!(fake.asked.lock().unwrap().iter().skip(1).all(|a| a.starts_with("GET ")));
}

#[test]
fn taken_back_by_somebody_else() {
    let fake = Fake::new(|what, _| match what {
        "POST /v1/drain" => drains(&[drain("a", "draining", 10)]),
        _ => drains(&[drain("a", "undrained", 4)]),
    });
    fake.run(&["drain", "a", "--wait"])
        .expect(7)
        .says("error: drain 7 of a was taken back with 4 flows left\n");
}

#[test]
fn each_end_has_a_code_of_its_own() {
    let ends = |outcome: &'static str, left: u64, overdue: Option<u64>| {
        Fake::new(move |what, _| {
            if what == "POST /v1/drain" {
                return drains(&[drain("a", "draining", 10)]);
            }
            let state = match outcome {
                "draining" | "drained" => outcome,
                "lease_over" => "undrained",
                _ => "drained",
            };
            let mut drain = drain("a", state, left);
            drain["overdue_since"] = overdue.into();
            if state != "draining" {
                drain["receipt"]["outcome"] = outcome.into();
                drain["receipt"]["reset"] = if outcome == "reset" { 3 } else { 0 }.into();
                drain["receipt"]["moved"] = if outcome == "moved" { 3 } else { 0 }.into();
            }
            drains(&[drain])
        })
        .run(&["drain", "a", "--wait"])
    };
    ends("drained", 0, None).expect(0);
    ends("draining", 4, Some(100)).expect(5).says("error: the deadline has passed: a (4 of 10 flows live");
    let run = ends("reset", 0, None).expect(6).prints("a: drained in 1m00s, flows were reset (drain 7");
    run.says("error: drained, but not all flows ended by themselves: a: 3 reset\n");
    ends("moved", 0, None).expect(6).says("a: 3 moved\n");
    ends("lease_over", 4, None).expect(8).says("drain 7 of a came to the end of its lease with 4 flows left");
}

#[test]
fn a_host_that_leaves_the_config() {
    let fake = Fake::new(|what, _| match what {
        "POST /v1/drain" => drains(&[drain("a", "draining", 10)]),
        _ => refusal(404, "not_found", "no host \"a\""),
    });
    fake.run(&["drain", "a", "--wait"]).expect(3).says("no host \"a\"");
}

#[test]
fn a_restart_of_the_daemon_is_waited_for() {
    let mut fake = daemon(|n| if n < 8 { 3 } else { 0 });
    let child = fake.spawn(&["drain", "a/1", "--wait"]);
    asked(&fake, 2);
    fake.stop();
    std::thread::sleep(Duration::from_millis(800));
    fake.start();
    let run =
        finish(child).expect(0).says("; trying again for 30s\n").says("the daemon answers again after ");
    assert!(run.out.ends_with("No flow is left.\n"), "{run:?}");
}

#[test]
fn status_once() {
    let fake = Fake::new(|_, _| status());
    let run =
        fake.run(&["status"]).expect(0).prints("!!! misrouted: 2\n").prints("\nconfig /c\\u{e4}.toml\n");
    run.prints("1 problem:\n  - the host \"x\" is down\n").prints("\nno hosts\n");
    let run = fake.command(&["status", "--json"]).output().unwrap();
    let body: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(body["violations"]["misrouted"], 2);
}

#[test]
fn status_watched_as_json_is_a_line_a_look() {
    let fake = Fake::new(|_, _| status());
    let mut child = fake.spawn(&["status", "--json", "--watch", "100ms"]);
    asked(&fake, 3);
    // The reader leaves: the watch ends by itself.
    let mut out = child.stdout.take().unwrap();
    let mut bytes = vec![0; 1500];
    out.read_exact(&mut bytes).unwrap();
    drop(out);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<_> = text.lines().take(2).collect();
    assert!(lines.iter().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{text}");
    assert_eq!(finish(child).code, Some(0));
}

#[test]
fn a_watch_off_a_terminal_ends_with_the_daemon() {
    let mut fake = Fake::new(|_, _| status());
    let child = fake.spawn(&["status", "--watch", "100ms"]);
    asked(&fake, 3);
    fake.stop();
    finish(child).expect(4).says("cannot reach the daemon").prints("\n\nsluice 0.1.0, instance default");
}
