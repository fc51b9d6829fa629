//! Histories written by hand, with every action named.

use crate::api::types::{AdminState, Outcome, Receipt};

use super::*;

fn receipt() -> Receipt {
    Receipt {
        drain: 7,
        host: HOST.to_owned(),
        outcome: Outcome::Drained,
        by: "ann".to_owned(),
        reason: Some("kernel".to_owned()),
        started_at: 1000,
        ended_at: 1042,
        generation: 12,
        flows_at_start: 5,
        ended: 5,
        ..Receipt::default()
    }
}

/// A run that is draining with 5 flows, rings published.
fn draining() -> Run {
    let mut run = Run::new();
    run.offer(drain_event(7, gauges(6)), 1000);
    run.offer(published(gauges(5)), 1000);
    run
}

#[test]
fn a_drain_from_its_begin_to_its_end() {
    let mut run = Run::new();
    let begun = run.offer(drain_event(7, gauges(6)), 1000);
    let drain = Drain {
        id: 7,
        host: HOST.to_owned(),
        service: None,
        clients: None,
        started_at: 1000,
        by: "ann".to_owned(),
        reason: Some("kernel".to_owned()),
        order: Order::default(),
        start: None,
    };
    assert_eq!(begun, [Action::Begin(drain), Action::PublishRings]);
    let start = Start { generation: 12, flows: 5, ..Start::default() };
    assert_eq!(run.offer(published(gauges(5)), 1000), [Action::NoteStart { drain: 7, start }]);
    assert_eq!(run.offer(Event::Sweep(sweep(40, gauges(2))), 1040), []);
    assert_eq!(run.offer(Event::Sweep(sweep(41, gauges(0))), 1041), [Action::SealHost(HOST.to_owned())]);
    assert_eq!(run.state.admin(), AdminState::Draining);
    let end = run.offer(Event::Sweep(sweep(42, gauges(0))), 1042);
    assert_eq!(end, [Action::Finish(receipt()), Action::PublishRings]);
    assert_eq!(run.state.admin(), AdminState::Drained);
    let status = run.state.status(LiveFlows::default(), 1042).expect("a drain is in force");
    assert_eq!((status.id, status.state.as_str(), status.waiting_for), (7, "drained", None));
    assert_eq!(status.receipt, Some(receipt()));
}

#[test]
fn a_pin_after_the_seal_takes_the_seal_off() {
    let mut run = draining();
    run.offer(Event::Sweep(sweep(41, gauges(0))), 1041);
    let sneaked = run.offer(Event::Sweep(sweep(42, gauges(1))), 1042);
    assert_eq!(sneaked, [Action::UnsealHost(HOST.to_owned())]);
    assert_eq!(run.offer(Event::Sweep(sweep(43, gauges(0))), 1043), [Action::SealHost(HOST.to_owned())]);
    assert_eq!(run.state.admin(), AdminState::Draining);
    let end = run.offer(Event::Sweep(sweep(44, gauges(0))), 1044);
    let Some(Action::Finish(receipt)) = end.first() else { panic!("not finished: {end:?}") };
    assert_eq!((receipt.flows_at_start, receipt.ended), (5, 6), "the pin that came later ended too");
}

#[test]
fn nothing_is_sealed_before_the_rings_are_published() {
    let mut run = Run::new();
    run.offer(drain_event(7, gauges(0)), 1000);
    assert_eq!(run.offer(Event::Sweep(sweep(500, gauges(0))), 1000), []);
    assert_eq!(run.offer(Event::Sweep(sweep(501, gauges(0))), 1001), []);
    let status = run.state.status(LiveFlows::default(), 1042).expect("draining");
    assert_eq!(status.waiting_for.as_deref(), Some("the rings without this host are being published"));
}

#[test]
fn a_disagreeing_count_or_a_silent_flow_holds_the_drain_open() {
    let mut run = draining();
    let miscounted = Observation { counted: 1, ..sweep(41, gauges(0)) };
    let silent = Observation { complete_since: 11, ..sweep(41, gauges(0)) };
    for observation in [miscounted, silent.clone()] {
        assert_eq!(run.offer(Event::Sweep(observation), 1041), []);
    }
    let by_slots = Observation { slots_open_long_enough: true, ..silent.clone() };
    assert_eq!(run.offer(Event::Sweep(by_slots), 1041), [Action::SealHost(HOST.to_owned())]);
    // Exactly T is not enough, and a loss between the two sweeps takes the seal off.
    assert_eq!(run.offer(Event::Sweep(silent.clone()), 1041), [Action::UnsealHost(HOST.to_owned())]);
    let longer = Observation { complete_since: 10, ..silent };
    assert_eq!(run.offer(Event::Sweep(longer), 1041), [Action::SealHost(HOST.to_owned())]);
}

