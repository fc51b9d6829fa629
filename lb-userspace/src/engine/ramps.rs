//! Hosts that come back share by share: their steps, and a look at how their new flows fare.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::edges::tracks_edges;
use super::{Engine, Error, telling};
use crate::api::types::{Order, RampStatus};
use crate::drain::{Action, Drain, Event, Target, step};
use crate::journal::{self, Change};
use crate::model::{Protocol, Service};
use crate::ramp::{self, Count, Ramp, Verdict, WATCHED_AFTER, Window};
use crate::ring::SHARE_FULL;
use crate::shift::Fared;

/// Seconds after its SYN in which a flow's handshake is waited for; less where half-open pins do not live so long.
const PATIENCE: u64 = 3;

/// Who takes ramps back, and why.
const OWN: &str = "sluice";
const TAKEN_BACK: &str = "ramp taken back";

/// Whether a ramp that was taken back led to this drain.
pub(super) fn is_by_ramp(drain: &Drain) -> bool {
    drain.by == OWN && drain.reason.as_ref().is_some_and(|reason| reason.starts_with(TAKEN_BACK))
}

/// What is remembered of new flows while there are ramps.
#[derive(Default)]
pub(super) struct Watch {
    /// Second of the data path's clock, and new flows so far by number of the counters.
    samples: VecDeque<(u64, BTreeMap<u32, u64>)>,
    /// Up to which second new flows were looked at.
    until: u64,
    windows: BTreeMap<String, Window>,
}

impl Watch {
    /// New flows of a pair begun by the end of this second, or a little earlier.
    fn begun(&self, second: u64, stats: u32) -> u64 {
        let by_then = self.samples.iter().rev().find(|(at, _)| *at <= second).or(self.samples.front());
        by_then.and_then(|(_, begun)| begun.get(&stats).copied()).unwrap_or_default()
    }
}

impl Engine {
    /// Takes up the ramps of these hosts.
    pub(super) fn resume_ramps(&mut self, of: &BTreeSet<String>) -> Result<(), Error> {
        let out = self.out();
        for (host, ramp) in self.journal.ramps()? {
            if of.contains(&host) && !out.contains(&host) {
                log::info!("{host} goes on coming back, by the journal");
                self.ramps.insert(host, ramp);
            }
        }
        Ok(())
    }

    /// Hosts in use with less than their full share.
    pub(super) fn partial_shares(&self) -> BTreeMap<String, u16> {
        let now = self.clock.now();
        let shares = self.ramps.iter().map(|(host, ramp)| (host.clone(), ramp.share(now)));
        let parts = self.drains.iter();
        let parts = parts.filter_map(|(target, state)| Some((target.host.clone(), state.part()?.keeps())));
        shares.chain(parts).filter(|(_, share)| *share < SHARE_FULL).collect()
    }

    /// A host's ramp as the API shows it.
    pub(super) fn ramp_status(&self, host: &str) -> Option<RampStatus> {
        let (ramp, now) = (self.ramps.get(host)?, self.clock.now());
        let full_in = ramp.full_in(now);
        Some(RampStatus {
            share: f64::from(ramp.share(now)) / f64::from(SHARE_FULL),
            started_at: ramp.started_at,
            seconds: ramp.seconds,
            full_in,
            watched_for: (ramp.started_at + ramp.seconds + WATCHED_AFTER).saturating_sub(now),
            by: ramp.by.clone(),
            reason: ramp.reason.clone(),
            paused: ramp.paused.as_ref().map(|pause| pause.why.clone()),
        })
    }

    /// The ramps of hosts that are put to use again at once, or within `seconds`: what changes. `came_back`: the others were in use before.
    pub(super) fn new_ramps(
        &self,
        hosts: &[String],
        came_back: &BTreeSet<String>,
        seconds: Option<u64>,
        author: &str,
        reason: Option<&str>,
    ) -> journal::Ramps {
        let now = self.clock.now();
        let ramp = |host: &String| match (came_back.contains(host), self.ramps.get(host), seconds) {
            (true, _, Some(seconds)) => {
                let from = self.part(host).map_or(0, |part| part.keeps());
                Some((host.clone(), Some(Ramp { from, ..Ramp::new(now, seconds, author, reason) })))
            }
            (false, Some(ramp), Some(seconds)) => Some((host.clone(), Some(ramp.with_seconds(now, seconds)))),
            (_, Some(_), None) => Some((host.clone(), None)),
            _ => None,
        };
        hosts.iter().filter_map(ramp).collect()
    }

