//! A flow table that is crowded: where pins lie, that they are found there, and how their places become free.

use lb_common::flow::Phase;
use lb_common::layout::Slot;
use lb_common::table::LIMBO;
use sluice_tests::rig::{Delta, PairDelta, Place, timeout};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Flow, NOTHING, phases};
use super::crowd::{HOME, OVERFLOW, PLACES, SECOND, between, crowd, mirrored, small_table, twins};

/// Pins of home, second bucket and overflow.
fn places(bench: &Bench) -> (usize, usize, usize) {
    let (mut home, mut second, mut overflow) = (0, 0, 0);
    for pin in bench.rig.pins() {
        match pin.place {
            Place::Home(_) => home += 1,
            Place::Second(_) => second += 1,
            Place::Overflow => overflow += 1,
        }
    }
    (home, second, overflow)
}

fn place(bench: &Bench, flow: Flow) -> Place {
    bench.pin(flow).expect("the flow has a pin").place
}

#[test]
fn home_then_second_bucket_then_overflow() {
    for service in [0, 3] {
        let mut bench = small_table();
        let flows = crowd(service, PLACES + OVERFLOW);
        let (began, elsewhere) = if service == 0 { (BEGAN, 2) } else { (BEGAN_UDP, 2) };
        for (number, &flow) in flows.iter().enumerate() {
            bench.sent(flow.first(), "forward_new", 1, began);
            let number = number + 1;
            assert_eq!(
                places(&bench),
                (number.min(8), number.saturating_sub(8).min(8), number.saturating_sub(16))
            );
            let mark = (number.saturating_sub(8).min(8) as u32, number.saturating_sub(16) as u32);
            let marks = bench.rig.marks();
            assert_eq!(marks.get(&HOME).copied().unwrap_or_default(), mark);
            assert!(marks.keys().all(|&bucket| bucket == HOME));
        }
        // Each of them is found, whatever the slots say.
        bench.slots(Slot::settled(elsewhere));
        for &flow in &flows {
            if service == 0 {
                bench.sent(flow.syn(1000), "forward_syn_again", 1, NOTHING);
                bench.sent(flow.ack(1001), "forward_pin", 1, phases(-1, 1, 0));
                bench.sent(flow.syn(7), "forward_syn_established", 1, NOTHING);
            } else {
                bench.sent(flow.datagram(), "forward_pin", 1, NOTHING);
            }
        }
        bench.slots(Slot::open(3, elsewhere));
        for &flow in &flows {
            if service == 0 {
                bench.sent(flow.fin(1001, b""), "forward_pin", 1, phases(0, -1, 1));
                bench.sent(flow.ack(9_000), "forward_pin", 1, phases(0, 1, -1));
            } else {
                bench.sent(flow.datagram(), "forward_pin", 1, NOTHING);
            }
        }
        bench.ends_empty();
    }
}

/// A flow in the second bucket or in overflow ends and begins anew in its place, and its mark stays right.
#[test]
fn flows_begin_anew_where_they_lie() {
    let mut bench = small_table();
    let flows = crowd(0, PLACES + OVERFLOW);
    for &flow in &flows {
        bench.sent(flow.syn(1000), "forward_new", 1, BEGAN);
    }
    let marks = bench.rig.marks();
    bench.slots(Slot::settled(2));
    for &flow in &flows {
        let before = place(&bench, flow);
        let leaves = || Delta::default().pair(0, 1, phases(-1, 0, 0));
        bench.sent_with(flow.syn(2000), "forward_new", 2, BEGAN, leaves());
        assert_eq!(place(&bench, flow), before);
        bench.pinned(flow, 2, Phase::HalfOpen, 0);
    }
    assert_eq!(bench.rig.marks(), marks);
    // The same with pins that are idle.
    bench.rig.pass(timeout::HALF_OPEN + 1);
    bench.slots(Slot::settled(3));
    for &flow in &flows {
        let before = place(&bench, flow);
        if before == Place::Overflow {
            // That is the sweep's: no packet writes to a dead pin there.
            bench.sent_with(flow.ack(2001), "forward_owner", 3, NOTHING, Delta::of(["note_unpinned"]));
            continue;
        }
        let leaves = || Delta::default().pair(0, 2, phases(-1, 0, 0));
        bench.sent_with(flow.ack(2001), "forward_owner", 3, phases(0, 1, 0), leaves());
        assert_eq!(place(&bench, flow), before);
    }
    assert_eq!(bench.rig.marks(), marks);
    bench.rig.pass(LIMBO);
    assert_eq!(bench.rig.sweep().expired, OVERFLOW as u64);
    for &flow in &flows[PLACES..] {
        bench.sent(flow.ack(2001), "forward_owner", 3, phases(0, 1, 0));
        assert_eq!(place(&bench, flow), Place::Overflow);
    }
    assert_eq!(bench.rig.marks(), marks);
    bench.ends_empty();
}

