//! What is expected, held against what then happens, for durations of several kinds.

use lb_common::flow::{Phase, Timeouts, one_set};

use super::*;
use crate::ring::model::rng::Rng;

const PAIR: Pair = Pair { service: 1, host: 2, is_udp: false };
/// Seconds: half-open 64, established 900, closing 30, UDP 60.
const TIMEOUTS: Timeouts = one_set([u32::MAX, u32::MAX, 64, 900, 30, 60, 30, u32::MAX]);
const NOW: u32 = 100_000;

/// From 0 to less than 1.
fn part(random: &mut Rng) -> f64 {
    (random.next() >> 11) as f64 / (1u64 << 53) as f64
}

fn exponential(random: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - part(random)).ln()
}

/// How long flows last, seconds.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Exponential(f64),
    /// A part of the flows is short, the rest is long; both exponential.
    Bimodal(f64, f64, f64),
    Constant(f64),
}

impl Kind {
    fn sample(self, random: &mut Rng) -> f64 {
        match self {
            Kind::Exponential(mean) => exponential(random, mean),
            Kind::Bimodal(short_part, short, long) => {
                let mean = if part(random) < short_part { short } else { long };
                exponential(random, mean)
            }
            Kind::Constant(seconds) => seconds,
        }
    }

    fn longest(self) -> f64 {
        match self {
            Kind::Exponential(mean) | Kind::Bimodal(_, _, mean) => 12.0 * mean,
            Kind::Constant(seconds) => seconds,
        }
    }
}

/// A host at `NOW` that has had `rate` new flows a second for ever, and was watched for `watched` seconds. Every flow speaks every `pause`
/// seconds, and `silent` of them are never closed. Gives what is expected, and how many seconds each live pin really has.
fn host(kind: Kind, rate: f64, watched: u32, silent: f64, pause: f64, seed: u64) -> (Expected, Vec<f64>) {
    let mut random = Rng::new(seed);
    let mut ended = Ended::new(NOW - watched);
    let mut ends: Vec<(u32, End)> = Vec::new();
    let (mut lives, mut left) = (Vec::new(), Vec::new());
    let mut at = f64::from(NOW) - kind.longest().min(f64::from(NOW)) - 1000.0;
    loop {
        at += exponential(&mut random, 1.0 / rate);
        if at >= f64::from(NOW) {
            break;
        }
        let (start, last) = (at.floor(), (at + kind.sample(&mut random)).floor());
        let is_silent = part(&mut random) < silent;
        let gone = last + if is_silent { 901.0 } else { 31.0 };
        if gone <= f64::from(NOW) {
            if gone >= f64::from(NOW - watched) {
                let end = End {
                    pair: PAIR,
                    client: [0; 2],
                    at: last as u32,
                    duration: (last - start) as u32,
                    is_silent,
                };
                ends.push((gone as u32, end));
            }
            continue;
        }
        let age = (f64::from(NOW) - start) as u32;
        let over = (f64::from(NOW) - last).max(0.0) as u32;
        let phase = if over > 0 && !is_silent { Phase::Closing } else { Phase::Established };
        let idle = if over > 0 { over } else { age.min((part(&mut random) * pause) as u32) };
        lives.push(Live { pair: PAIR, phase, set: 0, age, idle });
        left.push(gone - f64::from(NOW));
    }
    ends.sort_by_key(|(at, _)| *at);
    ends.into_iter().for_each(|(at, end)| ended.take(&[end], at));
    ended.take(&[], NOW);
    let mut survey = Survey::default();
    lives.iter().for_each(|live| survey.add(live, &TIMEOUTS));
    (expected(&survey, &ended, &TIMEOUTS, NOW, None), left)
}

/// Part of the flows, over some runs, that outlive what was said of p50, p90 and p99.
fn outlive(kind: Kind, rate: f64, watched: u32, pause: f64) -> [f64; 3] {
    let (mut late, mut flows) = ([0.0; 3], 0.0);
    for seed in 0..20 {
        let (expected, left) = host(kind, rate, watched, 0.0, pause, seed);
        let said = [expected.p50, expected.p90, expected.p99];
        for (late, said) in late.iter_mut().zip(said) {
            let said = said.unwrap_or_else(|| panic!("{kind:?}, {watched} s: {expected:?}")) as f64;
            *late += left.iter().filter(|&&left| left > said).count() as f64;
        }
        flows += left.len() as f64;
    }
    late.map(|late| late / flows)
}

fn check(kind: Kind, rate: f64, watched: u32, pause: f64) {
    let [p50, p90, p99] = outlive(kind, rate, watched, pause);
    let text = format!("{kind:?}, {rate} a second, {watched} s watched: {p50:.3} {p90:.3} {p99:.3}");
    println!("{text}");
    assert!((0.45..0.55).contains(&p50), "{text}");
    assert!((0.06..0.13).contains(&p90), "{text}");
    assert!(p99 < 0.02, "{text}");
}

