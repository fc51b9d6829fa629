use std::collections::BTreeMap;

use crate::api::types::Order;
use crate::drain::Drain;

use super::*;

fn ids<const N: usize>(pairs: [(&str, u16); N]) -> BTreeMap<String, u16> {
    pairs.into_iter().map(|(name, id)| (name.to_owned(), id)).collect()
}

#[test]
fn a_name_keeps_its_number() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    assert_eq!(journal.host_ids(&["b", "a", "b"]).expect("numbered"), ids([("b", 1), ("a", 2)]));
    assert_eq!(
        journal.service_ids(&["web"]).expect("numbered"),
        ids([("web", 1)]),
        "kinds count by themselves"
    );
    drop(journal);
    let mut journal = open(&path);
    assert_eq!(journal.host_ids(&["c", "a"]).expect("numbered"), ids([("c", 3), ("a", 2)]));
    assert_eq!(journal.known_hosts().expect("readable"), ids([("a", 2), ("b", 1), ("c", 3)]));
    assert_eq!(journal.known_services().expect("readable"), ids([("web", 1)]));
}

#[test]
fn a_number_is_used_again_only_after_its_release() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.host_ids(&["a", "b", "c"]).expect("numbered");
    assert!(journal.release_host("b").expect("released"));
    assert!(!journal.release_host("b").expect("nothing to release"));
    let next = journal.host_ids(&["d", "e"]).expect("numbered");
    assert_eq!(next, ids([("d", 2), ("e", 4)]), "the gap first, then the end");
}

#[test]
fn pairs_go_with_their_host_and_service() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let pairs = [("web", "a"), ("web", "b"), ("dns", "a"), ("we", "ba")];
    let made = journal.stat_ids(&pairs).expect("numbered");
    assert_eq!(made.values().copied().max(), Some(4));
    assert_eq!(journal.stat_ids(&pairs).expect("numbered"), made);
    journal.host_ids(&["a"]).expect("numbered");
    assert!(journal.release_host("a").expect("released"));
    let again =
        journal.stat_ids(&[("new", "a"), ("web", "b"), ("newer", "a"), ("newest", "a")]).expect("numbered");
    let id = |service: &str, host: &str| again[&(service.to_owned(), host.to_owned())];
    assert_eq!((id("new", "a"), id("newer", "a"), id("newest", "a"), id("web", "b")), (1, 3, 5, 2));
    journal.service_ids(&["web"]).expect("numbered");
    assert!(journal.release_service("web").expect("released"));
    assert!(!journal.release_stat("web", "b").expect("went with its service"));
    assert!(journal.release_stat("we", "ba").expect("released"));
}

#[test]
fn when_the_numbers_run_out_nobody_gets_one() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let many: Vec<String> = (0..4093).map(|number| format!("host-{number}")).collect();
    let made = journal.host_ids(&many).expect("numbered");
    assert_eq!(made.values().copied().max(), Some(4093));
    let error = journal.host_ids(&["one", "too-many"]).expect_err("exhausted");
    assert!(matches!(error, Error::IdsExhausted { kind: IdKind::Host, max: 4094 }), "{error}");
    assert_eq!(journal.known_hosts().expect("readable").len(), 4093, "all or none");
    assert_eq!(journal.host_ids(&["one"]).expect("numbered"), ids([("one", 4094)]));
}

#[test]
fn a_host_that_is_drained_keeps_its_number() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.host_ids(&["a"]).expect("numbered");
    let drain = Drain {
        id: 1,
        host: "a".to_owned(),
        service: None,
        started_at: NOW,
        by: "ann".to_owned(),
        reason: None,
        order: Order::default(),
        start: None,
    };
    journal.drain(&[drain], &[], &by("ann")).expect("begun");
    let error = journal.release_host("a").expect_err("in use");
    assert!(matches!(error, Error::HostInUse { drain: 1, .. }), "{error}");
    assert_eq!(journal.known_hosts().expect("readable"), ids([("a", 1)]));
}