/// Words idle past their timeout are taken by other flows before the sweep comes, with all books set right.
#[test]
fn idle_words_are_taken() {
    let mut bench = small_table();
    let flows = crowd(0, 4 * PLACES);
    for &flow in &flows[..PLACES] {
        bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
    }
    bench.rig.pass(timeout::HALF_OPEN);
    // At the timeout they are live still: overflow.
    bench.sent(flows[60].syn(1), "forward_new", 1, BEGAN);
    assert_eq!(places(&bench), (8, 8, 1));
    bench.rig.pass(1);
    for &flow in &flows[PLACES..2 * PLACES] {
        bench.sent(flow.syn(1), "forward_new", 1, PairDelta { new_flows: 1, ..NOTHING });
    }
    assert_eq!(places(&bench), (8, 8, 1));
    // Those of the flows that were first are gone: their next packets make new pins, as far as there is room.
    bench.sent(flows[0].ack(2), "forward_owner", 1, phases(0, 1, 0));
    assert_eq!(place(&bench, flows[0]), Place::Overflow);
    bench.rig.pass(timeout::HALF_OPEN + 1);
    assert_eq!(bench.rig.sweep().expired, 16);
    bench.rig.pass(LIMBO);
    assert_eq!(bench.rig.sweep().expired, 1, "a dead pin stays in overflow a little longer");
    bench.rig.audit();
    assert_eq!(places(&bench), (0, 0, 1));
    // It stays in overflow while it lives, though home is empty now.
    bench.sent(flows[0].ack(2), "forward_pin", 1, NOTHING);
    assert_eq!(place(&bench, flows[0]), Place::Overflow);
    bench.ends_empty();
}

/// A closing pin is kept from other flows for as long as an established one, as it may be an exception.
#[test]
fn idle_closing_words_wait_for_the_sweep() {
    let mut bench = small_table();
    let flows = crowd(0, 12);
    for &flow in &flows[..8] {
        bench.sent(flow.fin(1, b""), "forward_owner", 1, phases(0, 0, 1));
    }
    bench.rig.pass(timeout::CLOSING + 1);
    bench.sent(flows[8].syn(1), "forward_new", 1, BEGAN);
    assert!(matches!(place(&bench, flows[8]), Place::Second(_)));
    assert_eq!(bench.rig.sweep().expired, 8);
    bench.sent(flows[9].syn(1), "forward_new", 1, BEGAN);
    assert!(matches!(place(&bench, flows[9]), Place::Home(_)));
    assert_eq!(bench.rig.marks(), [(HOME, (1, 0))].into());
    bench.ends_empty();
}

/// Two live flows of one tag never share a bucket: packets are told apart by their tags.
#[test]
fn a_tag_that_is_taken_sends_the_later_flow_to_overflow() {
    let mut bench = small_table();
    let [first, later] = twins(0);
    bench.sent(first.syn(1), "forward_new", 1, BEGAN);
    bench.sent(first.ack(2), "forward_pin", 1, phases(-1, 1, 0));
    // The later one belongs to another host.
    bench.slots_of(&[later], Slot::open(2, 3));
    bench.sent(later.syn(1), "forward_new", 2, BEGAN);
    assert!(matches!(place(&bench, first), Place::Home(_)));
    assert_eq!(place(&bench, later), Place::Overflow);
    bench.sent(later.ack(2), "forward_pin", 2, phases(-1, 1, 0));
    bench.sent(first.ack(2), "forward_pin", 1, NOTHING);
    bench.sent(first.fin(2, b""), "forward_pin", 1, phases(0, -1, 1));
    bench.sent(later.fin(2, b""), "forward_pin", 2, phases(0, -1, 1));
    bench.sent(later.syn(9), "forward_new", 2, PairDelta { closing: -1, ..BEGAN });
    bench.sent(first.syn(9), "forward_new", 1, PairDelta { closing: -1, ..BEGAN });
    // Also where the tags alone would be believed: an open slot, and the host is the stateless answer.
    bench.sent(first.ack(10), "forward_pin", 1, phases(-1, 1, 0));
    bench.sent(later.ack(10), "forward_pin", 2, phases(-1, 1, 0));
    bench.slots_of(&[later], Slot::open(2, 1));
    bench.sent(later.ack(10), "forward_pin", 2, NOTHING);
    // The first one ends: the later one stays where it is, and is found.
    bench.rig.pass(timeout::ESTABLISHED);
    bench.sent(later.ack(10), "forward_pin", 2, NOTHING);
    bench.rig.pass(1);
    assert_eq!(bench.rig.sweep().expired, 1);
    bench.not_pinned(first);
    bench.sent(later.ack(10), "forward_pin", 2, NOTHING);
    assert_eq!(bench.rig.marks().len(), 1);
    bench.ends_empty();
}

