//! A look at the live flows of a host: how old they are, and when they will have ended.

use std::collections::{BTreeMap, HashMap};

use lb_common::flow::{Phase, Timeouts};

use super::ended::{Ended, Histogram, Pair};
use super::scale;
use super::survival::{Curve, Exposure};

/// A flow is idle when it has been silent for so long, seconds, or for half of its timeout.
const IDLE: u32 = 60;
/// Nothing is said of what is further ahead, seconds: 30 days.
const HORIZON: u64 = 30 * 86_400;

/// A live flow.
#[derive(Debug, Clone, Copy)]
pub struct Live {
    pub pair: Pair,
    pub phase: Phase,
    /// Its timeout set.
    pub set: u8,
    /// Seconds since its first packet, and since its last.
    pub age: u32,
    pub idle: u32,
}

/// The flows of a host in one phase.
#[derive(Debug, Clone, Default)]
pub struct PhaseSurvey {
    pub ages: Histogram,
    pub live: u64,
    pub idle: u64,
    pub oldest: u32,
}

/// Flows of which the same is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Alike {
    pair: Pair,
    phase: u8,
    set: u8,
    /// Bins of their age and of how long they have been silent.
    age: u8,
    idle: u8,
}

/// So many of them, and the sums of what they have.
#[derive(Debug, Clone, Copy, Default)]
struct Many {
    flows: u64,
    ages: u64,
    idle: u64,
}

/// The live flows of a host.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    phases: BTreeMap<u8, PhaseSurvey>,
    flows: HashMap<Alike, Many>,
    total: u64,
}

impl Survey {
    /// Takes in a live flow.
    pub fn add(&mut self, flow: &Live, timeouts: &Timeouts) {
        let Live { pair, phase, set, age, idle } = *flow;
        let timeout = timeouts[usize::from(set) * 8 + phase as usize];
        let of_phase = self.phases.entry(phase as u8).or_default();
        of_phase.live += 1;
        of_phase.idle += u64::from(idle >= IDLE.min(timeout.div_ceil(2)));
        of_phase.oldest = of_phase.oldest.max(age);
        of_phase.ages.add(age);
        self.total += 1;
        let (age_bin, idle_bin) = (scale::bin(age) as u8, scale::bin(idle) as u8);
        let alike = Alike { pair, phase: phase as u8, set, age: age_bin, idle: idle_bin };
        let many = self.flows.entry(alike).or_default();
        many.flows += 1;
        many.ages += u64::from(age);
        many.idle += u64::from(idle);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// By phase; those that no flow is in are missing.
    pub fn phases(&self) -> impl Iterator<Item = (Phase, &PhaseSurvey)> {
        self.phases.iter().map(|(&phase, survey)| (Phase::from_bits(phase), survey))
    }
}

/// Seconds from now by which so many of a hundred of the flows that live now will have ended, and their pins with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// `None`: not known, or more than 30 days.
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
    /// Ended flows that this rests on.
    pub measured: u64,
    /// Live flows of which nothing is known: too few of their kind have ended, and they are not silent.
    pub unknown: u64,
}

/// What is known of a pair.
#[derive(Default)]
struct Known {
    exposure: Exposure,
    curve: Option<Curve>,
    /// Part of its flows that nobody closes, and how many of them a second.
    silent: f64,
    silent_a_second: f64,
    /// Flows that nobody has closed yet by how long they have been silent.
    idle: HashMap<u8, f64>,
}

/// Flows that nobody has closed yet.
struct Open<'a> {
    alike: &'a Alike,
    flows: f64,
    age: f64,
    idle: f64,
    /// Part of them whose clients are gone, and seconds until their pins go.
    gone: f64,
    left: f64,
}

/// Flows of one age that go on.
#[derive(Default)]
struct Group {
    flows: f64,
    ages: f64,
}

