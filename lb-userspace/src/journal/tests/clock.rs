//! The wall clock is set between two daemons.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::types::{AtDeadline, Order, Outcome};
use crate::drain::{Drain, SelfDrain};
use crate::ramp::{Pause, Ramp};

use super::drains::{drain, receipt};
use super::*;

const HOUR: u64 = 3600;
/// Of a boot that began 1000 s before [`NOW`].
const UPTIME: u64 = 2000;

/// A drain under way with bounds, one that is done with a lease, and all else that has a time.
fn filled(path: &Path) -> Journal {
    let mut journal = open(path);
    let order = Order {
        deadline: Some(NOW + 1800),
        at_deadline: AtDeadline::Reset,
        lease: Some(NOW + 7200),
        ..Order::default()
    };
    let under_way = Drain { order, ..drain(1, "a") };
    let done = Drain { order: Order { lease: Some(NOW + 60), ..Order::default() }, ..drain(2, "b") };
    journal.drain(&[under_way, done.clone()], &[], &by("ann")).expect("begun");
    journal.finish_drain(&receipt(&done, Outcome::default()), &by("sluice")).expect("done");
    let config = |text| NewConfig { text, seen: None, confirm: None, about: None };
    journal.apply(Kind::Apply, &config("one"), &by("ann"), &json!({})).expect("applied");
    let other = NewConfig { confirm: Some(90), ..config("two") };
    journal.apply(Kind::Apply, &other, &by("ann"), &json!({})).expect("applied");
    let generations = json!([{ "at": NOW - 7, "open": [1, 2] }, { "at": NOW }]);
    let body = json!({ "services": ["s"], "lineage": { "generations": generations } });
    journal.next_generation(&BTreeMap::from([("ring-0".to_owned(), body)]), &[""; 0]).expect("noted");
    let own = SelfDrain {
        started_at: NOW,
        by: "ann".to_owned(),
        reason: None,
        quiet_for: 30,
        below: 1.0,
        done_at: Some(NOW + 9),
    };
    journal.note_self(Kind::SelfDrain, Some(&own), &by("ann")).expect("noted");
    for step in ["working", "done"] {
        let run = json!({ "hosts": [{ "step": step, "since": NOW + 3 }], "windows": { "not_after": NOW } });
        let kind = RunKind::Maintain;
        let noted = journal.begin_run(kind, |_| run.clone(), &by("ann"), |number| json!({ "run": number }));
        let run = noted.expect("noted");
        let number = journal.runs_under_way::<Value>(kind).expect("readable").len() as u64;
        journal.note_run(kind, number, &run, step == "done", &by("ann"), &json!({})).expect("noted");
    }
    journal
}

/// Every time that is open, in seconds after [`NOW`].
fn times(journal: &Journal) -> Vec<Option<i64>> {
    let after = |time: u64| Some(time as i64 - NOW as i64);
    let mut times = Vec::new();
    for row in journal.open_drains().expect("readable") {
        let Order { deadline, lease, .. } = row.drain.order;
        times.extend([after(row.drain.started_at), deadline.and_then(after), lease.and_then(after)]);
    }
    times.push(after(
        journal.applied().expect("readable").and_then(|one| one.pending).expect("waits").deadline,
    ));
    let lineages = journal.lineages().expect("readable");
    let generations = lineages["ring-0"]["lineage"]["generations"].as_array().expect("a list").clone();
    times.extend(generations.iter().map(|one| after(one["at"].as_u64().expect("a time"))));
    let own = journal.self_drain().expect("readable").expect("drained");
    times.extend([after(own.started_at), own.done_at.and_then(after)]);
    let run = journal.runs_under_way::<Value>(RunKind::Maintain).expect("readable").remove(0);
    times.push(after(run["hosts"][0]["since"].as_u64().expect("a time")));
    times
}

