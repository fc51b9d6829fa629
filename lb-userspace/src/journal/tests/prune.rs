//! Old revisions go, and nothing that is needed.

use std::time::Duration;

use serde_json::json;

use super::*;

const HOUR: u64 = 3600;
const ALL: Keep = Keep { time: Duration::from_secs(u64::MAX / 2), revisions: u64::MAX };

fn note(journal: &mut Journal, at: u64) -> u64 {
    let change = Change { at, author: "ann", reason: None };
    journal.note(Kind::Kick, &change, &json!({})).expect("noted")
}

fn apply(journal: &mut Journal, text: &str, at: u64) -> u64 {
    let new = NewConfig { text, seen: None, confirm: None, about: None };
    let change = Change { at, author: "ann", reason: None };
    journal.apply(Kind::Apply, &new, &change, &json!({})).expect("noted")
}

fn numbers(journal: &Journal) -> Vec<u64> {
    let revisions = journal.revisions(None, u32::MAX).expect("readable");
    revisions.iter().rev().map(|revision| revision.number).collect()
}

#[test]
fn too_many_go_and_the_first_says_since_when() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    for _ in 2..=300 {
        note(&mut journal, NOW);
    }
    assert_eq!(journal.prune(ALL, NOW).expect("pruned"), 0);
    let keep = Keep { revisions: 120, ..ALL };
    assert_eq!(journal.prune(keep, NOW).expect("pruned"), 179);
    let kept = numbers(&journal);
    assert_eq!((kept[0], kept[1], kept.len()), (1, 181, 121));
    assert_eq!((journal.prune(keep, NOW).expect("pruned"), journal.pruned().expect("readable")), (0, 179));
    assert_eq!(note(&mut journal, NOW), 301, "numbers go on");
}

#[test]
fn age_counts_but_a_clock_that_is_wrong_empties_nothing() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    for number in 2..=400u64 {
        note(&mut journal, NOW + number * HOUR);
    }
    let keep = Keep { time: Duration::from_secs(150 * HOUR), revisions: u64::MAX };
    // The 400th is as old as the clock: 251 is 149 hours old.
    journal.prune(keep, NOW + 400 * HOUR).expect("pruned");
    assert_eq!(numbers(&journal)[1], 250);
    journal.prune(keep, NOW + 1_000_000 * HOUR).expect("pruned");
    assert_eq!(numbers(&journal)[1], 301, "the last hundred stay");
    journal.prune(keep, 0).expect("pruned");
    assert_eq!(numbers(&journal)[1], 301);
}

#[test]
fn what_is_needed_stays_however_old() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let configs: Vec<u64> = (0..15).map(|n| apply(&mut journal, &format!("config {n}"), NOW)).collect();
    let drain = super::drains::drain(1, "a");
    journal.drain(std::slice::from_ref(&drain), &[], &by("ann")).expect("begun");
    let done = super::drains::drain(2, "b");
    journal.drain(std::slice::from_ref(&done), &[], &by("ann")).expect("begun");
    let receipt = super::drains::receipt(&done, crate::api::types::Outcome::Drained);
    journal.finish_drain(&receipt, &by("sluice")).expect("ended");
    for _ in 0..200 {
        note(&mut journal, NOW);
    }
    journal.prune(Keep { revisions: 100, ..ALL }, NOW).expect("pruned");
    let kept = numbers(&journal);
    assert_eq!(kept[..12], [[1].as_slice(), &configs[5..], &[kept[11]]].concat());
    assert!(kept[11] > 100);
    assert_eq!(journal.config_at(configs[14]).expect("readable").as_deref(), Some("config 14"));
    assert_eq!(journal.config_at(kept[11]).expect("readable").as_deref(), Some("config 14"));
    assert_eq!(
        journal.config_at(configs[5]).expect("readable").as_deref(),
        Some("config 5"),
        "to go back to"
    );
    assert_eq!(journal.config_at(configs[4]).expect("readable"), None);
    assert_eq!(journal.open_drains().expect("readable").len(), 2);
    assert_eq!(journal.receipts(None, 10).expect("readable").len(), 1);
    let texts: i64 =
        journal.db.query_row("SELECT count(*) FROM configs", [], |row| row.get(0)).expect("readable");
    assert_eq!(texts, 11, "texts that nobody names go, too; the first is what the file said");
}

#[test]
fn the_database_itself_refuses_whatever_is_no_pruning() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    for n in 0..12 {
        apply(&mut journal, &format!("config {n}"), NOW);
    }
    for _ in 0..5 {
        note(&mut journal, NOW);
    }
    let delete = |journal: &Journal, below: u64, which: &str| {
        journal
            .db
            .execute_batch(&format!(
                "BEGIN; UPDATE pruning SET below = {below}; DELETE FROM revisions WHERE {which}; ROLLBACK"
            ))
            .map_err(|error| {
                journal.db.execute_batch("ROLLBACK").expect("back");
                error.to_string()
            })
    };
    assert!(delete(&journal, 17, "number = 14").is_ok(), "a test that can succeed");
    for (below, which) in [
        (0, "number = 14"),
        (14, "number = 14"),
        // The first, the one in force, and the last ten of those that changed the config.
        (u64::MAX / 2, "number = 1"),
        (u64::MAX / 2, "number = 13"),
        (u64::MAX / 2, "number = 4"),
    ] {
        let error = delete(&journal, below, which).expect_err(which);
        assert!(error.contains("go by pruning alone"), "{error}");
    }
}
