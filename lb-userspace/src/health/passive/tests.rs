//! Hosts that fail and hosts that only seem to, by chance, by a flood, or by somebody's will.

mod held;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::health::{Flip, Kept, Oper};
use crate::model::{Health, Passive, PassiveAction, Percent};

/// A service's hosts under clients that begin flows evenly; time goes in steps of [`PACE`].
struct World {
    health: Health,
    ejects: bool,
    states: Vec<State>,
    totals: Vec<Totals>,
    /// Flows begun and not judged yet: how many of each host will be answered with the next sample.
    waiting: Vec<u64>,
    samples: Samples,
    now: u64,
    seed: u64,
    /// What clients' networks say, if somebody asks.
    networks: Vec<Second>,
    /// Hosts of which nothing can be seen.
    unseen: Vec<usize>,
}

/// Unix seconds at the start.
const START: u64 = 1_000_000;
/// Number of the host that is asked about.
const ASKED: u16 = 1;

/// A second in which this many networks began flows.
fn second(networks: u64, fared: Fared) -> Second {
    (1..=networks).map(|n| ([n, 1], fared)).collect()
}

fn fared(answered: u64, failed: u64) -> Fared {
    Fared { answered, failed }
}

/// So many networks are usual of a host in any seconds, and other hosts have answered these.
fn peers(usual: usize, answered: &[Network]) -> Peers {
    Peers { usual: vec![usual; 70], answered: answered.iter().map(|network| (*network, None)).collect() }
}

impl World {
    fn new(hosts: usize) -> Self {
        let mut states = vec![State::default(); hosts];
        states.iter_mut().for_each(|state| state.resume(None, START));
        World {
            health: Health {
                passive: Passive { action: PassiveAction::Eject, ..Passive::default() },
                ..Health::default()
            },
            ejects: true,
            states,
            totals: vec![Totals::default(); hosts],
            waiting: vec![0; hosts],
            samples: Samples::default(),
            now: 0,
            seed: 7,
            networks: vec![second(5, fared(0, 20)); 70],
            unseen: Vec::new(),
        }
    }

    /// One of so many.
    fn chance(&mut self, part: f64) -> bool {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.seed >> 11) as f64 / (1u64 << 53) as f64) < part
    }

    /// A quarter of a second: each host that is in use gets `flows`, and fails for the part that `fails` says.
    fn step(&mut self, flows: u64, fails: impl Fn(usize) -> f64) -> Vec<(usize, Event)> {
        self.now += PACE;
        for host in 0..self.totals.len() {
            self.totals[host].answered += std::mem::take(&mut self.waiting[host]);
            if self.states[host].kept.oper == Oper::Down {
                continue;
            }
            for _ in 0..flows {
                self.totals[host].begun += 1;
                if self.chance(fails(host)) {
                    self.totals[host].again += 1;
                } else {
                    self.waiting[host] += 1;
                }
            }
        }
        let passive = self.health.passive;
        let now = Moment { ms: self.now, unix: START + self.now / 1000 };
        self.samples.add(self.now, self.totals.clone(), &passive);
        self.unseen.iter().for_each(|&host| self.states[host].forget(now));
        let looks = self.samples.looks(|host| self.states[host].since(), &passive);
        let mut events = Vec::new();
        for host in 0..self.totals.len() {
            let (look, verdicts) = (looks.of(host), looks.verdicts(host, &passive));
            let state = &mut self.states[host];
            let mut found = state.step(&self.health, look, &verdicts, self.ejects, now);
            if self.ejects && state.asks(now) {
                let answer =
                    believe(ASKED, &self.networks, &peers(5, &[]), look.unwrap().stretch(), &passive);
                found.extend(state.answer(&self.health, answer, now));
            }
            events.extend(found.into_iter().map(|event| (host, event)));
        }
        events
    }

    fn run(&mut self, seconds: u64, flows: u64, fails: impl Fn(usize) -> f64) -> Vec<(usize, Event)> {
        (0..seconds * 1000 / PACE).flat_map(|_| self.step(flows, &fails)).collect()
    }

    fn out(&self) -> Vec<usize> {
        (0..self.states.len()).filter(|host| self.states[*host].kept.oper == Oper::Down).collect()
    }
}

