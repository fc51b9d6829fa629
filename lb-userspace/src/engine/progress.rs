//! How far drains are: looks at the live flows of hosts, and what those that have ended tell of their end.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lb_common::flow::Phase;
use lb_common::layout::HostId;

use super::{Engine, Error};
use crate::ages::{Ended, Expected, Histogram, Live, Pair, Survey, expected};
use crate::api::types::{DrainStatus, ExpectedEnd, Order, Percentiles, PhaseProgress, Progress as Listed};
use crate::dataplane::{Dataplane, FlowRecord};
use crate::drain::{Drain, Draining, State, Tally, Target};
use crate::plan::address_of;

/// Blockers that are told unless it is said how many, and at most.
pub const BLOCKERS: usize = 5;
pub const MOST_BLOCKERS: usize = 100;
/// A look is not repeated sooner, nor after less than so many times what it took: a twentieth of the engine's time at most.
const OFTEN: Duration = Duration::from_secs(1);
const TIMES: u32 = 20;

/// What is known of durations.
pub(super) struct Durations {
    ended: Ended,
    /// Drains that began under this daemon, and the flows that have ended since; by their number.
    during: HashMap<u64, (Target, Histogram)>,
    last: RefCell<Option<Look>>,
}

/// The last look at the flows of all drains under way.
struct Look {
    at: Instant,
    took: Duration,
    /// By the drain's number.
    drains: HashMap<u64, Seen>,
}

/// Flows to look at: those of a host, of one service or all, of some clients or all.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    pub host: HostId,
    pub service: Option<u16>,
    pub clients: Option<IpNet>,
    /// Seconds after which a deadline has ended all.
    pub bound: Option<u64>,
}

/// The live flows of a host.
#[doc(hidden)]
#[derive(Default)]
pub struct Seen {
    pub survey: Survey,
    pub expected: Expected,
    oldest: Oldest,
}

impl Durations {
    pub fn new(now: u32) -> Self {
        Durations { ended: Ended::new(now), during: HashMap::new(), last: RefCell::new(None) }
    }

    /// A drain begins.
    pub fn begin(&mut self, drain: &Drain) {
        self.during.insert(drain.id, (drain.target(), Histogram::default()));
        self.last.replace(None);
    }

    /// Of flows that have ended since the drain began, if this daemon has seen all of it.
    pub fn during(&self, drain: u64) -> Option<Percentiles> {
        self.during.get(&drain)?.1.percentiles()
    }
}

/// The oldest flows of a host, so many at most.
#[derive(Default)]
struct Oldest {
    most: usize,
    flows: Vec<FlowRecord>,
    /// Younger ones are not among them.
    least: u32,
}

impl Oldest {
    fn add(&mut self, flow: FlowRecord) {
        if self.most == 0 || flow.age < self.least {
            return;
        }
        self.flows.push(flow);
        if self.flows.len() >= self.most * 2 + 64 {
            self.settle();
            self.least = self.flows.last().map_or(0, |flow| flow.age);
        }
    }

    /// The longest idle first, of those of one age.
    fn settle(&mut self) {
        self.flows.sort_by_key(|flow| (std::cmp::Reverse((flow.age, flow.idle)), flow.tuple));
        self.flows.truncate(self.most);
    }
}

impl Engine {
    /// Learns from the pins that the last sweep has ended.
    pub(super) fn note_durations(&mut self) {
        let Some(swept) = &self.swept else { return };
        let now = u32::try_from(self.clock.monotonic()).unwrap_or(u32::MAX);
        self.durations.ended.take(&swept.ended, now);
        if !self.durations.during.is_empty() {
            let watched: HashMap<u64, Watched> = self
                .draining()
                .filter_map(|draining| Some((draining.drain.id, self.watched(draining)?)))
                .collect();
            self.durations.during.retain(|drain, (_, histogram)| {
                let watched = watched.get(drain);
                if let Some(watched) = watched {
                    let own = swept
                        .ended
                        .iter()
                        .filter(|end| watched.is_of(end.pair.host, end.pair.service, end.client));
                    own.for_each(|end| histogram.add(end.duration));
                }
                watched.is_some()
            });
        }
    }

