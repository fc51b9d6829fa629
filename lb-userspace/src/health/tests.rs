//! What must hold whatever checks say.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::choose::{Member, choose};
use super::{Board, CheckId, Kept, Oper, Outcome, Seen, Target, Track, probe, schedule};
use crate::model::{Check, Health, Passive, Percent, Probe, Through};

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
    let one = (oper(), 1..300u16, 0..2u8, 0..1000u64, prop::bool::weighted(0.7), prop::bool::weighted(0.3));
    prop::collection::vec(one, 1..12).prop_map(|list| {
        let member = |(index, (oper, weight, tier, since, is_reachable, is_told))| Member {
            name: format!("h{index}"),
            weight,
            tier,
            oper,
            is_told: is_told && oper == Oper::Down,
            is_reachable,
            since,
        };
        list.into_iter().enumerate().map(member).collect()
    })
}

fn member(name: &str, oper: Oper, since: u64) -> Member {
    Member { name: name.to_owned(), weight: 100, tier: 0, oper, is_told: false, is_reachable: true, since }
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

    /// By what clients tell alone no more than its part is ejected, or one of three or more.
    #[test]
    fn what_clients_tell_takes_out_no_more_than_its_part(
        members in members(), health in policy(), part in 0..=100u8, joined: bool,
    ) {
        let passive = Passive { max_ejected: Percent(part), ..health.passive };
        let health = Health { passive, ..health };
        let choice = choose(&members, primary(&members), &health, joined);
        let in_tiers: Vec<&Member> = members.iter().filter(|of| !choice.waiting.contains(&of.name)).collect();
        let is_cut_off = members.iter().all(|member| !member.is_reachable);
        let told = |of: &&&Member| of.is_told && (of.is_reachable || is_cut_off) && choice.ejected.contains(&of.name);
        let told: Vec<&Member> = in_tiers.iter().filter(told).copied().collect();
        let fits = weight(told.iter().copied()) * 100 <= weight(in_tiers.iter().copied()) * u64::from(part);
        prop_assert!(fits || told.len() == 1 && in_tiers.len() >= 3 && part > 0, "{choice:?}");
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

    /// Runs keep to the beat of their check and come late for it by no more than the jitter, so that they do not fall behind; one that was
    /// missed is not made up for by a burst.
    #[test]
    fn runs_keep_their_distance(
        seed: u64, interval in 100..10_000u64, jitter in 0..=100u8, late in prop::collection::vec(0..30_000u64, 1..50),
    ) {
        let first = schedule::first(seed, interval, 5);
        prop_assert!((5..5 + interval).contains(&first));
        let span = interval * u64::from(jitter) / 100;
        let mut due = first;
        for run in 0..50 {
            let next = schedule::next(seed, run, due, interval, jitter, due);
            prop_assert!((first + (run + 1) * interval..=first + (run + 1) * interval + span).contains(&next));
            due = next;
        }
        for (run, late) in (0..).zip(late) {
            let now = due + late;
            let next = schedule::next(seed, run, due, interval, jitter, now);
            prop_assert!(next > now && next <= now + interval + span + interval / 2, "{due} {now} {next}");
            prop_assert!(next - due >= (interval / 2).min(interval - span), "{due} {now} {next}");
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
    let standby = Member { tier: 1, ..member("b", Oper::Up, 0) };
    // An operator took the only primary host out, so it is not among the members.
    let choice = choose(std::slice::from_ref(&standby), 100, &Health::default(), false);
    assert!(choice.has_joined && choice.is_used("b"));
    let primary = Member { name: "a".to_owned(), tier: 0, ..standby.clone() };
    let choice = choose(&[primary, standby], 100, &Health::default(), true);
    assert!(!choice.has_joined && choice.is_used("a") && !choice.is_used("b"));
}

#[test]
fn who_is_down_by_clients_alone_is_spared_first() {
    let told = |name, since| Member { is_told: true, ..member(name, Oper::Down, since) };
    let out = |members: &[Member], health: &Health| {
        let choice = choose(members, 100 * members.len() as u64, health, false);
        choice.ejected.into_iter().collect::<Vec<_>>().join(" ")
    };
    let most = |most, of_told| {
        let passive = Passive { max_ejected: Percent(of_told), ..Passive::default() };
        Health { max_ejected: Percent(most), passive, ..Health::default() }
    };
    let up = |name| member(name, Oper::Up, 0);
    // A check found `c` long after clients told of `a`.
    let both = [told("a", 1), up("b"), member("c", Oper::Down, 900), up("d")];
    assert_eq!(out(&both, &most(25, 100)), "c");
    assert_eq!(out(&both, &most(100, 100)), "a c");
    assert_eq!(out(&both, &most(100, 34)), "a c");
    // Of those that clients tell of, a third at most, by default.
    let many = [told("a", 1), told("b", 2), told("c", 3), up("d"), up("e"), up("f")];
    assert_eq!(out(&many, &Health::default()), "a b");
    assert_eq!(out(&many, &most(100, 100)), "a b c");
    assert_eq!(out(&many, &most(100, 0)), "");
    // One in any case, if there are three; never one of two.
    assert_eq!(out(&many[2..5], &most(100, 1)), "c");
    assert_eq!(out(&many[2..4], &Health::default()), "");
    assert_eq!(out(&many[2..4], &most(100, 50)), "c");
    // One that cannot be reached is no hearsay.
    let gone = Member { is_reachable: false, ..told("a", 1) };
    assert_eq!(out(&[gone, up("b")], &Health::default()), "a");
}

/// A check by TCP of a host's port for a service.
fn target((service, host, port): (&str, &str, u16)) -> Target {
    let check = Check { probe: Probe::Tcp, port: Some(port), through: Through::Host };
    let id = CheckId { service: service.to_owned(), host: host.to_owned(), check: check.to_string() };
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    let (health, instance) = (Arc::new(health(1, 1, 60)), String::new());
    Target { id, check, health, address, vip: address, instance, seed: 0, is_rst_well: false }
}

#[test]
fn a_success_counts_from_when_its_run_began() {
    let board = Board::default();
    board.set(vec![target(("s", "a", 1))], &[].into());
    let (version, _) = board.begin(0);
    let run = |began: u64, result: probe::Result| {
        board.start(version, 0, began).unwrap();
        let run = probe::Run { result, took: std::time::Duration::from_secs(9), steps: Vec::new() };
        board.note(version, 0, Seen { at: began + 9, run }, 0);
        board.said(|id| id.host == "a").remove(0)
    };
    let (ok, failed) = (|| probe::Result::Ok("yes".into()), || probe::Result::Failed("no".into()));
    let first = run(100, ok());
    // Of the second in which something ended it may have begun before.
    assert_eq!([99, 100, 105].map(|from| first.succeeds_since(from)), [Some(100), None, None]);
    let not_run = run(110, probe::Result::NotRun("no descriptors".to_owned()));
    assert_eq!(not_run.succeeds_since(105), None, "it tells nothing");
    assert_eq!(run(120, ok()).succeeds_since(105), Some(100));
    let bad = run(130, failed());
    assert_eq!((bad.succeeds_since(0), bad.last.as_deref()), (None, Some("no")));
    assert_eq!(run(140, ok()).succeeds_since(105), Some(140));
}

#[test]
fn what_is_kept_of_pairs_is_of_these_alone_and_has_all_their_checks() {
    let board = Board::default();
    let targets = [("s", "a", 1), ("s", "a", 2), ("s", "b", 1), ("t", "a", 1), ("t", "b", 1)];
    let kept = |since| Kept { since, ..Kept::default() };
    let known = (1..).zip(targets).map(|(since, of)| (target(of).id, kept(since)));
    board.set(targets.map(target).into(), &known.collect());
    let pair = |service: &str, host: &str| (service.to_owned(), host.to_owned());
    board.set_passive([(pair("s", "a"), kept(6)), (pair("t", "b"), kept(7))].into());
    let asked = [pair("s", "a"), pair("t", "a"), pair("t", "x")].into();
    let found = board.kept_of(&asked);
    let found = found.iter().map(|((service, host), checks)| {
        let checks: Vec<_> = checks.iter().map(|(check, kept)| (check.as_str(), kept.since)).collect();
        (service.as_str(), host.as_str(), checks)
    });
    let found: Vec<_> = found.collect();
    let of_a = vec![("passive", 6), ("tcp :1", 1), ("tcp :2", 2)];
    assert_eq!(found, [("s", "a", of_a), ("t", "a", vec![("tcp :1", 4)]), ("t", "x", vec![])]);
}
