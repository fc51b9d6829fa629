use crate::api::types::{AtDeadline, Order, Outcome, Receipt};
use crate::drain::{Drain, Start};

use super::*;

pub(super) fn drain(id: u64, host: &str) -> Drain {
    Drain {
        id,
        host: host.to_owned(),
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
        journal.undrain(&[TakenBack { drain: id, receipt: None }], &by("bob")).expect("taken back"),
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
fn several_hosts_go_together_or_not_at_all() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.drain(&[drain(1, "a"), drain(2, "b")], &[], &by("ann")).expect("begun");
    let error = journal.drain(&[drain(3, "c"), drain(4, "b")], &[], &by("ann")).expect_err("b is out");
    assert!(matches!(&error, Error::DrainInForce { host, drain: 2 } if host == "b"), "{error}");
    assert_eq!(in_force(&journal), [1, 2]);
    let taken = |drain, receipt| TakenBack { drain, receipt };
    let error = journal
        .undrain(&[taken(1, Some(receipt(&drain(1, "a"), Outcome::Undrained))), taken(9, None)], &by("ann"))
        .expect_err("there is no drain 9");
    assert!(matches!(error, Error::NoSuchDrain { drain: 9, .. }), "{error}");
    let without = journal.undrain(&[taken(1, None)], &by("ann")).expect_err("it needs a receipt");
    assert!(matches!(without, Error::NoSuchDrain { drain: 1, .. }), "{without}");
    let of_another =
        journal.undrain(&[taken(1, Some(receipt(&drain(2, "b"), Outcome::Undrained)))], &by("ann"));
    assert!(matches!(of_another, Err(Error::NoSuchDrain { drain: 2, .. })));
    assert_eq!((in_force(&journal), journal.last_revision().expect("readable")), (vec![1, 2], 2));
    journal
        .undrain(
            &[
                taken(1, Some(receipt(&drain(1, "a"), Outcome::Undrained))),
                taken(2, Some(receipt(&drain(2, "b"), Outcome::Undrained))),
            ],
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
            &by("ann"),
        )
        .expect("ok");
    journal.drain(&[drain(3, "b")], &[], &by("ann")).expect("begun");
    let of_b: Vec<u64> =
        journal.drains(Some("b"), 9).expect("readable").iter().map(|row| row.drain.id).collect();
    assert_eq!(of_b, [3, 2]);
    assert_eq!(journal.last_drain("b").expect("readable").map(|row| row.drain.id), Some(3));
}