    /// Of flows that a drain under way is about and that have ended since it began.
    pub(super) fn durations_of(&self, target: &Target) -> Option<Percentiles> {
        match self.drains.get(target)? {
            State::Draining(draining) => self.durations.during(draining.drain.id),
            _ => None,
        }
    }

    /// Drains under way.
    pub(super) fn draining(&self) -> impl Iterator<Item = &Draining> {
        self.drains.values().filter_map(|state| match state {
            State::Draining(draining) => Some(&**draining),
            _ => None,
        })
    }

    /// The flows of a drain.
    fn watched(&self, draining: &Draining) -> Option<Watched> {
        self.watched_target(&draining.drain.target(), Some(draining.drain.order))
    }

    pub(super) fn watched_target(&self, target: &Target, order: Option<Order>) -> Option<Watched> {
        let end = order.and_then(|order| order.silent_ended_at());
        let service = match &target.service {
            Some(name) => Some(*self.ids.services.get(name)?),
            None => None,
        };
        Some(Watched {
            host: *self.ids.known_hosts.get(&target.host)?,
            service,
            clients: target.clients,
            bound: end.map(|end| end.saturating_sub(self.clock.now())),
        })
    }

    fn look<K: Copy + Eq + std::hash::Hash>(
        &self,
        watched: &[(K, Watched)],
        blockers: usize,
    ) -> HashMap<K, Seen> {
        let now = u32::try_from(self.clock.monotonic()).unwrap_or(u32::MAX);
        let all: Vec<Watched> = watched.iter().map(|(_, watched)| *watched).collect();
        let seen = look(&self.dataplane, &self.durations.ended, &all, blockers, now);
        watched.iter().map(|(key, _)| *key).zip(seen).collect()
    }

    /// Adds to statuses how far their drains are; with `blockers`, so many of the oldest flows by a look of this moment, else by one that may
    /// be some seconds old.
    pub(super) fn add_progress(
        &self,
        mut statuses: Vec<&mut DrainStatus>,
        blockers: Option<usize>,
    ) -> Result<(), Error> {
        if !statuses.iter().any(|status| status.state == "draining") {
            return Ok(());
        }
        let is_asked = |draining: &&Draining| statuses.iter().any(|status| status.id == draining.drain.id);
        let watched = |draining: &Draining| Some((draining.drain.id, self.watched(draining)?));
        if let Some(most) = blockers {
            let asked: Vec<_> = self.draining().filter(is_asked).filter_map(watched).collect();
            let seen = self.look(&asked, most.min(MOST_BLOCKERS));
            return self.add_seen(&mut statuses, &seen, Duration::ZERO, true);
        }
        let mut last = self.durations.last.borrow_mut();
        let is_fresh = |look: &Look| {
            let knows = |draining: &Draining| look.drains.contains_key(&draining.drain.id);
            look.at.elapsed() < OFTEN.max(look.took * TIMES) && self.draining().all(knows)
        };
        let look = match last.take().filter(is_fresh) {
            Some(look) => look,
            None => {
                let at = Instant::now();
                let all: Vec<_> = self.draining().filter_map(watched).collect();
                let drains = self.look(&all, 0);
                Look { at, took: at.elapsed(), drains }
            }
        };
        let look = last.insert(look);
        self.add_seen(&mut statuses, &look.drains, look.at.elapsed(), false)
    }

    /// What a look has seen, so long ago.
    fn add_seen(
        &self,
        statuses: &mut [&mut DrainStatus],
        seen: &HashMap<u64, Seen>,
        ago: Duration,
        with_blockers: bool,
    ) -> Result<(), Error> {
        for status in statuses {
            let target = status.target();
            let Some(State::Draining(draining)) = self.drains.get(&target) else { continue };
            let Some(seen) = seen.get(&draining.drain.id) else { continue };
            let (_, traffic) = self.traffic(self.stats_of(&target))?;
            let mut phases = BTreeMap::new();
            for (phase, of) in seen.survey.phases() {
                let age_p50 = of.ages.percentile(50).unwrap_or(0).min(of.oldest.into());
                let progress =
                    PhaseProgress { live: of.live, idle: of.idle, age_p50, age_max: of.oldest.into() };
                phases.insert(phase.name().to_owned(), progress);
            }
            status.progress = Some(Listed {
                idle: phases.values().map(|phase| phase.idle).sum(),
                phases,
                ended: draining.tally.as_ref().map_or(0, |tally: &Tally| tally.ended),
                packets_per_second: traffic.packets_per_second,
                bytes_per_second: traffic.bytes_per_second,
                expected_end: from_now(&seen.expected, ago.as_secs()),
                blockers: with_blockers
                    .then(|| seen.oldest.flows.iter().map(|record| self.flow(record)).collect()),
            });
        }
        Ok(())
    }

