//! What checks found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::health::Oper;

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
}

/// A check of a host for a service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CheckStatus {
    pub service: String,
    pub host: String,
    /// What is asked.
    pub check: String,
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
    pub at: u64,
    pub outcome: CheckOutcome,
    pub why: String,
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
    pub service: String,
    pub up: Vec<String>,
    pub down: Vec<String>,
    pub unknown: Vec<String>,
    /// So few are up that all are used.
    pub panic: bool,
    pub standby_in_use: bool,
    /// They get no new flows, as they are down.
    pub ejected: Vec<String>,
    /// They are down and used all the same, as no more may be ejected.
    pub spared: Vec<String>,
    /// They stand by and are not needed.
    pub waiting: Vec<String>,
}

/// `POST /v1/health/test`: runs the checks of a host once, beside their schedule and without consequence.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthTestRequest {
    pub host: String,
}

/// Answer to `POST /v1/health/test`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HealthTest {
    pub checks: Vec<TestedCheck>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TestedCheck {
    pub service: String,
    pub host: String,
    pub check: String,
    pub result: CheckResult,
    pub steps: Vec<CheckStep>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CheckStep {
    /// Milliseconds since the beginning.
    pub after_ms: f64,
    pub what: String,
}
