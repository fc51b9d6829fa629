use std::collections::BTreeMap;

use crate::api::types::{AtDeadline, Order, Outcome, Receipt};
use crate::drain::{Drain, Start};
use crate::ramp::{Pause, Ramp};

use super::*;

pub(super) fn drain(id: u64, host: &str) -> Drain {
    Drain {
        id,
        host: host.to_owned(),
        service: None,
        clients: None,
        started_at: NOW,
        by: "ann".to_owned(),
        reason: Some("kernel".to_owned()),
        order: Order::default(),
        start: None,
    }
}

pub(super) fn receipt(drain: &Drain, outcome: Outcome) -> Receipt {
    Receipt {
        drain: drain.id,
        host: drain.host.clone(),
        outcome,
        by: drain.by.clone(),
        reason: drain.reason.clone(),
        started_at: drain.started_at,
        ended_at: NOW + 60,
        flows_at_start: 3,
        ended: 3,
        ..Receipt::default()
    }
}

fn in_force(journal: &Journal) -> Vec<u64> {
    journal.open_drains().expect("readable").iter().map(|row| row.drain.id).collect()
}

#[test]
fn a_drain_is_kept_from_its_begin_to_its_undrain() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let id = journal.next_drain_id().expect("numbered");
    assert_eq!(id, 1);
    let mut begun = drain(id, "a");
    assert_eq!(journal.drain(&[begun.clone()], &[], &by("ann")).expect("begun"), 2);
    let start = Start { generation: 4, flows: 3, evicted_total: 1, new_flows_total: 900, ..Start::default() };
    journal.note_drain_start(id, &start).expect("noted");
    journal.note_drain_start(id, &Start { flows: 9, ..start.clone() }).expect("ignored");
    begun.start = Some(start);
    drop(journal);

    let mut journal = open(&path);
    let row = DrainRow {
        drain: begun.clone(),
        state: "draining".to_owned(),
        in_force: true,
        ended_at: None,
        receipt: None,
    };
    assert_eq!(journal.open_drains().expect("readable"), std::slice::from_ref(&row));
    let done = receipt(&begun, Outcome::Drained);
    assert_eq!(journal.finish_drain(&done, &by("sluice")).expect("ended"), 3);
    let row = DrainRow {
        state: "drained".to_owned(),
        ended_at: Some(NOW + 60),
        receipt: Some(done.clone()),
        ..row
    };
    assert_eq!(
        journal.open_drains().expect("readable"),
        std::slice::from_ref(&row),
        "a drained host stays out"
    );
    assert!(matches!(journal.finish_drain(&done, &by("sluice")), Err(Error::NoSuchDrain { .. })));

    assert_eq!(
        journal
            .undrain(&[TakenBack { drain: id, receipt: None }], &Ramps::new(), &by("bob"))
            .expect("taken back"),
        4
    );
    assert_eq!(in_force(&journal), [] as [u64; 0]);
    assert_eq!(journal.last_drain("a").expect("readable"), Some(DrainRow { in_force: false, ..row }));
    assert_eq!(journal.last_drain("b").expect("readable"), None);
    let kinds: Vec<String> =
        journal.revisions(None, 9).expect("readable").into_iter().map(|r| r.kind).collect();
    assert_eq!(kinds, ["undrain", "drained", "drain", "created"]);
}

#[test]
fn counters_that_are_gone_stay_gone() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.drain(&[drain(1, "a"), drain(2, "b"), drain(3, "c")], &[], &by("ann")).expect("begun");
    let start = Start { generation: 4, flows: 3, packets_total: 9, ..Start::default() };
    journal.note_drain_start(1, &start).expect("noted");
    journal.note_drain_start(3, &start).expect("noted");
    journal.finish_drain(&receipt(&drain(3, "c"), Outcome::Drained), &by("sluice")).expect("ended");
    let starts = |journal: &Journal| {
        let rows = journal.open_drains().expect("readable");
        rows.into_iter().map(|row| row.drain.start).collect::<Vec<_>>()
    };
    let boot = boot("x", NOW - 60);
    assert!(!journal.is_of(&boot).expect("readable"));
    assert_eq!(starts(&journal), [Some(start.clone()), None, Some(start.clone())]);
    journal.note_loss(&boot).expect("noted");
    assert!(journal.is_of(&boot).expect("readable"));
    // Whose drain is done has its receipt, and one that had not begun to count has nothing to lose.
    let gone = Start { is_gone: true, ..start.clone() };
    assert_eq!(starts(&journal), [Some(gone.clone()), None, Some(start.clone())]);
    // What begins to count from now on does so by those that are new.
    journal.note_drain_start(2, &start).expect("noted");
    journal.note_start(&boot, None, &by("sluice"), &serde_json::json!({})).expect("noted");
    assert_eq!(starts(&journal), [Some(gone), Some(start.clone()), Some(start)]);
}

