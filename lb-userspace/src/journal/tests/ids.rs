use std::collections::BTreeMap;

use crate::api::types::Order;
use crate::drain::Drain;

use super::*;

fn ids<const N: usize>(pairs: [(&str, u16); N]) -> BTreeMap<String, u16> {
    pairs.into_iter().map(|(name, id)| (name.to_owned(), id)).collect()
}

fn hosts<const N: usize>(names: [&str; N]) -> Numbers {
    Numbers { hosts: ids(names.map(|name| (name, 0))), ..Numbers::default() }
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
    assert_eq!(journal.all_numbers().expect("readable").services, ids([("web", 1)]));
}

#[test]
fn a_number_is_used_again_only_after_its_release() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.host_ids(&["a", "b", "c"]).expect("numbered");
    journal.release(&hosts(["b"])).expect("released");
    journal.release(&hosts(["b"])).expect("nothing to release");
    let next = journal.host_ids(&["d", "e"]).expect("numbered");
    assert_eq!(next, ids([("d", 2), ("e", 4)]), "the gap first, then the end");
}

#[test]
fn numbers_of_each_kind_are_given_back() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    let pair = |service: &str, host: &str| (service.to_owned(), host.to_owned());
    let made = journal.stat_ids(&[("web", "a"), ("web", "b"), ("dns", "a"), ("we", "ba")]).expect("numbered");
    journal.host_ids(&["a", "b"]).expect("numbered");
    journal.service_ids(&["web", "dns"]).expect("numbered");
    let mut gone = journal.all_numbers().expect("readable");
    assert_eq!(gone.stats, made);
    gone.hosts.remove("b");
    gone.services.remove("dns");
    gone.stats.retain(|(service, _), _| service != "we");
    journal.release(&gone).expect("released");
    let left = journal.all_numbers().expect("readable");
    assert_eq!((left.hosts, left.services), (ids([("b", 2)]), ids([("dns", 2)])));
    assert_eq!(left.stats, BTreeMap::from([(pair("we", "ba"), 4)]));
    let again = journal.stat_ids(&[("new", "a"), ("web", "b")]).expect("numbered");
    assert_eq!(again, BTreeMap::from([(pair("new", "a"), 1), (pair("web", "b"), 2)]));
}

/// Versions before had no limit of their own.
#[test]
fn a_number_that_the_data_path_has_no_place_for_is_replaced() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    journal.stat_ids(&[("web", "a")]).expect("numbered");
    journal.db.execute("UPDATE ids SET id = 16385", []).expect("written");
    let again = journal.stat_ids(&[("web", "a")]).expect("numbered");
    assert_eq!(again.into_values().collect::<Vec<_>>(), [1]);
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
        clients: None,
        started_at: NOW,
        by: "ann".to_owned(),
        reason: None,
        order: Order::default(),
        start: None,
    };
    journal.drain(&[drain], &[], &by("ann")).expect("begun");
    journal.release(&hosts(["a"])).expect("nothing to release");
    assert_eq!(journal.known_hosts().expect("readable"), ids([("a", 1)]));
}
