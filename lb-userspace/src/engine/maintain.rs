//! Maintenance runs: what the machine decides is noted and carried out.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Engine, Error};
use crate::api::types::{
    DrainRequest, Happening, MaintainPlan, MaintainPlanHost, MaintainRequest, MaintainRun, MaintainRuns,
    RunRequest, UndrainRequest,
};
use crate::drain::{State, Target};
use crate::jobs::{self, Jobs};
use crate::journal::{Change, RunKind};
use crate::maintain::{
    self, Action, Drained, Event, Job, JobState, NotWell, Plan, Run, Site, What, World, stricter, waits_for,
};
use crate::metrics::{EndedRuns, MaintenanceRun};
use crate::model::Model;
use crate::whatif::rules::Unwell;

/// Runs that are over and are listed.
const LISTED: u32 = 20;

/// The runs under way, and their commands.
#[derive(Default)]
pub(super) struct Maintenance {
    runs: BTreeMap<u64, Run>,
    /// `None` until the journal's place is known.
    pub jobs: Option<Jobs>,
    /// Since when hosts can be reached, Unix seconds.
    pub up_since: BTreeMap<String, u64>,
    pub ended: EndedRuns,
}

impl Maintenance {
    pub fn are_any_under_way(&self) -> bool {
        !self.runs.is_empty()
    }
}

/// What can be asked of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunVerb {
    Pause,
    Resume,
    Abort,
}

/// The world as the engine knows it.
struct Sight<'a> {
    engine: &'a Engine,
    /// The config with the rules of the plan.
    strict: Option<&'a Model>,
}

impl World for Sight<'_> {
    fn knows(&self, host: &str) -> bool {
        self.engine.model.hosts.contains_key(host)
    }

    fn is_disabled(&self, host: &str) -> bool {
        self.engine.model.is_disabled(host)
    }

    fn drain(&self, host: &str) -> Option<Drained> {
        let state = self.engine.host_state(host).filter(|state| state.is_out())?;
        let drain = state.drain()?;
        let overdue = match state {
            State::Draining(draining) => {
                let live = self.engine.live_of(&Target::host(host)).unwrap_or_default();
                let since = draining.overdue_since(&live, self.engine.clock.now());
                // What moves or resets flows at the deadline ends by itself.
                since.map(|_| live.total)
            }
            _ => None,
        };
        Some(Drained {
            id: drain.id,
            by: drain.by.clone(),
            reason: drain.reason.clone(),
            is_by_ramp: super::ramps::is_by_ramp(drain),
            is_done: matches!(state, State::Drained(_)),
            overdue,
        })
    }

    fn well_since(&self, host: &str) -> Result<u64, NotWell> {
        self.engine.well_since(host)
    }

    fn passes(&self, host: &str, from: u64) -> Result<u64, String> {
        self.engine.passes(host, from)
    }

    fn is_unseen(&self, host: &str) -> bool {
        self.engine.cut_off.is_unseen(host)
    }

    fn is_ramping(&self, host: &str) -> bool {
        // It is watched for a while longer, but so is the host by the run.
        let now = self.engine.clock.now();
        self.engine.ramps.get(host).is_some_and(|ramp| ramp.full_in(now) > 0 || ramp.paused.is_some())
    }

    fn paused_ramp(&self, host: &str) -> Option<String> {
        Some(self.engine.ramps.get(host)?.paused.as_ref()?.why.clone())
    }

    fn may_drain(&self, host: &str, _: u8) -> Result<(), String> {
        // A drain of the whole host would end others of it, and with the host's return all would be given back.
        let is_in_part = |(target, state): &(&Target, &State)| {
            target.host == host && state.order().is_some() && !(target.is_whole() && state.is_out())
        };
        if let Some((target, by)) = self.engine.drains.iter().find(is_in_part).and_then(drained) {
            return Err(format!("{by} to undrain {target}"));
        }
        self.engine.remembered_beside(host).map_or(Ok(()), Err)?;
        self.holds(host, |_| true)
    }

    fn may_spare(&self, host: &str) -> Result<(), String> {
        self.holds(host, |rule| rule == "last_host")
    }

    fn job_error(&self, id: &str) -> Option<String> {
        self.engine.maintenance.jobs.as_ref().and_then(|jobs| jobs.error(id))
    }

    fn job(&self, id: &str) -> JobState {
        self.engine.maintenance.jobs.as_ref().map_or(JobState::None, |jobs| jobs.look(id))
    }
}