#[test]
fn what_is_open_has_as_many_seconds_left_as_it_had() {
    let (_dir, path) = place();
    let mut journal = filled(&path);
    let before = times(&journal);
    assert_eq!(before[..6], [Some(0), Some(1800), Some(7200), Some(0), None, Some(60)]);
    assert_eq!(journal.follow_clock(&boot("x", NOW), UPTIME).expect("followed"), 0, "nothing was noted yet");
    journal.note_start(&boot("x", NOW - 1000), None, &by("sluice"), &json!({})).expect("noted");
    let receipts = journal.receipts(None, 9).expect("readable");
    let last = journal.last_revision().expect("readable");
    for (id, at) in [("x", NOW - 1000), ("x", NOW - 1003), ("another", NOW + HOUR)] {
        assert_eq!(journal.follow_clock(&boot(id, at), UPTIME).expect("followed"), 0, "{id} {at}");
    }
    assert_eq!((times(&journal), journal.last_revision().expect("readable")), (before.clone(), last));

    let ahead = boot("x", NOW - 1000 + HOUR);
    assert_eq!(journal.follow_clock(&ahead, UPTIME).expect("followed"), HOUR as i64);
    let mut moved: Vec<_> = before.iter().map(|time| time.map(|time| time + HOUR as i64)).collect();
    moved[3] = Some(0);
    assert_eq!(times(&journal), moved, "all but the beginning of what has ended");
    assert_eq!(journal.receipts(None, 9).expect("readable"), receipts);
    let over = journal.last_runs::<Value>(RunKind::Maintain, 9).expect("readable");
    assert_eq!(over[0]["hosts"][0]["since"], NOW + 3, "what is over has its report");
    let under_way = journal.runs_under_way::<Value>(RunKind::Maintain).expect("readable");
    assert_eq!(under_way[0]["windows"]["not_after"], NOW, "by the wall clock");
    let noted = journal.revision(last + 1).expect("readable").expect("there");
    assert_eq!((noted.kind.as_str(), &noted.detail), ("clock", &json!({ "seconds": HOUR })));
    // Once, also if the daemon ends before its start is noted.
    drop(journal);
    let mut journal = open(&path);
    assert_eq!(journal.follow_clock(&ahead, UPTIME).expect("followed"), 0);
    assert_eq!(times(&journal), moved);
    assert_eq!(
        journal.follow_clock(&boot("x", NOW - 1000), UPTIME).expect("followed"),
        -(HOUR as i64),
        "and back"
    );
    assert_eq!(times(&journal), before);
}

/// A machine whose clock begins years ago with each boot, until it is set right: what was dated before this boot is right already.
#[test]
fn what_was_dated_before_this_boot_stays() {
    const WRONG: u64 = 1_000_000;
    let (_dir, path) = place();
    let mut journal = filled(&path);
    let before = times(&journal);
    journal.note_start(&boot("x", WRONG), None, &by("sluice"), &json!({})).expect("noted");
    let order = Order { deadline: Some(WRONG + 50 + 1800), ..Order::default() };
    let of_this_boot = Drain { order, started_at: WRONG + 50, ..drain(3, "c") };
    journal.drain(&[of_this_boot], &[], &by("ann")).expect("begun");
    let by = journal.follow_clock(&boot("x", NOW + HOUR), 100).expect("followed");
    assert_eq!(by, (NOW + HOUR - WRONG) as i64);
    let after = times(&journal);
    let hour = HOUR as i64;
    assert_eq!(after[6..9], [Some(hour + 50), Some(hour + 50 + 1800), None]);
    assert_eq!((&after[..6], &after[9..]), (&before[..6], &before[6..]));
}

#[test]
fn what_checks_found_is_as_old_as_it_was() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let pair = |since: u64, penalty_at: u64| json!({ "oper": "up", "since": since, "back": since + 3, "checks": { "tcp": { "since": 0, "penalty_at": penalty_at } } });
    let whole = json!({ "has_joined": true });
    let key = |host: &str| ("web".to_owned(), host.to_owned());
    let rows = BTreeMap::from([(key("a"), pair(NOW, NOW + 9)), (key(""), whole.clone())]);
    journal.note_health(&rows, &by("sluice"), &json!({})).expect("noted");
    journal.note_start(&boot("x", NOW - 1000), None, &by("sluice"), &json!({})).expect("noted");
    journal.follow_clock(&boot("x", NOW - 1000 + HOUR), UPTIME).expect("followed");
    let moved = BTreeMap::from([(key("a"), pair(NOW + HOUR, NOW + HOUR + 9)), (key(""), whole)]);
    assert_eq!(journal.health().expect("readable"), moved);
}

#[test]
fn ramps_go_on_from_the_share_that_they_had() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let paused = Some(Pause { since: NOW + 300, why: "it fails".to_owned(), bad: 1 });
    let ramp = Ramp { started_at: NOW, from: 0, seconds: 600, by: "ann".to_owned(), reason: None, paused };
    let ramps = BTreeMap::from([("a".to_owned(), Some(ramp.clone()))]);
    journal.note_ramps(&ramps, &by("ann")).expect("noted");
    journal.note_start(&boot("x", NOW - 1000), None, &by("sluice"), &json!({})).expect("noted");
    journal.follow_clock(&boot("x", NOW - 1000 + HOUR), UPTIME).expect("followed");
    let after = &journal.ramps().expect("readable")["a"];
    assert_eq!(after.share(NOW + HOUR + 400), ramp.share(NOW + 400));
    let since = after.paused.as_ref().map(|paused| paused.since);
    assert_eq!((after.started_at, since), (NOW + HOUR, Some(NOW + HOUR + 300)));
}

#[test]
fn a_boot_is_noted_as_text_and_that_of_a_version_before_tells_nothing() {
    let noted = boot("5f0c-a", 1_790_000_000);
    assert_eq!(noted.to_string().parse(), Ok(noted));
    assert_eq!("5f0c-a".parse::<Boot>(), Err(()));
}
