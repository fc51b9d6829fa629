//! Configs in force, to be confirmed, taken back.

use serde_json::json;

use super::*;

fn config(text: &str) -> NewConfig<'_> {
    NewConfig { text, seen: Some(text), confirm: None, about: None }
}

fn apply(journal: &mut Journal, new: &NewConfig<'_>) -> Result<u64> {
    journal.apply(Kind::Apply, new, &by("ann"), &json!({}))
}

fn applied(journal: &Journal) -> Applied {
    journal.applied().expect("readable").expect("there is one")
}

#[test]
fn the_config_in_force_and_those_before_are_kept_once_each() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    assert_eq!(journal.applied().expect("readable"), None);
    let first = journal
        .note_start(&boot("boot", NOW), Some(&config("one")), &by("sluice"), &json!({}))
        .expect("noted");
    let second = apply(&mut journal, &config("two")).expect("noted");
    let between = journal.note(Kind::Kick, &by("bob"), &json!({})).expect("noted");
    let third = apply(&mut journal, &NewConfig { seen: None, ..config("one") }).expect("noted");
    drop(journal);
    let journal = open(&path);
    let expected = Applied {
        revision: third,
        text: "one".to_owned(),
        seen: "two".to_owned(),
        pending: None,
        before: Some("two".to_owned()),
    };
    assert_eq!(applied(&journal), expected);
    let at = |revision| journal.config_at(revision).expect("readable");
    assert_eq!(at(first - 1), None, "before the first");
    assert_eq!(
        [first, second, between, third].map(at),
        ["one", "two", "two", "one"].map(|t| Some(t.to_owned()))
    );
    assert_eq!(journal.change_before(third).expect("readable"), Some(second));
    assert_eq!(journal.change_before(between).expect("readable"), Some(first));
    assert_eq!(journal.change_before(first).expect("readable"), None);
    let texts: i64 =
        journal.db.query_row("SELECT count(*) FROM configs", [], |row| row.get(0)).expect("readable");
    assert_eq!(texts, 2);
}

#[test]
fn one_config_at_a_time_waits_and_is_settled_by_a_revision() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    assert!(matches!(journal.confirm(&by("ann")), Err(Error::NothingToConfirm)));
    apply(&mut journal, &config("one")).expect("noted");
    let waiting = apply(&mut journal, &NewConfig { confirm: Some(60), ..config("two") }).expect("noted");
    drop(journal);
    let mut journal = open(&path);
    let pending = Pending { back_to: "one".to_owned(), deadline: NOW + 60, patience: 60 };
    assert_eq!(applied(&journal).pending, Some(pending));
    let refused = apply(&mut journal, &config("three"));
    assert!(
        matches!(refused, Err(Error::Unconfirmed { revision, deadline }) if revision == waiting && deadline == NOW + 60)
    );
    let confirmed = journal.confirm(&by("bob")).expect("noted");
    assert_eq!(applied(&journal).pending, None);
    let settling = journal.revisions_about(waiting).expect("readable");
    assert_eq!(
        settling.iter().map(|found| (found.number, found.kind.as_str())).collect::<Vec<_>>(),
        [(confirmed, "confirm")]
    );

    let waiting = apply(&mut journal, &NewConfig { confirm: Some(60), ..config("three") }).expect("noted");
    let back = NewConfig { about: Some(waiting), seen: None, ..config("two") };
    let back = journal.apply(Kind::Rollback, &back, &by("sluice"), &json!({})).expect("noted");
    let (text, seen) = ("two".to_owned(), "three".to_owned());
    let expected = Applied { revision: back, text, seen, pending: None, before: None };
    assert_eq!(applied(&journal), expected);
}