impl Sight<'_> {
    /// Whether those of the rules hold without the host.
    fn holds(&self, host: &str, counts: impl Fn(&str) -> bool) -> Result<(), String> {
        let engine = self.engine;
        if engine.stale {
            return Err("the last change to be published".to_owned());
        }
        let model = self.strict.unwrap_or(&engine.model);
        let broken = engine.broken_in(model, &engine.unwell_or_ramping(), &[Target::host(host)]);
        let broken = broken.into_iter().filter(|rule| counts(&rule.rule));
        let messages: Vec<String> = broken.map(|rule| rule.message).collect();
        if messages.is_empty() { Ok(()) } else { Err(format!("rules to hold: {}", messages.join("; "))) }
    }
}

impl Engine {
    /// Goes on with what is under way by the journal.
    pub(super) fn resume_runs(&mut self) -> Result<(), Error> {
        self.maintenance.jobs = Some(Jobs::new(self.journal.path().with_extension("steps")));
        let now = self.clock.now();
        for run in self.journal.runs_under_way::<Run>(RunKind::Maintain)? {
            let run = run.resumed(now);
            log::info!("maintenance run {} ({}) goes on, by the journal", run.id, run.plan.name);
            self.maintenance.runs.insert(run.id, run);
        }
        let runs: Vec<u64> = self.maintenance.runs.keys().copied().collect();
        if let Some(jobs) = &mut self.maintenance.jobs {
            // Conditions of shifts are looked at anew as well.
            jobs.sweep(|id| maintain::is_kept(id, &runs));
        }
        Ok(())
    }

    /// Who counts for less than the full weight: a host that comes back by a ramp, an operator's or that of the service's health, is not yet what
    /// it is to be, and one that gets no new flows by a shift is not to get those of others.
    fn unwell_or_ramping(&self) -> Unwell {
        let mut unwell = self.unwell();
        let (by_operators, now) = (self.partial_shares(), self.clock.now());
        for service in &self.model.services {
            let choice = self.health.choices.get(&service.name);
            let by_health = self.shares_by_health(service, &self.health.choices, now);
            let by_shift = self.shares_by_shift(service, choice);
            for host in &service.hosts {
                let pair = (service.name.clone(), host.clone());
                if by_shift.get(host) == Some(&0) {
                    unwell.aside.insert(pair.clone());
                }
                // Who has none by health is down, or stands by.
                let by_health = by_health.get(host).filter(|share| **share > 0);
                if let Some(&share) = by_operators.get(host).into_iter().chain(by_health).min() {
                    unwell.parts.entry(pair).or_insert(share);
                }
            }
        }
        unwell
    }

    /// What this plan would do if it were started now.
    pub fn plan_run(&self, request: &MaintainRequest) -> Result<MaintainPlan, Error> {
        let plan = self.read_plan(request)?;
        let now = self.clock.now();
        let run = Run::new(0, plan, "", None, now);
        let strict = self.strict(&run.plan);
        let sight = Sight { engine: self, strict: strict.as_ref() };
        let plan = &run.plan;
        let mut notes = Vec::new();
        if plan.at_once > 1 {
            let first: Vec<Target> =
                plan.hosts.iter().take(plan.at_once).map(|of| Target::host(&of.host)).collect();
            let model = strict.as_ref().unwrap_or(&self.model);
            if let Some(rule) = self.broken_in(model, &self.unwell_or_ramping(), &first).first() {
                notes.push(format!("fewer than {} will be in work at once: {}", plan.at_once, rule.message));
            }
        }
        if plan.deadline.is_none() {
            notes.push(
                "a drain takes as long as its longest connection, as there is no drain.deadline".to_owned(),
            );
        }
        let mut hosts = Vec::new();
        for planned in &plan.hosts {
            let live = self.live_of(&Target::host(&planned.host))?.total;
            hosts.push(MaintainPlanHost {
                host: planned.host.clone(),
                zone: planned.zone.clone(),
                live_flows: live,
            });
        }
        Ok(MaintainPlan {
            name: plan.name.clone(),
            hosts,
            at_once: plan.at_once,
            on_failure: plan.on_failure,
            deadline: plan.deadline,
            at_deadline: plan.at_deadline,
            opens_at: plan.windows.opens_at(now).unwrap_or(now),
            waits_for: waits_for(&run, &sight, now),
            notes,
            as_of: now,
        })
    }