    /// Takes in what the journal has been told.
    pub(super) fn take_in_ramps(&mut self, ramps: journal::Ramps) {
        for (host, ramp) in ramps {
            self.watch.windows.remove(&host);
            match ramp {
                Some(ramp) => self.ramps.insert(host, ramp),
                None => self.ramps.remove(&host),
            };
        }
    }

    /// One round: how new flows fared, then the next step.
    pub(super) fn advance_ramps(&mut self) -> Result<(), Error> {
        if self.ramps.is_empty() && self.shifts.watched().next().is_none() {
            self.watch = Watch::default();
        } else {
            for (host, verdict) in self.look_at_new_flows()? {
                self.judge(&host, &verdict)?;
            }
            self.end_ramps()?;
        }
        if !self.stale && self.partial_shares() != self.published_shares {
            self.publish()?;
        }
        Ok(())
    }

    /// How the windows went that are full now. Looks once a second.
    fn look_at_new_flows(&mut self) -> Result<Vec<(String, Verdict)>, Error> {
        let now = self.clock.monotonic();
        if self.watch.samples.back().is_some_and(|(at, _)| *at == now) {
            return Ok(Vec::new());
        }
        let pairs = self.model.services.iter().filter(|service| is_telling(service)).flat_map(pairs_of);
        let counters = self.dataplane.pairs(pairs.filter_map(|pair| self.ids.stats.get(&pair).copied()))?;
        let sample = counters.iter().map(|(&stats, counters)| (stats, counters.new_flows)).collect();
        if self.watch.samples.is_empty() {
            self.watch.until = now;
        }
        self.watch.samples.push_back((now, sample));
        let (after, until) = (self.watch.until, now.saturating_sub(self.patience()));
        if until <= after {
            return Ok(Vec::new());
        }
        let half_open = self.dataplane.half_open(after, until);
        let count = |service: &Service, host: &str| {
            let pair = (service.name.clone(), host.to_owned());
            let begun = self.ids.stats.get(&pair).map_or(0, |&stats| {
                self.watch.begun(until, stats).saturating_sub(self.watch.begun(after, stats))
            });
            let ids = self.ids.services.get(&service.name).zip(self.ids.hosts.get(host));
            let failed = ids.and_then(|(&service, &host)| half_open.get(&(service, host)).copied());
            Count { begun, failed: failed.unwrap_or(0) }
        };
        let out = self.out();
        let down = self.cut_off.missing();
        let is_like_any =
            |host: &str| !out.contains(host) && !down.contains(host) && !self.ramps.contains_key(host);
        let mut looks = Vec::new();
        for host in self.ramps.keys() {
            let (mut own, mut others) = (Count::default(), Count::default());
            let services = self.model.services.iter().filter(|service| is_telling(service));
            for service in services.filter(|service| service.hosts.contains(host)) {
                own.add(count(service, host));
                for other in service.hosts.iter().filter(|other| is_like_any(other)) {
                    others.add(count(service, other));
                }
            }
            looks.push((host.clone(), own, others));
        }
        let shifts = self.shifts.watched().filter_map(|shift| {
            let service = self.model.services.iter().find(|service| service.name == shift.service)?;
            Some((shift.service.clone(), shift.fared(&self.model, service, |host| count(service, host))))
        });
        let shifts: Vec<(String, Fared)> = shifts.collect();
        self.shifts.add(now, shifts);
        self.watch.until = until;
        // One that is older than the next look's beginning stays.
        while self.watch.samples.get(1).is_some_and(|(at, _)| *at <= until) {
            self.watch.samples.pop_front();
        }
        let windows = &mut self.watch.windows;
        let verdicts = looks.into_iter().filter_map(|(host, own, others)| {
            let verdict = windows.entry(host.clone()).or_default().take(until - after, own, others)?;
            Some((host, verdict))
        });
        Ok(verdicts.collect())
    }

    fn patience(&self) -> u64 {
        let services = self.model.services.iter().filter(|service| is_telling(service));
        let shortest = services.map(|service| service.timeouts.half_open.as_secs()).min();
        shortest.map_or(PATIENCE, |timeout| timeout.saturating_sub(1).clamp(1, PATIENCE))
    }