/// Milliseconds from the failure of these hosts until they are out.
fn found(world: &mut World, flows: u64, dead: &[usize]) -> u64 {
    let begun = world.now;
    while world.out() != dead {
        assert!(world.now - begun < 20_000, "{:?} are out, {dead:?} are dead", world.out());
        world.step(flows, |host| if dead.contains(&host) { 1.0 } else { 0.01 });
    }
    world.now - begun
}

#[test]
fn a_dead_host_is_found_within_two_seconds_and_half_of_them_are() {
    // 20 flows a second and host, and 400.
    for flows in [5, 100] {
        for dead in [&[2][..], &[0, 3], &[1, 2]] {
            let mut world = World::new(4);
            assert_eq!(world.run(10, flows, |_| 0.01), []);
            let took = found(&mut world, flows, dead);
            assert!(took <= 2500, "{took} ms at {flows} flows, {dead:?}");
        }
    }
    // 4 flows a second: it takes until there are 20 to look at, and far more than half of them after the failure.
    let mut world = World::new(3);
    assert_eq!(world.run(20, 1, |_| 0.0), []);
    let took = found(&mut world, 1, &[0]);
    assert!((3000..=6000).contains(&took), "{took} ms");
}

#[test]
fn what_hits_all_hosts_takes_out_none() {
    // Half an hour each of lines that lose a packet of 20 in either direction; of a flood; and with everything dead.
    for fails in [0.1, 0.4, 0.9, 1.0] {
        for flows in [3, 5, 20] {
            let mut world = World::new(3);
            assert_eq!(world.run(1800, flows, |_| fails), [], "{fails} of {flows}");
        }
    }
}

#[test]
fn too_few_flows_and_nobody_to_compare_with_say_nothing() {
    let mut world = World::new(3);
    world.health.passive.least_flows = 60;
    assert_eq!(world.run(60, 1, |host| if host == 0 { 1.0 } else { 0.0 }), []);
    let mut world = World::new(1);
    assert_eq!(world.run(60, 20, |_| 1.0), []);
}

#[test]
fn each_time_out_is_twice_as_long_until_the_host_fares_well() {
    let mut world = World::new(3);
    world.health.damping = Duration::from_secs(1);
    let mut outs = Vec::new();
    for _ in 0..6 {
        let sick = |host| if host == 1 { 1.0 } else { 0.0 };
        while world.out().is_empty() {
            world.step(20, sick);
        }
        let begun = world.now;
        while !world.out().is_empty() {
            world.step(20, sick);
        }
        outs.push((world.now - begun) / 1000);
    }
    let near = |outs: &[u64], expected: &[u64]| {
        outs.len() == expected.len() && outs.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1)
    };
    assert!(near(&outs, &[30, 60, 120, 240, 300, 300]), "{outs:?}");
    // A restart does not forgive.
    let kept = world.states[1].kept.clone();
    assert_eq!(kept.times, 6);
    let mut after = State::default();
    after.resume(
        serde_json::from_value(serde_json::to_value(&kept).unwrap()).unwrap(),
        START + world.now / 1000,
    );
    assert_eq!((after.kept.times, after.kept.oper), (6, Oper::Up));
    // But to have fared well for as long as it was out does.
    world.run(304, 20, |_| 0.0);
    assert_eq!(world.states[1].kept.times, 0);
}

#[test]
fn one_that_goes_up_and_down_is_held_as_by_checks() {
    let mut world = World::new(3);
    world.health.passive.hold = Duration::from_secs(1);
    world.health.passive.longest_hold = Duration::from_secs(1);
    let sick = |host| if host == 1 { 1.0 } else { 0.0 };
    let events = world.run(300, 20, sick);
    let downs =
        events.iter().filter(|(_, event)| matches!(event, Event::Flipped(Flip { to: Oper::Down, .. })));
    let downs = downs.count();
    // Two in a half-life of 60 s in the long run.
    assert!((6..=12).contains(&downs), "{downs}");
}

