//! A flow table that is full: who has to go, who must not, and what becomes of a flow that finds no place.

use lb_common::flow::Phase;
use lb_common::layout::{HostState, Slot};
use sluice_tests::rig::{Delta, PairDelta, START, timeout};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Flow, NOTHING, phases};
use super::crowd::{OVERFLOW, PLACES, crowd, small_table};

/// Flows of both buckets and the overflow map, and as many more.
fn all(service: u16) -> (Vec<Flow>, Vec<Flow>) {
    let mut flows = crowd(service, 2 * (PLACES + OVERFLOW));
    let rest = flows.split_off(PLACES + OVERFLOW);
    (flows, rest)
}

/// A new flow for which `victim` has to go: one live pin fewer of that phase, and booked as dropped.
#[track_caller]
fn replaces(bench: &mut Bench, new: Flow, victim: Flow, of: PairDelta) {
    let change = BEGAN + of + PairDelta { evicted: 1, ..NOTHING };
    let place = bench.pin(victim).expect("the victim has a pin").place;
    bench.sent(new.syn(1), "forward_new", 1, change);
    bench.not_pinned(victim);
    assert_eq!(bench.pin(new).unwrap().place, place);
    assert_eq!(bench.rig.dataplane.incomplete_since(1), u64::from(bench.rig.now()));
}

#[test]
fn a_full_table_drops_half_open_pins_only_when_they_are_old() {
    let mut bench = small_table();
    let (flows, rest) = all(0);
    for &flow in &flows {
        bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
    }
    // A settled slot: the flow is forwarded without a pin, which its host's gauge does not count.
    bench.rig.pass(64);
    let unpinned = || Delta::of(["note_unpinned"]);
    bench.sent_with(rest[0].syn(1), "forward_new", 1, NOTHING, unpinned());
    bench.sent_with(rest[0].ack(2), "forward_owner", 1, NOTHING, unpinned());
    bench.not_pinned(rest[0]);
    assert_eq!(bench.rig.dataplane.incomplete_since(1), u64::from(START + 64));
    // Of those that are old enough, the one that is idle longest; not one in overflow.
    bench.sent(flows[3].syn(1), "forward_syn_again", 1, NOTHING);
    for (number, &flow) in flows.iter().enumerate() {
        bench.rig.pass(u32::from(number == 0));
        if ![2, 3, 11, 17].contains(&number) {
            bench.sent(flow.syn(1), "forward_syn_again", 1, NOTHING);
        }
    }
    bench.rig.pass(1);
    bench.sent(flows[2].syn(1), "forward_syn_again", 1, NOTHING);
    replaces(&mut bench, rest[0], flows[11], phases(-1, 0, 0));
    // The others are younger than 64 s, and that in overflow is no victim.
    bench.rig.pass(50);
    bench.sent_with(rest[1].syn(1), "forward_new", 1, NOTHING, unpinned());
    // Number 3 was seen a second before the others.
    bench.rig.pass(13);
    replaces(&mut bench, rest[1], flows[3], phases(-1, 0, 0));
    bench.ends_empty();
}

#[test]
fn victims_go_in_the_order_of_their_worth() {
    let mut bench = small_table();
    let (flows, rest) = all(0);
    let mut rest = rest.into_iter();
    // Established: 0 to 3 (home) and 8 to 11 (second bucket); the slots are settled.
    // Closing: 4, 5 and 12; half-open: 6, 7, 13, 14, 15 and overflow.
    for (number, &flow) in flows.iter().enumerate() {
        bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
        if matches!(number, 0..4 | 8..12) {
            bench.sent(flow.ack(2), "forward_pin", 1, phases(-1, 1, 0));
        }
    }
    bench.rig.pass(60);
    bench.sent(flows[7].syn(1), "forward_syn_again", 1, NOTHING);
    for number in [12, 5, 4] {
        bench.sent(flows[number].fin(2, b""), "forward_pin", 1, phases(-1, 0, 1));
        bench.rig.pass(2);
    }
    // 66 s after their SYN: 6, 13, 14 and 15 are old; 7 is not.
    // Closing pins first, as their slots are settled; those of home before the other.
    for mut closing in [vec![4, 5], vec![12]] {
        while !closing.is_empty() {
            let change = BEGAN + phases(0, 0, -1) + PairDelta { evicted: 1, ..NOTHING };
            bench.sent(rest.next().unwrap().syn(1), "forward_new", 1, change);
            let before = closing.len();
            closing.retain(|number| bench.pin(flows[*number]).is_some());
            assert_eq!(closing.len(), before - 1, "one of the closing pins");
        }
    }
    let mut old = vec![6, 13, 14, 15];
    while !old.is_empty() {
        let new = rest.next().unwrap();
        bench.sent(new.syn(1), "forward_new", 1, PairDelta { evicted: 1, half_open: 0, ..BEGAN });
        let gone: Vec<_> = old.iter().copied().filter(|&number| bench.pin(flows[number]).is_none()).collect();
        assert_eq!(gone.len(), 1, "one of the old half-open pins");
        old.retain(|number| *number != gone[0]);
    }
    assert!(bench.pin(flows[7]).is_some());
    // Then live pins of settled slots, those of home first. C3 keeps their flows.
    for mut established in [vec![0, 1, 2, 3], vec![8, 9, 10, 11]] {
        while !established.is_empty() {
            let new = rest.next().unwrap();
            let change = PairDelta { evicted: 1, established: -1, ..BEGAN };
            bench.sent(new.syn(1), "forward_new", 1, change);
            let before = established.len();
            established.retain(|number| bench.pin(flows[*number]).is_some());
            assert_eq!(established.len(), before - 1, "one of the established pins");
        }
    }
    // Only young half-open pins are left.
    let last = rest.next().unwrap();
    bench.sent_with(last.syn(1), "forward_new", 1, NOTHING, Delta::of(["note_unpinned"]));
    bench.ends_empty();
}

