use serde_json::{Value, json};

use super::*;

#[test]
fn a_run_is_kept_from_its_begin_to_its_end_and_after() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let kind = RunKind::Maintain;
    let begin = |journal: &mut Journal| {
        journal
            .begin_run(
                kind,
                |number| json!({ "id": number, "step": 0 }),
                &by("ann"),
                |number| json!({ "run": number }),
            )
            .expect("noted")
    };
    let first = begin(&mut journal);
    let second = begin(&mut journal);
    assert_eq!((&first["id"], &second["id"]), (&1.into(), &2.into()));
    let note = |journal: &mut Journal, number: u64, step: u64, is_over: bool| {
        let run = json!({ "id": number, "step": step });
        journal.note_run(
            kind,
            number,
            &run,
            is_over,
            &by("run 1"),
            &json!({ "run": number, "hosts": [{ "host": "a" }] }),
        )
    };
    note(&mut journal, 1, 1, false).expect("noted");
    note(&mut journal, 2, 9, true).expect("noted");
    drop(journal);

    let mut journal = open(&path);
    let under_way: Vec<Value> = journal.runs_under_way(kind).expect("readable");
    assert_eq!(under_way, [json!({ "id": 1, "step": 1 })]);
    let over: Vec<Value> = journal.last_runs(kind, 10).expect("readable");
    assert_eq!(over, [json!({ "id": 2, "step": 9 })]);
    assert_eq!(journal.run::<Value>(kind, 3).expect("readable"), None);
    assert!(note(&mut journal, 2, 10, false).is_err(), "what is over is not changed");
    assert!(note(&mut journal, 3, 0, false).is_err(), "there is none");
    let kinds: Vec<String> =
        journal.revisions(None, 4).expect("readable").into_iter().map(|of| of.kind).collect();
    assert_eq!(kinds, ["maintain"; 4], "each step is a revision, and what was refused is none");
}

#[test]
fn of_each_service_the_last_shift_counts_over_or_not() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let run = |service: &str, number: u64| json!({ "id": number, "service": service });
    let begin = |journal: &mut Journal, kind, service: &str| {
        let noted = journal.begin_run(
            kind,
            |number| run(service, number),
            &by("ann"),
            |number| json!({ "n": number }),
        );
        noted.expect("noted");
    };
    for service in ["web", "api", "web"] {
        begin(&mut journal, RunKind::Shift, service);
    }
    begin(&mut journal, RunKind::Maintain, "web");
    journal.note_run(RunKind::Shift, 2, &run("api", 2), true, &by("ann"), &json!({})).expect("noted");
    drop(journal);
    let last: Vec<Value> = open(&path).last_shifts().expect("readable");
    assert_eq!(last, [run("api", 2), run("web", 3)]);
}
