//! Random events, without sense or order, against the plain model.

use proptest::prelude::*;

use crate::api::types::AdminState;

use super::reference::{Meaning, meaning};
use super::*;

fn any_gauges() -> impl Strategy<Value = Gauges> {
    (prop_oneof![3 => Just(0u64), 1 => 0u64..50], 0u64..20, 0u64..20, 0u64..20).prop_map(
        |(live, evicted_total, new_flows_total, misrouted_total)| Gauges {
            evicted_total,
            new_flows_total,
            misrouted_total,
            ..gauges(live)
        },
    )
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
        2 => any_gauges().prop_map(|gauges| drain_event(0, gauges)),
        2 => any_gauges().prop_map(Event::Published),
        1 => any_gauges().prop_map(|gauges| Event::Undrain { gauges }),
        6 => observation.prop_map(Event::Sweep),
    ]
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
            let status = run.state.status(LiveFlows::default());
            let got = Meaning { admin: run.state.admin(), drain: status.as_ref().map(|s| s.id), sealed: seal };
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
                prop_assert!(receipt.ended + receipt.left + receipt.evicted >= receipt.flows_at_start);
                let drained = receipt.outcome == "drained";
                prop_assert_eq!(drained, got.admin == AdminState::Drained);
                prop_assert!(!drained || receipt.left == 0);
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
        let zero = Start::from(&start);
        let mut tally = if lost { Tally::after_loss(zero) } else { Tally::new(zero) };
        for gauges in seen {
            tally.take(&gauges);
            prop_assert_eq!(
                tally.flows_at_start() + tally.appeared,
                tally.ended + tally.evicted + tally.live() + tally.unseen
            );
        }
    }
}