#[test]
fn a_warning_begins_and_ends() {
    let mut world = World::new(3);
    world.ejects = false;
    assert_eq!(world.run(5, 20, |_| 0.0), []);
    let begun = world.run(10, 20, |host| if host == 1 { 1.0 } else { 0.0 });
    let [(1, Event::Suspected(Sign::Handshakes, why))] = begun.as_slice() else { panic!("{begun:?}") };
    assert!(
        why.contains("new flows in") && why.contains("got no answer") && why.contains("of other hosts 0 of"),
        "{why}"
    );
    assert_eq!(world.out(), [0; 0]);
    assert_eq!(world.run(15, 20, |_| 0.0), [(1, Event::Cleared(Sign::Handshakes))]);
}

#[test]
fn resets_of_clients_and_icmp_errors_are_told_and_take_nobody_out() {
    let mut world = World::new(3);
    let mut events = Vec::new();
    for _ in 0..40 {
        world.totals[0].resets += 20;
        world.totals[2].unreachables += 30;
        events.extend(world.step(20, |_| 0.0));
    }
    let signs = events.iter().map(|(host, event)| match event {
        Event::Suspected(sign, _) => (*host, *sign),
        _ => panic!("{events:?}"),
    });
    assert_eq!(signs.collect::<Vec<_>>(), [(0, Sign::Resets), (2, Sign::Unreachables)]);
    // As many of all hosts: that is how clients of the service are.
    let mut world = World::new(3);
    for _ in 0..40 {
        world.totals.iter_mut().for_each(|totals| totals.resets += 20);
        assert_eq!(world.step(20, |_| 0.0), []);
    }
}

#[test]
fn counters_that_begin_anew_say_nothing() {
    let mut world = World::new(3);
    assert_eq!(world.run(10, 20, |_| 0.0), []);
    world.totals.iter_mut().for_each(|totals| *totals = Totals { begun: 5, ..Totals::default() });
    assert_eq!(world.run(10, 20, |_| 0.0), []);
}

#[test]
fn each_network_has_one_vote() {
    let passive = Passive::default();
    let ask = |seconds: &[Second], stretch| believe(ASKED, seconds, &peers(5, &[]), stretch, &passive);
    // One with a thousand flows that it never goes on with, and ten that fare well.
    let mut networks = second(10, fared(10, 0));
    networks.insert([77, 0], fared(0, 1000));
    let why = ask(&[Second::new(), networks], 1000).unwrap_err();
    assert_eq!(why, "the flows of only 1 of 11 networks fail");
    // All of them.
    ask(&[Second::new(), second(10, fared(1, 9))], 1000).unwrap();
    // What was answered before the failure says nothing; what began this very second does not yet.
    let (bad, good) = (second(5, fared(0, 20)), second(5, fared(500, 0)));
    ask(&[Second::new(), bad.clone(), good.clone()], 1250).unwrap();
    ask(&[bad.clone(), good.clone()], 1000).unwrap_err();
    ask(&[second(5, fared(50, 0)), bad.clone()], 1000).unwrap();
    // Neither shorter nor longer stretches have a say than what was looked at, also if that is too little.
    ask(&[Second::new(), bad.clone(), good.clone(), good.clone()], 3000).unwrap_err();
    ask(&[Second::new(), good.clone(), bad.clone(), bad.clone(), bad.clone()], 1000).unwrap_err();
    let few = second(5, fared(0, 1));
    ask(&[Second::new(), few.clone(), few.clone()], 2000).unwrap();
    let why = ask(&[Second::new(), few, bad], 1000).unwrap_err();
    assert_eq!(why, "the flow table knows only 5 of them, from 5 networks");
    let why = ask(&[], 1000).unwrap_err();
    assert_eq!(why, "the flow table knows only 0 of them, from 0 networks");
    let why = ask(&[Second::new(), second(4, fared(0, 20))], 1000).unwrap_err();
    assert_eq!(why, "they are from 4 networks, and 5 would have to say so");
}

