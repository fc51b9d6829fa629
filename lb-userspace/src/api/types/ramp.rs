//! Hosts that come back share by share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A host on its way back after `POST /v1/undrain` with a `ramp`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RampStatus {
    /// Part of its full share that it has now, 0 to 1.
    pub share: f64,
    /// Unix seconds; a ramp that was paused and goes on counts from later.
    pub started_at: u64,
    /// From nothing to the full share.
    pub seconds: u64,
    /// Seconds until the full share, if nothing fails.
    pub full_in: u64,
    /// Seconds for which its new flows are watched yet.
    pub watched_for: u64,
    /// Who asked for it.
    pub by: String,
    /// Why, as who asked has put it; null: nothing was said.
    pub reason: Option<String>,
    /// Which new flows failed, so that the share stays as it is for now; null: it goes up.
    pub paused: Option<String>,
}
