//! Drains: asked for, under way, and their receipts.

use serde::{Deserialize, Serialize};

use super::LiveFlows;

/// A drain: under way in `HostStatus`, or finished with its `receipt`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainStatus {
    pub id: u64,
    pub host: String,
    /// `draining`, `drained` or `undrained` (taken back before its end)
    pub state: String,
    pub started_at: u64,
    pub by: String,
    pub reason: Option<String>,
    pub flows_at_start: u64,
    pub live_flows: LiveFlows,
    /// Why the drain is not done yet, in words; null when it is.
    pub waiting_for: Option<String>,
    pub receipt: Option<Receipt>,
}

/// The record of a finished drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub drain: u64,
    pub host: String,
    /// `drained` or `undrained`
    pub outcome: String,
    pub by: String,
    pub reason: Option<String>,
    pub started_at: u64,
    pub ended_at: u64,
    pub flows_at_start: u64,
    /// Flows that came to their end on the host.
    pub ended: u64,
    /// Flows left when the drain was taken back.
    pub left: u64,
    /// Live flows that lost their pin because the table was full.
    pub evicted: u64,
    /// New flows that reached the host after the drain began; must be 0.
    pub new_flows: u64,
    /// Packets sent to another backend than their flow's; must be 0.
    pub misrouted: u64,
}

/// `POST /v1/drain` and `POST /v1/undrain`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Names, `@GROUP` or `@zone:ZONE`.
    pub hosts: Vec<String>,
    #[serde(default)]
    pub reason: Option<String>,
    /// Who asks; the daemon notes the peer's user name where it is missing.
    #[serde(default)]
    pub by: Option<String>,
    /// Drain although rules would be broken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Answer to `POST /v1/drain`, `POST /v1/undrain` and `GET /v1/drains?host=`: in the order asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Drains {
    pub drains: Vec<DrainStatus>,
}