/// What is to be expected of the flows of a host, by those that have ended. `bound`: seconds after which a deadline has ended all.
pub fn expected(
    survey: &Survey,
    ended: &Ended,
    timeouts: &Timeouts,
    now: u32,
    bound: Option<u64>,
) -> Expected {
    let window = f64::from(ended.window(now));
    let timeout = |set: u8, phase: u8| f64::from(timeouts[usize::from(set) * 8 + usize::from(phase)]) + 1.0;
    let mut pairs: HashMap<Pair, Known> = HashMap::new();
    // Flows of which it is known when their pins go.
    let mut ends: BTreeMap<u64, f64> = BTreeMap::new();
    let mut open = Vec::new();
    for (alike, many) in &survey.flows {
        let known = pairs.entry(alike.pair).or_insert_with(|| Known {
            silent: ended.silent(alike.pair),
            silent_a_second: ended.silent_flows(alike.pair) / window.max(1.0),
            ..Known::default()
        });
        let flows = many.flows as f64;
        let (age, idle) = (many.ages as f64 / flows, many.idle as f64 / flows);
        let left = (timeout(alike.set, alike.phase) - idle).max(0.0);
        if alike.phase == Phase::Closing as u8 {
            *ends.entry(left.ceil() as u64).or_default() += flows;
            if idle < window {
                known.exposure.ended(age - window, scale::bin((age - idle).max(0.0) as u32), flows);
            }
            continue;
        }
        *known.idle.entry(alike.idle).or_default() += flows;
        // Half of the timeout without a word: nobody is there any more.
        let gone = f64::from(u8::from(idle > left));
        open.push(Open { alike, flows, age, idle, gone, left });
    }
    let mut groups: BTreeMap<(Pair, u8, u8), Group> = BTreeMap::new();
    for Open { alike, flows, age, idle, gone, left } in open {
        let Some(known) = pairs.get_mut(&alike.pair) else { continue };
        // Of those that have been silent for so long, as many are gone as become so in that time.
        let become_so = known.silent_a_second * scale::width(alike.idle.into());
        let gone = (become_so / known.idle[&alike.idle]).min(1.0).max(gone);
        known.exposure.lived(age - window, age, flows * (1.0 - gone));
        known.exposure.lived(age - window, age - idle, flows * gone);
        *ends.entry(left.ceil() as u64).or_default() += flows * gone;
        let group = groups.entry((alike.pair, alike.set, alike.age)).or_default();
        group.flows += flows * (1.0 - gone);
        group.ages += flows * (1.0 - gone) * age;
    }
    let mut measured = 0.0;
    for (&pair, known) in &mut pairs {
        ended.expose(pair, now, &mut known.exposure);
        measured += known.exposure.deaths();
        known.curve = Curve::of(&known.exposure);
    }
    groups.retain(|_, group| group.flows > 0.0);
    let is_unknown = |pair: &Pair| pairs[pair].curve.is_none();
    let unknown: f64 =
        groups.iter().filter(|((pair, ..), _)| is_unknown(pair)).map(|(_, group)| group.flows).sum();
    // Part of a group that has ended: a pin outlives the last packet by one of two timeouts.
    let ended_of = |&(pair, set, _): &(Pair, u8, u8), group: &Group, after: f64| {
        let known = &pairs[&pair];
        let Some(curve) = &known.curve else { return 0.0 };
        let ended =
            |phase: Phase| 1.0 - curve.goes_on(group.ages / group.flows, after - timeout(set, phase as u8));
        match pair.is_udp {
            true => ended(Phase::Udp),
            false => (1.0 - known.silent) * ended(Phase::Closing) + known.silent * ended(Phase::Established),
        }
    };
    let ended_after = |seconds: u64| {
        if bound.is_some_and(|bound| seconds >= bound) {
            return survey.total as f64;
        }
        let known: f64 = ends.range(..=seconds).map(|(_, flows)| flows).sum();
        let others = groups.iter().map(|(key, group)| group.flows * ended_of(key, group, seconds as f64));
        known + others.sum::<f64>()
    };
    let by = |percent: f64| {
        // Sums of parts are never quite whole.
        let enough = survey.total as f64 * percent / 100.0 - 1e-6;
        if ended_after(HORIZON) < enough {
            return None;
        }
        let (mut before, mut reached) = (0, HORIZON);
        while before < reached {
            let middle = (before + reached) / 2;
            if ended_after(middle) >= enough { reached = middle } else { before = middle + 1 }
        }
        Some(reached)
    };
    Expected {
        p50: by(50.0),
        p90: by(90.0),
        p99: by(99.0),
        measured: measured as u64,
        unknown: unknown as u64,
    }
}
