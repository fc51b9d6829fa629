//! What a run remembers, and what it sees.

use serde::{Deserialize, Serialize};

use super::plan::{Plan, Task};
use crate::api::types::{HostStep, JobReport, StepTime};

/// One run of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Never used twice.
    pub id: u64,
    pub plan: Plan,
    pub by: String,
    pub reason: Option<String>,
    /// Unix seconds.
    pub started_at: u64,
    pub course: Course,
    pub hosts: Vec<HostRun>,
    /// Unix seconds; `None`: it goes on.
    pub ended_at: Option<u64>,
}

/// Whether further hosts are begun with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Course {
    Forward,
    /// Not for now.
    Paused {
        by: String,
        reason: Option<String>,
        at: u64,
    },
    /// Never again: something failed.
    Failed {
        why: String,
    },
    /// Never again: somebody wants that.
    Aborted {
        by: String,
        reason: Option<String>,
    },
}

/// Where one host stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostRun {
    pub host: String,
    pub step: HostStep,
    /// Unix seconds: since when.
    pub since: u64,
    /// On its way back, as something failed or the run is aborted.
    pub is_back: bool,
    /// To go on its way back once the command that runs has ended: why.
    pub recalled: Option<String>,
    /// The work was begun with.
    pub was_worked_on: bool,
    /// How often the command of the step was begun.
    #[serde(default)]
    pub attempts: u32,
    /// It was not well when it was watched.
    #[serde(default)]
    pub is_ill: bool,
    /// Somebody wants it to stay out, although it is the run's drain that is in force: who, in words.
    #[serde(default)]
    pub kept_out: Option<String>,
    /// What failed.
    pub failures: Vec<String>,
    /// The drain in force of this run.
    pub drain: Option<u64>,
    /// All of its drains, as they have receipts.
    pub drains: Vec<u64>,
    /// Steps that are over.
    pub past: Vec<StepTime>,
    /// Commands and webhooks that are over.
    pub jobs: Vec<JobReport>,
    /// By checks since the step began; not in the journal, as they are made anew.
    #[serde(skip)]
    pub checking: Checking,
}

/// What is known of one host by checks, in this step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checking {
    /// The one that runs: when it was begun, Unix seconds, and its name.
    pub begun: Option<(u64, String)>,
    /// Of the last one: at what second, and what it said if it failed.
    pub last: Option<(u64, Result<(), String>)>,
    /// Unix seconds: none has failed since.
    pub good_since: Option<u64>,
    /// Unix seconds since which the balancer's own checks are seen to have succeeded in this step.
    pub passed_at: Option<u64>,
    /// Unix seconds: before, nothing could be told of the host. 0: it always could.
    pub told_from: u64,
}

/// What operators ask of a run; without one: time passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Look,
    Pause {
        by: String,
        reason: Option<String>,
    },
    Resume,
    Abort {
        by: String,
        reason: Option<String>,
    },
    /// A host that the run has out was drained by somebody.
    Keep {
        host: String,
        by: String,
        reason: Option<String>,
    },
}

/// What is to be done, in this order, once the journal has the new state. Each may be asked for again, as long as what it is for has not
/// come true.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Drain {
        host: String,
        /// Whatever the rules say.
        is_forced: bool,
    },
    Undrain {
        host: String,
        ramp: Option<u64>,
    },
    Begin(Job),
    Kill {
        job: String,
    },
    /// Nobody will ask for it again.
    Forget {
        job: String,
    },
}

/// A command or webhook with what tells it apart from all others: a second one of the same name is the first one again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub id: String,
    pub host: String,
    /// `run`, `rollback`, `check` or `check-rollback`.
    pub step: &'static str,
    pub task: Task,
}

/// What is so now. Nothing of it changes while a step is decided on.
pub trait World {
    /// Whether the config has a host of this name.
    fn knows(&self, host: &str) -> bool;
    /// Whether the config takes it out.
    fn is_disabled(&self, host: &str) -> bool;
    /// The drain of the whole host that is in force.
    fn drain(&self, host: &str) -> Option<Drained>;
    /// Since when all is well with the host, Unix seconds; or why that cannot be said.
    fn well_since(&self, host: &str) -> Result<u64, NotWell>;
    /// Since when each of the balancer's own checks of it succeeds, Unix seconds, of which each has done so by a run that began after the second
    /// `from`; or which has not, in words.
    fn passes(&self, host: &str, from: u64) -> Result<u64, String>;
    /// Whether nothing can be told of the host, as no host can be reached, or it is not found again yet. Then [`World::well_since`] says nothing.
    fn is_unseen(&self, host: &str) -> bool;
    /// Whether the host comes back by a ramp.
    fn is_ramping(&self, host: &str) -> bool;
    /// Why its ramp is paused.
    fn paused_ramp(&self, host: &str) -> Option<String>;
    /// Whether the host may be drained, with at least so many percent of weight left to each service; or why not.
    fn may_drain(&self, host: &str, min_healthy: u8) -> Result<(), String>;
    /// Whether each of its services has another host without it; or why not.
    fn may_spare(&self, host: &str) -> Result<(), String>;
    fn job(&self, id: &str) -> JobState;
    /// Why it could not be begun the last time.
    fn job_error(&self, id: &str) -> Option<String>;
}