    /// Begins a run.
    pub fn start_run(&mut self, request: &MaintainRequest, author: &str) -> Result<MaintainRun, Error> {
        let plan = self.read_plan(request)?;
        let (now, reason) = (self.clock.now(), request.reason.as_deref());
        let change = Change { at: now, author, reason };
        let name = plan.name.clone();
        let hosts: Vec<_> = plan.hosts.iter().map(|of| json!({ "host": of.host })).collect();
        let run = self.journal.begin_run(
            RunKind::Maintain,
            |number| Run::new(number, plan, author, reason, now),
            &change,
            |number| json!({ "run": number, "name": name, "state": "begun", "hosts": hosts }),
        )?;
        let id = run.id;
        log::info!("maintenance run {id} ({name}) by {author}");
        self.tell(Happening::MaintainBegan {
            run: id,
            name,
            by: author.to_owned(),
            reason: request.reason.clone(),
            hosts: run.hosts.len(),
        });
        self.maintenance.runs.insert(id, run);
        // It is begun; what could not be done yet is done by the next round.
        if let Err(error) = self.advance_run(id, &Event::Look, None) {
            log::error!("run {id}: {error}");
        }
        self.run_report(id)
    }

    /// Pauses, resumes or aborts a run.
    pub fn ask_of_run(
        &mut self,
        id: u64,
        verb: RunVerb,
        request: &RunRequest,
        author: &str,
    ) -> Result<MaintainRun, Error> {
        let Some(run) = self.maintenance.runs.get(&id) else {
            let known = self.journal.run::<Run>(RunKind::Maintain, id)?;
            return Err(known.map_or(Error::NoRun(id), |_| Error::RunIsOver(id)));
        };
        let (by, reason) = (author.to_owned(), request.reason.clone());
        let event = match verb {
            RunVerb::Pause => Event::Pause { by, reason },
            RunVerb::Resume => Event::Resume,
            RunVerb::Abort => Event::Abort { by, reason },
        };
        run.takes(&event).map_err(|why| Error::WithoutEffect(format!("run {id} {why}")))?;
        self.advance_run(id, &event, Some((author, request.reason.as_deref())))?;
        self.run_report(id)
    }

    /// Hosts were drained by somebody: where a run has them out already, it is to leave them so.
    pub(super) fn note_wishes(
        &mut self,
        hosts: &[String],
        author: &str,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        let runs = self.maintenance.runs.values();
        let meant = runs.flat_map(|run| run.hosts.iter().map(move |host| (run, host)));
        let meant =
            meant.filter(|(run, of)| of.is_in_work() && hosts.contains(&of.host) && run.author() != author);
        let meant: Vec<(u64, String)> = meant.map(|(run, of)| (run.id, of.host.clone())).collect();
        for (id, host) in meant {
            let event = Event::Keep { host, by: author.to_owned(), reason: reason.map(str::to_owned) };
            self.advance_run(id, &event, Some((author, reason)))?;
        }
        Ok(())
    }

    /// One run as a whole.
    pub fn run_report(&self, id: u64) -> Result<MaintainRun, Error> {
        let known = match self.maintenance.runs.get(&id) {
            Some(run) => Some(run.clone()),
            None => self.journal.run::<Run>(RunKind::Maintain, id)?,
        };
        let mut report = self.described_run(&known.ok_or(Error::NoRun(id))?);
        for host in &mut report.hosts {
            for drain in &host.drains {
                host.receipts.extend(self.journal.drain_row(*drain)?.and_then(|row| row.receipt));
            }
        }
        Ok(report)
    }

    /// The runs under way, and the last that are over.
    pub fn run_reports(&self) -> Result<MaintainRuns, Error> {
        let over = self.journal.last_runs::<Run>(RunKind::Maintain, LISTED)?;
        let runs = self.maintenance.runs.values().rev().chain(&over);
        Ok(MaintainRuns { runs: runs.map(|run| self.described_run(run)).collect() })
    }

    fn described_run(&self, run: &Run) -> MaintainRun {
        let now = self.clock.now();
        let mut report = maintain::report(run, now);
        if !run.is_over() {
            let strict = self.strict(&run.plan);
            report.waits_for = waits_for(run, &Sight { engine: self, strict: strict.as_ref() }, now);
            for host in &mut report.hosts {
                host.live_flows = self.live_of(&Target::host(&host.host)).map_or(0, |live| live.total);
            }
        }
        report
    }

