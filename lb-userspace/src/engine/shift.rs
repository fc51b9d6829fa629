//! Shifts: what the machine decides is noted, and the shares of hosts follow from it as they follow from health.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::drains::near;
use super::maintain::RunVerb;
use super::ramps::is_telling;
use super::rings::Shares;
use super::{Engine, Error};
use crate::api::types::{Happening, RunRequest, ShiftRequest, ShiftRun, Shifts as Reports};
use crate::health::choose::Choice;
use crate::jobs::What;
use crate::journal::{Change, RunKind};
use crate::maintain::JobState;
use crate::model::Service;
use crate::plan::audience;
use crate::ring::SHARE_FULL;
use crate::shift::{self, Condition, Event, Fared, Fates, Seen, Shift, Site, step, words};

/// Seconds between two runs of a condition's command.
const CHECK_EVERY: u64 = 2;
/// Seconds that one may take.
const TIMEOUT: u64 = 10;

#[derive(Default)]
pub(super) struct Shifts {
    /// The last of each service, by its name: what it came to stays in force.
    last: BTreeMap<String, Shift>,
    /// Commands of conditions, by name of the service and place of the condition.
    probes: BTreeMap<(String, usize), Probe>,
    /// How new flows fared since the step began, by name of the service.
    fates: BTreeMap<String, Fates>,
}

/// A command that is run again and again; not in the journal, as it is run anew.
#[derive(Default)]
struct Probe {
    /// Unix seconds at which the one that runs was begun.
    begun: Option<u64>,
    ended: Option<u64>,
    /// What failed of the last one.
    failure: Option<String>,
    /// Unix seconds at which the last one that succeeded was begun.
    good: Option<u64>,
}

impl Probe {
    fn ends(&mut self, failure: Option<String>, now: u64) {
        if failure.is_none() {
            self.good = self.begun;
        }
        (self.begun, self.ended, self.failure) = (None, Some(now), failure);
    }
}

impl Shifts {
    fn under_way(&self) -> impl Iterator<Item = &Shift> {
        self.last.values().filter(|shift| !shift.is_over())
    }

    /// Services for which it is to be counted how new flows fare.
    pub fn watched(&self) -> impl Iterator<Item = &Shift> {
        let is_errors = |of: &Condition| matches!(of, Condition::Errors(_));
        self.under_way().filter(move |shift| !shift.is_back() && shift.conditions.iter().any(is_errors))
    }

    /// Takes in how new flows fared, at this second of the data path's clock.
    pub fn add(&mut self, second: u64, counts: Vec<(String, Fared)>) {
        for (service, fared) in counts {
            self.fates.entry(service).or_default().add(second, fared);
        }
    }

    pub fn splits(&self, service: &Service) -> bool {
        self.last.contains_key(&service.name)
    }

    fn of(&self, number: u64) -> Option<&Shift> {
        self.last.values().find(|shift| shift.id == number)
    }
}

impl Engine {
    /// Goes on with what is under way or in force by the journal.
    pub(super) fn resume_shifts(&mut self) -> Result<(), Error> {
        for shift in self.journal.last_shifts::<Shift>()? {
            if !shift.is_over() {
                log::info!("shift {} of {} goes on, by the journal", shift.id, shift.service);
            }
            self.shifts.last.insert(shift.service.clone(), shift);
        }
        Ok(())
    }

    /// Shares by the service's last shift, of hosts that have less than the full one; `choice`: who is used by health.
    pub(super) fn shares_by_shift(&self, service: &Service, choice: Option<&Choice>) -> Shares {
        let Some(shift) = self.shifts.last.get(&service.name) else { return Shares::new() };
        let (out, missing) = (self.out_of(service), self.cut_off.missing());
        let is_used = |host: &&&str| {
            !out.contains(**host) && choice.map_or(!missing.contains(**host), |choice| choice.is_used(host))
        };
        let weights = |hosts: &BTreeSet<&str>| -> Vec<u64> {
            let weight = |host: &&str| self.model.hosts.get(*host).map_or(0, |host| u64::from(host.weight));
            hosts.iter().filter(is_used).map(weight).filter(|weight| *weight > 0).collect()
        };
        let (from, to) = shift.sides(&self.model, service);
        let (of_from, of_to) = (weights(&from), weights(&to));
        if of_from.is_empty() || of_to.is_empty() {
            // Somebody serves rather than nobody.
            return Shares::new();
        }
        let (of_from, of_to) = shift.part().shares(&of_from, &of_to);
        let shares =
            from.into_iter().map(|host| (host, of_from)).chain(to.into_iter().map(|host| (host, of_to)));
        shares
            .filter(|(_, share)| *share < SHARE_FULL)
            .map(|(host, share)| (host.to_owned(), share))
            .collect()
    }