    fn judge(&mut self, host: &str, verdict: &Verdict) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(mut ramp) = self.ramps.get(host).cloned() else { return Ok(()) };
        let Some(change) = ramp.judged(verdict, now) else { return Ok(()) };
        if let ramp::Change::TakenBack(why) = &change {
            if !self.would_be_last(host) {
                self.take_ramp_back(host, why)?;
                tell(host, &change);
                return Ok(());
            }
            // Each further bad window says the same.
            if self.ramps.get(host).is_some_and(ramp::Ramp::is_bad_enough) {
                return Ok(());
            }
            log::warn!("the ramp of {host} stays paused, as a service has no other host: {why}");
        } else {
            tell(host, &change);
        }
        let note = Change { at: now, author: "sluice", reason: None };
        self.journal.note_ramps(&[(host.to_owned(), Some(ramp.clone()))].into(), &note)?;
        self.ramps.insert(host.to_owned(), ramp);
        Ok(())
    }

    /// Without the host a service would have none: half a host is more than none.
    fn would_be_last(&self, host: &str) -> bool {
        let broken = self.broken_rules(&[host.to_owned()]);
        broken.iter().any(|rule| rule.rule == "last_host")
    }

    /// Drains a host on its way back again.
    fn take_ramp_back(&mut self, host: &str, why: &str) -> Result<(), Error> {
        let now = self.clock.now();
        let reason = format!("{TAKEN_BACK}: {why}");
        let event = Event::Drain {
            id: self.journal.next_drain_id()?,
            by: OWN.to_owned(),
            reason: Some(reason.clone()),
            order: Order::default(),
            gauges: self.drain_gauges(&Target::host(host))?,
        };
        let target = Target::host(host);
        let (state, actions) = step(&target, self.drains[&target].clone(), event, now);
        let begun: Vec<_> = actions
            .into_iter()
            .filter_map(|action| if let Action::Begin(drain) = action { Some(drain) } else { None })
            .collect();
        let superseded = self.superseded(host, "sluice", Some(&reason))?;
        let change = Change { at: now, author: "sluice", reason: Some(&reason) };
        self.journal.drain_instead(&begun, &[], &superseded.taken, &change)?;
        self.sealed.retain(|target| !superseded.states.contains_key(target));
        self.drains.extend(superseded.states);
        self.drains.insert(target, state);
        self.take_in_ramps([(host.to_owned(), None)].into());
        self.stale = true;
        superseded.told.into_iter().for_each(|happening| self.tell(happening));
        for drain in &begun {
            self.durations.begin(drain);
            self.tell(telling::began(drain));
        }
        self.put_into_effect()
    }

    /// Ends the ramps of hosts that are like any other by now.
    fn end_ramps(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let over = self.ramps.iter().filter(|(_, ramp)| ramp.is_over(now));
        let over: journal::Ramps = over.map(|(host, _)| (host.clone(), None)).collect();
        if over.is_empty() {
            return Ok(());
        }
        self.journal.note_ramps(&over, &Change { at: now, author: "sluice", reason: None })?;
        for host in over.keys() {
            log::info!("{host} is back with its full share");
        }
        self.take_in_ramps(over);
        Ok(())
    }
}

/// Whether half-open pins of the service tell of handshakes that failed: with `tracking = "edges"` a settled slot's stay so.
pub(super) fn is_telling(service: &Service) -> bool {
    service.protocols.has(Protocol::Tcp) && !tracks_edges(service)
}

fn pairs_of(service: &Service) -> impl Iterator<Item = (String, String)> {
    service.hosts.iter().map(|host| (service.name.clone(), host.clone()))
}

/// Whoever wants to know of it learns it here.
fn tell(host: &str, change: &ramp::Change) {
    match change {
        ramp::Change::Paused => log::warn!("the ramp of {host} is paused: new flows fail"),
        ramp::Change::StillPaused => log::warn!("the ramp of {host} stays paused: new flows fail"),
        ramp::Change::GoesOn => log::info!("the ramp of {host} goes on"),
        ramp::Change::TakenBack(why) => log::warn!("the ramp of {host} is taken back: {why}"),
    }
}