/// A FIN may be forged: in a slot in handover the pin is all that keeps its flow at its host.
#[test]
fn closing_pins_of_open_slots_stay() {
    let mut bench = small_table();
    let (flows, rest) = all(0);
    for &flow in &flows {
        bench.sent(flow.ack(1), "forward_owner", 1, phases(0, 1, 0));
    }
    bench.setup.state(1, HostState::Draining);
    bench.slots(Slot::open(2, 1));
    for &flow in &flows {
        bench.sent(flow.fin(1, b""), "forward_pin", 1, phases(0, -1, 1));
    }
    let before = bench.rig.pins();
    for new in &rest[..8] {
        bench.dropped(new.syn(1), Delta::of(["drop_no_place"]));
    }
    assert_eq!(bench.rig.pins(), before);
    // Settled again, they are in nobody's way.
    bench.setup.state(1, HostState::Up);
    bench.slots(Slot::settled(1));
    replaces(&mut bench, rest[8], flows[0], phases(0, 0, -1));
    bench.ends_empty();
}

/// More half-open pins than their quarter of the table: a flood. The oldest of them go, however young.
#[test]
fn half_open_pins_over_their_quota_go() {
    let mut bench = small_table();
    let (flows, rest) = all(0);
    for (number, &flow) in flows.iter().enumerate() {
        bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
        if number == 9 {
            bench.rig.pass(1);
        }
    }
    // 20 of them; the quota is 128 words / 2 / 4.
    assert_eq!(bench.rig.sweep().counted(1), 20);
    bench.sent(flows[4].ack(2), "forward_pin", 1, phases(-1, 1, 0));
    let mut left: Vec<_> = (0..10).filter(|number| *number != 4).collect();
    for &new in &rest[..9] {
        bench.sent(new.syn(1), "forward_new", 1, PairDelta { evicted: 1, half_open: 0, ..BEGAN });
        left.retain(|number| bench.pin(flows[*number]).is_some());
        assert!(flows[10..].iter().all(|&flow| bench.pin(flow).is_some()));
    }
    assert_eq!(left, [0; 0]);
    bench.pinned(flows[4], 1, Phase::Established, 0);
    bench.ends_empty();
}

/// A flood that fills both buckets within a second: a handshake must have time to end.
#[test]
fn of_half_open_pins_of_one_second_it_is_not_always_the_latest_that_goes() {
    let mut bench = small_table();
    let (flows, rest) = all(0);
    for &flow in &flows {
        bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
    }
    assert_eq!(bench.rig.sweep().counted(1), 20);
    for &new in &rest[..16] {
        bench.sent(new.syn(1), "forward_new", 1, PairDelta { evicted: 1, half_open: 0, ..BEGAN });
    }
    // The bucket is chosen by a bit of the tag, and in each the places go in turn: those before a ninth eviction stay.
    let left = rest[..16].iter().filter(|&&flow| bench.pin(flow).is_some()).count();
    assert!(left >= 12, "{left} of 16 are left");
    bench.ends_empty();
}