#[test]
fn asking_twice_changes_nothing() {
    let mut run = draining();
    let before = run.state.clone();
    assert_eq!(run.offer(drain_event(8, gauges(5)), 1001), []);
    assert_eq!(run.offer(published(gauges(3)), 1001), []);
    assert_eq!(run.state, before);
    run.offer(Event::Sweep(sweep(41, gauges(0))), 1041);
    run.offer(Event::Sweep(sweep(42, gauges(0))), 1042);
    let drained = run.state.clone();
    assert_eq!(run.offer(drain_event(9, gauges(0)), 1043), []);
    assert_eq!(run.state, drained, "a drained host answers the drain that is finished");
    assert_eq!(Run::new().offer(Event::Undrain { gauges: gauges(3) }, 1), [], "undrain of a host in use");
}

#[test]
fn an_undrain_ends_the_drain_and_says_what_is_left() {
    let mut run = draining();
    run.offer(Event::Sweep(sweep(40, gauges(3))), 1040);
    let actions = run.offer(Event::Undrain { gauges: gauges(2) }, 1042);
    let receipt = Receipt { outcome: Outcome::Undrained, ended: 3, left: 2, ..receipt() };
    assert_eq!(
        actions,
        [Action::TakeBack { drain: 7, receipt: Some(receipt.clone()) }, Action::PublishRings]
    );
    assert_eq!(run.state.admin(), AdminState::Active);
    let status = run.state.status(gauges(2).live, 1042).expect("the last drain is shown");
    assert_eq!((status.state.as_str(), status.receipt), ("undrained", Some(receipt)));
}

#[test]
fn an_undrain_takes_the_seal_off() {
    let mut run = draining();
    run.offer(Event::Sweep(sweep(41, gauges(0))), 1041);
    let from_sealed = run.offer(Event::Undrain { gauges: gauges(0) }, 1042);
    assert_eq!(from_sealed[1..], [Action::UnsealHost(HOST.to_owned()), Action::PublishRings]);
    let mut run = draining();
    run.offer(Event::Sweep(sweep(41, gauges(0))), 1041);
    run.offer(Event::Sweep(sweep(42, gauges(0))), 1042);
    let from_drained = run.offer(Event::Undrain { gauges: gauges(0) }, 1050);
    let expected = [
        Action::TakeBack { drain: 7, receipt: None },
        Action::UnsealHost(HOST.to_owned()),
        Action::PublishRings,
    ];
    assert_eq!(from_drained, expected);
    let status = run.state.status(LiveFlows::default(), 1042).expect("the last drain is shown");
    assert_eq!(status.state, "drained", "a drain that was done stays done");
}

#[test]
fn evictions_new_flows_and_misrouted_packets_count_from_the_publication_on() {
    let mut run = Run::new();
    let at = |live, evicted_total, new_flows_total, misrouted_total| Gauges {
        evicted_total,
        new_flows_total,
        misrouted_total,
        ..gauges(live)
    };
    run.offer(drain_event(7, at(6, 10, 900, 1)), 1000);
    run.offer(published(at(8, 10, 905, 1)), 1000);
    run.offer(Event::Sweep(sweep(40, at(5, 12, 905, 1))), 1040);
    let actions = run.offer(Event::Undrain { gauges: at(6, 13, 906, 4) }, 1042);
    let Action::TakeBack { receipt: Some(receipt), .. } = &actions[0] else { panic!("{actions:?}") };
    // 8 → 5 with 2 evicted: 1 ended. 5 → 6 with 1 evicted: 2 appeared.
    let sums = (receipt.flows_at_start, receipt.ended, receipt.evicted, receipt.left);
    assert_eq!(sums, (8, 1, 3, 6));
    assert_eq!((receipt.new_flows, receipt.misrouted), (1, 3));
}

