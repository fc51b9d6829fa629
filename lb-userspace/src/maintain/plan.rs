//! A plan: what is done with which hosts, as it was checked and as the journal keeps it.

use serde::{Deserialize, Serialize};

use super::window::Windows;
use crate::api::types::{AtDeadline, OnFailure};

/// A plan that was held against the config in force: its hosts are named one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    pub hosts: Vec<Planned>,
    /// Hosts that may be in work at once.
    pub at_once: usize,
    /// A host of another zone only begins when no host of this one is in work.
    pub by_zone: bool,
    /// Percent of each service's weight that stays healthy, if that is more than the config's rules say.
    pub min_healthy: u8,
    pub on_failure: OnFailure,
    pub windows: Windows,
    /// Seconds that a drain may take; `None`: the time that it takes.
    pub deadline: Option<u64>,
    pub at_deadline: AtDeadline,
    pub work: Task,
    pub proof: Proof,
    /// Seconds in which a host comes back; `None`: at once.
    pub ramp: Option<u64>,
    /// Seconds for which a host that is back is watched before it counts as done.
    pub watch: u64,
    /// What undoes the work.
    pub rollback: Option<Task>,
    /// What a host has to pass on its way back, instead of the proof's: its work is undone, or was never done.
    #[serde(default)]
    pub check_back: Option<Task>,
}

/// A host of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub host: String,
    pub zone: Option<String>,
}

/// Something that is done to a host from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub what: What,
    /// Seconds after which it is killed, and has failed.
    pub timeout: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// For `/bin/sh -c`.
    Command(String),
    /// An `http://` URL that is posted to.
    Webhook(String),
}

/// What shows that a host is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Seconds for which it must have been well.
    pub hold: u64,
    /// Seconds in which that must come true.
    pub within: u64,
    /// Run again and again: with exit status 0 the host is well. Beside the checks that the balancer makes.
    pub check: Option<Task>,
}