/// Why a host is not said to be well, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotWell {
    /// Something is wrong with it.
    Ill(String),
    /// Its checks have not said yet how it is: they are new, as a config brought them. Nothing is wrong with it by that.
    Unsaid(String),
}

impl NotWell {
    pub fn into_words(self) -> String {
        match self {
            NotWell::Ill(why) | NotWell::Unsaid(why) => why,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    pub id: u64,
    pub by: String,
    pub reason: Option<String>,
    /// A ramp was taken back.
    pub is_by_ramp: bool,
    /// No flow is left.
    pub is_done: bool,
    /// Flows that are left although the deadline has passed.
    pub overdue: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Not begun, or nobody knows how it ended: it is to be begun, under its name.
    None,
    Running,
    Ended(JobEnd),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// In words, if it did not succeed: `exit status 3`.
    pub failure: Option<String>,
    /// The beginning of what it wrote.
    pub output: String,
}

/// Whether a job of this name may be one of these runs that is to go on: checks are made anew.
pub fn is_kept(id: &str, runs: &[u64]) -> bool {
    let step = id.rsplit('.').next().unwrap_or_default();
    let run = id.strip_prefix("run-").and_then(|rest| rest.split('.').next()?.parse().ok());
    run.is_some_and(|run: u64| runs.contains(&run)) && !step.starts_with("check-")
}

impl HostRun {
    pub fn new(host: &str, now: u64) -> Self {
        HostRun {
            host: host.to_owned(),
            step: HostStep::Waiting,
            since: now,
            is_back: false,
            recalled: None,
            was_worked_on: false,
            attempts: 0,
            is_ill: false,
            kept_out: None,
            failures: Vec::new(),
            drain: None,
            drains: Vec::new(),
            past: Vec::new(),
            jobs: Vec::new(),
            checking: Checking::default(),
        }
    }

    /// Something is done with it, or is to be watched.
    pub fn is_in_work(&self) -> bool {
        self.step.is_in_work()
    }
}

impl Run {
    pub fn new(id: u64, plan: Plan, by: &str, reason: Option<&str>, now: u64) -> Self {
        let hosts = plan.hosts.iter().map(|planned| HostRun::new(&planned.host, now)).collect();
        Run {
            id,
            plan,
            by: by.to_owned(),
            reason: reason.map(str::to_owned),
            started_at: now,
            course: Course::Forward,
            hosts,
            ended_at: None,
        }
    }

    /// As the journal has it, from now on: while no daemon ran nobody looked, and what hosts had to show they show anew.
    #[must_use]
    pub fn resumed(mut self, now: u64) -> Self {
        for host in &mut self.hosts {
            host.checking.told_from = now;
        }
        self
    }

    pub fn is_over(&self) -> bool {
        self.ended_at.is_some()
    }

    /// Whether the journal has both for the same.
    pub fn is_noted_as(&self, other: &Run) -> bool {
        let noted = |run: &Run| {
            let mut run = run.clone();
            run.hosts.iter_mut().for_each(|host| host.checking = Checking::default());
            run
        };
        noted(self) == noted(other)
    }

    /// Whether it would become another one by this; or why not.
    ///
    /// # Errors
    /// How it stands, in words.
    pub fn takes(&self, event: &Event) -> Result<(), &'static str> {
        let is_to_go = |host: &HostRun| host.is_in_work() && !host.is_back && host.recalled.is_none();
        match (event, &self.course) {
            (Event::Pause { .. }, Course::Paused { .. }) => Err("is paused already"),
            (Event::Pause { .. }, Course::Failed { .. } | Course::Aborted { .. }) => {
                Err("is ending, and begins with no other host")
            }
            (Event::Resume, Course::Forward) => Err("is not paused"),
            (Event::Resume, Course::Failed { .. } | Course::Aborted { .. }) => {
                Err("is ending, and cannot go on")
            }
            (Event::Abort { .. }, Course::Failed { .. } | Course::Aborted { .. })
                if !self.hosts.iter().any(is_to_go) =>
            {
                Err("is ending, and its hosts in work are on their way back")
            }
            _ => Ok(()),
        }
    }

    /// Who drains and undrains its hosts, for the journal.
    pub fn author(&self) -> String {
        format!("run {}", self.id)
    }

    /// The host with which the run goes on next.
    pub fn next(&self) -> Option<usize> {
        self.hosts.iter().position(|host| host.step == HostStep::Waiting)
    }
}
