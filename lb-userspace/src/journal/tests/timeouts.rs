use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::config::limits::default::TIMEOUTS;
use crate::model::Timeouts;

fn udp(seconds: u64) -> Timeouts {
    Timeouts { udp: Duration::from_secs(seconds), ..TIMEOUTS }
}

fn sets<const N: usize>(seconds: [u64; N]) -> BTreeSet<Timeouts> {
    seconds.map(udp).into()
}

fn numbered(journal: &mut Journal, seconds: &[u64], now: u64) -> Vec<(u8, u64)> {
    let used: BTreeSet<Timeouts> = seconds.iter().copied().map(udp).collect();
    let sets = journal.timeout_sets(&used, now).expect("numbered");
    journal.note_timeout_sets(&sets).expect("noted");
    sets.into_iter().map(|(number, set)| (number, set.timeouts.udp.as_secs())).collect()
}

#[test]
fn a_set_keeps_its_number_while_pins_may_carry_it() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    assert_eq!(numbered(&mut journal, &[7000, 5], NOW), [(0, 5), (1, 7000)]);
    drop(journal);
    let mut journal = open(&path);
    // The first one is used no more, and its longest timeout is that of established connections.
    let longest = TIMEOUTS.longest().as_secs();
    assert_eq!(numbered(&mut journal, &[7000], NOW), [(0, 5), (1, 7000)]);
    assert_eq!(numbered(&mut journal, &[7000], NOW + longest), [(0, 5), (1, 7000)]);
    assert_eq!(numbered(&mut journal, &[7000], NOW + longest + 1), [(1, 7000)]);
    assert_eq!(numbered(&mut journal, &[7000, 9], NOW + longest + 1), [(0, 9), (1, 7000)]);
}

/// A data path that is refused goes by nothing: pins are still made by what was noted before.
#[test]
fn what_is_not_noted_has_not_happened() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    numbered(&mut journal, &[5], NOW);
    let longest = TIMEOUTS.longest().as_secs();
    for later in [1, 2, 3] {
        let sets = journal.timeout_sets(&sets([6]), NOW + later * longest).expect("numbered");
        assert_eq!(sets[&0].unused_since, Some(NOW + later * longest));
        assert_eq!(sets[&1].timeouts, udp(6));
    }
}

#[test]
fn the_set_that_is_unused_for_longest_gives_way() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    assert_eq!(numbered(&mut journal, &[4, 5, 6, 7], NOW), [(0, 4), (1, 5), (2, 6), (3, 7)]);
    numbered(&mut journal, &[4, 5, 7], NOW);
    numbered(&mut journal, &[4, 7], NOW + 1);
    assert_eq!(numbered(&mut journal, &[4, 7, 8], NOW + 2), [(0, 4), (1, 5), (2, 8), (3, 7)]);
    // One that is used again is in nobody's way.
    assert_eq!(numbered(&mut journal, &[4, 5, 8, 7], NOW + 3), [(0, 4), (1, 5), (2, 8), (3, 7)]);
}

#[test]
fn more_than_there_are_numbers_are_refused_and_change_nothing() {
    let (_dir, path) = place();
    let mut journal = open(&path);
    numbered(&mut journal, &[5], NOW);
    let error = journal.timeout_sets(&sets([5, 6, 7, 8, 9]), NOW).expect_err("too many");
    assert!(matches!(error, Error::TooManyTimeouts), "{error}");
    assert_eq!(numbered(&mut journal, &[5], NOW), [(0, 5)]);
}