/// In a slot in handover a half-open pin keeps the end of the handshake at the SYN's host.
#[test]
fn half_open_pins_of_open_slots_go_only_for_those_that_need_a_pin() {
    let mut bench = small_table();
    let (flows, rest) = all(0);
    bench.slots(Slot::open(2, 1));
    for &flow in &flows {
        bench.sent(flow.syn(1), "forward_new", 2, BEGAN);
    }
    assert_eq!(bench.rig.sweep().counted(2), 20);
    bench.slots_of(&rest[..1], Slot::settled(3));
    let settled = bench.rig.slot(&rest[0].tuple());
    let before = bench.rig.pins();
    bench.sent_with(rest[0].syn(1), "forward_new", 3, NOTHING, Delta::of(["note_unpinned"]));
    bench.sent_with(rest[0].ack(2), "forward_owner", 3, NOTHING, Delta::of(["note_unpinned"]));
    assert_eq!(bench.rig.pins(), before);
    let needs = rest[1..].iter().find(|flow| bench.rig.slot(&flow.tuple()) != settled).copied().unwrap();
    bench.sent(needs.syn(1), "forward_new", 2, PairDelta { evicted: 1, half_open: 0, ..BEGAN });
    bench.pinned(needs, 2, Phase::HalfOpen, 0);
    bench.ends_empty();
}

/// Of half-open pins those of settled slots go first, however young, as long as there are any in either bucket. What needs no
/// pin gets none at the cost of the others.
#[test]
fn half_open_pins_of_settled_slots_go_before_those_of_open_ones() {
    let mut bench = small_table();
    let (flows, rest) = all(0);
    bench.slots(Slot::open(2, 1));
    for &flow in &flows {
        bench.sent(flow.syn(1), "forward_new", 2, BEGAN);
    }
    bench.rig.pass(5);
    // Flows with a slot of their own, so that it can be settled for them alone.
    let slots: Vec<u32> = flows.iter().chain(&rest).map(|flow| bench.rig.slot(&flow.tuple())).collect();
    let alone = |all: &[Flow], from: usize| -> Vec<Flow> {
        let is_alone = |at: usize| slots.iter().filter(|slot| **slot == slots[from + at]).count() == 1;
        (0..all.len()).filter(|at| is_alone(*at)).map(|at| all[at]).collect()
    };
    let [young, .., established] = alone(&flows[..PLACES], 0)[..] else { panic!("slots of many flows") };
    bench.sent(young.syn(1), "forward_syn_again", 2, NOTHING);
    bench.sent(established.ack(2), "forward_pin", 2, phases(-1, 1, 0));
    assert_eq!(bench.rig.sweep().counted(2), 20);
    let plain = &alone(&rest, flows.len())[..3];
    let needy: Vec<Flow> = rest.iter().filter(|flow| !plain.contains(flow)).copied().collect();
    bench.slots_of(&[&[young, established], plain].concat(), Slot::settled(2));

    let replaces = PairDelta { evicted: 1, half_open: 0, ..BEGAN };
    bench.sent(needy[0].syn(1), "forward_new", 2, replaces);
    bench.not_pinned(young);
    // For one that needs no pin none goes whose flow needs it, but an established one of a settled slot may.
    bench.sent(plain[0].syn(1), "forward_new", 2, PairDelta { evicted: 1, established: -1, ..BEGAN });
    bench.not_pinned(established);
    bench.sent(plain[1].syn(1), "forward_new", 2, replaces);
    bench.not_pinned(plain[0]);
    bench.sent(needy[1].syn(1), "forward_new", 2, replaces);
    bench.not_pinned(plain[1]);
    // Only half-open pins of open slots are left. What gets no pin lives all the same, and its host's gauge does not tell.
    let before = bench.rig.pins();
    bench.rig.pass(1);
    bench.sent_with(plain[2].syn(1), "forward_new", 2, NOTHING, Delta::of(["note_unpinned"]));
    assert_eq!(bench.rig.pins(), before);
    assert_eq!(bench.rig.dataplane.incomplete_since(2), u64::from(bench.rig.now()));
    bench.sent(needy[2].syn(1), "forward_new", 2, replaces);
    bench.ends_empty();
}

