//! Shifts of traffic from one group of a service's hosts to another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::line::line;

/// `POST /v1/shifts`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShiftRequest {
    /// Whose new flows.
    pub service: String,
    /// Groups of hosts, or hosts, whose new flows go over.
    pub from: Vec<String>,
    /// Where they go to.
    pub to: Vec<String>,
    /// Parts of the new flows that go over, each more than the one before: `1%`.
    pub steps: Vec<String>,
    /// Seconds of a step.
    pub every: u64,
    /// What takes it back: `errors > 1%` of the new flows, `unhealthy > 0` hosts, `fails: COMMAND`.
    #[serde(default)]
    pub abort_if: Vec<String>,
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks; the daemon notes the peer's user name where it is missing.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
}

/// How a shift stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShiftState {
    Running,
    /// The step in force stays; what takes the shift back counts.
    Paused,
    /// The split before it is about to be in force again.
    Returning,
    /// Over: the last step is in force, and stays so.
    Done,
    /// Over: what must not come true did, and the split before it is in force.
    TakenBack,
    /// Over: somebody wanted that, and the split before it is in force.
    Aborted,
}

impl ShiftState {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            ShiftState::Running => "running",
            ShiftState::Paused => "paused",
            ShiftState::Returning => "returning",
            ShiftState::Done => "done",
            ShiftState::TakenBack => "taken_back",
            ShiftState::Aborted => "aborted",
        }
    }

    pub fn is_over(self) -> bool {
        matches!(self, ShiftState::Done | ShiftState::TakenBack | ShiftState::Aborted)
    }
}

/// Answer to `GET /v1/shifts`: the last shift of each service, whose split is in force, by name of the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shifts {
    /// One for each service that had one.
    pub shifts: Vec<ShiftRun>,
}

/// A shift. Parts are of the new flows of both sides, from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShiftRun {
    /// Its number.
    pub shift: u64,
    /// Whose new flows.
    pub service: String,
    /// Groups or hosts, as they were named.
    pub from: Vec<String>,
    /// Where they go to.
    pub to: Vec<String>,
    /// The hosts that these are now.
    pub from_hosts: Vec<String>,
    /// The hosts that these are.
    pub to_hosts: Vec<String>,
    /// How far it is.
    pub state: ShiftState,
    /// What came true, or who aborted or paused it.
    pub why: Option<String>,
    /// Why the next step is not taken although its time has come.
    pub waits_for: Option<String>,
    /// Who asked for it.
    pub by: String,
    /// Why, as who asked has put it; null: nothing was said.
    pub reason: Option<String>,
    /// Unix seconds.
    pub started_at: u64,
    /// Unix seconds; null: not yet.
    pub ended_at: Option<u64>,
    /// Unix seconds, if nothing holds it up; null: it is paused, or over.
    pub expected_end: Option<u64>,
    /// Parts of the new flows that go over, one step after the other.
    pub steps: Vec<f64>,
    /// The step in force, from 0 on.
    pub step: usize,
    /// When that began, without the time for which it was paused.
    pub since: u64,
    /// Seconds of a step.
    pub every: u64,
    /// What takes it back, as it was asked for.
    pub abort_if: Vec<String>,
    /// The part that is to go to `to`.
    pub wanted: f64,
    /// Part of the service's slots that hosts of `to` own.
    pub slots: f64,
    /// The part that went to `to` since the step began, by the counters; null: there was no new flow.
    pub measured: Option<f64>,
    /// New flows of both sides since the step began.
    pub new_flows: u64,
    /// New flows that went to `to` since the shift began.
    pub touched: u64,
    /// New flows to `to` since the step, or the daemon, began that are old enough to tell, and those of them that failed; counted only with
    /// a condition on errors.
    pub begun: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// The daemon's clock when it said all this.
    pub as_of: u64,
}
