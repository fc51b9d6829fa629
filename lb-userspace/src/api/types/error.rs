//! Refusals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body of every answer with a status of 400 and above.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ApiError {
    /// `not_found`, `bad_request`, `conflict` or `internal`
    pub code: String,
    /// What is wrong and where, in lower case.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}
