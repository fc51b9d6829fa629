//! Daemons that are killed between journal and deed, at any moments, do no step twice and leave none out.

use proptest::prelude::*;

use super::super::*;
use super::world::*;
use crate::api::types::{HostStep, OnFailure};

#[derive(Debug, Clone, Copy)]
enum Mishap {
    /// The daemon is killed when the journal has the new state, and before so many of the actions were carried out.
    KilledBefore(usize),
    /// A host is ill for so many seconds.
    Ill(usize, u64),
    /// A config brings new checks, which say nothing for so many seconds.
    Unsaid(usize, u64),
    /// The balancer's own link is cut off for so many seconds, and commands that look at hosts fail.
    CutOff(u64),
    /// An operator takes a host out, or puts it to use.
    Drain(usize),
    Undrain(usize),
    /// The config disables a host, or does not name it any more.
    Disable(usize),
    Remove(usize),
    Pause,
    Resume,
    Abort,
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        6 => (0..3_usize).prop_map(Mishap::KilledBefore),
        1 => (1..5_usize, 1..40_u64).prop_map(|(host, seconds)| Mishap::Ill(host, seconds)),
        1 => (1..5_usize, 1..40_u64).prop_map(|(host, seconds)| Mishap::Unsaid(host, seconds)),
        1 => (1..40_u64).prop_map(Mishap::CutOff),
        1 => (1..5_usize).prop_map(Mishap::Drain),
        1 => (1..5_usize).prop_map(Mishap::Undrain),
        1 => (1..5_usize).prop_map(Mishap::Disable),
        1 => (1..5_usize).prop_map(Mishap::Remove),
        1 => Just(Mishap::Pause),
        2 => Just(Mishap::Resume),
        1 => Just(Mishap::Abort),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_a_run_ends_and_does_nothing_twice(
        mishaps in proptest::collection::btree_map(0..120_u64, mishap(), 0..12),
        fails in proptest::collection::vec((1..5_usize, any::<bool>()), 0..3),
        at_once in 1..4_usize,
        spare in 1..4_usize,
        rolls_back in any::<bool>(),
    ) {
        let mut plan = plan(4);
        plan.at_once = at_once;
        if !rolls_back {
            (plan.on_failure, plan.rollback) = (OnFailure::Stop, None);
        }
        let (mut sim, mut run) = (Sim::new(4), run(plan));
        sim.spare = spare;
        for (host, is_rollback) in fails {
            let step = if is_rollback { "rollback" } else { "run" };
            sim.fails.insert(format!("run-1.h{host}.{step}"), "exit status 1".to_owned());
        }
        let (mut well_at, mut said_at) = ([0; 5], [0; 5]);
        let mut seen_at = 0;
        for second in 0..3000 {
            let mut event = Event::Look;
            let mut carried_out = usize::MAX;
            let (by, reason) = ("bob".to_owned(), None);
            match mishaps.get(&second) {
                Some(Mishap::KilledBefore(actions)) => carried_out = *actions,
                Some(Mishap::Ill(host, seconds)) => {
                    if let Some(of) = sim.hosts.get_mut(&format!("h{host}")) {
                        of.ill = Some("ill".to_owned());
                        well_at[*host] = sim.now + seconds;
                    }
                }
                Some(Mishap::Unsaid(host, seconds)) => said_at[*host] = sim.now + seconds,
                Some(Mishap::CutOff(seconds)) => seen_at = sim.now + seconds,
                Some(Mishap::Drain(host)) => {
                    // As the daemon does it: of a host that is out already it is a wish.
                    let host = format!("h{host}");
                    if sim.hosts.get(&host).is_some_and(|host| host.out.is_some()) {
                        event = Event::Keep { host: host.clone(), by, reason };
                    }
                    sim.take_out(&host, "bob");
                }
                Some(Mishap::Undrain(host)) => {
                    if let Some(host) = sim.hosts.get_mut(&format!("h{host}")) {
                        host.out = None;
                    }
                }
                Some(Mishap::Disable(host)) => {
                    if let Some(host) = sim.hosts.get_mut(&format!("h{host}")) {
                        host.is_disabled = true;
                    }
                }
                Some(Mishap::Remove(host)) => drop(sim.hosts.remove(&format!("h{host}"))),
                Some(Mishap::Pause) => event = Event::Pause { by, reason },
                Some(Mishap::Resume) => event = Event::Resume,
                Some(Mishap::Abort) => event = Event::Abort { by, reason },
                None => {}
            }
            for (host, at) in well_at.iter().enumerate().skip(1).filter(|(_, at)| **at == sim.now) {
                if let Some(host) = sim.hosts.get_mut(&format!("h{host}")) {
                    (host.ill, host.well_since) = (None, *at);
                }
            }
            sim.is_cut_off = sim.now < seen_at;
            for (name, host) in &mut sim.hosts {
                let number: usize = name[1..].parse().unwrap();
                host.is_unsaid = sim.now < said_at[number];
            }
            let before = steps(&run);
            let (after, actions) = step(run.clone(), &event, &sim, sim.now);
            // What is carried out is in the journal: a daemon that is killed finds it there, and nothing else.
            let noted: Run = serde_json::from_str(&serde_json::to_string(&after).unwrap()).unwrap();
            prop_assert!(noted.is_noted_as(&after));
            run = if carried_out == usize::MAX { after } else { noted.resumed(sim.now) };
            actions.iter().take(carried_out).for_each(|action| sim.carry_out(&run, action));
            let in_work = run.hosts.iter().filter(|host| host.is_in_work()).count();
            prop_assert!(in_work <= at_once, "{in_work}");
            for (host, (before, after)) in run.hosts.iter().zip(before.into_iter().zip(steps(&run))) {
                let is_final = !before.is_in_work() && before != HostStep::Waiting;
                prop_assert!(!is_final || before == after, "{host:?} was {before:?}");
            }
            if second > 200 {
                // Somebody lets the run go on, and gives back what he took.
                for host in sim.hosts.values_mut().filter(|host| host.out.as_ref().is_some_and(|out| out.1 == "bob")) {
                    host.out = None;
                }
                // And mends hosts that have failed: who is to be taken back may wait for them, by the rules.
                for failed in run.hosts.iter().filter(|host| host.step == HostStep::Failed) {
                    if let Some(host) = sim.hosts.get_mut(&failed.host) {
                        (host.out, host.ill) = (None, None);
                    }
                }
                sim.is_cut_off = false;
                sim.hosts.values_mut().for_each(|host| host.is_disabled = false);
                for n in 1..=4 {
                    sim.hosts.entry(format!("h{n}")).or_insert_with(|| Machine { well_since: sim.now, ..Machine::default() });
                }
                if second % 50 == 0 {
                    run = step(run.clone(), &Event::Resume, &sim, sim.now).0;
                }
            }
            sim.now += 1;
            if run.is_over() {
                break;
            }
        }
        prop_assert!(run.is_over(), "{run:#?}");
        for (id, times) in &sim.begun {
            prop_assert!(*times == 1, "{id} was begun {times} times");
        }
        for host in &run.hosts {
            let worked = sim.begun.contains_key(&format!("run-1.{}.run", host.host));
            match host.step {
                HostStep::Done => prop_assert!(worked && !host.is_back && host.failures.is_empty(), "{host:?}"),
                HostStep::Untouched => prop_assert!(!worked && host.drains.is_empty(), "{host:?}"),
                HostStep::Returned => prop_assert!(host.is_back && !host.failures.is_empty(), "{host:?}"),
                HostStep::Failed => prop_assert!(!host.failures.is_empty(), "{host:?}"),
                step => prop_assert!(false, "{step:?} is no end"),
            }
        }
    }
}
