//! The balancer itself: whether it wants traffic, and how much of it still comes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::line::line;

/// `POST /v1/self/drain`. A drain that is under way goes on, with what is given.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfDrainRequest {
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks; the daemon notes the peer's user name where it is missing.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
    /// Seconds for which little must have come, 0 to 86400; null: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_for: Option<u64>,
    /// Fewer packets a second than these are little; null: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

/// `POST /v1/self/undrain`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfUndrainRequest {
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks; the daemon notes the peer's user name where it is missing.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
}

/// Answer to `GET /v1/self` and to what changes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelfStatus {
    /// Whether it wants traffic.
    pub state: SelfState,
    /// Why it is not ready, in words; null when it is.
    pub not_ready: Option<String>,
    /// The interface that has the VIPs when it is ready; null: none has.
    pub interface: Option<String>,
    /// Why the VIPs could not be put there, or taken off it; it is tried again. Null: they are as they should be.
    #[serde(default)]
    pub vips_failed: Option<String>,
    /// Packets that are forwarded in a second; null: not known yet.
    pub packets_per_second: Option<f64>,
    /// Live flows of all hosts.
    pub live_flows: u64,
    /// Null where the balancer is in use.
    pub drain: Option<SelfDrainStatus>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SelfState {
    Active,
    /// It wants no traffic, and forwards what comes.
    Draining,
    /// So it still is; and for long enough little has come.
    Drained,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelfDrainStatus {
    /// Unix seconds.
    pub started_at: u64,
    /// Who asked for it.
    pub by: String,
    /// Why, as who asked has put it; null: nothing was said.
    pub reason: Option<String>,
    /// Seconds for which there must be little.
    pub quiet_for: u64,
    /// Packets a second that are little.
    pub below: f64,
    /// For how long little has come until now, seconds.
    pub quiet: u64,
    /// When it was done; null: it goes on.
    pub done_at: Option<u64>,
    /// The daemon's clock when it said all this.
    pub as_of: u64,
}

/// `GET /v1/ready`, with status 200; a balancer that is not ready answers with 503 and the code `not_ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// True.
    pub ready: bool,
}