/// The heart of it: an established pin of a slot in handover never goes, and what cannot be pinned does not begin.
#[test]
fn established_pins_of_open_slots_stay() {
    for service in [0, 2] {
        let mut bench = small_table();
        let (flows, rest) = all(service);
        bench.slots(Slot::settled(3));
        for &flow in &flows[..PLACES] {
            bench.sent(flow.ack(1), "forward_owner", 3, phases(0, 1, 0));
        }
        for &flow in &flows[PLACES..] {
            bench.sent(flow.syn(1), "forward_new", 3, BEGAN);
        }
        bench.slots(Slot::open(2, 1));
        let before = bench.rig.pins();
        bench.dropped(rest[0].syn(1), Delta::of(["drop_no_place"]));
        bench.dropped(rest[0].syn(1), Delta::of(["drop_no_place"]));
        // Mid-flow without a pin: the previous owner, whom it goes to without a pin, too, while the handover is open.
        bench.sent_with(rest[1].ack(1), "forward_previous", 1, NOTHING, Delta::of(["note_unpinned"]));
        assert_eq!(bench.rig.pins(), before);
        // Were the handover closed before that flow has spoken again, it would move to the owner.
        assert_eq!(bench.rig.dataplane.lost_at(), u64::from(bench.rig.now()));
        assert_eq!(bench.rig.dataplane.incomplete_since(1), u64::from(bench.rig.now()));
        for &flow in &flows[..PLACES] {
            bench.sent(flow.ack(1), "forward_pin", 3, NOTHING);
        }
        // One slot settles: its pins may go, the others' not.
        bench.slots_of(&flows[5..6], Slot::settled(2));
        let settled = bench.rig.slot(&flows[5].tuple());
        let may_go: Vec<_> =
            flows[..PLACES].iter().filter(|flow| bench.rig.slot(&flow.tuple()) == settled).copied().collect();
        let news: Vec<_> = rest[2..].iter().filter(|flow| bench.rig.slot(&flow.tuple()) != settled).collect();
        for (new, _) in news.iter().zip(&may_go) {
            let gone = PairDelta { evicted: 1, established: -1, ..NOTHING };
            let elsewhere = Delta::default().pair(service, 3, gone);
            bench.sent_with(new.syn(1), "forward_new", 2, BEGAN, elsewhere);
        }
        assert!(may_go.iter().all(|&flow| bench.pin(flow).is_none()));
        bench.dropped(news[may_go.len()].syn(1), Delta::of(["drop_no_place"]));
        bench.ends_empty();
    }
}

#[test]
fn live_udp_pins_stay() {
    for service in [1, 3] {
        let mut bench = small_table();
        let (flows, rest) = all(service);
        for &flow in &flows {
            bench.sent(flow.datagram(), "forward_new", 1, BEGAN_UDP);
        }
        bench.rig.pass(timeout::UDP);
        let before = bench.rig.pins();
        let lost = bench.rig.dataplane.lost_at();
        // In a settled slot the flow goes on to its owner without a pin.
        bench.sent_with(rest[0].datagram(), "forward_new", 1, NOTHING, Delta::of(["note_unpinned"]));
        assert_eq!(bench.rig.dataplane.lost_at(), lost);
        // A SYN does not drive them out either, whether its slot is settled or open.
        let tcp = crowd(service - 1, 1)[0];
        bench.sent_with(tcp.syn(1), "forward_new", 1, NOTHING, Delta::of(["note_unpinned"]));
        bench.slots(Slot::open(2, 1));
        bench.dropped(tcp.syn(1), Delta::of(["drop_no_place"]));
        // A UDP flow cannot be told to try again; that it is an exception which nothing remembers is written down.
        bench.sent_with(rest[1].datagram(), "forward_new", 2, NOTHING, Delta::of(["note_unpinned"]));
        assert_eq!(bench.rig.dataplane.lost_at(), u64::from(bench.rig.now()));
        assert_eq!(bench.rig.dataplane.incomplete_since(2), u64::from(bench.rig.now()));
        assert_eq!(bench.rig.pins(), before);
        for &flow in &flows {
            bench.sent(flow.datagram(), "forward_pin", 1, NOTHING);
        }
        bench.ends_empty();
    }
}

/// An overflow map that is full of flows of one bucket has no room for another bucket's twins.
#[test]
fn a_tag_conflict_without_overflow_finds_no_place() {
    let mut bench = small_table();
    let [first, later] = super::crowd::twins(0);
    let (flows, _) = all(0);
    assert!(!flows.contains(&first) && !flows.contains(&later));
    for &flow in &flows {
        bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
    }
    bench.sent(first.ack(1), "forward_owner", 1, phases(0, 1, 0));
    bench.slots(Slot::open(2, 1));
    bench.dropped(later.syn(1), Delta::of(["drop_no_place"]));
    bench.sent(first.ack(1), "forward_pin", 1, NOTHING);
    bench.ends_empty();
}