#[test]
fn where_few_networks_are_usual_those_that_others_answer_have_a_vote() {
    let passive = Passive::default();
    let (honest, attacker) = ([1, 1], [9, 9]);
    let ask = |second: &[(Network, Fared)], usual, answered: &[Network]| {
        let seconds = [Second::new(), second.iter().copied().collect()];
        believe(ASKED, &seconds, &peers(usual, answered), 1000, &passive)
    };
    // All clients of the service are behind one address.
    ask(&[(honest, fared(0, 30))], 1, &[honest]).unwrap();
    // Nothing is known of them, and somebody else speaks, from as many networks as are usual of all hosts.
    let why = ask(&[(attacker, fared(0, 300))], 1, &[honest]).unwrap_err();
    assert_eq!(
        why,
        "other hosts answer 0 of the 1 networks that they are from, and 1 such would have to say so"
    );
    // They fare well, and he speaks from more networks.
    let slandered: Vec<_> = (0..4).map(|n| ([9, n], fared(0, 300))).chain([(honest, fared(30, 0))]).collect();
    let why = ask(&slandered, 1, &[honest]).unwrap_err();
    assert_eq!(why, "the flows of only 0 of 1 networks that other hosts answer fail");
    // He has made himself known to other hosts.
    let why = ask(&[(attacker, fared(0, 300)), (honest, fared(30, 0))], 1, &[honest, attacker]).unwrap_err();
    assert_eq!(why, "the flows of only 1 of 2 networks fail");
    // Many networks are usual: most of them are known to one host alone, and have a vote. Those that are not must say the same.
    let many: Vec<_> = (0..9).map(|n| ([n, 2], fared(0, 9))).collect();
    ask(&many, 5, &[]).unwrap();
    ask(&many, 5, &[[0, 2], [1, 2]]).unwrap();
    let feigned: Vec<_> = many.into_iter().chain([(honest, fared(30, 0))]).collect();
    let why = ask(&feigned, 5, &[honest]).unwrap_err();
    assert_eq!(why, "the flows of only 0 of 1 networks that other hosts answer fail");
}

/// Flows of a network at a host of service 1 that began so many seconds ago.
fn note(walk: &mut Walk, host: u16, back: usize, network: u32, Fared { answered, failed }: Fared) {
    let source = lb_common::layout::Tuple::v4((network << 8 | 7).to_be());
    (0..answered).for_each(|_| walk.note((1, host), back, source, true));
    (0..failed).for_each(|_| walk.note((1, host), back, source, false));
}

/// A flood of SYNs on all hosts has ended; then somebody tries each of his ports, and goes on with those by which he reaches host 1. As he
/// begins there over and over, all of his flows are of this very second, so that the one before is that of honest clients: all of one network.
#[test]
fn what_a_flood_left_is_not_held_against_the_host_that_is_slandered_after_it() {
    const HONEST: u32 = 1;
    const ATTACKER: u32 = 2;
    let mut walk = Walk::new((1..=3).map(|host| ((1, host), Asked { seconds: 12, is_suspected: host == 1 })));
    for host in 1..=3 {
        (0..=4).for_each(|back| note(&mut walk, host, back, HONEST, fared(65, 0)));
        (3..=8).for_each(|back| (100..700).for_each(|n| note(&mut walk, host, back, n, fared(0, 1))));
        if host != 1 {
            (1..=2).for_each(|back| note(&mut walk, host, back, ATTACKER, fared(0, 500)));
        }
    }
    note(&mut walk, 1, 0, ATTACKER, fared(0, 457));
    let passive = Passive::default();
    let ask = |walk: &Walk| believe(1, walk.of((1, 1)), &walk.peers(1), 1257, &passive);
    assert_eq!(ask(&walk).unwrap_err(), "the flows of only 0 of 1 networks fail");
    // Some of his are of the second before.
    note(&mut walk, 1, 1, ATTACKER, fared(0, 300));
    assert_eq!(ask(&walk).unwrap_err(), "the flows of only 1 of 2 networks fail");
}

