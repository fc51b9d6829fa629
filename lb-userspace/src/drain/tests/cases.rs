//! Histories written by hand, with every action named.

use crate::api::types::{AdminState, Receipt};

use super::*;

fn receipt() -> Receipt {
    Receipt {
        drain: 7,
        host: HOST.to_owned(),
        outcome: "drained".to_owned(),
        by: "ann".to_owned(),
        reason: Some("kernel".to_owned()),
        started_at: 1000,
        ended_at: 1042,
        flows_at_start: 5,
        ended: 5,
        left: 0,
        evicted: 0,
        new_flows: 0,
        misrouted: 0,
    }
}

/// A run that is draining with 5 flows, rings published.
fn draining() -> Run {
    let mut run = Run::new();
    run.offer(drain_event(7, gauges(6)), 1000);
    run.offer(Event::Published(gauges(5)), 1000);
    run
}

#[test]
fn a_drain_from_its_begin_to_its_end() {
    let mut run = Run::new();
    let begun = run.offer(drain_event(7, gauges(6)), 1000);
    let drain = Drain {
        id: 7,
        host: HOST.to_owned(),
        started_at: 1000,
        by: "ann".to_owned(),
        reason: Some("kernel".to_owned()),
        start: None,
    };
    assert_eq!(begun, [Action::Begin(drain), Action::PublishRings]);
    let start = Start { flows: 5, ..Start::default() };
    assert_eq!(run.offer(Event::Published(gauges(5)), 1000), [Action::NoteStart { drain: 7, start }]);
    assert_eq!(run.offer(Event::Sweep(sweep(40, gauges(2))), 1040), []);
    assert_eq!(run.offer(Event::Sweep(sweep(41, gauges(0))), 1041), [Action::SealHost(HOST.to_owned())]);
    assert_eq!(run.state.admin(), AdminState::Draining);
    let end = run.offer(Event::Sweep(sweep(42, gauges(0))), 1042);
    assert_eq!(end, [Action::Finish(receipt()), Action::PublishRings]);
    assert_eq!(run.state.admin(), AdminState::Drained);
    let status = run.state.status(LiveFlows::default()).expect("a drain is in force");
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
    let status = run.state.status(LiveFlows::default()).expect("draining");
    assert_eq!(status.waiting_for.as_deref(), Some("the rings without this host are being published"));
}

#[test]
fn a_disagreeing_count_or_a_silent_flow_holds_the_drain_open() {
    let mut run = draining();
    let miscounted = Observation { counted: 1, ..sweep(41, gauges(0)) };
    let silent = Observation { complete_since: 11, ..sweep(41, gauges(0)) };
    for observation in [miscounted, silent] {
        assert_eq!(run.offer(Event::Sweep(observation), 1041), []);
    }
    let by_slots = Observation { slots_open_long_enough: true, ..silent };
    assert_eq!(run.offer(Event::Sweep(by_slots), 1041), [Action::SealHost(HOST.to_owned())]);
    // Exactly T is not enough, and a loss between the two sweeps takes the seal off.
    assert_eq!(run.offer(Event::Sweep(silent), 1041), [Action::UnsealHost(HOST.to_owned())]);
    let longer = Observation { complete_since: 10, ..silent };
    assert_eq!(run.offer(Event::Sweep(longer), 1041), [Action::SealHost(HOST.to_owned())]);
}

#[test]
fn asking_twice_changes_nothing() {
    let mut run = draining();
    let before = run.state.clone();
    assert_eq!(run.offer(drain_event(8, gauges(5)), 1001), []);
    assert_eq!(run.offer(Event::Published(gauges(3)), 1001), []);
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
    let receipt = Receipt { outcome: "undrained".to_owned(), ended: 3, left: 2, ..receipt() };
    assert_eq!(
        actions,
        [Action::TakeBack { drain: 7, receipt: Some(receipt.clone()) }, Action::PublishRings]
    );
    assert_eq!(run.state.admin(), AdminState::Active);
    let status = run.state.status(gauges(2).live).expect("the last drain is shown");
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
    let status = run.state.status(LiveFlows::default()).expect("the last drain is shown");
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
    run.offer(Event::Published(at(8, 10, 905, 1)), 1000);
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
        started_at: 1000,
        by: "ann".to_owned(),
        reason: Some("kernel".to_owned()),
        start: Some(Start { flows: 5, evicted_total: 2, ..Start::default() }),
    };
    let (state, actions) = resume(drain.clone(), Some(receipt()), true);
    assert_eq!((state.admin(), actions), (AdminState::Drained, vec![Action::SealHost(HOST.to_owned())]));

    let (state, actions) = resume(drain.clone(), None, true);
    assert_eq!(actions, [Action::UnsealHost(HOST.to_owned())]);
    let mut run = Run { state, actions };
    assert_eq!(run.offer(Event::Published(gauges(1)), 1041), [], "the zero line stays the first one");
    let kept = Gauges { evicted_total: 3, ..gauges(0) };
    run.offer(Event::Sweep(sweep(41, kept)), 1041);
    run.offer(Event::Sweep(sweep(42, kept)), 1042);
    let State::Drained(finished) = run.state else { panic!("not drained") };
    assert_eq!(finished.receipt, Receipt { ended: 4, evicted: 1, ..receipt() });

    // The table is lost: the counters begin at 0, 3 of the 5 flows speak again, then all end.
    let (state, actions) = resume(drain, None, false);
    let mut run = Run { state, actions };
    run.offer(Event::Sweep(sweep(20, gauges(0))), 1020);
    run.offer(Event::Sweep(sweep(21, Gauges { evicted_total: 1, ..gauges(2) })), 1021);
    let last = Gauges { evicted_total: 1, ..gauges(0) };
    run.offer(Event::Sweep(sweep(41, last)), 1041);
    run.offer(Event::Sweep(sweep(42, last)), 1042);
    let State::Drained(finished) = run.state else { panic!("not drained") };
    assert_eq!(finished.receipt, Receipt { ended: 4, evicted: 1, ..receipt() });
}

#[test]
fn what_a_drain_waits_for_is_said_in_words() {
    let mut run = draining();
    let words = |run: &Run, live: LiveFlows| {
        run.state
            .status(live)
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
    run.offer(Event::Sweep(observation), at_14_17_10);
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
