//! What is run when something happens.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::api::types::EventName;

/// Commands by event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hooks {
    /// Each for `/bin/sh -c`.
    pub commands: BTreeMap<EventName, String>,
    /// After it a command is killed, with all that it has started in its process group.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}
