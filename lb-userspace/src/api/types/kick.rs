//! Flows that an operator ends early.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::line::line;

/// `POST /v1/kick`: ends live flows of a host, so many a second. All that is given must hold for a flow.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KickRequest {
    /// Whose flows.
    pub host: String,
    /// Only those of this service; null: of all.
    #[serde(default)]
    pub service: Option<String>,
    /// Client addresses: one, or a prefix such as `10.0.0.0/8`.
    #[serde(default)]
    pub clients: Option<String>,
    /// Seconds since the flow began, at least.
    #[serde(default)]
    pub older_than: Option<u64>,
    /// Seconds since its last packet, at least.
    #[serde(default)]
    pub idle: Option<u64>,
    /// Flows a second; default: 50.
    #[serde(default)]
    pub rate: Option<u32>,
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks; the daemon notes the peer's user name where it is missing.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
}

/// Answer to `POST /v1/kick` and `GET /v1/kicks/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kick {
    /// Since the daemon's start.
    pub id: u64,
    /// Whose flows are ended.
    pub host: String,
    /// Who asked for it.
    pub by: String,
    /// Why, as who asked has put it; null: nothing was said.
    pub reason: Option<String>,
    /// Unix seconds.
    pub started_at: u64,
    /// Flows a second.
    pub rate: u32,
    /// Flows that were chosen when it began.
    pub chosen: u64,
    /// Those that were ended.
    pub kicked: u64,
    /// Those that had ended by themselves, or had spoken in the very moment, before it was their turn.
    pub missed: u64,
    /// Null while it is under way.
    pub ended_at: Option<u64>,
}

/// Answer to `GET /v1/kicks`: the latest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Kicks {
    /// The latest first.
    pub kicks: Vec<Kick>,
}