#[test]
fn a_restart_goes_on_where_the_journal_says() {
    let drain = Drain {
        id: 7,
        host: HOST.to_owned(),
        service: None,
        clients: None,
        started_at: 1000,
        by: "ann".to_owned(),
        reason: Some("kernel".to_owned()),
        order: Order::default(),
        start: Some(Start { generation: 12, flows: 5, evicted_total: 2, ..Start::default() }),
    };
    let (state, actions) = resume(drain.clone(), Some(receipt()), true);
    assert_eq!((state.admin(), actions), (AdminState::Drained, vec![Action::SealHost(HOST.to_owned())]));

    let (state, actions) = resume(drain.clone(), None, true);
    assert_eq!(actions, [Action::UnsealHost(HOST.to_owned())]);
    let mut run = Run { state, actions };
    assert_eq!(run.offer(published(gauges(1)), 1041), [], "the zero line stays the first one");
    let kept = Gauges { evicted_total: 3, ..gauges(0) };
    run.offer(Event::Sweep(sweep(41, kept.clone())), 1041);
    run.offer(Event::Sweep(sweep(42, kept)), 1042);
    let State::Drained(finished) = run.state else { panic!("not drained") };
    assert_eq!(finished.receipt, Receipt { ended: 4, evicted: 1, ..receipt() });

    // The table is lost: the counters begin at 0, 3 of the 5 flows speak again, then all end.
    let (state, actions) = resume(drain, None, false);
    let mut run = Run { state, actions };
    run.offer(Event::Sweep(sweep(20, gauges(0))), 1020);
    run.offer(Event::Sweep(sweep(21, Gauges { evicted_total: 1, ..gauges(2) })), 1021);
    let last = Gauges { evicted_total: 1, ..gauges(0) };
    run.offer(Event::Sweep(sweep(41, last.clone())), 1041);
    run.offer(Event::Sweep(sweep(42, last)), 1042);
    let State::Drained(finished) = run.state else { panic!("not drained") };
    assert_eq!(finished.receipt, Receipt { ended: 4, evicted: 1, ..receipt() });
}

/// All that spoke within the idle timeout after the loss is known, and what became of it is not forgotten by another daemon.
#[test]
fn a_daemon_long_after_a_loss_takes_nothing_for_alive_that_is_not() {
    let State::Draining(before) = draining().state else { panic!("not draining") };
    let mut start = before.drain.start.clone().expect("noted");
    start.is_gone = true;
    let drain = Drain { start: Some(start), ..before.drain };
    // Lost at 100. All 5 spoke again, and 4 of them have ended by now.
    let seen = |clock, live| Observation { complete_since: 100, ..sweep(clock, gauges(live)) };
    let left = |clock, live| {
        let (state, actions) = resume(drain.clone(), None, true);
        let mut run = Run { state, actions };
        run.offer(Event::Sweep(seen(clock, live)), 1000 + clock);
        run.offer(Event::Undrain { gauges: gauges(live) }, 1000 + clock);
        let State::Active { last: Some(finished) } = run.state else { panic!("not taken back") };
        (finished.receipt.left, finished.receipt.ended)
    };
    assert_eq!(left(100 + T, 1), (5, 0), "whoever has not spoken may do so still");
    assert_eq!(left(101 + T, 1), (1, 4));
}

#[test]
fn what_a_drain_waits_for_is_said_in_words() {
    let mut run = draining();
    let words = |run: &Run, live: LiveFlows| {
        run.state
            .status(live, 1042)
            .and_then(|status| status.waiting_for)
            .expect("a drain under way waits for something")
    };
    let many = LiveFlows { established: 400, closing: 12, total: 412, ..LiveFlows::default() };
    assert_eq!(words(&run, many), "412 live flows (400 established, 12 closing)");
    let one = LiveFlows { udp: 1, total: 1, ..LiveFlows::default() };
    assert_eq!(words(&run, one), "1 live flow (1 udp)");
    let none = LiveFlows::default();
    assert_eq!(
        words(&run, none),
        "no live flow is left; waiting for a sweep of the flow table to confirm it"
    );

    let observation = Observation { idle_timeout: 900, complete_since: 50, ..sweep(909, gauges(0)) };
    let at_14_17_10 = 1_790_000_000 / 86_400 * 86_400 + 14 * 3600 + 17 * 60 + 10;
    run.offer(Event::Sweep(observation.clone()), at_14_17_10);
    assert_eq!(
        words(&run, none),
        "no live flow is left; waiting 42s more until flows that might have been silent since 14:02:51 UTC, \
         when the balancer started or last lost a pin, must have spoken (idle timeout 15m)"
    );
    run.offer(Event::Sweep(Observation { counted: 3, ..observation }), at_14_17_10);
    assert!(words(&run, none).contains("counted 3 live pins"));
    run.offer(Event::Sweep(sweep(41, gauges(0))), 1041);
    assert_eq!(
        words(&run, none),
        "no live flow is left; waiting for the next sweep of the flow table to confirm it"
    );
}

