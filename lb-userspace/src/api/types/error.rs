//! Refusals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BrokenRule;

/// Body of every answer with a status of 400 and above.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ApiError {
    /// `not_found`, `bad_request`, `conflict`, `config`, `rule`, `forbidden`, `too_many` or `internal`
    pub code: String,
    /// What is wrong and where, in lower case.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// With `rule`: every rule that would be broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<BrokenRule>,
    /// With `config`: every problem of the config, as `sluice check` prints it, in lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}