    /// Hosts that get no new flows of the service by an operator's will.
    fn out_of(&self, service: &Service) -> BTreeSet<String> {
        let pairs = self.drains.iter().filter(|(target, state)| {
            state.is_out() && target.clients.is_none() && target.service.as_ref() == Some(&service.name)
        });
        let mut out = self.out();
        out.extend(pairs.map(|(target, _)| target.host.clone()));
        out
    }

    /// Begins a shift.
    pub fn start_shift(&mut self, request: &ShiftRequest, author: &str) -> Result<ShiftRun, Error> {
        let service = self.service_named(&request.service)?.clone();
        let out = self.out_of(&service);
        let now = self.clock.now();
        let before = self.shifts.last.get(&service.name);
        let site = Site { model: &self.model, out: &out, before, is_telling: is_telling(&service), now };
        let mut shift = shift::read(request, &service, &site, author).map_err(Error::Plan)?;
        shift.flows.start = self.new_flows(&shift, &service)?;
        shift.flows.step.clone_from(&shift.flows.start);
        if self.has_no_ring(&shift) {
            return Err(Error::NoRing { what: format!("a shift of {}", service.name) });
        }
        let change = Change { at: now, author, reason: request.reason.as_deref() };
        let detail = |number: u64| {
            json!({
                "shift": number, "service": shift.service, "sides": words(&shift),
                "state": "begun", "wanted": shift.part().to_string(),
            })
        };
        let shift = self.journal.begin_run(
            RunKind::Shift,
            |number| Shift { id: number, ..shift.clone() },
            &change,
            detail,
        )?;
        log::info!("shift {} of {} from {} by {author}", shift.id, shift.service, words(&shift));
        let number = shift.id;
        self.forget_probes(&shift.service);
        self.shifts.fates.remove(&shift.service);
        self.tell_of_shift(&shift);
        self.shifts.last.insert(shift.service.clone(), shift);
        self.put_shift_into_effect();
        self.shift_report(number)
    }

    /// Whether the service could not follow this shift, as there is no room for a ring of its own: it would wait for that for ever, also on its
    /// way back.
    fn has_no_ring(&mut self, shift: &Shift) -> bool {
        let name = &shift.service;
        let before = self.shifts.last.insert(name.clone(), shift.clone());
        let (choices, _) = self.choose();
        let wanted = self.wanted_shares(&choices);
        let shares = std::mem::replace(&mut self.health.shares, wanted);
        let intents = self.intents();
        let mut rings = self.rings.clone();
        let stuck = rings.regroup(&self.wanted(&intents), &intents.needed, self.room());
        // It was only tried.
        self.health.shares = shares;
        self.shifts.last.remove(name);
        self.shifts.last.extend(before.map(|before| (name.clone(), before)));
        stuck.iter().any(|stuck| audience::parse(stuck).0 == *name)
    }

    /// Pauses, resumes or aborts a shift.
    pub fn ask_of_shift(
        &mut self,
        number: u64,
        verb: RunVerb,
        request: &RunRequest,
        author: &str,
    ) -> Result<ShiftRun, Error> {
        let shift = match self.shifts.of(number) {
            Some(shift) if !shift.is_over() => shift,
            Some(_) => return Err(Error::ShiftIsOver(number)),
            None => {
                let known = self.journal.run::<Shift>(RunKind::Shift, number)?;
                return Err(known.map_or(Error::NoShift(number), |_| Error::ShiftIsOver(number)));
            }
        };
        let (by, reason) = (author.to_owned(), request.reason.clone());
        let event = match verb {
            RunVerb::Pause => Event::Pause { by, reason },
            RunVerb::Resume => Event::Resume,
            RunVerb::Abort => Event::Abort { by, reason },
        };
        shift.takes(&event).map_err(|why| Error::WithoutEffect(format!("shift {number} {why}")))?;
        let service = shift.service.clone();
        let is_due = self.is_split_due();
        self.advance_shift(&service, &event, Some((author, request.reason.as_deref())), is_due)?;
        self.put_shift_into_effect();
        self.shift_report(number)
    }

