//! Maintenance runs: plans, and how far they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::line::line;
use super::{AtDeadline, Receipt};

/// What becomes of a host with which something went wrong. No further host is begun with in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It stays as it is, for somebody to look at.
    #[default]
    Stop,
    /// What was done to it is undone by the plan's rollback, and it is put to use again once it is well.
    Rollback,
}

/// Where a host of a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostStep {
    /// Its turn has not come.
    Waiting,
    /// It gets no new flows, and is not empty yet.
    Draining,
    /// The command runs.
    Working,
    /// It is to be well for some time.
    Proving,
    /// It gets new flows again, more and more of them.
    Returning,
    /// It has its full share, and is looked at for some time.
    Watching,
    Done,
    /// It is where it was before the run.
    Returned,
    /// Something went wrong, and it was left as it is.
    Failed,
    /// The run ended before its turn came.
    Untouched,
}

impl HostStep {
    pub const ALL: [HostStep; 10] = [
        HostStep::Waiting,
        HostStep::Draining,
        HostStep::Working,
        HostStep::Proving,
        HostStep::Returning,
        HostStep::Watching,
        HostStep::Done,
        HostStep::Returned,
        HostStep::Failed,
        HostStep::Untouched,
    ];

    pub fn is_in_work(self) -> bool {
        use HostStep::{Draining, Proving, Returning, Watching, Working};
        matches!(self, Draining | Working | Proving | Returning | Watching)
    }

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            HostStep::Waiting => "waiting",
            HostStep::Draining => "draining",
            HostStep::Working => "working",
            HostStep::Proving => "proving",
            HostStep::Returning => "returning",
            HostStep::Watching => "watching",
            HostStep::Done => "done",
            HostStep::Returned => "returned",
            HostStep::Failed => "failed",
            HostStep::Untouched => "untouched",
        }
    }
}

/// A step of a host that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepTime {
    /// The step.
    pub step: HostStep,
    /// On its way back.
    pub is_back: bool,
    /// Unix seconds.
    pub began: u64,
    /// Unix seconds.
    pub ended: u64,
}

/// A command or webhook that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobReport {
    /// `SLUICE_STEP_ID` of the command, `Idempotency-Key` of the webhook.
    pub id: String,
    /// `run` or `rollback`.
    pub step: String,
    /// Unix seconds.
    pub began: u64,
    /// Unix seconds.
    pub ended: u64,
    /// Null: it succeeded.
    pub failure: Option<String>,
    /// The first 4 KiB of what it wrote, or answered.
    pub output: String,
}

/// `POST /v1/maintain/plan` and `POST /v1/maintain/runs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintainRequest {
    /// The plan's text, TOML.
    pub plan: String,
    /// What the plan is called in messages: its file.
    #[serde(default, deserialize_with = "line", skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks; the daemon notes the peer's user name where it is missing.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
}

/// `POST /v1/maintain/{run}/pause`, `resume` and `abort`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks; the daemon notes the peer's user name where it is missing.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
}

/// A plan that could be started now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MaintainPlan {
    /// Of the run.
    pub name: String,
    /// In the order of their turns.
    pub hosts: Vec<MaintainPlanHost>,
    /// How many may be in work at once.
    pub at_once: usize,
    /// As in the plan's file.
    pub on_failure: OnFailure,
    /// Seconds that a drain may take; null: any.
    pub deadline: Option<u64>,
    /// As in the plan's file.
    pub at_deadline: AtDeadline,
    /// When its first window opens, Unix seconds: now, if one is open.
    pub opens_at: u64,
    /// Why the first host would have to wait now; null: it would not.
    pub waits_for: Option<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// The daemon's clock when it said all this.
    pub as_of: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MaintainPlanHost {
    /// Name of the host.
    pub host: String,
    /// The zone of the host; null: it has none.
    pub zone: Option<String>,
    /// Live flows of the host now.
    pub live_flows: u64,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Running,
    /// Hosts in work go on, no other is begun with.
    Paused,
    /// No other is begun with, as something failed or somebody has aborted it; hosts in work come to their ends.
    Ending,
    /// Over: each host is done.
    Done,
    /// Over, since something failed.
    Failed,
    /// Over, since somebody wanted that.
    Aborted,
}

impl RunState {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::Ending => "ending",
            RunState::Done => "done",
            RunState::Failed => "failed",
            RunState::Aborted => "aborted",
        }
    }

    pub fn is_over(self) -> bool {
        matches!(self, RunState::Done | RunState::Failed | RunState::Aborted)
    }
}

/// Answer to `GET /v1/maintain`: the runs under way, and the last that are over, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MaintainRuns {
    /// Those under way, and the last that are over.
    pub runs: Vec<MaintainRun>,
}

/// A maintenance run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MaintainRun {
    /// Its number.
    pub run: u64,
    /// As its plan says.
    pub name: String,
    /// How far it is.
    pub state: RunState,
    /// Who asked for it.
    pub by: String,
    /// Why, as who asked has put it; null: nothing was said.
    pub reason: Option<String>,
    /// Unix seconds.
    pub started_at: u64,
    /// Unix seconds; null: not yet.
    pub ended_at: Option<u64>,
    /// What failed, or who aborted or paused it.
    pub why: Option<String>,
    /// What the next host waits for, or one in work that is held up; null: its turn, or nothing.
    pub waits_for: Option<String>,
    /// How many hosts stand where.
    pub done: usize,
    /// How many hosts are out for it.
    pub in_work: usize,
    /// How many hosts have their turn still to come.
    pub waiting: usize,
    /// How many hosts are back.
    pub returned: usize,
    /// How many hosts failed.
    pub failed: usize,
    /// How many hosts were not begun with, and will not be.
    pub untouched: usize,
    /// Unix seconds, if it goes on as it went for the hosts that are done, in its windows; null: not known yet, never, or over.
    pub expected_end: Option<u64>,
    /// In the order of their turns.
    pub hosts: Vec<MaintainHost>,
    /// The daemon's clock when it said all this.
    pub as_of: u64,
}

/// A host of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MaintainHost {
    /// Name of the host.
    pub host: String,
    /// The zone of the host; null: it has none.
    pub zone: Option<String>,
    /// The step that it is at.
    pub step: HostStep,
    /// Unix seconds.
    pub since: u64,
    /// On its way back, as something failed or the run was aborted.
    pub is_back: bool,
    /// What went wrong.
    pub failures: Vec<String>,
    /// Live flows now.
    pub live_flows: u64,
    /// Steps that are over.
    pub steps: Vec<StepTime>,
    /// Commands and webhooks that are over.
    pub jobs: Vec<JobReport>,
    /// Numbers of its drains.
    pub drains: Vec<u64>,
    /// Of those that are over. Only in the answer to `GET /v1/maintain/{run}`.
    pub receipts: Vec<Receipt>,
}