    /// Seconds until 99 of 100 flows that live now have ended on each of them; `None`: not known.
    pub(super) fn expected_of(&self, targets: &[Target]) -> Option<u64> {
        let order = |target| self.drains.get(target).and_then(State::order);
        let watched = targets.iter().filter_map(|target| self.watched_target(target, order(target)));
        let seen = self.look(&watched.enumerate().collect::<Vec<_>>(), 0);
        seen.values().map(|seen| seen.expected.p99).try_fold(0, |most, p99| Some(most.max(p99?)))
    }
}

impl Watched {
    /// `client` as in a tuple.
    pub(super) fn is_of(&self, host: HostId, service: u16, client: [u64; 2]) -> bool {
        self.host == host
            && self.service.is_none_or(|only| only == service)
            && self.clients.is_none_or(|clients| clients.contains(&address_of(client)))
    }
}

/// Looks at the live flows of all that are watched, in one pass.
#[doc(hidden)]
pub fn look(
    dataplane: &Dataplane,
    ended: &Ended,
    watched: &[Watched],
    blockers: usize,
    now: u32,
) -> Vec<Seen> {
    let timeouts = &dataplane.options.timeouts;
    let none = || Seen { oldest: Oldest { most: blockers, ..Oldest::default() }, ..Seen::default() };
    let mut seen: Vec<Seen> = watched.iter().map(|_| none()).collect();
    // By number of the host, as every word of the table asks; of a host that is watched more than once, `before` leads to the others.
    let mut last = vec![usize::MAX; usize::from(HostId::MAX) + 1];
    let mut before = vec![usize::MAX; watched.len()];
    for (place, of) in watched.iter().enumerate() {
        before[place] = std::mem::replace(&mut last[usize::from(of.host)], place);
    }
    dataplane.each_live(
        |host| last[usize::from(host)] != usize::MAX,
        |flow| {
            let mut place = last[usize::from(flow.host)];
            while place != usize::MAX {
                if watched[place].is_of(flow.host, flow.service, flow.tuple.source) {
                    let seen = &mut seen[place];
                    seen.survey.add(&live(&flow), timeouts);
                    seen.oldest.add(flow);
                }
                place = before[place];
            }
        },
    );
    for (seen, watched) in seen.iter_mut().zip(watched) {
        seen.expected = expected(&seen.survey, ended, timeouts, now, watched.bound);
        seen.oldest.settle();
    }
    seen
}

fn live(flow: &FlowRecord) -> Live {
    let pair = Pair { service: flow.service, host: flow.host, is_udp: flow.phase == Phase::Udp };
    Live { pair, phase: flow.phase, set: flow.set, age: flow.age, idle: flow.idle }
}

/// What was said some seconds ago.
fn from_now(expected: &Expected, ago: u64) -> ExpectedEnd {
    let Expected { p50, p90, p99, measured, unknown } = *expected;
    let [p50, p90, p99] = [p50, p90, p99].map(|seconds| Some(seconds?.saturating_sub(ago)));
    ExpectedEnd { p50, p90, p99, measured, unknown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::layout::Tuple;

    #[test]
    fn the_oldest_are_kept() {
        let mut oldest = Oldest { most: 3, ..Oldest::default() };
        for number in 0..1000u32 {
            oldest.add(FlowRecord {
                index: Some(number),
                tuple: Tuple::default(),
                service: 0,
                host: 1,
                phase: Phase::Established,
                set: 0,
                slot: 0,
                age: number * 7919 % 1000,
                idle: number,
            });
        }
        oldest.settle();
        assert_eq!(oldest.flows.iter().map(|flow| flow.age).collect::<Vec<_>>(), [999, 998, 997]);
        let mut none = Oldest::default();
        none.add(oldest.flows[0]);
        assert!(none.flows.is_empty());
    }
}