#[test]
fn several_hosts_go_together_or_not_at_all() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.drain(&[drain(1, "a"), drain(2, "b")], &[], &by("ann")).expect("begun");
    let error = journal.drain(&[drain(3, "c"), drain(4, "b")], &[], &by("ann")).expect_err("b is out");
    assert!(matches!(&error, Error::DrainInForce { host, drain: 2 } if host == "b"), "{error}");
    assert_eq!(in_force(&journal), [1, 2]);
    let taken = |drain, receipt| TakenBack { drain, receipt };
    let error = journal
        .undrain(
            &[taken(1, Some(receipt(&drain(1, "a"), Outcome::Undrained))), taken(9, None)],
            &Ramps::new(),
            &by("ann"),
        )
        .expect_err("there is no drain 9");
    assert!(matches!(error, Error::NoSuchDrain { drain: 9, .. }), "{error}");
    let without =
        journal.undrain(&[taken(1, None)], &Ramps::new(), &by("ann")).expect_err("it needs a receipt");
    assert!(matches!(without, Error::NoSuchDrain { drain: 1, .. }), "{without}");
    let of_another = journal.undrain(
        &[taken(1, Some(receipt(&drain(2, "b"), Outcome::Undrained)))],
        &Ramps::new(),
        &by("ann"),
    );
    assert!(matches!(of_another, Err(Error::NoSuchDrain { drain: 2, .. })));
    assert_eq!((in_force(&journal), journal.last_revision().expect("readable")), (vec![1, 2], 2));
    journal
        .undrain(
            &[
                taken(1, Some(receipt(&drain(1, "a"), Outcome::Undrained))),
                taken(2, Some(receipt(&drain(2, "b"), Outcome::Undrained))),
            ],
            &Ramps::new(),
            &by("ann"),
        )
        .expect("taken back");
    assert_eq!(in_force(&journal), [] as [u64; 0]);
    let states: Vec<String> =
        journal.drains(None, 9).expect("readable").into_iter().map(|row| row.state).collect();
    assert_eq!(states, ["undrained", "undrained"]);
}

#[test]
fn drain_numbers_are_never_used_twice() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.drain(&[drain(1, "a"), drain(2, "b")], &[], &by("ann")).expect("begun");
    assert_eq!(journal.next_drain_id().expect("numbered"), 3);
    assert!(matches!(journal.drain(&[drain(2, "c")], &[], &by("ann")), Err(Error::Sqlite { .. })));
    drop(journal);
    let mut journal = open(&path);
    journal
        .undrain(
            &[TakenBack { drain: 2, receipt: Some(receipt(&drain(2, "b"), Outcome::Undrained)) }],
            &Ramps::new(),
            &by("ann"),
        )
        .expect("ok");
    journal.drain(&[drain(3, "b")], &[], &by("ann")).expect("begun");
    let of_b: Vec<u64> =
        journal.drains(Some("b"), 9).expect("readable").iter().map(|row| row.drain.id).collect();
    assert_eq!(of_b, [3, 2]);
    assert_eq!(journal.last_drain("b").expect("readable").map(|row| row.drain.id), Some(3));
}

#[test]
fn an_amended_order_is_kept_and_noted_with_who_and_why() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.drain(&[drain(1, "a"), drain(2, "b")], &[], &by("ann")).expect("begun");
    let order = Order {
        deadline: Some(NOW + 600),
        at_deadline: AtDeadline::Reset,
        spread: 3,
        lease: Some(NOW + 7200),
        ..Order::default()
    };
    let amended = Amended { drain: 1, order };
    let change = Change { reason: Some("it must be"), ..by("bob") };
    let revision = journal.drain(&[drain(3, "c")], &[amended], &change).expect("both");
    let [last, before] = journal.revisions(None, 2).expect("readable").try_into().expect("two");
    assert_eq!((last.number, last.kind.as_str(), before.kind.as_str()), (revision, "amend", "drain"));
    assert_eq!((last.author.as_str(), last.reason.as_deref()), ("bob", Some("it must be")));
    assert_eq!(last.detail["drains"][0]["host"], "a");
    assert_eq!(last.detail["drains"][0]["order"]["at_deadline"], "reset");

    let unknown = Amended { drain: 9, order };
    let error = journal.drain(&[drain(4, "d")], &[unknown], &by("ann")).expect_err("there is no drain 9");
    assert!(matches!(error, Error::NoSuchDrain { drain: 9, .. }), "{error}");
    assert_eq!((in_force(&journal), journal.last_revision().expect("readable")), (vec![1, 2, 3], revision));
    drop(journal);
    let rows = open(&path).open_drains().expect("readable");
    assert_eq!((rows[0].drain.order, rows[1].drain.order), (order, Order::default()));
}

