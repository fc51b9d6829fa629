//! What must hold whatever checks say.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::choose::{Member, choose};
use super::{Kept, Oper, Outcome, Track, schedule};
use crate::model::{Health, Percent};

fn outcome(is_ok: bool) -> Outcome {
    Outcome { is_ok, why: "said so".to_owned() }
}

fn health(rise: u32, fall: u32, damping: u64) -> Health {
    Health { rise, fall, damping: std::time::Duration::from_secs(damping), ..Health::default() }
}

fn oper() -> impl Strategy<Value = Oper> {
    prop::sample::select(vec![Oper::Unknown, Oper::Up, Oper::Down])
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let one = (oper(), 1..300u16, 0..2u8, 0..1000u64, prop::bool::weighted(0.7));
    prop::collection::vec(one, 1..12).prop_map(|list| {
        let member = |(index, (oper, weight, tier, since, is_reachable))| Member {
            name: format!("h{index}"),
            weight,
            tier,
            oper,
            is_reachable,
            since,
        };
        list.into_iter().enumerate().map(member).collect()
    })
}

fn policy() -> impl Strategy<Value = Health> {
    (0..=100u8, 0..=100u8, 0..=100u8, 0..=100u8).prop_map(|(panic, most, join, more)| Health {
        panic: Percent(panic),
        max_ejected: Percent(most),
        join_below: Percent(join),
        leave_at: Percent(join.saturating_add(more).min(100)),
        ..Health::default()
    })
}

fn weight<'a>(members: impl Iterator<Item = &'a Member>) -> u64 {
    members.map(|member| u64::from(member.weight)).sum()
}

/// Whether a member counts as down beside these.
fn is_down(member: &Member, members: &[Member]) -> bool {
    member.oper == Oper::Down || !member.is_reachable && members.iter().any(|other| other.is_reachable)
}

fn primary(members: &[Member]) -> u64 {
    weight(members.iter().filter(|member| member.tier == 0))
}

proptest! {
    /// Below the threshold nobody is kept out; and no threshold but 0 lets all be kept out.
    #[test]
    fn below_the_panic_threshold_all_are_used(members in members(), health in policy(), joined: bool) {
        let choice = choose(&members, primary(&members), &health, joined);
        let in_tiers: Vec<&Member> = members.iter().filter(|of| !choice.waiting.contains(&of.name)).collect();
        let well = weight(in_tiers.iter().copied().filter(|member| !is_down(member, &members)));
        if well * 100 < weight(in_tiers.iter().copied()) * u64::from(health.panic.0) {
            prop_assert!(choice.ejected.is_empty(), "{choice:?}");
        }
        if health.panic.0 > 0 && !in_tiers.is_empty() {
            prop_assert!(in_tiers.iter().any(|member| choice.is_used(&member.name)), "{choice:?}");
        }
    }

    /// No more than the largest share is ejected, nobody who is not down is, and each member is in one place.
    #[test]
    fn only_those_that_are_down_are_ejected_and_no_more_than_may_be(
        members in members(), health in policy(), joined: bool,
    ) {
        let choice = choose(&members, primary(&members), &health, joined);
        let ejected = members.iter().filter(|member| choice.ejected.contains(&member.name));
        prop_assert!(ejected.clone().all(|member| is_down(member, &members)));
        let in_tiers = members.iter().filter(|member| !choice.waiting.contains(&member.name));
        prop_assert!(weight(ejected) * 100 <= weight(in_tiers) * u64::from(health.max_ejected.0));
        let sets = [&choice.ejected, &choice.waiting, &choice.spared];
        let sum: usize = sets.iter().map(|set| set.len()).sum();
        let union: BTreeSet<&String> = sets.iter().flat_map(|set| set.iter()).collect();
        prop_assert_eq!(sum, union.len());
    }

    /// While nobody can be reached, checks alone decide: it is as if all could be.
    #[test]
    fn a_link_of_this_machine_changes_nothing(members in members(), health in policy(), joined: bool) {
        let with = |is_reachable| -> Vec<Member> {
            members.iter().map(|member| Member { is_reachable, ..member.clone() }).collect()
        };
        let all = primary(&members);
        prop_assert_eq!(choose(&with(false), all, &health, joined), choose(&with(true), all, &health, joined));
    }

    /// Between the two ratios the standby hosts stay as they are; and where no primary host is well they are in use.
    #[test]
    fn standby_hosts_have_hysteresis(members in members(), health in policy(), joined: bool) {
        let all = primary(&members);
        let choice = choose(&members, all, &health, joined);
        let has_standby = members.iter().any(|member| member.tier > 0);
        let well = weight(members.iter().filter(|member| member.tier == 0 && !is_down(member, &members)));
        let (join, leave) = (health.join_below.is_kept_by(well, all), health.leave_at.is_kept_by(well, all));
        if has_standby && well > 0 && join && !leave {
            prop_assert_eq!(choice.has_joined, joined);
        }
        if has_standby && well == 0 {
            prop_assert!(choice.has_joined);
        }
        // What was chosen stays chosen while nothing else changes.
        prop_assert_eq!(&choose(&members, all, &health, choice.has_joined), &choice);
    }

    /// A restart in the middle: what is kept says the same, and no run has been made, so nobody turns up or down by it.
    #[test]
    fn a_restart_changes_nothing(
        results in prop::collection::vec((any::<bool>(), 1..30u64), 0..60), rise in 1..5u32, fall in 1..5u32,
    ) {
        let health = health(rise, fall, 60);
        let (mut track, mut now) = (Track::default(), 1_790_000_000);
        for (is_ok, pause) in results {
            now += pause;
            track.step(&health, &outcome(is_ok), now);
            let body = serde_json::to_value(&track.kept).unwrap();
            let kept: Kept = serde_json::from_value(body).unwrap();
            let resumed = Track::resume(kept);
            prop_assert_eq!(&resumed.kept, &track.kept);
            // It forgets runs in a row: so it may take longer, and never goes faster.
            let (mut goes_on, mut again) = (track.clone(), resumed);
            let flip = again.step(&health, &outcome(true), now + 1);
            if flip.is_some() {
                prop_assert_eq!(flip, goes_on.step(&health, &outcome(true), now + 1));
            }
        }
    }

    /// Whatever its checks say, a host goes down no more than twice in the time of the damping, but for the first times; so a thousand of
    /// them move a bounded number of slots.
    #[test]
    fn flapping_is_damped(results in prop::collection::vec(any::<bool>(), 100..2000), damping in 10..120u64) {
        let health = health(1, 1, damping);
        let (mut track, begin) = (Track::default(), 1_790_000_000);
        let mut downs = 0;
        for (second, is_ok) in (1..).zip(&results) {
            let flip = track.step(&health, &outcome(*is_ok), begin + second);
            downs += u64::from(flip.is_some_and(|flip| flip.to == Oper::Down));
        }
        let most = 4 + 2 * results.len() as u64 / damping;
        prop_assert!(downs <= most, "{downs} in {} s with {damping}", results.len());
    }

    /// A host that is well again is up again in a bounded time, however it flapped.
    #[test]
    fn damping_ends(results in prop::collection::vec(any::<bool>(), 0..500), damping in 1..120u64) {
        let health = health(2, 2, damping);
        let (mut track, mut now) = (Track::default(), 1_790_000_000);
        for is_ok in results {
            now += 1;
            track.step(&health, &outcome(is_ok), now);
        }
        let until = track.kept.held_until(damping, now);
        prop_assert!(until.is_none_or(|until| until <= now + 3 * damping), "{until:?} {now}");
        for _ in 0..(3 * damping + 3) {
            now += 1;
            track.step(&health, &outcome(true), now);
        }
        prop_assert_eq!(track.kept.oper, Oper::Up);
    }

    /// Runs are an interval apart and no more than the jitter later, and one that was missed is not made up for.
    #[test]
    fn runs_keep_their_distance(
        seed: u64, interval in 100..10_000u64, jitter in 0..=100u8, late in prop::collection::vec(0..30_000u64, 1..50),
    ) {
        let mut due = schedule::first(seed, interval, 5);
        prop_assert!((5..5 + interval).contains(&due));
        for (run, late) in (0..).zip(late) {
            let now = due + late;
            let next = schedule::next(seed, run, due, interval, jitter, now);
            prop_assert!(next > now);
            if now < due + interval {
                let gap = next - due;
                prop_assert!((interval..=interval + interval * u64::from(jitter) / 100).contains(&gap) || next <= now + 100);
            } else {
                prop_assert!(next <= now + interval + interval * u64::from(jitter) / 100);
            }
            due = next;
        }
    }
}

