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
    set: u8,
    /// Bin of their age.
    age: u8,
    /// Bin of the seconds that are left of the idle timeout, if they have gone silent.
    ends_within: Option<u8>,
}

/// The live flows of a host.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    phases: BTreeMap<u8, PhaseSurvey>,
    exposures: HashMap<Pair, Exposure>,
    flows: HashMap<Alike, u64>,
    /// Closed flows by the seconds until their pins go.
    closed: BTreeMap<u32, u64>,
    total: u64,
}

impl Survey {
    /// Takes in a live flow; `window` is that of [`Ended`].
    pub fn add(&mut self, flow: &Live, timeouts: &Timeouts, window: u32) {
        let Live { pair, phase, set, age, idle } = *flow;
        let timeout = timeouts[usize::from(set) * 8 + phase as usize];
        let of_phase = self.phases.entry(phase as u8).or_default();
        of_phase.live += 1;
        of_phase.idle += u64::from(idle >= IDLE.min(timeout.div_ceil(2)));
        of_phase.oldest = of_phase.oldest.max(age);
        of_phase.ages.add(age);
        self.total += 1;
        let exposure = self.exposures.entry(pair).or_default();
        let left = (timeout + 1).saturating_sub(idle);
        // Whether it still lives is known as of its last packet.
        let (from, lasted) = (f64::from(age) - f64::from(window), age.saturating_sub(idle));
        if phase == Phase::Closing {
            *self.closed.entry(left).or_default() += 1;
            if window > idle {
                exposure.ended(from, scale::bin(lasted), 1.0);
            }
            return;
        }
        exposure.lived(from, f64::from(lasted));
        let ends_within = (idle > timeout / 2).then_some(scale::bin(left) as u8);
        *self.flows.entry(Alike { pair, set, age: scale::bin(age) as u8, ends_within }).or_default() += 1;
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
    /// Live flows of which nothing is known but their idle timeout: too few of their kind have ended.
    pub unknown: u64,
}

/// Flows of which the same is expected, and when they end.
struct Group<'a> {
    flows: f64,
    age: f64,
    curve: Option<&'a Curve>,
    /// Part of the flows that nobody closes, and seconds from the last packet to the pin's end: of those that are closed, and of the others.
    silent: f64,
    lingers: [f64; 2],
    ends_within: f64,
}

impl Group<'_> {
    /// Part of the flows that have ended after so many seconds.
    fn ended(&self, after: f64) -> f64 {
        if after >= self.ends_within {
            return 1.0;
        }
        let Some(curve) = self.curve else { return 0.0 };
        let ended = |linger: f64| 1.0 - curve.goes_on(self.age, after - linger);
        let [closed, silent] = self.lingers;
        (1.0 - self.silent) * ended(closed) + self.silent * ended(silent)
    }
}

/// What is to be expected of the flows of a host, by those that have ended. `bound`: seconds after which a deadline has ended all.
pub fn expected(
    survey: &Survey,
    ended: &Ended,
    timeouts: &Timeouts,
    now: u32,
    bound: Option<u64>,
) -> Expected {
    let mut curves: HashMap<Pair, Option<Curve>> = HashMap::new();
    let mut measured = 0.0;
    for (&pair, live) in &survey.exposures {
        let mut exposure = live.clone();
        ended.expose(pair, now, &mut exposure);
        measured += exposure.deaths();
        curves.insert(pair, Curve::of(&exposure));
    }
    let groups: Vec<Group<'_>> = survey
        .flows
        .iter()
        .map(|(alike, &flows)| {
            let &Alike { pair, set, age, ends_within } = alike;
            let of = |phase: Phase| f64::from(timeouts[usize::from(set) * 8 + phase as usize]) + 1.0;
            let lingers = match pair.is_udp {
                true => [of(Phase::Udp); 2],
                false => [of(Phase::Closing), of(Phase::Established)],
            };
            Group {
                flows: flows as f64,
                age: f64::from(scale::lower(age.into())) + (scale::width(age.into()) - 1.0) / 2.0,
                curve: curves.get(&pair).and_then(Option::as_ref),
                silent: ended.silent(pair),
                lingers,
                ends_within: ends_within.map_or(f64::INFINITY, |bin| f64::from(scale::longest(bin.into()))),
            }
        })
        .collect();
    let unknown = groups.iter().filter(|group| group.curve.is_none()).map(|group| group.flows).sum::<f64>();
    let ended_after = |seconds: u64| {
        if bound.is_some_and(|bound| seconds >= bound) {
            return survey.total as f64;
        }
        let closed = survey.closed.range(..=u32::try_from(seconds).unwrap_or(u32::MAX));
        let closed = closed.map(|(_, &flows)| flows as f64).sum::<f64>();
        closed + groups.iter().map(|group| group.flows * group.ended(seconds as f64)).sum::<f64>()
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