#[test]
fn receipts_are_listed_with_the_newest_first() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let hosts = ["a", "b", "a", "a"];
    for (id, host) in (1..).zip(hosts) {
        let begun = drain(id, host);
        journal.drain(std::slice::from_ref(&begun), &[], &by("ann")).expect("begun");
        if id < 4 {
            let receipt = Some(receipt(&begun, Outcome::LeaseOver));
            journal
                .undrain(&[TakenBack { drain: id, receipt }], &Ramps::new(), &by("sluice"))
                .expect("taken back");
        }
    }
    let ids = |host, limit| -> Vec<u64> {
        journal.receipts(host, limit).expect("readable").iter().map(|receipt| receipt.drain).collect()
    };
    assert_eq!(ids(None, 9), [3, 2, 1], "drain 4 is under way");
    assert_eq!((ids(Some("a"), 9), ids(None, 1), ids(Some("x"), 9)), (vec![3, 1], vec![3], vec![]));
    let row = |id| journal.drain_row(id).expect("readable");
    assert_eq!(row(2).and_then(|row| row.receipt).map(|receipt| receipt.outcome), Some(Outcome::LeaseOver));
    assert_eq!(row(4).map(|row| row.receipt), Some(None));
    assert_eq!(row(5), None);
}

/// A drain under way and one that is done, as the schema before had them.
#[test]
fn drains_of_a_journal_of_schema_2_are_kept() {
    let (_dir, path) = place();
    drop(open(&path));
    std::fs::remove_file(&path).expect("removed");
    let db = Connection::open(&path).expect("made");
    for step in [include_str!("../schema_1.sql"), include_str!("../schema_2.sql")] {
        db.execute_batch(step).expect("made");
    }
    db.pragma_update(None, "application_id", crate::journal::file::APPLICATION_ID).expect("set");
    db.pragma_update(None, "user_version", 2).expect("set");
    db.execute_batch(
        r#"INSERT INTO meta (one, hash_key, created_at) VALUES (1, zeroblob(16), 1);
        INSERT INTO drains VALUES (1, 'a', 'draining', 1, 100, 'ann', 'kernel', 5, 1, 900, 2, NULL, NULL);
        INSERT INTO drains VALUES (2, 'b', 'draining', 1, 100, 'ann', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
        INSERT INTO drains VALUES (3, 'c', 'drained', 1, 100, 'ann', NULL, 5, 0, 900, 0, 160,
            '{"drain":3,"host":"c","outcome":"drained","by":"ann","reason":null,"started_at":100,"ended_at":160,
              "flows_at_start":5,"ended":5,"left":0,"evicted":0,"new_flows":0,"misrouted":0}');"#,
    )
    .expect("written");
    drop(db);
    let journal = open(&path);
    let rows = journal.open_drains().expect("readable");
    let start =
        Start { flows: 5, evicted_total: 1, new_flows_total: 900, misrouted_total: 2, ..Start::default() };
    assert_eq!((rows[0].drain.start.as_ref(), rows[0].drain.order), (Some(&start), Order::default()));
    assert_eq!(rows[1].drain.start, None);
    let receipt = rows[2].receipt.as_ref().expect("it is done");
    assert_eq!((receipt.outcome, receipt.ended, receipt.moved), (Outcome::Drained, 5, 0));
    assert_eq!((receipt.generation, receipt.order, receipt.durations), (0, Order::default(), None));
}

#[test]
fn ramps_are_kept_until_they_are_over_or_the_host_is_drained() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.drain(&[drain(1, "a"), drain(2, "b")], &[], &by("ann")).expect("begun");
    let ramp = Ramp::new(NOW, 60, "bob", Some("patched"));
    let ramps = |hosts: &[(&str, Option<&Ramp>)]| -> Ramps {
        hosts.iter().map(|(host, ramp)| ((*host).to_owned(), ramp.cloned())).collect()
    };
    let taken = [1, 2].map(|id| TakenBack {
        drain: id,
        receipt: Some(receipt(&drain(id, ["a", "b"][id as usize - 1]), Outcome::Undrained)),
    });
    let both = ramps(&[("a", Some(&ramp)), ("b", Some(&ramp))]);
    let wrong = [TakenBack { drain: 9, receipt: None }];
    journal.undrain(&wrong, &both, &by("bob")).expect_err("no such drain");
    assert_eq!(journal.ramps().expect("readable"), BTreeMap::new(), "all or none");
    journal.undrain(&taken, &both, &by("bob")).expect("taken back");
    let paused = Pause { since: NOW + 9, why: "9 of 10".to_owned(), bad: 1 };
    let later = Ramp { paused: Some(paused), ..ramp.clone() };
    journal.note_ramps(&ramps(&[("a", Some(&later))]), &by("sluice")).expect("noted");
    drop(journal);

    let mut journal = open(&path);
    let expected = [("a".to_owned(), later), ("b".to_owned(), ramp)];
    assert_eq!(journal.ramps().expect("readable"), expected.into());
    journal.drain(&[drain(3, "a")], &[], &by("ann")).expect("begun");
    journal.note_ramps(&ramps(&[("b", None)]), &by("sluice")).expect("noted");
    assert_eq!(journal.ramps().expect("readable"), BTreeMap::new());
    let kinds: Vec<_> =
        journal.revisions(None, 4).expect("readable").into_iter().map(|revision| revision.kind).collect();
    assert_eq!(kinds, ["ramp", "drain", "ramp", "undrain"]);
}