#[test]
fn as_many_runs_as_are_asked_for_turn_a_host() {
    let health = health(2, 3, 60);
    let mut track = Track::default();
    let mut step = |is_ok, now| {
        track.step(&health, &outcome(is_ok), now);
        track.kept.oper
    };
    let mut now = 100;
    let mut next = |is_ok| {
        now += 1;
        step(is_ok, now)
    };
    assert_eq!(next(false), Oper::Unknown);
    assert_eq!(next(true), Oper::Up, "one answer is enough the first time");
    assert_eq!((next(false), next(false), next(true)), (Oper::Up, Oper::Up, Oper::Up));
    assert_eq!((next(false), next(false), next(false)), (Oper::Up, Oper::Up, Oper::Down));
    assert_eq!(
        (next(true), next(false), next(true), next(true)),
        (Oper::Down, Oper::Down, Oper::Down, Oper::Up)
    );
}

#[test]
fn one_that_is_unknown_is_used_until_it_has_failed_often_enough() {
    let health = health(2, 2, 60);
    let mut track = Track::default();
    track.step(&health, &outcome(false), 5);
    assert_eq!(track.kept.oper, Oper::Unknown);
    track.step(&health, &outcome(false), 6);
    assert_eq!(
        (track.kept.oper, track.kept.penalty),
        (Oper::Down, 0),
        "it has not gone down, it was never up"
    );
}

#[test]
fn a_drained_primary_is_missing_as_one_that_is_down() {
    let standby =
        Member { name: "b".to_owned(), weight: 100, tier: 1, oper: Oper::Up, is_reachable: true, since: 0 };
    // An operator took the only primary host out, so it is not among the members.
    let choice = choose(std::slice::from_ref(&standby), 100, &Health::default(), false);
    assert!(choice.has_joined && choice.is_used("b"));
    let primary = Member { name: "a".to_owned(), tier: 0, ..standby.clone() };
    let choice = choose(&[primary, standby], 100, &Health::default(), true);
    assert!(!choice.has_joined && choice.is_used("a") && !choice.is_used("b"));
}