/// A run that is draining with 5 flows by this order, rings published.
fn by(order: Order) -> Run {
    let mut run = Run::new();
    run.offer(bounded(7, order, gauges(5)), 1000);
    run.offer(published(gauges(5)), 1000);
    run
}

fn order(at_deadline: AtDeadline) -> Order {
    Order { deadline: Some(1060), at_deadline, spread: 10, ..Order::default() }
}

#[test]
fn past_a_deadline_that_ends_flows_only_gauge_and_count_are_asked() {
    for (action, outcome) in [(AtDeadline::Move, Outcome::Moved), (AtDeadline::Reset, Outcome::Reset)] {
        let mut run = by(order(action));
        // Flows may have been silent since a moment ago, so by time alone nothing would be known for long.
        let young = |live, moved_total, reset_total| Observation {
            complete_since: 1000,
            ..sweep(1000, Gauges { moved_total, reset_total, ..gauges(live) })
        };
        let (moved, reset) = if action == AtDeadline::Move { (4, 0) } else { (0, 4) };
        assert_eq!(run.offer(Event::Sweep(young(1, 0, 0)), 1069), []);
        assert_eq!(
            run.offer(Event::Sweep(young(0, moved, reset)), 1069),
            [],
            "a flow's second may be to come"
        );
        let seal = run.offer(Event::Sweep(young(0, moved, reset)), 1070);
        assert_eq!(seal, [Action::SealHost(HOST.to_owned())]);
        let end = run.offer(Event::Sweep(young(0, moved, reset)), 1071);
        let Some(Action::Finish(receipt)) = end.first() else { panic!("not finished: {end:?}") };
        // Between two looks 4 were ended and 3 of them had appeared: 4 live at first, less one by itself.
        assert_eq!((receipt.outcome, receipt.order), (outcome, order(action)));
        assert_eq!((receipt.moved, receipt.reset), (moved, reset));
        assert_eq!((receipt.ended, receipt.appeared), (4, 3));
    }
}

#[test]
fn what_says_nothing_after_the_deadline_is_ended_by_the_daemon() {
    for (action, outcome) in [(AtDeadline::Move, Outcome::Moved), (AtDeadline::Reset, Outcome::Reset)] {
        let mut run = by(order(action));
        assert_eq!(run.offer(Event::Sweep(sweep(5, gauges(2))), 1074), [], "it has 5 seconds");
        let ended = run.offer(Event::Sweep(sweep(5, gauges(2))), 1075);
        assert_eq!(ended, [Action::EndSilent { host: HOST.to_owned(), action }]);
        let after = || Event::Sweep(sweep(6, Gauges { silent_total: 2, ..gauges(0) }));
        run.offer(after(), 1076);
        run.offer(after(), 1077);
        let State::Drained(finished) = run.state else { panic!("not drained") };
        let receipt = finished.receipt;
        assert_eq!((receipt.outcome, receipt.ended, receipt.silent), (outcome, 3, 2));
    }
    // A gauge that is off has nothing behind it that could be ended.
    let off = Observation { counted: 0, ..sweep(5, gauges(2)) };
    assert_eq!(by(order(AtDeadline::Move)).offer(Event::Sweep(off), 2000), []);
    // What sneaked in behind the seal is silent, too.
    let mut run = by(order(AtDeadline::Move));
    run.offer(Event::Sweep(sweep(5, gauges(0))), 1080);
    let actions = run.offer(Event::Sweep(sweep(5, gauges(1))), 1081);
    let end = Action::EndSilent { host: HOST.to_owned(), action: AtDeadline::Move };
    assert_eq!(actions, [Action::UnsealHost(HOST.to_owned()), end]);
}