#[test]
fn one_walk_tells_of_all_that_are_suspected() {
    let asked = |is_suspected| Asked { seconds: 3, is_suspected };
    let pairs = [((1, 1), asked(true)), ((1, 2), asked(false)), ((1, 3), asked(true)), ((2, 1), asked(true))];
    let mut walk = Walk::new(pairs);
    let from = |n: u32| lb_common::layout::Tuple::v4((n << 8 | 7).to_be());
    for n in 0..20 {
        walk.note((1, 2), 1, from(n), true);
        walk.note((1, 1), 2, from(n), n % 2 == 0);
        walk.note((1, 9), 1, from(n), false);
        walk.note((1, 3), 3, from(n), false);
    }
    walk.note((1, 2), 1, from(77), false);
    walk.note((1, 3), 1, from(4), false);
    walk.note((1, 3), 1, from(4), true);
    assert_eq!(walk.seconds(), 3);
    let mut hosts: Vec<u16> = walk.hosts().collect();
    hosts.sort_unstable();
    assert_eq!(hosts, [1, 1, 2, 3]);
    assert_eq!(walk.of((1, 1)).iter().map(BTreeMap::len).collect::<Vec<_>>(), [0, 0, 20]);
    assert_eq!(walk.of((1, 3))[1], [(network(from(4)), fared(1, 1))].into());
    assert!(walk.of((1, 2)).is_empty() && walk.of((1, 9)).is_empty());
    // Of one and of twenty, and then of one, of ten and of twenty, which count as five; of none in the other service.
    let Peers { usual, answered } = walk.peers(1);
    assert_eq!(usual, [5, 5, 5]);
    let by = |n| answered.get(&network(from(n))).copied();
    assert_eq!([by(4), by(2), by(1), by(77)], [Some(None), Some(None), Some(Some(2)), None]);
    assert_eq!(walk.peers(2).usual, [5, 5, 5]);
    // Two that have answered one network each, and one that has answered more.
    let mut walk = Walk::new((1..=3).map(|host| ((1, host), asked(host == 1))));
    for host in 1..=3 {
        walk.note((1, host), 1, from(7), true);
    }
    (0..5).for_each(|n| walk.note((1, 3), 2, from(n), true));
    // Who was not answered is no usual client.
    (10..90).for_each(|n| walk.note((1, 2), 2, from(n), false));
    assert_eq!(walk.peers(1).usual, [5, 1, 1]);
}

#[test]
fn a_host_that_a_few_networks_slander_is_told_of_and_stays() {
    let mut world = World::new(3);
    let mut slandered = second(5, fared(10, 0));
    slandered.insert([9, 9], fared(0, 900));
    world.networks = vec![Second::new(), slandered];
    let events = world.run(10, 50, |host| if host == 1 { 0.95 } else { 0.0 });
    let [(1, Event::Suspected(Sign::Handshakes, why))] = events.as_slice() else { panic!("{events:?}") };
    assert!(why.contains("It stays in use: the flows of only 1 of 6 networks fail"), "{why}");
    assert_eq!(world.out(), [0; 0]);
    assert!(world.states[1].doubt.as_ref().unwrap().contains("of only 1 of 6 networks"));
    assert_eq!(world.run(15, 50, |_| 0.0), [(1, Event::Cleared(Sign::Handshakes))]);
    assert_eq!(world.states[1].doubt, None);
}

/// With a window longer than the time out, flows of before it are still in the samples.
#[test]
fn what_was_before_a_time_out_says_nothing_after_it() {
    let mut world = World::new(3);
    world.health.passive.window = Duration::from_secs(30);
    world.health.passive.hold = Duration::from_secs(5);
    world.run(10, 1, |_| 0.0);
    found(&mut world, 1, &[0]);
    let events = world.run(60, 1, |_| 0.0);
    let flips: Vec<_> = events.iter().filter(|(_, event)| matches!(event, Event::Flipped(_))).collect();
    assert_eq!(flips, [&(0, Event::Flipped(Flip { from: Oper::Down, to: Oper::Up }))]);
}

/// While this machine is cut off, and until a host is found again, all its flows fail.
#[test]
fn who_cannot_be_seen_is_not_judged() {
    let mut world = World::new(3);
    assert_eq!(world.run(10, 20, |_| 0.0), []);
    world.unseen = vec![1];
    assert_eq!(world.run(5, 20, |host| if host == 1 { 1.0 } else { 0.0 }), []);
    assert_eq!(world.states[1].look, None);
    world.unseen.clear();
    assert_eq!(world.run(30, 20, |_| 0.0), []);
    assert!(world.states[1].look.is_some());
}