#[test]
fn what_nobody_has_confirmed_does_not_come_back() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    apply(&mut journal, &config("one")).expect("noted");
    let waiting = apply(&mut journal, &NewConfig { confirm: Some(60), ..config("two") }).expect("noted");
    let back = NewConfig { about: Some(waiting), confirm: Some(30), ..config("three") };
    journal.apply(Kind::Rollback, &back, &by("ann"), &json!({})).expect("noted");
    let pending = Pending { back_to: "one".to_owned(), deadline: NOW + 30, patience: 30 };
    assert_eq!(applied(&journal).pending, Some(pending));
}

#[test]
fn a_config_that_waited_does_so_still_when_the_next_one_has_failed() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    apply(&mut journal, &config("one")).expect("noted");
    let waiting = apply(&mut journal, &NewConfig { confirm: Some(60), ..config("two") }).expect("noted");
    let before = applied(&journal);
    let back = NewConfig { about: Some(waiting), ..config("one") };
    let failed = journal.apply(Kind::Rollback, &back, &by("ann"), &json!({})).expect("noted");
    let noted = journal.take_back(failed, &before, &by("sluice"), &json!({})).expect("noted");
    let expected = Applied { revision: noted, seen: "one".to_owned(), ..before };
    assert_eq!(applied(&journal), expected);
    let refused = apply(&mut journal, &config("four"));
    assert!(matches!(refused, Err(Error::Unconfirmed { revision, .. }) if revision == noted));
}

#[test]
fn the_config_before_is_known_until_the_new_one_has_been_put_in_force() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let before = |journal: &Journal| applied(journal).before;
    journal.note_start(&boot("boot", NOW), Some(&config("one")), &by("sluice"), &json!({})).expect("noted");
    assert_eq!(before(&journal), None, "a start has put it in force before it notes it");
    let second = apply(&mut journal, &config("two")).expect("noted");
    drop(journal);
    let mut journal = open(&path);
    assert_eq!((before(&journal).as_deref(), applied(&journal).pending), (Some("one"), None));
    assert!(matches!(journal.confirm(&by("ann")), Err(Error::NothingToConfirm)), "nobody is waited for");
    journal.note_tried().expect("noted");
    assert_eq!((before(&journal), applied(&journal).revision), (None, second));

    // One of which it could not be noted was in force all the same when the next one came.
    apply(&mut journal, &config("three")).expect("noted");
    let fourth = apply(&mut journal, &config("four")).expect("noted");
    assert_eq!(before(&journal).as_deref(), Some("three"));
    let back = NewConfig { about: Some(fourth), ..config("three") };
    journal.go_on_by(Kind::Failed, &back, &by("sluice"), &json!({})).expect("noted");
    assert_eq!((applied(&journal).text.as_str(), before(&journal)), ("three", None));

    let waiting = apply(&mut journal, &NewConfig { confirm: Some(60), ..config("five") }).expect("noted");
    journal.note_tried().expect("noted");
    assert_eq!(applied(&journal).back_to(), Some("three"), "it waits as before");
    let back = NewConfig { about: Some(waiting), ..config("three") };
    journal.apply(Kind::Rollback, &back, &by("ann"), &json!({})).expect("noted");
    assert_eq!(applied(&journal).back_to(), None, "nobody has confirmed it");
}

#[test]
fn nothing_can_be_waited_for_where_there_is_nothing_to_go_back_to() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    apply(&mut journal, &NewConfig { confirm: Some(60), ..config("one") }).expect("noted");
    assert_eq!(applied(&journal).pending, None);
}

#[test]
fn nobody_rewrites_configs_or_loses_drains() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    apply(&mut journal, &config("one")).expect("noted");
    journal.drain(&[super::drains::drain(1, "a")], &[], &by("ann")).expect("begun");
    for (statement, says) in [
        ("UPDATE configs SET text = 'other'", "only ever added"),
        ("DELETE FROM configs", "a revision has this config"),
        ("DELETE FROM drains", "drains and their receipts stay"),
    ] {
        let error = journal.db.execute_batch(statement).expect_err("refused");
        assert!(error.to_string().contains(says), "{error}");
    }
}
