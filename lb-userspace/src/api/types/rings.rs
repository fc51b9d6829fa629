//! Rings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/rings`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Rings {
    /// By number.
    pub rings: Vec<Ring>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Ring {
    /// Number of the ring.
    pub id: u32,
    /// How many slots it has.
    pub size: u32,
    /// Number of its last publication.
    pub generation: u64,
    /// Services that use this ring.
    pub services: Vec<String>,
    /// Hosts that may own slots of it.
    pub members: Vec<RingMember>,
    /// Slots with a handover under way.
    pub open_slots: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RingMember {
    /// Name of the host.
    pub host: String,
    /// As in the config.
    pub weight: u16,
    /// Slots owned now.
    pub slots: u32,
    /// Slots owned when every member is in use.
    pub base_slots: u32,
    /// Slots where the host is the previous owner of a handover under way.
    pub previous_of: u32,
    /// Slots that each other host would get if this one were drained; empty when it owns none.
    pub drain_moves: BTreeMap<String, u32>,
}
