//! How far drains are: looks at the live flows of hosts, and what those that have ended tell of their end.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use lb_common::flow::Phase;
use lb_common::layout::HostId;

use super::{Engine, Error};
use crate::ages::{Ended, Expected, Histogram, Live, Pair, Survey, expected};
use crate::api::types::{DrainStatus, ExpectedEnd, Order, Percentiles, PhaseProgress, Progress as Listed};
use crate::dataplane::{Dataplane, FlowRecord};
use crate::drain::{State, Tally};

/// Blockers that are told unless it is said how many, and at most.
pub const BLOCKERS: usize = 5;
pub const MOST_BLOCKERS: usize = 100;
/// A look is not repeated sooner, nor after less than so many times what it took: a twentieth of the engine's time at most.
const OFTEN: Duration = Duration::from_secs(1);
const TIMES: u32 = 20;

/// What is known of durations.
pub(super) struct Durations {
    ended: Ended,
    /// Drains that began under this daemon, and the flows that have ended since; by host.
    during: HashMap<HostId, (u64, Histogram)>,
    last: RefCell<Option<Look>>,
}

/// The last look at the flows of all draining hosts.
struct Look {
    at: Instant,
    took: Duration,
    hosts: HashMap<HostId, Seen>,
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

    /// A drain of the host begins.
    pub fn begin(&mut self, host: HostId, drain: u64) {
        self.during.insert(host, (drain, Histogram::default()));
        self.last.replace(None);
    }

    /// Of flows that have ended since the drain of the host began, if this daemon has seen all of it.
    pub fn during(&self, host: HostId, drain: u64) -> Option<Percentiles> {
        let (_, histogram) = self.during.get(&host).filter(|(number, _)| *number == drain)?;
        histogram.percentiles()
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
            for end in &swept.ended {
                if let Some((_, histogram)) = self.durations.during.get_mut(&end.pair.host) {
                    histogram.add(end.duration);
                }
            }
            let under_way: Vec<HostId> = self.draining().map(|(id, ..)| id).collect();
            self.durations.during.retain(|host, _| under_way.contains(host));
        }
    }

    /// Of flows of a draining host that have ended since its drain began.
    pub(super) fn durations_of(&self, host: &str) -> Option<Percentiles> {
        match self.drains.get(host)? {
            State::Draining(draining) => self.durations.during(*self.ids.hosts.get(host)?, draining.drain.id),
            _ => None,
        }
    }

    /// Number, name and state of hosts that are draining.
    fn draining(&self) -> impl Iterator<Item = (HostId, &String, &crate::drain::Draining)> {
        self.drains.iter().filter_map(|(name, state)| match state {
            State::Draining(draining) => Some((*self.ids.hosts.get(name)?, name, &**draining)),
            _ => None,
        })
    }

    fn look(&self, hosts: &[(HostId, Option<Order>)], blockers: usize) -> HashMap<HostId, Seen> {
        let end = |order: &Option<Order>| order.and_then(|order| order.silent_ended_at());
        let bound = |order| end(order).map(|end| end.saturating_sub(self.clock.now()));
        let hosts: Vec<_> = hosts.iter().map(|(host, order)| (*host, bound(order))).collect();
        let now = u32::try_from(self.clock.monotonic()).unwrap_or(u32::MAX);
        look(&self.dataplane, &self.durations.ended, &hosts, blockers, now)
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
        let is_asked = |name: &String| statuses.iter().any(|status| status.host == *name);
        if let Some(most) = blockers {
            let asked = self.draining().filter(|(_, name, _)| is_asked(name));
            let hosts: Vec<_> = asked.map(|(id, _, draining)| (id, Some(draining.drain.order))).collect();
            let seen = self.look(&hosts, most.min(MOST_BLOCKERS));
            return self.add_seen(&mut statuses, &seen, Duration::ZERO, true);
        }
        let mut last = self.durations.last.borrow_mut();
        let is_fresh = |look: &Look| {
            let knows = |(id, ..): (HostId, &String, &crate::drain::Draining)| look.hosts.contains_key(&id);
            look.at.elapsed() < OFTEN.max(look.took * TIMES) && self.draining().all(knows)
        };
        let look = match last.take().filter(is_fresh) {
            Some(look) => look,
            None => {
                let at = Instant::now();
                let all = self.draining().map(|(id, _, draining)| (id, Some(draining.drain.order)));
                let hosts = self.look(&all.collect::<Vec<_>>(), 0);
                Look { at, took: at.elapsed(), hosts }
            }
        };
        let look = last.insert(look);
        self.add_seen(&mut statuses, &look.hosts, look.at.elapsed(), false)
    }

    /// What a look has seen, so long ago.
    fn add_seen(
        &self,
        statuses: &mut [&mut DrainStatus],
        seen: &HashMap<HostId, Seen>,
        ago: Duration,
        with_blockers: bool,
    ) -> Result<(), Error> {
        for status in statuses {
            let Some(State::Draining(draining)) = self.drains.get(&status.host) else { continue };
            let Some(seen) = self.ids.hosts.get(&status.host).and_then(|id| seen.get(id)) else { continue };
            let (_, traffic) = self.traffic(self.ids.stats_of_host(&status.host))?;
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

    /// Seconds until 99 of 100 flows that live now have ended on each of the hosts; `None`: not known.
    pub(super) fn expected_of(&self, hosts: &[String]) -> Option<u64> {
        let of = |host: &String| Some((*self.ids.hosts.get(host)?, self.drains.get(host)?.order()));
        let hosts: Vec<_> = hosts.iter().filter_map(of).collect();
        let seen = self.look(&hosts, 0);
        seen.values().map(|seen| seen.expected.p99).try_fold(0, |most, p99| Some(most.max(p99?)))
    }
}

/// Looks at the live flows of hosts, each with the seconds after which a deadline has ended all, in one pass.
#[doc(hidden)]
pub fn look(
    dataplane: &Dataplane,
    ended: &Ended,
    hosts: &[(HostId, Option<u64>)],
    blockers: usize,
    now: u32,
) -> HashMap<HostId, Seen> {
    let timeouts = &dataplane.options.timeouts;
    let none = || Seen { oldest: Oldest { most: blockers, ..Oldest::default() }, ..Seen::default() };
    let mut seen: Vec<Seen> = hosts.iter().map(|_| none()).collect();
    // By number of the host, as every word of the table asks.
    let mut at = vec![usize::MAX; usize::from(HostId::MAX) + 1];
    hosts.iter().enumerate().for_each(|(place, (host, _))| at[usize::from(*host)] = place);
    dataplane.each_live(
        |host| at[usize::from(host)] != usize::MAX,
        |flow| {
            let seen = &mut seen[at[usize::from(flow.host)]];
            seen.survey.add(&live(&flow), timeouts);
            seen.oldest.add(flow);
        },
    );
    for (seen, (_, bound)) in seen.iter_mut().zip(hosts) {
        seen.expected = expected(&seen.survey, ended, timeouts, now, *bound);
        seen.oldest.settle();
    }
    hosts.iter().map(|(host, _)| *host).zip(seen).collect()
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
