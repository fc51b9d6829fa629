//! How far a drain is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Flow;

/// A drain under way, by a look at its flows that is a second old or a little more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Live flows by phase: `half-open`, `established`, `closing`, `udp`; those that no flow is in are missing.
    pub phases: BTreeMap<String, PhaseProgress>,
    /// Those that have been silent for 60 s, or for half of their timeout if that is less.
    pub idle: u64,
    /// Flows that have ended by themselves since the drain began.
    pub ended: u64,
    /// What goes to the host now.
    pub packets_per_second: f64,
    /// Bytes of IP packets a second.
    pub bytes_per_second: f64,
    /// When flows that live now will have ended.
    pub expected_end: ExpectedEnd,
    /// The oldest flows, the oldest first; null where they were not asked for.
    pub blockers: Option<Vec<Flow>>,
}

/// The flows of a host in one phase. Ages in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseProgress {
    /// Live flows.
    pub live: u64,
    /// Those of them that are idle.
    pub idle: u64,
    /// Half of the flows are not older, within 12.5 %.
    pub age_p50: u64,
    /// Seconds, of the oldest.
    pub age_max: u64,
}

/// Seconds from now by which 50, 90 and 99 of 100 of the flows that live now will have ended, if flows last as they did in the last hour; null:
/// not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExpectedEnd {
    /// Seconds until half of them have; null: not known yet.
    pub p50: Option<u64>,
    /// The same of 90 of 100.
    pub p90: Option<u64>,
    /// The same of 99 of 100.
    pub p99: Option<u64>,
    /// Ended flows that this rests on.
    pub measured: u64,
    /// Live flows of which nothing is known: fewer than 30 flows of their service have ended on the host in the last hour, and they have not been
    /// silent for half of their idle timeout.
    pub unknown: u64,
}