    /// What could not be published is published by the next round.
    fn put_shift_into_effect(&mut self) {
        if let Err(error) = self.put_health_into_effect() {
            log::error!("{error}");
        }
    }

    /// The last shift of each service.
    pub fn shift_reports(&self) -> Result<Reports, Error> {
        let is_due = self.is_split_due();
        let shifts = self.shifts.last.values().map(|shift| self.described_shift(shift, is_due));
        Ok(Reports { shifts: shifts.collect::<Result<_, _>>()? })
    }

    pub fn shift_report(&self, number: u64) -> Result<ShiftRun, Error> {
        match self.shifts.of(number) {
            Some(shift) => self.described_shift(shift, self.is_split_due()),
            None => {
                let known = self.journal.run::<Shift>(RunKind::Shift, number)?;
                self.described_shift(&known.ok_or(Error::NoShift(number))?, false)
            }
        }
    }

    /// The splits as they are now, by service.
    pub(super) fn splits(&self) -> Result<BTreeMap<String, ShiftRun>, Error> {
        Ok(self.shift_reports()?.shifts.into_iter().map(|split| (split.service.clone(), split)).collect())
    }

    /// Whether some shift may have to wait for a publication. What is to be published is chosen anew for all services, however many shifts ask.
    fn is_split_due(&self) -> bool {
        self.shifts.under_way().next().is_some() && (self.stale || self.health_is_other())
    }

    fn described_shift(&self, shift: &Shift, is_due: bool) -> Result<ShiftRun, Error> {
        let now = self.clock.now();
        let Some(service) = self.model.services.iter().find(|service| service.name == shift.service) else {
            return Ok(shift::report(shift, &[], &[], &Seen::default(), now));
        };
        let names = |hosts: BTreeSet<&str>| -> Vec<String> { hosts.into_iter().map(str::to_owned).collect() };
        let (from, to) = shift.sides(&self.model, service);
        let (from, to) = (names(from), names(to));
        let seen =
            if shift.is_over() { self.seen_of_flows(shift) } else { self.seen(shift, service, is_due)? };
        let mut report = shift::report(shift, &from, &to, &seen, now);
        let ring_of = self.rings.by_service();
        if let Some(ring) = ring_of.get(service.name.as_str()).and_then(|number| self.rings.rings.get(number))
        {
            let owned = ring.owned();
            let of =
                |host: &String| self.ids.hosts.get(host).and_then(|id| owned.get(id)).copied().unwrap_or(0);
            report.slots = f64::from(to.iter().map(of).sum::<u32>()) / f64::from(ring.slots.size());
        }
        Ok(report)
    }

    /// One round of all shifts.
    pub(super) fn advance_shifts(&mut self) -> Result<(), Error> {
        let services: Vec<String> = self.shifts.under_way().map(|shift| shift.service.clone()).collect();
        let (is_due, mut result) = (self.is_split_due(), Ok(()));
        for service in services {
            self.advance_probes(&service);
            // One that cannot go on does not keep others from it.
            result = result.and(self.advance_shift(&service, &Event::Look, None, is_due));
        }
        result
    }