#[test]
fn a_clock_that_was_ahead_keeps_nobody_out() {
    let health = Health::default();
    let (ahead, now) = (START + 1_000_000, START);
    let kept = Kept {
        oper: Oper::Down,
        since: ahead,
        penalty: 6000,
        penalty_at: ahead,
        is_held: true,
        times: 1,
        ..Kept::default()
    };
    let mut state = State::default();
    state.resume(Some(kept), now);
    let until = state.until(&health, now).unwrap();
    assert!(until <= now + 3 * health.damping.as_secs(), "{}", until - now);
    assert_eq!(state.kept.since, now);
}

fn bad() -> Verdict {
    Verdict::Bad("so it is".to_owned())
}

#[test]
fn too_little_to_judge_by_ends_no_suspicion_and_begins_none() {
    let health = Health::default();
    let mut state = State::default();
    state.resume(None, START);
    let mut now = Moment { ms: 0, unix: START };
    let mut step = |verdict: Verdict| {
        now = Moment { ms: now.ms + PACE, unix: START + now.ms / 1000 };
        state.step(&health, None, &[(Sign::Handshakes, verdict)], false, now)
    };
    // It does not count as a look between two.
    assert_eq!((step(bad()), step(Verdict::TooFew)), (vec![], vec![]));
    assert!(matches!(step(bad()).as_slice(), [Event::Suspected(..)]));
    // With moments in which there are too few, and some in which it is well, it goes on.
    for _ in 0..20 {
        for verdict in [Verdict::TooFew, Verdict::TooFew, Verdict::Well, Verdict::TooFew, bad()] {
            assert_eq!(step(verdict), []);
        }
    }
    // Until nothing is bad for a whole window.
    let events: Vec<usize> = (1..100).filter(|_| !step(Verdict::TooFew).is_empty()).collect();
    assert_eq!(events, [40]);
}

#[test]
fn the_journal_is_told_of_a_suspicion_once_a_minute() {
    let mut health = Health::default();
    health.passive.window = Duration::from_secs(1);
    let mut state = State::default();
    state.resume(None, START);
    let mut notes = Vec::new();
    // It comes and goes every five seconds, and is over in the end.
    for tick in 0..4 * 200u64 {
        let now = Moment { ms: tick * PACE, unix: START + tick * PACE / 1000 };
        let is_bad = tick < 4 * 130 && tick % 20 < 10;
        let verdict = if is_bad { bad() } else { Verdict::Well };
        state.step(&health, None, &[(Sign::Resets, verdict)], true, now);
        notes
            .extend(state.take_notes(now.unix).into_iter().map(|(_, why)| (now.unix - START, why.is_some())));
    }
    let (first, last) = (notes[0], notes[notes.len() - 1]);
    assert_eq!((first, last.1), ((0, true), false), "{notes:?}");
    assert!(notes.windows(2).all(|pair| pair[1].0 >= pair[0].0 + 60 && pair[0].1 != pair[1].1), "{notes:?}");
    assert!((2..=4).contains(&notes.len()), "{notes:?}");
}

#[test]
fn networks_are_24_bits_of_ipv4_and_48_of_ipv6() {
    let v4 = |text: &str| {
        lb_common::layout::Tuple::v4(u32::from(text.parse::<std::net::Ipv4Addr>().unwrap()).to_be())
    };
    let v6 =
        |text: &str| lb_common::layout::Tuple::words(text.parse::<std::net::Ipv6Addr>().unwrap().octets());
    assert_eq!(network(v4("192.0.2.7")), network(v4("192.0.2.200")));
    assert_ne!(network(v4("192.0.2.7")), network(v4("192.0.3.7")));
    assert_eq!(network(v6("2001:db8:1:2::1")), network(v6("2001:db8:1:ffff::9")));
    assert_ne!(network(v6("2001:db8:1::1")), network(v6("2001:db8:2::1")));
}