/// The same tag in the second bucket of one flow and the home of another, in either order.
#[test]
fn tags_meet_between_home_and_second_bucket() {
    for turned in [false, true] {
        let mut bench = small_table();
        let [mut first, mut later] = mirrored(0);
        if turned {
            (first, later) = (later, first);
        }
        let home = bench.rig.bucket(&first.tuple());
        let second = bench.rig.bucket(&later.tuple());
        // The first one's home is full, so it goes to its second bucket, the home of the later one.
        let others: Vec<_> =
            between(0, home, second, 9).into_iter().filter(|flow| *flow != first).take(8).collect();
        for &flow in &others {
            bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
        }
        bench.sent(first.ack(1), "forward_owner", 1, phases(0, 1, 0));
        assert!(matches!(place(&bench, first), Place::Second(_)));
        bench.slots_of(&[later], Slot::settled(2));
        bench.sent(later.syn(1), "forward_new", 2, BEGAN);
        assert_eq!(place(&bench, later), Place::Overflow);
        bench.sent(later.ack(1), "forward_pin", 2, phases(-1, 1, 0));
        bench.sent(first.ack(1), "forward_pin", 1, NOTHING);
        // The first one ends and comes back: its home has room now, but its tag must not be there and in the second
        // bucket of the later one at once.
        bench.rig.pass(timeout::HALF_OPEN + 1);
        assert_eq!(bench.rig.sweep().expired, 8);
        bench.rig.pass(timeout::ESTABLISHED - timeout::HALF_OPEN - 1);
        bench.sent(later.ack(1), "forward_pin", 2, NOTHING);
        bench.rig.pass(1);
        bench.sent(first.ack(1), "forward_owner", 1, NOTHING);
        bench.sent(later.ack(1), "forward_pin", 2, NOTHING);
        bench.ends_empty();
    }
}

/// A flow lies in its second bucket; its twin of the same home begins when home has room again.
#[test]
fn a_twin_in_the_second_bucket_is_seen_from_home() {
    let mut bench = small_table();
    let [first, later] = twins(0);
    let home = bench.rig.bucket(&first.tuple());
    let hash = sluice_tests::rig::Rig::hash(&first.tuple());
    let second = lb_common::hash::other_bucket(home, hash.tag(), super::crowd::BUCKETS - 1);
    assert_ne!((home, second), (HOME, SECOND), "or the flows below are the twins themselves");
    let others = between(0, home, second, 10);
    for &flow in others.iter().filter(|flow| ![first, later].contains(flow)).take(8) {
        bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
    }
    bench.sent(first.ack(1), "forward_owner", 1, phases(0, 1, 0));
    assert!(matches!(place(&bench, first), Place::Second(_)));
    bench.rig.pass(timeout::HALF_OPEN + 1);
    assert_eq!(bench.rig.sweep().expired, 8);
    bench.slots_of(&[later], Slot::open(2, 3));
    bench.sent(later.syn(1), "forward_new", 2, BEGAN);
    assert_eq!(place(&bench, later), Place::Overflow);
    bench.sent(first.ack(1), "forward_pin", 1, NOTHING);
    bench.sent(later.ack(1), "forward_pin", 2, phases(-1, 1, 0));
    bench.ends_empty();
}

/// After everything has ended, by whatever way, nothing is left in any book.
#[test]
fn everything_ends() {
    let mut bench = small_table();
    for service in [0, 1] {
        for &flow in &crowd(service, 9) {
            let began = if service == 0 { BEGAN } else { BEGAN_UDP };
            bench.sent(flow.first(), "forward_new", 1, began);
        }
    }
    assert_eq!(places(&bench), (8, 8, 2));
    bench.slots(Slot::open(2, 1));
    let tcp = crowd(0, 9);
    for (number, &flow) in tcp.iter().enumerate() {
        if number % 3 > 0 {
            bench.sent(flow.ack(1001), "forward_pin", 1, phases(-1, 1, 0));
        }
        if number % 3 > 1 {
            bench.sent(flow.rst(1001), "forward_pin", 1, phases(0, -1, 1));
        }
    }
    for (wait, ended) in [
        (timeout::CLOSING, 0),
        (1, 3),
        // Two of them are in overflow.
        (timeout::UDP - timeout::CLOSING, 7),
        (LIMBO, 2),
        (30 - LIMBO, 3),
        (480, 3),
    ] {
        bench.rig.pass(wait);
        assert_eq!(bench.rig.sweep().expired, ended, "{wait} s later");
        bench.rig.audit();
    }
    assert_eq!(bench.rig.pins(), []);
    bench.ends_empty();
}
