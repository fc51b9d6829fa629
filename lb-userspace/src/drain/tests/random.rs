//! Random events, without sense or order, against the plain model.

use proptest::prelude::*;

use crate::api::types::{AdminState, Outcome, Receipt};

use super::reference::{Meaning, meaning};
use super::*;

fn any_gauges() -> impl Strategy<Value = Gauges> {
    let totals = prop::array::uniform8(0u64..20);
    (prop_oneof![3 => Just(0u64), 1 => 0u64..50], totals, prop::option::of(0u64..9)).prop_map(
        |(live, [evicted, new_flows, misrouted, moved, reset, silent, packets, bytes], violations)| Gauges {
            evicted_total: evicted,
            new_flows_total: new_flows,
            misrouted_total: misrouted,
            moved_total: moved,
            reset_total: reset,
            silent_total: silent,
            packets_total: packets,
            bytes_total: bytes,
            violations: violations.map(|n| ("violation".to_owned(), n)).into_iter().collect(),
            ..gauges(live)
        },
    )
}

/// Seconds are places in a history of up to 60 events.
fn any_order() -> impl Strategy<Value = Order> {
    let time = || prop::option::of(0u64..60);
    let action = prop_oneof![Just(AtDeadline::Keep), Just(AtDeadline::Move), Just(AtDeadline::Reset)];
    (time(), action, 0u16..4, time()).prop_map(|(deadline, at_deadline, spread, lease)| Order {
        deadline,
        at_deadline,
        spread,
        lease,
        ..Order::default()
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let observation =
        (any_gauges(), prop_oneof![4 => Just(0u64), 1 => 0u64..3], 0u64..100, 0u64..60, any::<bool>())
            .prop_map(|(gauges, counted, clock, complete_since, slots_open_long_enough)| Observation {
                gauges,
                counted,
                clock,
                complete_since,
                slots_open_long_enough,
                idle_timeout: T,
            });
    prop_oneof![
        1 => any_gauges().prop_map(|gauges| drain_event(0, gauges)),
        2 => (any_order(), any_gauges()).prop_map(|(order, gauges)| bounded(0, order, gauges)),
        2 => any_gauges().prop_map(published),
        1 => any_gauges().prop_map(|gauges| Event::Undrain { gauges }),
        1 => any_gauges().prop_map(|gauges| Event::Time { gauges }),
        6 => observation.prop_map(Event::Sweep),
    ]
}

/// The right-hand side of a receipt's sum.
fn outcomes(receipt: &Receipt) -> u64 {
    let Receipt { ended, moved, reset, silent, evicted, left, .. } = receipt;
    ended + moved + reset + silent + evicted + left
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn random_events_mean_what_the_plain_model_says(events in prop::collection::vec(any_event(), 1..60)) {
        let mut run = Run::new();
        let mut history = Vec::new();
        let mut seal = false;
        for (number, mut event) in events.into_iter().enumerate() {
            if let Event::Drain { id, .. } = &mut event {
                *id = number as u64 + 1;
            }
            history.push(event.clone());
            let before = run.state.clone();
            let actions = run.offer(event.clone(), number as u64);
            for action in &actions {
                match action {
                    Action::SealHost(_) => { prop_assert!(!seal); seal = true; }
                    Action::UnsealHost(_) => { prop_assert!(seal); seal = false; }
                    _ => {}
                }
            }
            let expected = meaning(&history);
            let status = run.state.status(LiveFlows::default(), number as u64);
            let got = Meaning {
                admin: run.state.admin(),
                drain: status.as_ref().map(|s| s.id),
                order: run.state.order(),
                sealed: seal,
                ends_silent: actions.iter().any(|action| matches!(action, Action::EndSilent { .. })),
            };
            prop_assert_eq!(&got, &expected);
            prop_assert_eq!(status.is_some_and(|s| s.waiting_for.is_some()), got.admin == AdminState::Draining);
            if matches!(event, Event::Undrain { .. }) {
                prop_assert_eq!(run.state.admin(), AdminState::Active);
            }
            if got.admin == AdminState::Drained && before.admin() != AdminState::Drained {
                let Event::Sweep(last) = &event else { panic!("drained by {event:?}") };
                prop_assert_eq!((last.gauges.live.total, last.counted), (0, 0));
            }
            for action in &actions {
                let (Action::Finish(receipt) | Action::TakeBack { receipt: Some(receipt), .. }) = action else { continue };
                prop_assert_eq!(Some(receipt.drain), expected.drain);
                prop_assert_eq!(receipt.flows_at_start + receipt.appeared, outcomes(receipt));
                let drained = !receipt.outcome.is_taken_back();
                prop_assert_eq!(drained, got.admin == AdminState::Drained);
                prop_assert!(!drained || receipt.left == 0);
                prop_assert_eq!(receipt.outcome == Outcome::LeaseOver, matches!(event, Event::Time { .. }));
                let by_deadline = receipt.moved + receipt.reset + receipt.silent;
                prop_assert_eq!(receipt.outcome == Outcome::Drained, drained && by_deadline == 0);
            }
            if actions.is_empty() && !matches!(event, Event::Sweep(_)) {
                prop_assert_eq!(&run.state, &before, "a step without an action changes nothing");
            }
        }
    }

    #[test]
    fn the_sums_agree_after_every_sweep(
        start in any_gauges(), lost in any::<bool>(), seen in prop::collection::vec(any_gauges(), 0..40),
    ) {
        let zero = Start::new(&start, 1);
        let mut tally = if lost { Tally::after_loss(zero) } else { Tally::new(zero) };
        for gauges in seen {
            tally.take(&gauges);
            prop_assert_eq!(
                tally.flows_at_start() + tally.appeared,
                tally.ended + tally.moved + tally.reset + tally.silent + tally.evicted + tally.live() + tally.unseen
            );
        }
    }
}