    /// Those under way, for a scrape.
    pub(super) fn metrics_of_runs(&self) -> Vec<MaintenanceRun> {
        let now = self.clock.now();
        let told = |run: &Run| MaintenanceRun {
            number: run.id,
            state: maintain::report(run, now).state,
            steps: run.hosts.iter().map(|host| host.step).collect(),
        };
        self.maintenance.runs.values().map(told).collect()
    }

    fn read_plan(&self, request: &MaintainRequest) -> Result<Plan, Error> {
        let under_way = self.maintenance.runs.values();
        let busy = under_way.flat_map(|run| {
            let hosts = run.hosts.iter().filter(|host| !is_over(run, host));
            hosts.map(|host| (host.host.clone(), run.id))
        });
        // Also of some flows: with the host's return all would be given back.
        let out = self.drains.iter().filter(|(_, state)| state.order().is_some()).filter_map(drained);
        let out = out.map(|(target, by)| (target.host.clone(), by.to_owned()));
        let (busy, out) = (busy.collect(), out.collect());
        let site = Site { model: &self.model, busy: &busy, out: &out, now: self.clock.now() };
        let file = request.file.as_deref().unwrap_or("the plan");
        maintain::read(&request.plan, file, &site).map_err(Error::Plan)
    }

    /// The config with the rules of a plan, if it has any of its own.
    fn strict(&self, plan: &Plan) -> Option<Model> {
        (plan.min_healthy > 0).then(|| stricter(&self.model, plan.min_healthy))
    }

    /// One round of all runs.
    pub(super) fn advance_runs(&mut self) -> Result<(), Error> {
        if self.maintenance.runs.is_empty() {
            return Ok(());
        }
        if let Some(jobs) = &mut self.maintenance.jobs {
            jobs.reap();
        }
        let now = self.clock.now();
        let missing = self.cut_off.missing();
        let up: Vec<String> =
            self.model.hosts.keys().filter(|host| !missing.contains(*host)).cloned().collect();
        self.maintenance.up_since.retain(|host, _| !missing.contains(host));
        for host in up {
            self.maintenance.up_since.entry(host).or_insert(now);
        }
        let ids: Vec<u64> = self.maintenance.runs.keys().copied().collect();
        let mut result = Ok(());
        for id in ids {
            // One that cannot go on does not keep others from it.
            result = result.and(self.advance_run(id, &Event::Look, None));
        }
        result
    }

    /// Journal first, then what is to be done; what of it fails is asked for again in the next round.
    fn advance_run(
        &mut self,
        id: u64,
        event: &Event,
        author: Option<(&str, Option<&str>)>,
    ) -> Result<(), Error> {
        let mut event = event.clone();
        loop {
            let Some(before) = self.maintenance.runs.get(&id).cloned() else { return Ok(()) };
            let now = self.clock.now();
            let strict = self.strict(&before.plan);
            let sight = Sight { engine: self, strict: strict.as_ref() };
            let (after, actions) = maintain::step(before.clone(), &event, &sight, now);
            if !after.is_noted_as(&before) {
                self.note_run(&before, &after, author)?;
            }
            let begins = before.next() != after.next();
            let is_over = after.is_over();
            let run = after.clone();
            self.maintenance.runs.insert(id, after);
            for action in actions {
                self.carry_out_run(&run, action);
            }
            if is_over {
                self.maintenance.runs.remove(&id);
                if let Some(jobs) = &mut self.maintenance.jobs {
                    let own = format!("run-{id}.");
                    jobs.sweep(|job| !job.starts_with(&own));
                }
                return Ok(());
            }
            if !begins {
                return Ok(());
            }
            // Another one may begin beside it.
            event = Event::Look;
        }
    }

