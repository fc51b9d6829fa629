//! Drain and undrain.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::whatif::explained;
use super::{Engine, Error, telling};
use crate::api::types::{DrainRequest, DrainStatus, Happening, LiveFlows, Order, UndrainRequest};
use crate::dataplane::Sizes;
use crate::drain;
use crate::drain::{Action, Event, Gauges, Refusal, State, Target, Wish, step};
use crate::journal::{Amended, Change, TakenBack};
use crate::ramp;

/// Backends that may be kept apart for some clients: an eighth of those that there may be.
const APART: usize = 2048;

/// Drains that give way to one of the whole host.
#[derive(Default)]
pub(super) struct Superseded {
    pub taken: Vec<TakenBack>,
    pub states: BTreeMap<Target, State>,
    pub told: Vec<Happening>,
}

impl Engine {
    /// Takes hosts out, or gives their drains another order: all of them or none. When it returns, no new flow reaches them (C2), but
    /// of services that they serve on as the last in use, which takes force.
    pub fn drain(&mut self, request: &DrainRequest, author: &str) -> Result<Vec<DrainStatus>, Error> {
        let hosts = self.named(&request.hosts)?;
        let service = request.service.as_deref();
        let clients = request.clients.as_deref().map(drain::clients).transpose()?;
        let targets = self.targets(&hosts, service, clients)?;
        if request.share.is_none() {
            self.check_rules(&targets, request.force)?;
        }
        self.check_room(&targets)?;
        let now = self.clock.now();
        let mut id = self.journal.next_drain_id()?;
        let (mut begun, mut amended, mut superseded) = (Vec::new(), Vec::new(), Vec::new());
        let (mut states, mut unsealed, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for target in &targets {
            let gauges = self.drain_gauges(target)?;
            let order = self.order(target, &request.into(), now, gauges.live.total)?;
            let event =
                Event::Drain { id, by: author.to_owned(), reason: request.reason.clone(), order, gauges };
            let before = self.drains.get(target).cloned().unwrap_or(State::Active { last: None });
            let (state, actions) = step(target, before, event, now);
            for action in actions {
                match action {
                    Action::Begin(drain) => {
                        if target.is_whole() {
                            let out = self.superseded(&target.host, author, request.reason.as_deref())?;
                            superseded.extend(out.taken);
                            unsealed.extend(out.states.keys().cloned());
                            states.extend(out.states);
                            told.extend(out.told);
                        }
                        told.push(telling::began(&drain));
                        begun.push(drain);
                        id += 1;
                    }
                    Action::Amend { drain, order } => {
                        told.push(telling::amended(target, drain, order, author, request.reason.as_deref()));
                        amended.push(Amended { drain, order });
                    }
                    Action::UnsealHost(_) => unsealed.push(target.clone()),
                    // Everything is published below.
                    _ => {}
                }
            }
            states.push((target.clone(), state));
        }
        if !begun.is_empty() || !amended.is_empty() {
            let change = Change { at: now, author, reason: request.reason.as_deref() };
            self.journal.drain_instead(&begun, &amended, &superseded, &change)?;
            self.drains.extend(states);
            self.sealed.retain(|target| !unsealed.contains(target));
            self.tallies.retain(|target, _| self.drains.get(target).is_some_and(State::is_out));
            let hosts = begun.iter().filter(|drain| drain.target().is_whole());
            self.take_in_ramps(hosts.map(|drain| (drain.host.clone(), None)).collect());
            self.stale = true;
            for drain in &begun {
                if drain.clients.is_some() {
                    // There is one, as `check_room` has looked.
                    let tally = self.free_tally();
                    self.tallies.extend(tally.map(|tally| (drain.target(), tally)));
                }
                self.durations.begin(drain);
                log::info!("drain {} of {} by {author}", drain.id, drain.target());
            }
            for amended in &amended {
                log::info!("drain {} has another order by {author}", amended.drain);
            }
            told.into_iter().for_each(|happening| self.tell(happening));
        }
        if let Err(error) = self.put_into_effect() {
            let noted =
                targets.iter().filter_map(|target| Some((self.drains.get(target)?.drain()?.id, target)));
            let noted = noted.map(|(drain, target)| format!("drain {drain} of {target}"));
            return Err(Error::NotYet { noted: noted.collect(), source: error.into() });
        }
        if request.share.is_none() && targets.iter().all(Target::is_whole) {
            self.note_wishes(&hosts, author, request.reason.as_deref())?;
        }
        self.statuses(&targets, None)
    }

    /// Hosts, or hosts for one service, which must be among those that serve it, or for some clients.
    pub(super) fn targets(
        &self,
        hosts: &[String],
        service: Option<&str>,
        clients: Option<IpNet>,
    ) -> Result<Vec<Target>, Error> {
        if let Some(name) = service {
            let found = self.model.services.iter().find(|service| service.name == name);
            let found = found.ok_or_else(|| Error::NoService {
                name: name.to_owned(),
                near: near(name, self.ids.services.keys()),
            })?;
            if let Some(host) = hosts.iter().find(|host| !found.hosts.contains(host)) {
                return Err(Error::NotOfService { host: host.clone(), service: name.to_owned() });
            }
        }
        Ok(hosts.iter().map(|host| Target::of(host, service).with_clients(clients)).collect())
    }

    /// Whether the data path has room for drains of single services or some clients.
    fn check_room(&self, targets: &[Target]) -> Result<(), Error> {
        let new =
            |target: &&Target| !target.is_whole() && !self.drains.get(target).is_some_and(State::is_out);
        let new: Vec<Target> = targets.iter().filter(new).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let of_clients = |target: &&Target| target.clients.is_some();
        let in_force =
            self.drains.iter().filter(|(target, state)| target.clients.is_some() && state.is_out());
        if new.iter().any(|target| of_clients(&target))
            && in_force.count() + new.iter().filter(of_clients).count() > Sizes::TALLIES as usize
        {
            return Err(Error::TooManyOfClients(Sizes::TALLIES));
        }
        let intents = self.intents_with(&new);
        let wanted = self.wanted(&intents);
        let apart = intents.clients.iter().filter_map(|name| wanted.get(name));
        let backends = apart.map(|wanted| wanted.hosts.len()).sum();
        if backends > APART {
            return Err(Error::TooManyBackends(backends, APART));
        }
        let mut rings = self.rings.clone();
        rings.regroup(&wanted, &intents.needed, self.room());
        if rings.rings.len() > self.room() {
            return Err(Error::NoRing { what: format!("the drain of {}", new[0]) });
        }
        Ok(())
    }

    /// Number of counters that no drain for some clients has.
    pub(super) fn free_tally(&self) -> Option<u32> {
        let first = self.dataplane.options.sizes.first_tally();
        let mut all = first..first + Sizes::TALLIES;
        all.find(|number| !self.tallies.values().any(|used| used == number))
    }

    /// The drains of the host for single services or some clients that are in force.
    fn in_force_in_part(&self, host: &str) -> Vec<Target> {
        let own = self.drains.iter().filter(|(target, state)| target.host == host && state.is_out());
        own.map(|(target, _)| target.clone()).filter(|target| !target.is_whole()).collect()
    }

    /// The drains of a host for single services or clients, as they end when the whole host is drained instead, by `author`.
    pub(super) fn superseded(
        &self,
        host: &str,
        author: &str,
        reason: Option<&str>,
    ) -> Result<Superseded, Error> {
        let mut superseded = Superseded::default();
        for target in self.in_force_in_part(host) {
            let event = Event::Undrain { gauges: self.drain_gauges(&target)? };
            let before = self.drains[&target].clone();
            let drain = before.drain().cloned();
            let (state, actions) = step(&target, before, event, self.clock.now());
            for action in actions {
                if let Action::TakeBack { drain: number, receipt } = action {
                    let by = Some((author, reason));
                    let told = drain.as_ref().map(|drain| telling::taken_back(drain, receipt.as_ref(), by));
                    superseded.told.extend(told);
                    superseded.taken.push(TakenBack { drain: number, receipt });
                }
            }
            superseded.states.insert(target, state);
        }
        Ok(superseded)
    }

    /// The order that the drain of a host is to have.
    pub(super) fn order(&self, target: &Target, wish: &Wish, now: u64, live: u64) -> Result<Order, Error> {
        let (host, is_part, is_pair) = (&target.host, wish.share.is_some(), !target.is_whole());
        // Of one service and of some clients, at most one drain may be about a flow; the latter may be about many services.
        let is_met = |(other, state): (&Target, &State)| {
            let of_clients = target.clients.is_some() || other.clients.is_some();
            other != target && !other.is_whole() && of_clients && state.is_out() && other.overlaps(target)
        };
        let is_host_out = self.host_state(host).is_some_and(State::is_out);
        let new = State::Active { last: None };
        let order = match self.drains.get(target).unwrap_or(&new) {
            _ if is_part && is_pair => Err(Refusal::PartOfService),
            _ if is_pair && is_host_out => Err(Refusal::WholeAlready),
            _ if is_pair && self.part(host).is_some() => Err(Refusal::PartAlready),
            _ if is_part && !self.in_force_in_part(host).is_empty() => Err(Refusal::ServicesAlready),
            _ if is_pair && self.drains.iter().any(is_met) => Err(Refusal::ClientsAlready),
            State::Active { .. } if is_part && self.ramps.contains_key(host) => Err(Refusal::Ramping),
            state if is_part && state.is_out() => Err(Refusal::WholeAlready),
            State::Drained(finished) if finished.drain.order.share != wish.share => {
                wish.order(Order::default(), now, live)
            }
            State::Active { .. } => wish.order(Order::default(), now, live),
            State::Draining(draining) => wish.order(draining.drain.order, now, live),
            State::Drained(finished) => wish.renewed(finished.drain.order, now),
        };
        order.map_err(|refusal| Error::Order { host: target.to_string(), refusal })
    }

    /// Brings hosts back, at once or by a ramp: all of them or none.
    pub fn undrain(&mut self, request: &UndrainRequest, author: &str) -> Result<Vec<DrainStatus>, Error> {
        let hosts = self.named(&request.hosts)?;
        if let Some(host) = hosts.iter().find(|host| self.model.is_disabled(host)) {
            return Err(Error::Disabled(host.clone()));
        }
        request.ramp.map_or(Ok(()), ramp::check)?;
        let clients = request.clients.as_deref().map(drain::clients).transpose()?;
        let is_whole = request.service.is_none() && clients.is_none();
        if request.ramp.is_some() && !is_whole {
            return Err(Error::RampOfService);
        }
        let mut targets = self.targets(&hosts, request.service.as_deref(), clients)?;
        if is_whole {
            for host in &hosts {
                targets.extend(self.in_force_in_part(host));
            }
        }
        if let Some(target) = targets.iter().find(|target| !self.drains.contains_key(target)) {
            return Err(Error::NoDrainOf(target.to_string()));
        }
        let event = |gauges| Event::Undrain { gauges };
        self.take_back(&targets, event, request.ramp, author, request.reason.as_deref())?;
        if let Err(error) = self.put_into_effect() {
            let noted = hosts.iter().map(|host| format!("the return of {host}")).collect();
            return Err(Error::NotYet { noted, source: error.into() });
        }
        self.statuses(&targets, None)
    }

    /// Brings hosts back whose leases have run out, unless that could not be published: then they stay as they are.
    pub(super) fn end_leases(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let is_over = |state: &State| state.order().is_some_and(|order| order.is_lease_over(now));
        let over = self.drains.iter().filter(|(_, state)| is_over(state));
        let over: Vec<Target> = over.map(|(target, _)| target.clone()).collect();
        if over.is_empty() || self.stale {
            return Ok(());
        }
        self.take_back(&over, |gauges| Event::Time { gauges }, None, "sluice", Some("lease run out"))?;
        self.put_into_effect()
    }

    /// Puts hosts to use again, in journal and memory, by events that do so; with their full share in `ramp` seconds.
    fn take_back(
        &mut self,
        targets: &[Target],
        event: impl Fn(Gauges) -> Event,
        ramp: Option<u64>,
        author: &str,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let (mut taken_back, mut states, mut told) = (Vec::new(), Vec::new(), Vec::new());
        let mut back = BTreeSet::new();
        for target in targets {
            let Some(before) = self.drains.get(target).cloned() else { continue };
            let event = event(self.drain_gauges(target)?);
            let by = matches!(event, Event::Undrain { .. }).then_some((author, reason));
            let drain = before.drain().cloned();
            let (state, actions) = step(target, before, event, now);
            for action in actions {
                if let Action::TakeBack { drain: number, receipt } = action {
                    told.extend(drain.as_ref().map(|drain| telling::taken_back(drain, receipt.as_ref(), by)));
                    let drain = number;
                    taken_back.push(TakenBack { drain, receipt });
                    back.insert(target.clone());
                }
            }
            states.push((target.clone(), state));
        }
        let whole = |target: &&Target| target.is_whole();
        let hosts: Vec<String> = targets.iter().filter(whole).map(|target| target.host.clone()).collect();
        let hosts_back = back.iter().filter(whole).map(|target| target.host.clone()).collect();
        let ramps = self.new_ramps(&hosts, &hosts_back, ramp, author, reason);
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
        for target in &back {
            self.sealed.remove(target);
            self.tallies.remove(target);
            log::info!(
                "{target} is taken back by {author}{}",
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
        // It is in force. What is yet to be noted of it is by the next round.
        if let Err(error) = self.note_starts() {
            log::warn!("{error}");
        }
        Ok(())
    }

    /// The drains of these hosts, or all drains that there are; `service` and `clients`: only those for these alone. With so many of
    /// the flows that each waits for.
    pub fn drain_statuses(
        &self,
        hosts: &[String],
        service: Option<&str>,
        clients: Option<&str>,
        blockers: Option<usize>,
    ) -> Result<Vec<DrainStatus>, Error> {
        let clients = clients.map(drain::clients).transpose()?;
        let is_meant = |target: &&Target| {
            (service.is_none() || target.service.as_deref() == service)
                && (clients.is_none() || target.clients == clients)
        };
        if hosts.is_empty() {
            let mut statuses = self.statuses(self.drains.keys().filter(is_meant), blockers)?;
            if service.is_none() {
                statuses.extend(self.retiring_statuses()?);
            }
            return Ok(statuses);
        }
        let hosts = self.named(hosts)?;
        self.targets(&hosts, service, clients)?;
        let mut targets: Vec<&Target> = Vec::new();
        for host in &hosts {
            targets.extend(self.drains.keys().filter(is_meant).filter(|target| target.host == *host));
        }
        self.statuses(targets, blockers)
    }

    fn statuses<'a>(
        &self,
        targets: impl IntoIterator<Item = &'a Target>,
        blockers: Option<usize>,
    ) -> Result<Vec<DrainStatus>, Error> {
        let statuses: Vec<_> =
            targets.into_iter().map(|target| self.status_of(target)).collect::<Result<_, _>>()?;
        let mut statuses: Vec<DrainStatus> = statuses.into_iter().flatten().collect();
        self.add_progress(statuses.iter_mut().collect(), blockers)?;
        Ok(statuses)
    }

    /// The drain that is under way or was the last.
    pub(super) fn status_of(&self, target: &Target) -> Result<Option<DrainStatus>, Error> {
        let Some(state) = self.drains.get(target) else { return Ok(None) };
        let Some(status) = state.status(self.live_of(target)?, self.clock.now()) else { return Ok(None) };
        let ramp = if target.is_whole() { self.ramp_status(&target.host) } else { None };
        Ok(Some(DrainStatus { ramp, ..explained(status, &self.serving_on()) }))
    }

    /// Live flows that the drain is about.
    pub(super) fn live_of(&self, target: &Target) -> Result<LiveFlows, Error> {
        let (host, service) = (&target.host, target.service.as_deref());
        let has_edges = service.map_or_else(|| self.has_edges(host), |name| self.is_of_edges(name));
        if target.clients.is_some() {
            return Ok(self.marked(self.live_of_clients(target), host, has_edges));
        }
        let live = self.marked(self.sum(target)?.live(), host, has_edges);
        Ok(if target.is_whole() { self.drain_live(host, live) } else { live })
    }

    /// The drain of a host, as a whole or for one service, under way or the last.
    pub fn drain_status(
        &self,
        host: &str,
        service: Option<&str>,
        clients: Option<&str>,
        blockers: usize,
    ) -> Result<DrainStatus, Error> {
        if !self.model.hosts.contains_key(host) {
            let retiring = self.retiring_statuses()?.into_iter().find(|status| status.host == host);
            if let Some(status) = retiring.filter(|_| service.is_none()) {
                return Ok(status);
            }
            return Err(Error::NoHost { name: host.to_owned(), near: near(host, self.model.hosts.keys()) });
        }
        let clients = clients.map(drain::clients).transpose()?;
        let targets = self.targets(&[host.to_owned()], service, clients)?;
        let statuses = self.statuses(&targets, Some(blockers))?;
        statuses.into_iter().next().ok_or_else(|| Error::NoDrainOf(targets[0].to_string()))
    }

    /// Notes the zero line of drains whose rings have just been published.
    pub(super) fn note_starts(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        let is_new = |state: &State| matches!(state, State::Draining(draining) if draining.tally.is_none());
        let new = self.drains.iter().filter(|(_, state)| is_new(state));
        let is_part = |(_, state): &(&Target, &State)| state.part().is_some();
        let parts: Vec<Target> = new.clone().filter(is_part).map(|(target, _)| target.clone()).collect();
        if new.clone().any(|(target, _)| target.clients.is_some()) || !parts.is_empty() {
            // Which flows are in slots that were given up, or of these clients, only a sweep tells.
            self.sweep()?;
        }
        // New flows still reach a host that serves on.
        let serving_on = self.serving_on();
        let serves_on = |target: &Target| {
            let names = self.audiences_of(target);
            serving_on.iter().any(|(name, hosts)| names.contains(name) && hosts.contains(&target.host))
        };
        let out = self.drains.iter().filter(|(target, state)| state.is_out() && !serves_on(target));
        let out: Vec<Target> = out.map(|(target, _)| target.clone()).chain(parts).collect();
        for target in &out {
            let event = Event::Published { gauges: self.drain_gauges(target)?, generation: self.generation };
            let (state, actions) = step(target, self.drains[target].clone(), event, now);
            for action in actions {
                if let Action::NoteStart { drain, start } = action {
                    self.journal.note_drain_start(drain, &start)?;
                }
            }
            self.drains.insert(target.clone(), state);
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
