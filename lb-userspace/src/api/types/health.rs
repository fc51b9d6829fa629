//! What checks found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::health::Oper;
use crate::health::passive::Sign;
use crate::model::PassiveAction;

/// `GET /v1/health?…`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthQuery {
    /// Only of this host.
    pub host: Option<String>,
}

/// Answer to `GET /v1/health`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HealthReport {
    /// By service, host and check, as the config has them.
    pub checks: Vec<CheckStatus>,
    /// Services with checks or standby hosts.
    pub services: Vec<ServiceHealth>,
    /// How clients fare, of services that are watched for it.
    #[serde(default)]
    pub passive: Vec<PassiveStatus>,
}

/// How the flows of clients fare that a host has of a service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PassiveStatus {
    /// Name of the service.
    pub service: String,
    /// Name of the host.
    pub host: String,
    /// What the config wants of it.
    pub action: PassiveAction,
    /// Down: it was taken out.
    pub oper: Oper,
    /// Unix seconds of the last change; null: there was none.
    pub since: Option<u64>,
    /// It stays out until then at least.
    pub until: Option<u64>,
    /// Why it was taken out, or came back.
    pub why: String,
    /// What speaks against it, and takes nobody out.
    pub suspected: Vec<Suspected>,
    /// Why a host is in use whose flows get no answer.
    pub doubt: Option<String>,
    /// The last moments, as many as had flows enough of it, seconds; all that follows is of them. 0: it had too few.
    pub seconds: f64,
    /// New flows that were looked at.
    pub new_flows: u64,
    /// New flows that got no answer.
    pub unanswered: u64,
    /// SYNs that came again.
    pub syns_again: u64,
    /// Flows that clients ended by a RST.
    pub client_resets: u64,
    /// ICMP errors from the way to it.
    pub unreachables: u64,
}

/// Something speaks against a host.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Suspected {
    /// What speaks against it.
    pub sign: Sign,
    /// Unix seconds.
    pub since: u64,
    /// In words.
    pub why: String,
}

/// A check of a host for a service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CheckStatus {
    /// Name of the service.
    pub service: String,
    /// Name of the host.
    pub host: String,
    /// What is asked.
    pub check: String,
    /// What the check says of the host.
    pub oper: Oper,
    /// Null while nothing is known.
    pub since: Option<u64>,
    /// What the run said that decided it.
    pub why: String,
    /// Runs in a row with the same outcome as the last one.
    pub streak: u32,
    /// It goes up and down, and is held down until then at least.
    pub held_until: Option<u64>,
    /// Seconds; null while it runs.
    pub next_in: Option<f64>,
    /// The last ones, the latest first.
    pub results: Vec<CheckResult>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// Unix seconds.
    pub at: u64,
    /// How the run ended.
    pub outcome: CheckOutcome,
    /// What the run says, in words.
    pub why: String,
    /// Milliseconds.
    pub took_ms: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    Ok,
    Failed,
    /// The balancer could not ask, so it tells nothing of the host.
    NotRun,
}

/// Who of a service's hosts is used, by health. Who is drained is none of this.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ServiceHealth {
    /// Name of the service.
    pub service: String,
    /// Hosts that are up for it.
    pub up: Vec<String>,
    /// Hosts that are down for it.
    pub down: Vec<String>,
    /// Hosts of which checks have not said anything yet.
    pub unknown: Vec<String>,
    /// So few are up that all are used.
    pub panic: bool,
    /// Whether standby hosts get new flows.
    pub standby_in_use: bool,
    /// They get no new flows, as they are down.
    pub ejected: Vec<String>,
    /// They are down and used all the same, as no more may be ejected.
    pub spared: Vec<String>,
    /// They stand by and are not needed.
    pub waiting: Vec<String>,
}

/// `POST /v1/health/test`: asks a host at once, beside the schedule of its checks and without consequence.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthTestRequest {
    /// Whose checks.
    pub host: String,
    /// Not its checks, but a TCP handshake through the VIP of each of its TCP services, by the way of real traffic, and the UDP check of those
    /// of UDP alone.
    #[serde(default)]
    pub vip: bool,
}

/// Answer to `POST /v1/health/test`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HealthTest {
    /// Each check of each service of the host.
    pub checks: Vec<TestedCheck>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TestedCheck {
    /// Name of the service.
    pub service: String,
    /// Name of the host.
    pub host: String,
    /// The check, in words.
    pub check: String,
    /// How it ended.
    pub result: CheckResult,
    /// What was seen, in its order.
    pub steps: Vec<CheckStep>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CheckStep {
    /// Milliseconds since the beginning.
    pub after_ms: f64,
    /// What was seen, in words.
    pub what: String,
}
