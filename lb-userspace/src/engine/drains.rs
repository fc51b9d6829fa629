//! Drain and undrain.

use std::collections::BTreeSet;

use super::whatif::explained;
use super::{Engine, Error, telling};
use crate::api::types::{DrainRequest, DrainStatus, Order, UndrainRequest};
use crate::drain::{Action, Event, Gauges, Refusal, State, Wish, step};
use crate::journal::{Amended, Change, TakenBack};
use crate::ramp;

impl Engine {
    /// Takes hosts out, or gives their drains another order: all of them or none. When it returns, no new flow reaches them (C2), but
    /// of services that they serve on as the last in use, which takes force.
    pub fn drain(&mut self, request: &DrainRequest, author: &str) -> Result<Vec<DrainStatus>, Error> {
        let hosts = self.named(&request.hosts)?;
        if request.share.is_none() {
            self.check_rules(&hosts, request.force)?;
        }
        let now = self.clock.now();
        let mut id = self.journal.next_drain_id()?;
        let (mut begun, mut amended) = (Vec::new(), Vec::new());
        let (mut states, mut unsealed, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for host in &hosts {
            let gauges = self.drain_gauges(host)?;
            let order = self.order(host, &request.into(), now, gauges.live.total)?;
            let event =
                Event::Drain { id, by: author.to_owned(), reason: request.reason.clone(), order, gauges };
            let (state, actions) = step(host, self.drains[host].clone(), event, now);
            for action in actions {
                match action {
                    Action::Begin(drain) => {
                        told.push(telling::began(&drain));
                        begun.push(drain);
                        id += 1;
                    }
                    Action::Amend { drain, order } => {
                        told.push(telling::amended(host, drain, order, author, request.reason.as_deref()));
                        amended.push(Amended { drain, order });
                    }
                    Action::UnsealHost(host) => unsealed.push(host),
                    // Everything is published below.
                    _ => {}
                }
            }
            states.push((host.clone(), state));
        }
        if !begun.is_empty() || !amended.is_empty() {
            let change = Change { at: now, author, reason: request.reason.as_deref() };
            self.journal.drain(&begun, &amended, &change)?;
            self.drains.extend(states);
            self.sealed.retain(|host| !unsealed.contains(host));
            self.take_in_ramps(begun.iter().map(|drain| (drain.host.clone(), None)).collect());
            self.stale = true;
            for drain in &begun {
                if let Some(&host) = self.ids.hosts.get(&drain.host) {
                    self.durations.begin(host, drain.id);
                }
                log::info!("drain {} of {} by {author}", drain.id, drain.host);
            }
            for amended in &amended {
                log::info!("drain {} has another order by {author}", amended.drain);
            }
            told.into_iter().for_each(|happening| self.tell(happening));
        }
        self.put_into_effect()?;
        self.drain_statuses(&hosts, None)
    }

    /// The order that the drain of a host is to have.
    fn order(&self, host: &str, wish: &Wish, now: u64, live: u64) -> Result<Order, Error> {
        let is_part = wish.share.is_some();
        let order = match &self.drains[host] {
            State::Active { .. } if is_part && self.ramps.contains_key(host) => Err(Refusal::Ramping),
            state if is_part && state.is_out() => Err(Refusal::WholeAlready),
            State::Drained(finished) if finished.drain.order.share != wish.share => {
                wish.order(Order::default(), now, live)
            }
            State::Active { .. } => wish.order(Order::default(), now, live),
            State::Draining(draining) => wish.order(draining.drain.order, now, live),
            State::Drained(finished) => wish.renewed(finished.drain.order, now),
        };
        order.map_err(|refusal| Error::Order { host: host.to_owned(), refusal })
    }

    /// Brings hosts back, at once or by a ramp: all of them or none.
    pub fn undrain(&mut self, request: &UndrainRequest, author: &str) -> Result<Vec<DrainStatus>, Error> {
        let hosts = self.named(&request.hosts)?;
        if let Some(host) = hosts.iter().find(|host| self.model.is_disabled(host)) {
            return Err(Error::Disabled(host.clone()));
        }
        request.ramp.map_or(Ok(()), ramp::check)?;
        let event = |gauges| Event::Undrain { gauges };
        self.take_back(&hosts, event, request.ramp, author, request.reason.as_deref())?;
        self.put_into_effect()?;
        self.drain_statuses(&hosts, None)
    }

    /// Brings hosts back whose leases have run out, unless that could not be published: then they stay as they are.
    pub(super) fn end_leases(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let is_over = |state: &State| state.order().is_some_and(|order| order.is_lease_over(now));
        let over = self.drains.iter().filter(|(_, state)| is_over(state));
        let over: Vec<String> = over.map(|(host, _)| host.clone()).collect();
        if over.is_empty() || self.stale {
            return Ok(());
        }
        self.take_back(&over, |gauges| Event::Time { gauges }, None, "sluice", Some("lease run out"))?;
        self.put_into_effect()
    }

    /// Puts hosts to use again, in journal and memory, by events that do so; with their full share in `ramp` seconds.
    fn take_back(
        &mut self,
        hosts: &[String],
        event: impl Fn(Gauges) -> Event,
        ramp: Option<u64>,
        author: &str,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let (mut taken_back, mut states, mut told) = (Vec::new(), Vec::new(), Vec::new());
        let mut back = BTreeSet::new();
        for host in hosts {
            let (before, event) = (self.drains[host].clone(), event(self.drain_gauges(host)?));
            let by = matches!(event, Event::Undrain { .. }).then_some((author, reason));
            let drain = before.drain().cloned();
            let (state, actions) = step(host, before, event, now);
            for action in actions {
                if let Action::TakeBack { drain: number, receipt } = action {
                    told.extend(drain.as_ref().map(|drain| telling::taken_back(drain, receipt.as_ref(), by)));
                    let drain = number;
                    taken_back.push(TakenBack { drain, receipt });
                    back.insert(host.clone());
                }
            }
            states.push((host.clone(), state));
        }
        let ramps = self.new_ramps(hosts, &back, ramp, author, reason);
        let change = Change { at: now, author, reason };
        if taken_back.is_empty() {
            if !ramps.is_empty() {
                self.journal.note_ramps(&ramps, &change)?;
                self.take_in_ramps(ramps);
                self.stale = true;
            }
            return Ok(());
        }
        self.journal.undrain(&taken_back, &ramps, &change)?;
        self.take_in_ramps(ramps);
        self.drains.extend(states);
        told.into_iter().for_each(|happening| self.tell(happening));
        for host in &back {
            self.sealed.remove(host);
            log::info!(
                "{host} is taken back by {author}{}",
                reason.map(|r| format!(": {r}")).unwrap_or_default()
            );
        }
        self.stale = true;
        Ok(())
    }

    /// Publishes if that is still to be done, be it by an earlier command: an answer without error says that it is so.
    pub(super) fn put_into_effect(&mut self) -> Result<(), Error> {
        if self.stale {
            self.publish()?;
        }
        self.note_starts()
    }

    /// The drains of these hosts, or of all hosts that have one; with so many of the flows that each waits for.
    pub fn drain_statuses(
        &self,
        hosts: &[String],
        blockers: Option<usize>,
    ) -> Result<Vec<DrainStatus>, Error> {
        let all: Vec<String> =
            if hosts.is_empty() { self.drains.keys().cloned().collect() } else { self.named(hosts)? };
        let serving_on = self.serving_on();
        let mut statuses = Vec::new();
        for host in &all {
            let live = self.marked(self.host_sum(host)?.live(), host, self.has_edges(host));
            let live = self.drain_live(host, live);
            let status = self.drains[host].status(live, self.clock.now());
            statuses.extend(status.map(|status| DrainStatus {
                ramp: self.ramp_status(host),
                ..explained(status, &serving_on)
            }));
        }
        self.add_progress(statuses.iter_mut().collect(), blockers)?;
        Ok(statuses)
    }

    /// The drain of a host, under way or the last.
    pub fn drain_status(&self, host: &str, blockers: usize) -> Result<DrainStatus, Error> {
        if !self.drains.contains_key(host) {
            return Err(Error::NoHost { name: host.to_owned(), near: near(host, self.drains.keys()) });
        }
        let statuses = self.drain_statuses(&[host.to_owned()], Some(blockers))?;
        statuses.into_iter().next().ok_or_else(|| Error::NoDrainOf(host.to_owned()))
    }

    /// Notes the zero line of drains whose rings have just been published.
    pub(super) fn note_starts(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let is_new = |state: &State| matches!(state, State::Draining(draining) if draining.tally.is_none());
        let parts = self.drains.iter().filter(|(_, state)| state.part().is_some() && is_new(state));
        let parts: BTreeSet<String> = parts.map(|(host, _)| host.clone()).collect();
        if !parts.is_empty() {
            // Which flows are in slots that were given up, only a sweep tells.
            self.sweep()?;
        }
        // New flows still reach a host that serves on.
        let serving_on: BTreeSet<String> = self.serving_on().into_values().flatten().collect();
        for host in self.out().difference(&serving_on).chain(&parts) {
            let event = Event::Published { gauges: self.drain_gauges(host)?, generation: self.generation };
            let (state, actions) = step(host, self.drains[host].clone(), event, now);
            for action in actions {
                if let Action::NoteStart { drain, start } = action {
                    self.journal.note_drain_start(drain, &start)?;
                }
            }
            self.drains.insert(host.clone(), state);
        }
        Ok(())
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drains.values().any(|state| matches!(state, State::Draining(_)))
    }
}

/// The known name that looks most like `name`, if one looks like it at all.
pub(super) fn near<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    let scored = known.map(|known| (strsim::jaro_winkler(name, known), known));
    scored
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.8)
        .map(|(_, known)| known.clone())
}
