//! The journal's revisions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigChange, ConfigPart};

/// `GET /v1/history`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    pub host: Option<String>,
    /// Unix seconds: nothing older.
    pub since: Option<u64>,
    /// Only revisions with smaller numbers: for the next page.
    pub before: Option<u64>,
    /// At most so many, 1 to 1000; 20 if it is not said.
    pub limit: Option<u32>,
}

/// A page of revisions, the newest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// The newest first.
    pub revisions: Vec<Revision>,
    /// Revisions that were deleted as too old or too many, since the journal was made.
    pub pruned: u64,
}

/// A change of config, intent or state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// From 1, in the order of the changes.
    pub revision: u64,
    /// Unix seconds.
    pub at: u64,
    /// Who asked for it.
    pub by: String,
    /// Why, as who asked has put it; null: nothing was said.
    pub reason: Option<String>,
    /// `created`, `start`, `apply`, `confirm`, `rollback`, `failed`, `left`, `drain`, `amend`, `drained`, `undrain`, `ramp`, `kick`, `health`,
    /// `self-drain`, `self-drained`, `self-undrain`, `maintain`, `shift`, `clock` or `hash-key`
    pub kind: String,
    /// The hosts that it names.
    pub hosts: Vec<String>,
    /// What was changed, in words.
    pub summary: String,
    /// What came of it, in words; null where the change is all there is.
    pub outcome: Option<String>,
}

/// `GET /v1/history/{revision}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionDetail {
    #[serde(flatten)]
    pub revision: Revision,
    /// How the config differs from that before; empty where it stayed as it was.
    pub changes: Vec<ConfigChange>,
    /// The config that was in force after it, without its hash key; null if it is not known any more.
    pub config: Option<String>,
    /// What the journal has of it.
    pub detail: serde_json::Value,
}

/// `GET /v1/diff`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// A revision: what was so after it.
    pub from: u64,
    /// Another one; what is so now if it is not said.
    pub to: Option<u64>,
}

/// How two revisions differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// Number of the revision that is compared from.
    pub from: u64,
    /// Number of the revision that is compared to.
    pub to: u64,
    /// Of the config.
    pub changes: Vec<ConfigChange>,
    /// Hosts that were out at one of them, or not out by the same drain.
    pub drains: Vec<DrainChange>,
}

/// A host that was out of service at one revision and not, or by another drain, at the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrainChange {
    /// Name of the host.
    pub host: String,
    /// Number of the drain; null: none.
    pub from: Option<u64>,
    /// The same at the other revision.
    pub to: Option<u64>,
}

impl ConfigChange {
    /// The host that it is of.
    pub fn host(&self) -> Option<&str> {
        (self.part == ConfigPart::Host).then_some(self.name.as_str())
    }
}