#[test]
fn a_part_gives_way_to_the_whole() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let part = Order { share: Some(25), ..Order::default() };
    let begun = |id, host| Drain { order: part, ..drain(id, host) };
    journal.drain(&[begun(1, "a"), begun(2, "b")], &[], &by("ann")).expect("begun");
    for id in [1, 2] {
        journal.note_drain_start(id, &Start { flows: 3, ..Start::default() }).expect("noted");
    }
    // Under way: what was counted of the part is not of the whole.
    let leased = Order { lease: Some(NOW + 60), ..part };
    let start = |journal: &Journal| journal.drain_row(1).expect("readable").expect("known").drain.start;
    journal.drain(&[], &[Amended { drain: 1, order: leased }], &by("ann")).expect("amended");
    assert_eq!(start(&journal).map(|start| start.flows), Some(3));
    journal.drain(&[], &[Amended { drain: 1, order: Order::default() }], &by("ann")).expect("amended");
    assert_eq!(start(&journal), None);
    journal.note_drain_start(1, &Start { flows: 9, ..Start::default() }).expect("noted");
    assert_eq!(start(&journal).map(|start| start.flows), Some(9));
    // Done: a new drain takes its place.
    let refused = journal.drain(&[drain(3, "b")], &[], &by("ann")).expect_err("under way");
    assert!(matches!(refused, Error::DrainInForce { drain: 2, .. }), "{refused}");
    journal.finish_drain(&receipt(&begun(2, "b"), Outcome::Drained), &by("sluice")).expect("done");
    journal.drain(&[drain(3, "b")], &[], &by("ann")).expect("begun");
    assert_eq!(in_force(&journal), [1, 3]);
}

#[test]
fn a_host_may_be_out_for_several_services_until_it_is_out_as_a_whole() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let of = |id, service: &str| Drain { service: Some(service.to_owned()), ..drain(id, "a") };
    journal.drain(&[of(1, "web"), of(2, "dns")], &[], &by("ann")).expect("begun");
    let twice = journal.drain(&[of(3, "web")], &[], &by("ann")).expect_err("it is out");
    assert!(matches!(twice, Error::DrainInForce { drain: 1, .. }), "{twice}");
    let services: Vec<_> =
        journal.open_drains().expect("readable").into_iter().map(|row| row.drain.service).collect();
    assert_eq!(services, [Some("web".to_owned()), Some("dns".to_owned())]);
    let taken =
        |id, service| TakenBack { drain: id, receipt: Some(receipt(&of(id, service), Outcome::Undrained)) };
    let wrong = [taken(1, "web"), TakenBack { drain: 9, receipt: None }];
    journal.drain_instead(&[drain(3, "a")], &[], &wrong, &by("ann")).expect_err("there is no drain 9");
    assert_eq!(in_force(&journal), [1, 2], "all or none");
    let both = [taken(1, "web"), taken(2, "dns")];
    journal.drain_instead(&[drain(3, "a")], &[], &both, &by("ann")).expect("begun");
    assert_eq!(in_force(&journal), [3]);
}