    /// Journal first; the shares follow with the next publication.
    fn advance_shift(
        &mut self,
        service: &str,
        event: &Event,
        author: Option<(&str, Option<&str>)>,
        is_due: bool,
    ) -> Result<(), Error> {
        let Some(before) = self.shifts.last.get(service).cloned() else { return Ok(()) };
        let now = self.clock.now();
        let seen = match self.model.services.iter().find(|of| of.name == service) {
            Some(of) => self.seen(&before, of, is_due)?,
            None => Seen { is_nobody_left: true, ..Seen::default() },
        };
        let after = step(before.clone(), event, &seen, now);
        if after == before {
            return Ok(());
        }
        let own = format!("shift {}", after.id);
        let (author, reason) = author.unwrap_or((&own, None));
        let report = shift::report(&after, &[], &[], &seen, now);
        let detail = json!({
            "shift": after.id, "service": after.service, "sides": words(&after), "state": report.state.name(),
            "wanted": after.part().to_string(), "why": report.why,
        });
        let change = Change { at: now, author, reason };
        self.journal.note_run(RunKind::Shift, after.id, &after, after.is_over(), &change, &detail)?;
        if after.step != before.step {
            self.shifts.fates.remove(service);
        }
        if after.is_back() || after.is_over() {
            self.forget_probes(service);
        }
        let state = report.state.name();
        match &report.why {
            Some(why) => log::warn!("shift {} of {service}: {state}, {}: {why}", after.id, after.part()),
            None => log::info!("shift {} of {service}: {state}, {}", after.id, after.part()),
        }
        self.tell_of_shift(&after);
        self.shifts.last.insert(service.to_owned(), after);
        Ok(())
    }

    fn tell_of_shift(&mut self, shift: &Shift) {
        let report = shift::report(shift, &[], &[], &Seen::default(), self.clock.now());
        self.tell(Happening::Shift {
            shift: shift.id,
            service: shift.service.clone(),
            from: report.from,
            to: report.to,
            state: report.state,
            wanted: report.wanted,
            why: report.why,
        });
    }

    /// How the new flows of the step fared: all that is to be seen of a shift that is over, of which the journal has the rest.
    fn seen_of_flows(&self, shift: &Shift) -> Seen {
        let fates = self.shifts.fates.get(&shift.service);
        let (step, minute) = fates.map(|fates| (fates.step(), fates.minute())).unwrap_or_default();
        Seen { step, minute, ..Seen::default() }
    }

    /// What is so now, of the hosts that the flows go to. `is_due`: something is to be published.
    fn seen(&self, shift: &Shift, service: &Service, is_due: bool) -> Result<Seen, Error> {
        let out = self.out_of(service);
        let choice = self.health.choices.get(&service.name);
        let (_, to) = shift.sides(&self.model, service);
        let in_use: Vec<&str> = to.into_iter().filter(|host| !out.contains(*host)).collect();
        let unsaid = self.unsaid_of(service, &in_use);
        let is_unsaid = |host: &str| unsaid.iter().any(|of| of == host);
        let unwell: Vec<(String, String)> = in_use
            .iter()
            .filter_map(|host| Some(((*host).to_owned(), self.unwell_of(service, host, is_unsaid(host))?)))
            .collect();
        let can_serve = |host: &&&str| {
            let is_missing = self.cut_off.missing().contains(**host);
            // Who is remembered as down may be well by now.
            choice.map_or(!is_missing, |choice| choice.is_used(host) || is_unsaid(host) && !is_missing)
        };
        let is_unproven = |(place, condition): &(usize, &Condition)| {
            let probe = self.shifts.probes.get(&(service.name.clone(), *place));
            let good = probe.and_then(|probe| probe.good);
            matches!(condition, Condition::Fails(_)) && good.is_none_or(|good| good < shift.since)
        };
        let unproven = shift.conditions.iter().enumerate().filter(is_unproven).map(|(place, _)| place);
        let failures = self.shifts.probes.iter().filter(|((of, _), _)| *of == service.name);
        let failures =
            failures.filter_map(|((_, place), probe)| Some((*place, probe.failure.clone()?))).collect();
        Ok(Seen {
            is_cut_off: self.is_cut_off_from(shift, service),
            is_nobody_left: !in_use.iter().any(|host| can_serve(&host)),
            unwell,
            unsaid,
            failures,
            unproven: unproven.collect(),
            is_pending: is_due || self.health.stuck.contains(&service.name),
            flows: self.new_flows(shift, service)?,
            ..self.seen_of_flows(shift)
        })
    }

