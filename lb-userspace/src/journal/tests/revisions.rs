use std::collections::BTreeMap;

use serde_json::json;

use super::*;

#[test]
fn revisions_are_numbered_kept_and_paged() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    for number in 2..=6 {
        let change = Change { at: NOW + number, author: "ann", reason: Some("kernel") };
        assert_eq!(journal.note(Kind::Apply, &change, &json!({ "n": number })).expect("noted"), number);
    }
    let newest = journal.revisions(None, 2).expect("readable");
    let expected = Revision {
        number: 6,
        at: NOW + 6,
        author: "ann".to_owned(),
        reason: Some("kernel".to_owned()),
        kind: "apply".to_owned(),
        detail: json!({ "n": 6 }),
        about: None,
        has_config: false,
    };
    assert_eq!(newest[0], expected);
    let older: Vec<u64> =
        journal.revisions(Some(5), 10).expect("readable").iter().map(|r| r.number).collect();
    assert_eq!(older, [4, 3, 2, 1]);
}

#[test]
fn nobody_rewrites_history() {
    let (_dir, path) = place();
    let journal = open(&path);
    for statement in ["UPDATE revisions SET author = 'eve'", "DELETE FROM revisions"] {
        let error = journal.db.execute_batch(statement).expect_err("refused");
        assert!(error.to_string().contains("only ever added"), "{error}");
    }
    assert_eq!(journal.revisions(None, 10).expect("readable").len(), 1);
}

#[test]
fn a_generation_takes_its_lineages_along() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    assert_eq!(journal.generation().expect("readable"), 0);
    let put = BTreeMap::from([("a".to_owned(), json!([1])), ("b".to_owned(), json!({ "x": null }))]);
    assert_eq!(journal.next_generation(&put, &[] as &[&str]).expect("noted"), 1);
    let again = BTreeMap::from([("b".to_owned(), json!(2))]);
    assert_eq!(journal.next_generation(&again, &["a"]).expect("noted"), 2);
    journal.replace_lineage("c", &json!("three")).expect("noted");
    drop(journal);
    let mut journal = open(&path);
    let kept = BTreeMap::from([("b".to_owned(), json!(2)), ("c".to_owned(), json!("three"))]);
    assert_eq!((journal.generation().expect("readable"), journal.lineages().expect("readable")), (2, kept));
    assert!(journal.delete_lineage("b").expect("dropped"));
    assert!(!journal.delete_lineage("b").expect("dropped"));
    assert_eq!(journal.lineages().expect("readable").len(), 1);
}
