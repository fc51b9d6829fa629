//! A world in which runs go on: hosts that empty, commands that take their time, and daemons that are killed.

use std::collections::BTreeMap;

use super::super::plan::{Plan, Planned, Proof, Task, What};
use super::super::window::Windows;
use super::super::*;
use crate::api::types::{AtDeadline, HostStep, OnFailure};

pub const NOW: u64 = 1_795_737_600;
/// By whom a ramp is taken back.
pub const RAMP: &str = "the ramp";

#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// The drain in force, by whom, and the second at which the host is empty.
    pub out: Option<(u64, String, u64)>,
    /// Unix second from which on flows are left although its drain's deadline has passed.
    pub overdue_at: Option<u64>,
    pub ill: Option<String>,
    /// Unix second at which its servers died; checks find that out when three have failed.
    pub dead_since: Option<u64>,
    /// Its checks have not said yet how it is.
    pub is_unsaid: bool,
    pub well_since: u64,
    pub ramps_until: u64,
    /// Why its ramp is paused.
    pub ramp_paused: Option<String>,
    pub is_disabled: bool,
}

pub struct Sim {
    pub now: u64,
    pub hosts: BTreeMap<String, Machine>,
    /// What a name came to: at what second, and what failed.
    pub jobs: BTreeMap<String, (u64, Option<String>)>,
    /// How often a name was begun.
    pub begun: BTreeMap<String, u32>,
    /// What commands come to that are yet to be begun.
    pub fails: BTreeMap<String, String>,
    /// Why no command can be begun, or its end not be noted.
    pub jobs_fail: Option<String>,
    pub drains: u64,
    /// Seconds that a drain, a command and a check take.
    pub drain_takes: u64,
    pub job_takes: u64,
    /// And from one of the balancer's own checks to the next; 0: it makes none.
    pub interval: u64,
    /// Why nobody may be drained.
    pub rule: Option<String>,
    /// Hosts that may be out or ill at once.
    pub spare: usize,
    /// Nothing can be told of any host.
    pub is_cut_off: bool,
    pub most_out: usize,
    /// Actions that were carried out.
    pub log: Vec<String>,
}

impl Sim {
    pub fn new(hosts: usize) -> Self {
        let hosts = (1..=hosts).map(|n| (format!("h{n}"), Machine { well_since: NOW, ..Machine::default() }));
        Sim {
            now: NOW,
            hosts: hosts.collect(),
            jobs: BTreeMap::new(),
            begun: BTreeMap::new(),
            fails: BTreeMap::new(),
            jobs_fail: None,
            drains: 0,
            drain_takes: 3,
            job_takes: 2,
            interval: 0,
            rule: None,
            spare: usize::MAX,
            is_cut_off: false,
            most_out: 0,
            log: Vec::new(),
        }
    }

    pub fn carry_out(&mut self, run: &Run, action: &Action) {
        self.log.push(match action {
            Action::Begin(job) => format!("begin {}", job.id),
            Action::Drain { host, .. } => format!("drain {host}"),
            Action::Undrain { host, .. } => format!("undrain {host}"),
            Action::Kill { job } => format!("kill {job}"),
            Action::Forget { job } => format!("forget {job}"),
        });
        match action {
            Action::Drain { host, is_forced } => {
                let is_unsaid = self.hosts[host].is_unsaid && self.hosts[host].ill.is_none();
                let was_ill = run.hosts.iter().any(|of| of.host == *host && of.is_ill);
                assert!(!is_forced || !is_unsaid || was_ill, "{host} is drained by force for nothing");
                let may = if *is_forced { self.may_spare(host) } else { self.may_drain(host, 0) };
                assert_eq!(may, Ok(()), "{host} is drained (forced: {is_forced})");
                self.take_out(host, &run.author());
                let (at, host) =
                    (run.plan.deadline.map(|takes| self.now + takes), self.hosts.get_mut(host).unwrap());
                match (run.plan.at_deadline, at, &mut host.out) {
                    (AtDeadline::Keep, at, _) => host.overdue_at = at,
                    (_, Some(at), Some((_, _, empty))) => *empty = at.min(*empty),
                    _ => {}
                }
            }
            Action::Undrain { host, ramp } => {
                assert!(!self.is_disabled(host), "{host} is disabled: the engine would refuse it");
                let by = self.hosts[host].out.as_ref().map(|out| out.1.clone());
                assert!(by.as_deref().is_none_or(|by| by != "bob"), "{host} is bob's");
                let (now, host) = (self.now, self.hosts.get_mut(host).unwrap());
                host.out = None;
                host.ramps_until = now + ramp.unwrap_or(0);
            }
            Action::Begin(job) => {
                if job.step == "run" {
                    let out = self.hosts[&job.host].out.as_ref();
                    assert!(
                        out.is_some_and(|(_, _, empty)| self.now >= *empty),
                        "{} is worked on in use",
                        job.host
                    );
                }
                *self.begun.entry(job.id.clone()).or_default() += 1;
                if self.jobs_fail.is_some() {
                    return;
                }
                let failure = self.fails.get(&job.id).cloned();
                self.jobs.insert(job.id.clone(), (self.now + self.job_takes, failure));
            }
            Action::Kill { job } => {
                self.jobs.insert(job.clone(), (self.now, Some("killed".to_owned())));
            }
            Action::Forget { job } => {
                self.jobs.remove(job);
            }
        }
        let out = self.hosts.values().filter(|host| host.out.is_some()).count();
        self.most_out = self.most_out.max(out);
    }