    fn note_run(
        &mut self,
        before: &Run,
        after: &Run,
        author: Option<(&str, Option<&str>)>,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let own = after.author();
        let (author, reason) = author.unwrap_or((&own, None));
        let changed: Vec<_> = before
            .hosts
            .iter()
            .zip(&after.hosts)
            .filter(|(before, after)| (before.step, before.is_back) != (after.step, after.is_back))
            .map(|(_, host)| host)
            .collect();
        let hosts: Vec<_> = changed
            .iter()
            .map(|host| json!({ "host": host.host, "step": host.step.name(), "is_back": host.is_back }))
            .collect();
        let report = maintain::report(after, now);
        let detail = json!({
            "run": after.id, "name": after.plan.name, "state": report.state.name(), "why": report.why, "hosts": hosts,
        });
        let change = Change { at: now, author, reason };
        self.journal.note_run(RunKind::Maintain, after.id, after, after.is_over(), &change, &detail)?;
        for host in changed {
            log::info!("run {}: {} is {}", after.id, host.host, host.step.name());
            self.tell(Happening::MaintainStep {
                run: after.id,
                host: host.host.clone(),
                step: host.step,
                is_back: host.is_back,
            });
        }
        if after.is_over() {
            log::info!("maintenance run {} is over: {}", after.id, report.state.name());
            self.maintenance.ended.add(report.state);
            self.tell(Happening::MaintainEnded {
                run: after.id,
                name: after.plan.name.clone(),
                outcome: report.state,
                why: report.why,
            });
        }
        Ok(())
    }

    fn carry_out_run(&mut self, run: &Run, action: Action) {
        let reason = Some(format!("{} (run {})", run.plan.name, run.id));
        let author = run.author();
        let done = match action {
            Action::Drain { host, is_forced } => {
                let at_deadline = run.plan.deadline.map(|_| run.plan.at_deadline);
                let request = DrainRequest {
                    hosts: vec![host.clone()],
                    reason,
                    deadline: run.plan.deadline,
                    at_deadline,
                    force: is_forced,
                    ..DrainRequest::default()
                };
                self.drain(&request, &author)
                    .map(drop)
                    .map_err(|error| format!("{host} is not drained: {error}"))
            }
            Action::Undrain { host, ramp } => {
                let request =
                    UndrainRequest { hosts: vec![host.clone()], reason, ramp, ..UndrainRequest::default() };
                self.undrain(&request, &author)
                    .map(drop)
                    .map_err(|error| format!("{host} is not undrained: {error}"))
            }
            Action::Begin(job) => self.begin_job(run, &job),
            Action::Kill { job } => {
                let killed = self.maintenance.jobs.as_mut().map_or(Ok(()), |jobs| jobs.kill(&job));
                killed.map_err(|error| format!("{job} is not killed: {error}"))
            }
            Action::Forget { job } => {
                if let Some(jobs) = &mut self.maintenance.jobs {
                    jobs.forget(&job);
                }
                Ok(())
            }
        };
        if let Err(error) = done {
            log::warn!("run {}: {error}", run.id);
        }
    }

    fn begin_job(&mut self, run: &Run, job: &Job) -> Result<(), String> {
        let host = self.model.hosts.get(&job.host);
        let ipv4 = host.and_then(|host| host.ipv4).map(|address| address.to_string());
        let ipv6 = host.and_then(|host| host.ipv6).map(|address| address.to_string());
        let zone = host.and_then(|host| host.zone.clone()).unwrap_or_default();
        let environment = [
            ("INSTANCE", self.instance.clone()),
            ("RUN", run.id.to_string()),
            ("RUN_NAME", run.plan.name.clone()),
            ("HOST", job.host.clone()),
            ("IPV4", ipv4.unwrap_or_default()),
            ("IPV6", ipv6.unwrap_or_default()),
            ("ZONE", zone),
            ("STEP", job.step.to_owned()),
        ];
        let environment =
            environment.into_iter().map(|(name, value)| (format!("SLUICE_{name}"), value.replace('\0', "")));
        let what = match &job.task.what {
            What::Command(command) => jobs::What::Command(command.clone()),
            What::Webhook(url) => jobs::What::Webhook(url.clone(), job.task.timeout),
        };
        let Some(jobs) = &mut self.maintenance.jobs else { return Ok(()) };
        jobs.begin(&job.id, &what, environment.collect())
            .map_err(|error| format!("{} is not begun: {error}", job.id))
    }
}

/// What is drained, and by whom.
fn drained<'a>((target, state): (&'a Target, &'a State)) -> Option<(&'a Target, &'a str)> {
    Some((target, state.drain()?.by.as_str()))
}

/// Nothing more is done with the host by this run.
fn is_over(run: &Run, host: &maintain::HostRun) -> bool {
    run.is_over() || !(host.is_in_work() || host.step == crate::api::types::HostStep::Waiting)
}