#[test]
fn a_deadline_that_keeps_flows_changes_nothing_but_what_is_said() {
    let mut run = by(order(AtDeadline::Keep));
    let overdue = |run: &Run, live, now| {
        let status = run.state.status(gauges(live).live, now).expect("draining");
        assert_eq!((status.as_of, status.order), (now, order(AtDeadline::Keep)));
        status.overdue_since
    };
    assert_eq!(overdue(&run, 5, 1059), None);
    assert_eq!(overdue(&run, 5, 1060), Some(1060));
    assert_eq!(run.offer(Event::Sweep(sweep(5, gauges(2))), 9000), []);
    assert_eq!(overdue(&run, 2, 9000), Some(1060));
    assert_eq!(overdue(&run, 0, 9000), None, "the last flow has just ended");
    run.offer(Event::Sweep(sweep(6, gauges(0))), 9001);
    assert_eq!(overdue(&run, 0, 9001), Some(1060), "flows without a pin may be left");
    run.offer(Event::Sweep(sweep(41, gauges(0))), 9002);
    assert_eq!(overdue(&run, 0, 9002), None, "one look is missing");
    run.offer(Event::Sweep(sweep(42, gauges(0))), 9003);
    let State::Drained(finished) = &run.state else { panic!("not drained") };
    assert_eq!(finished.receipt.outcome, Outcome::Drained);
    assert_eq!(overdue(&run, 0, 9003), None);
}

#[test]
fn an_order_is_amended_by_the_next_drain() {
    let mut run = by(Order::default());
    let first = order(AtDeadline::Reset);
    let amended = run.offer(bounded(8, first, gauges(5)), 1010);
    assert_eq!(amended, [Action::Amend { drain: 7, order: first }, Action::PublishTables]);
    assert_eq!(run.offer(bounded(9, first, gauges(5)), 1011), [], "it has that order");
    let status = run.state.status(gauges(5).live, 1012).expect("draining");
    assert_eq!((status.id, status.order), (7, first));
    run.offer(Event::Sweep(sweep(41, gauges(0))), 1041);
    run.offer(Event::Sweep(sweep(42, gauges(0))), 1042);
    let State::Drained(finished) = &run.state else { panic!("not drained") };
    assert_eq!((finished.receipt.outcome, finished.receipt.order), (Outcome::Drained, first));
    // What a seal rests on may not hold by another order.
    let mut sealed = by(first);
    sealed.offer(Event::Sweep(sweep(5, gauges(0))), 1070);
    let kept = Order { at_deadline: AtDeadline::Keep, ..first };
    assert_eq!(
        sealed.offer(bounded(8, kept, gauges(0)), 1070),
        [Action::Amend { drain: 7, order: kept }, Action::UnsealHost(HOST.to_owned()), Action::PublishTables]
    );
    // Of a drain that is done, only the lease counts.
    let other = Order {
        deadline: Some(5),
        at_deadline: AtDeadline::Move,
        spread: 1,
        lease: Some(2000),
        ..Order::default()
    };
    let leased = Order { lease: Some(2000), ..first };
    let actions = run.offer(bounded(10, other, gauges(0)), 1050);
    assert_eq!(actions, [Action::Amend { drain: 7, order: leased }]);
    assert_eq!(run.state.order(), Some(leased));
}

#[test]
fn at_the_end_of_its_lease_a_host_is_taken_back() {
    let leased = Order { lease: Some(1042), ..Order::default() };
    let time = |live| Event::Time { gauges: gauges(live) };
    let mut run = by(leased);
    assert_eq!(run.offer(time(4), 1041), []);
    let receipt = Receipt { outcome: Outcome::LeaseOver, ended: 2, left: 3, order: leased, ..receipt() };
    assert_eq!(
        run.offer(time(3), 1042),
        [Action::TakeBack { drain: 7, receipt: Some(receipt.clone()) }, Action::PublishRings]
    );
    let status = run.state.status(gauges(3).live, 1042).expect("the last drain is shown");
    assert_eq!((status.state.as_str(), status.receipt), ("undrained", Some(receipt)));
    assert_eq!(run.offer(time(3), 5000), [], "it is in use");

    let mut run = by(leased);
    run.offer(Event::Sweep(sweep(31, gauges(0))), 1031);
    run.offer(Event::Sweep(sweep(32, gauges(0))), 1032);
    assert_eq!(run.state.admin(), AdminState::Drained);
    let renewed = Order { lease: Some(1100), ..leased };
    run.offer(bounded(8, renewed, gauges(0)), 1040);
    assert_eq!(run.offer(time(0), 1042), [], "the lease was renewed");
    let back = [
        Action::TakeBack { drain: 7, receipt: None },
        Action::UnsealHost(HOST.to_owned()),
        Action::PublishRings,
    ];
    assert_eq!(run.offer(time(0), 1100), back);
    // A drain that was resumed has the lease that it had.
    let drain = Drain {
        id: 7,
        host: HOST.to_owned(),
        service: None,
        clients: None,
        started_at: 1000,
        by: "ann".to_owned(),
        reason: None,
        order: leased,
        start: None,
    };
    let (state, actions) = resume(drain, None, false);
    let mut run = Run { state, actions };
    assert_eq!(run.offer(time(0), 1041), []);
    assert!(matches!(run.offer(time(0), 1042)[..], [Action::TakeBack { receipt: Some(_), .. }, ..]));
}