    pub fn take_out(&mut self, host: &str, by: &str) {
        let (now, takes) = (self.now, self.drain_takes);
        let Some(host) = self.hosts.get_mut(host) else { return };
        if host.out.is_none() {
            self.drains += 1;
            host.out = Some((self.drains, by.to_owned(), now + takes));
            host.ramps_until = 0;
        }
    }

    /// A second in which the daemon looks until nothing more comes of it; whether the run goes on.
    pub fn second(&mut self, run: &mut Run) -> bool {
        self.tell(run, &Event::Look);
        self.now += 1;
        !run.is_over()
    }

    pub fn tell(&mut self, run: &mut Run, event: &Event) {
        let mut event = event.clone();
        for _ in 0..10 {
            let (after, actions) = step(run.clone(), &event, self, self.now);
            let is_same = after == *run && actions.is_empty();
            *run = after;
            actions.iter().for_each(|action| self.carry_out(run, action));
            if is_same {
                break;
            }
            event = Event::Look;
        }
    }

    /// To its end.
    pub fn finish(&mut self, run: &mut Run) {
        for _ in 0..10_000 {
            if !self.second(run) {
                return;
            }
        }
        panic!("it never ends: {run:#?}");
    }
}

impl World for Sim {
    fn knows(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    fn is_disabled(&self, host: &str) -> bool {
        self.hosts.get(host).is_some_and(|host| host.is_disabled)
    }

    fn drain(&self, host: &str) -> Option<Drained> {
        let host = self.hosts.get(host)?;
        let (id, by, empty) = host.out.clone()?;
        let (is_by_ramp, is_done) = (by == RAMP, self.now >= empty);
        let overdue = host.overdue_at.filter(|at| !is_done && self.now >= *at).map(|_| 7);
        Some(Drained { id, by, reason: None, is_by_ramp, is_done, overdue })
    }

    fn well_since(&self, host: &str) -> Result<u64, NotWell> {
        assert!(!self.is_cut_off, "nobody can tell of {host}");
        match &self.hosts[host] {
            Machine { ill: Some(why), .. } => Err(NotWell::Ill(why.clone())),
            Machine { dead_since: Some(at), .. } if self.now >= at + 3 * self.interval => {
                Err(NotWell::Ill("it is down: refused".to_owned()))
            }
            Machine { is_unsaid: true, .. } => Err(NotWell::Unsaid("its checks are new".to_owned())),
            Machine { well_since, .. } => Ok(*well_since),
        }
    }

    fn passes(&self, host: &str, from: u64) -> Result<u64, String> {
        if self.interval == 0 {
            return Ok(from);
        }
        let last = self.now - (self.now - NOW) % self.interval;
        let is_good = last > from && self.hosts[host].dead_since.is_none_or(|at| last < at);
        if is_good { Ok(from) } else { Err("its check has not succeeded yet".to_owned()) }
    }

    fn is_unseen(&self, _: &str) -> bool {
        self.is_cut_off
    }

    fn is_ramping(&self, host: &str) -> bool {
        self.hosts[host].ramps_until > self.now || self.hosts[host].ramp_paused.is_some()
    }

    fn paused_ramp(&self, host: &str) -> Option<String> {
        self.hosts.get(host)?.ramp_paused.clone()
    }

    fn may_drain(&self, host: &str, _: u8) -> Result<(), String> {
        self.rule.clone().map_or(Ok(()), Err)?;
        let others =
            self.hosts.iter().filter(|(name, of)| *name != host && (of.out.is_some() || of.ill.is_some()));
        let others = others.count();
        if others < self.spare { Ok(()) } else { Err(format!("rules to hold: {others} are out or ill")) }
    }

    fn may_spare(&self, host: &str) -> Result<(), String> {
        let is_other = |(name, of): (&String, &Machine)| name != host && of.out.is_none();
        if self.hosts.iter().any(is_other) {
            Ok(())
        } else {
            Err("rules to hold: nobody would be left".to_owned())
        }
    }

    fn job_error(&self, _: &str) -> Option<String> {
        self.jobs_fail.clone()
    }

    fn job(&self, id: &str) -> JobState {
        match self.jobs.get(id) {
            None => JobState::None,
            Some((ends, _)) if self.now < *ends => JobState::Running,
            Some((_, failure)) => {
                JobState::Ended(JobEnd { failure: failure.clone(), output: format!("{id}\n") })
            }
        }
    }
}

pub fn plan(hosts: usize) -> Plan {
    let task = |command: &str| Task { what: What::Command(command.to_owned()), timeout: 60 };
    Plan {
        name: "test".to_owned(),
        hosts: (1..=hosts).map(|n| Planned { host: format!("h{n}"), zone: None }).collect(),
        at_once: 1,
        by_zone: false,
        min_healthy: 0,
        on_failure: OnFailure::Rollback,
        windows: Windows::default(),
        deadline: None,
        at_deadline: AtDeadline::Keep,
        work: task("work"),
        proof: Proof { hold: 2, within: 20, check: None },
        ramp: Some(4),
        watch: 3,
        rollback: Some(task("back")),
        check_back: None,
    }
}

pub fn run(plan: Plan) -> Run {
    Run::new(1, plan, "ann", None, NOW)
}

pub fn steps(run: &Run) -> Vec<HostStep> {
    run.hosts.iter().map(|host| host.step).collect()
}
