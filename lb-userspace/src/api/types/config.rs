//! Changes of the config: what differs, what it does, and what came of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::line::line;

/// What happened to a part of the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
}

/// A part of the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfigPart {
    Host,
    Service,
    Interface,
    /// What there is once, such as `timeouts.udp`.
    Setting,
}

impl ConfigPart {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            ConfigPart::Host => "host",
            ConfigPart::Service => "service",
            ConfigPart::Interface => "interface",
            ConfigPart::Setting => "setting",
        }
    }
}

/// One host, service, interface or setting that differs between two configs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigChange {
    /// What became of it.
    pub change: ChangeKind,
    /// What kind of part it is.
    pub part: ConfigPart,
    /// As the config calls it.
    pub name: String,
    /// Of what was changed the fields that differ; of what was added or removed all fields.
    pub fields: Vec<FieldChange>,
}

/// A field, as in the config's file, before and after; null where it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// Its name, with dots between tables.
    pub field: String,
    /// What it was; null: there was none.
    pub from: Option<String>,
    /// What it is then; null: there is none.
    pub to: Option<String>,
}

/// Slots of a host, over all rings, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotChange {
    /// Name of the host.
    pub host: String,
    /// Before the change.
    pub before: u64,
    /// After it.
    pub after: u64,
}

/// Live flows of a host that the config does not name any more: they go on to their end, and new ones go elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeavingHost {
    /// Name of the host.
    pub host: String,
    /// A service that it had.
    pub service: String,
    /// Live flows that are left.
    pub live_flows: u64,
    /// The number of the drain by which the host leaves; null: there is none yet, or the host was drained before.
    #[serde(default)]
    pub drain: Option<u64>,
}

/// A service that is removed with flows on it, which end with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndingService {
    /// Name of the service.
    pub service: String,
    /// Live flows that end with it.
    pub live_flows: u64,
}

/// What a config would do, or has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigPlan {
    /// Empty: the config comes to the same as the one in force.
    pub changes: Vec<ConfigChange>,
    /// Slots that get another owner, over all rings.
    pub slots_moved: u64,
    /// All slots of all rings, after it.
    pub slots: u64,
    /// Of each host whose slots change in number.
    pub moves: Vec<SlotChange>,
    /// Hosts that the config does not name any more, with flows on them.
    pub leaving: Vec<LeavingHost>,
    /// Services that are removed with flows on them.
    pub ending: Vec<EndingService>,
    /// What else is worth knowing, in words.
    pub notes: Vec<String>,
}

/// `POST /v1/apply`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The config's text (TOML).
    pub config: String,
    /// How problems and the journal call it. If it is the path of the daemon's own file, the next start takes that for known.
    #[serde(default, deserialize_with = "line")]
    pub file: Option<String>,
    /// Seconds, 1 to 86400: unless it is confirmed in that time, the config before comes back.
    #[serde(default)]
    pub confirm: Option<u64>,
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks, if not the user that does.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
}

/// `POST /v1/rollback`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The config that was in force after this revision comes back; null: the one before that in force.
    #[serde(default)]
    pub revision: Option<u64>,
    /// As of `POST /v1/apply`.
    #[serde(default)]
    pub confirm: Option<u64>,
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks, if not the user that does.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
}

/// `POST /v1/confirm`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmRequest {
    /// Confirms the config of this revision and no other; null: whichever waits.
    // A daemon of before does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks, if not the user that does.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
}

/// A config was put in force, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// Null: nothing was changed, as it was a dry run or there is no difference.
    pub revision: Option<u64>,
    /// Unless it is confirmed by then, the config before comes back; null: it stays.
    pub confirm_by: Option<u64>,
    /// What it did, or would do.
    pub plan: ConfigPlan,
}

/// The config is to stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Confirmed {
    /// Of the confirmation.
    pub revision: u64,
    /// Of the config that was confirmed.
    pub confirmed: u64,
}

/// Which config is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigStatus {
    /// That put it in force; 0: none was noted yet.
    pub revision: u64,
    /// It comes to another than the daemon's own file did when that was looked at last: by an apply of another file, or a rollback.
    pub differs_from_file: bool,
    /// Unless it is confirmed by then, the config before comes back.
    pub confirm_by: Option<u64>,
}