#[test]
fn packets_and_must_be_zero_counters_count_from_the_publication_on() {
    let at = |packets_total, bytes_total, violations: &[(&str, u64)]| Gauges {
        packets_total,
        bytes_total,
        violations: violations.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
        ..gauges(1)
    };
    let mut run = Run::new();
    run.offer(drain_event(7, at(10, 1000, &[("old", 2)])), 1000);
    run.offer(published(at(100, 9000, &[("old", 2)])), 1000);
    run.offer(Event::Sweep(sweep(40, at(150, 9500, &[("old", 2), ("new", 1)]))), 1005);
    let last = at(200, 9800, &[("old", 2), ("new", 4)]);
    let actions = run.offer(Event::Undrain { gauges: last }, 1010);
    let Action::TakeBack { receipt: Some(receipt), .. } = &actions[0] else { panic!("{actions:?}") };
    assert_eq!((receipt.packets, receipt.bytes), (100, 800));
    assert_eq!((receipt.packets_per_second, receipt.bytes_per_second), (10.0, 80.0));
    assert_eq!(receipt.violations, [("new".to_owned(), 4)].into());
}

#[test]
fn a_part_is_done_without_a_seal() {
    let part = Order { share: Some(25), ..Order::default() };
    let mut run = Run::new();
    let begun = run.offer(bounded(1, part, gauges(0)), 1000);
    assert!(matches!(begun[..], [Action::Begin(_), Action::PublishRings]), "{begun:?}");
    assert!(!run.state.is_out() && run.state.part() == Some(part));
    run.offer(published(gauges(3)), 1000);
    assert_eq!(run.offer(Event::Sweep(sweep(T + 1, gauges(1))), 1040), []);
    assert_eq!(run.offer(Event::Sweep(sweep(T + 2, gauges(0))), 1041), [], "the first look");
    assert_eq!(run.offer(Event::Sweep(sweep(T + 3, gauges(1))), 1042), [], "one that had no pin");
    assert_eq!(run.offer(Event::Sweep(sweep(T + 4, gauges(0))), 1043), []);
    let done = run.offer(Event::Sweep(sweep(T + 5, gauges(0))), 1044);
    let [Action::Finish(receipt), Action::PublishRings] = &done[..] else { panic!("{done:?}") };
    let expected = (Outcome::Drained, 3, 1, 4, Some(25));
    let found =
        (receipt.outcome, receipt.flows_at_start, receipt.appeared, receipt.ended, receipt.order.share);
    assert_eq!(found, expected);
    assert!(!run.state.is_out() && run.state.part() == Some(part));
    let back = run.offer(Event::Undrain { gauges: gauges(0) }, 1050);
    assert_eq!(back, [Action::TakeBack { drain: 1, receipt: None }, Action::PublishRings]);
}

#[test]
fn a_part_becomes_the_whole() {
    let part = Order { share: Some(25), ..Order::default() };
    let mut run = Run::new();
    run.offer(bounded(1, part, gauges(0)), 1000);
    run.offer(published(gauges(3)), 1000);
    // Under way: the same drain, whose flows are counted anew.
    let whole = run.offer(drain_event(2, gauges(3)), 1010);
    assert_eq!(whole, [Action::Amend { drain: 1, order: Order::default() }, Action::PublishRings]);
    assert!(run.state.is_out());
    let noted = run.offer(published(gauges(9)), 1010);
    assert!(matches!(&noted[..], [Action::NoteStart { drain: 1, start }] if start.flows == 9), "{noted:?}");

    // Done: another drain.
    let mut run = Run::new();
    run.offer(bounded(1, part, gauges(0)), 1000);
    run.offer(published(gauges(0)), 1000);
    for clock in [T + 1, T + 2] {
        run.offer(Event::Sweep(sweep(clock, gauges(0))), 1040);
    }
    assert_eq!(run.state.admin(), AdminState::Drained);
    assert_eq!(run.offer(bounded(2, part, gauges(0)), 1050), [], "it is so already");
    let whole = run.offer(drain_event(2, gauges(7)), 1060);
    assert!(matches!(&whole[..], [Action::Begin(drain), Action::PublishRings] if drain.id == 2), "{whole:?}");
    assert!(run.state.is_out() && run.state.admin() == AdminState::Draining);
}