    /// Nothing can be told of hosts of the second side.
    fn is_cut_off_from(&self, shift: &Shift, service: &Service) -> bool {
        let (_, to) = shift.sides(&self.model, service);
        to.into_iter().any(|host| self.cut_off.is_unseen(host))
    }

    fn new_flows(&self, shift: &Shift, service: &Service) -> Result<BTreeMap<String, u64>, Error> {
        let (from, to) = shift.sides(&self.model, service);
        let mut flows = BTreeMap::new();
        for host in from.into_iter().chain(to) {
            if let Some(&stats) = self.ids.stats.get(&(service.name.clone(), host.to_owned())) {
                flows.insert(host.to_owned(), self.dataplane.pair_counters(stats)?.new_flows);
            }
        }
        Ok(flows)
    }

    fn service_named(&self, name: &str) -> Result<&Service, Error> {
        let names = self.model.services.iter().map(|service| &service.name);
        let found = self.model.services.iter().find(|service| service.name == name);
        found.ok_or_else(|| Error::NoService { name: name.to_owned(), near: near(name, names) })
    }

    /// Runs the commands of conditions.
    fn advance_probes(&mut self, service: &str) {
        let Some(shift) = self.shifts.last.get(service).filter(|shift| !shift.is_back()) else { return };
        let of = self.model.services.iter().find(|of| of.name == service);
        if of.is_some_and(|of| self.is_cut_off_from(shift, of)) {
            // What they would say now is not of the hosts.
            self.shifts.fates.remove(service);
            return self.forget_probes(service);
        }
        let Some(jobs) = &mut self.maintenance.jobs else { return };
        jobs.reap();
        let now = self.clock.now();
        for (place, condition) in shift.conditions.iter().enumerate() {
            let Condition::Fails(command) = condition else { continue };
            let id = job_id(shift.id, place);
            let probe = self.shifts.probes.entry((service.to_owned(), place)).or_default();
            match jobs.look(&id) {
                JobState::Running => {
                    let begun = *probe.begun.get_or_insert(now);
                    if now >= begun + TIMEOUT
                        && let Err(error) = jobs.kill(&id)
                    {
                        log::warn!("{id} is not killed: {error}");
                    }
                }
                JobState::Ended(end) => {
                    jobs.forget(&id);
                    let line = end.output.lines().next().map(|line| format!(" ({line})")).unwrap_or_default();
                    probe.ends(end.failure.map(|failure| format!("{failure}{line}")), now);
                }
                // This daemon has begun it, and it has not told its end.
                JobState::None if probe.begun.is_some() => {
                    probe.ends(Some("nobody knows how it ended".to_owned()), now);
                }
                JobState::None if probe.ended.is_none_or(|ended| now >= ended + CHECK_EVERY) => {
                    probe.begun = Some(now);
                    let environment = [
                        ("INSTANCE", self.instance.clone()),
                        ("SERVICE", service.to_owned()),
                        ("SHIFT", shift.id.to_string()),
                        ("PART", shift.part().to_string()),
                        ("STEP", "check".to_owned()),
                    ];
                    let environment = environment.map(|(name, value)| (format!("SLUICE_{name}"), value));
                    if let Err(error) = jobs.begin(&id, &What::Command(command.clone()), environment.into()) {
                        log::warn!("{id} is not begun: {error}");
                        probe.ends(Some(format!("it cannot be run: {error}")), now);
                    }
                }
                JobState::None => {}
            }
        }
    }

    fn forget_probes(&mut self, service: &str) {
        let (gone, kept) =
            std::mem::take(&mut self.shifts.probes).into_iter().partition(|((of, _), _)| of == service);
        self.shifts.probes = kept;
        let Some(shift) = self.shifts.last.get(service) else { return };
        let Some(jobs) = &mut self.maintenance.jobs else { return };
        for ((_, place), _) in gone {
            let id = job_id(shift.id, place);
            if let Err(error) = jobs.kill(&id) {
                log::warn!("{id} is not killed: {error}");
            }
            jobs.forget(&id);
        }
    }
}

fn job_id(shift: u64, place: usize) -> String {
    format!("shift-{shift}.condition-{place}")
}