#[test]
fn exponential_durations() {
    check(Kind::Exponential(20.0), 5.0, 2600, 0.0);
    check(Kind::Exponential(300.0), 2.0, 2600, 0.0);
    // Longer than the window by far.
    check(Kind::Exponential(7000.0), 0.2, 2600, 0.0);
    // Silent for longer than they last.
    check(Kind::Exponential(300.0), 2.0, 2600, 400.0);
    // Not long after a start.
    check(Kind::Exponential(300.0), 2.0, 200, 0.0);
}

#[test]
fn durations_of_two_kinds() {
    check(Kind::Bimodal(0.9, 2.0, 600.0), 5.0, 2600, 0.0);
    check(Kind::Bimodal(0.95, 1.0, 4000.0), 5.0, 2600, 0.0);
}

#[test]
fn constant_durations_are_told_within_a_bin() {
    for seconds in [40.0, 100.0, 700.0] {
        let (expected, left) = host(Kind::Constant(seconds), 3.0, 2600, 0.0, 1.0, 7);
        let longest = left.iter().copied().fold(0.0, f64::max);
        let p99 = expected.p99.unwrap() as f64;
        assert!((p99 - longest).abs() <= longest / 8.0 + 2.0, "{seconds}: {p99}, really {longest}");
        let half = expected.p50.unwrap() as f64;
        let late = left.iter().filter(|&&left| left > half).count() as f64 / left.len() as f64;
        assert!((late - 0.5).abs() < 0.1, "{seconds}: {late}");
    }
}

#[test]
fn clients_that_vanish_count_until_their_idle_timeout() {
    let (expected, left) = host(Kind::Exponential(100.0), 5.0, 2600, 0.5, 1.0, 3);
    let late = |said: u64| left.iter().filter(|&&left| left > said as f64).count() as f64 / left.len() as f64;
    let (p90, p99) = (expected.p90.unwrap(), expected.p99.unwrap());
    assert!((0.02..0.16).contains(&late(p90)), "{p90}: {}", late(p90));
    assert!(late(p99) < 0.04, "{p99}: {}", late(p99));
    // Nothing but silence, where nothing is known of its kind, but its timeout is.
    let mut survey = Survey::default();
    let live = Live { pair: PAIR, phase: Phase::Established, set: 0, age: 9000, idle: 600 };
    survey.add(&live, &TIMEOUTS);
    let only = super::expected(&survey, &Ended::new(NOW), &TIMEOUTS, NOW, None);
    assert_eq!((only.measured, only.unknown), (0, 0));
    assert!((301..=339).contains(&only.p99.unwrap()), "{only:?}");
}

#[test]
fn what_is_not_known_is_not_said() {
    // 29 flows have ended: one less than it takes.
    let mut ended = Ended::new(NOW - 1000);
    let end = End { pair: PAIR, client: [0; 2], at: NOW - 50, duration: 10, is_silent: false };
    ended.take(&[end; 29], NOW - 10);
    let mut survey = Survey::default();
    let live = Live { pair: PAIR, phase: Phase::Established, set: 0, age: 3, idle: 0 };
    (0..5).for_each(|_| survey.add(&live, &TIMEOUTS));
    let none = Expected { measured: 29, unknown: 5, ..Expected::default() };
    assert_eq!(expected(&survey, &ended, &TIMEOUTS, NOW, None), none);
    // A deadline ends them all the same.
    let bound = expected(&survey, &ended, &TIMEOUTS, NOW, Some(77));
    assert_eq!((bound.p50, bound.p99, bound.unknown), (Some(77), Some(77), 5));
    ended.take(&[end], NOW);
    let known = expected(&survey, &ended, &TIMEOUTS, NOW, None);
    assert_eq!((known.measured, known.unknown), (30, 0));
    assert!((37..=39).contains(&known.p99.unwrap()), "7 s to go and 31 s to linger: {known:?}");
    // Flows that have outlived all that ended.
    let old = Live { age: 5000, ..live };
    survey.add(&old, &TIMEOUTS);
    let mixed = expected(&survey, &ended, &TIMEOUTS, NOW, None);
    assert!(mixed.p50.is_some() && mixed.p90.is_none(), "{mixed:?}");
    let nothing = expected(&Survey::default(), &ended, &TIMEOUTS, NOW, None);
    assert_eq!((nothing.p50, nothing.p99), (Some(0), Some(0)));
}

#[test]
fn closed_flows_end_at_their_timeout_and_idle_ones_are_counted() {
    let mut survey = Survey::default();
    let mut add = |phase, age, idle| {
        survey.add(&Live { pair: PAIR, phase, set: 0, age, idle }, &TIMEOUTS);
    };
    (0..4).for_each(|_| add(Phase::Closing, 50, 11));
    add(Phase::Closing, 50, 21);
    (0..3).for_each(|number| add(Phase::Established, 70, 58 + number));
    let phases: Vec<_> = survey.phases().map(|(phase, of)| (phase, of.live, of.idle, of.oldest)).collect();
    assert_eq!(phases, [(Phase::Established, 3, 1, 70), (Phase::Closing, 5, 1, 50)]);
    let known = expected(&survey, &Ended::new(NOW - 1000), &TIMEOUTS, NOW, None);
    assert_eq!((known.p50, known.p90), (Some(20), None));
}
