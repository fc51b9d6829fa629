//! Rings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/rings`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Rings {
    pub rings: Vec<Ring>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Ring {
    pub id: u32,
    pub size: u32,
    pub generation: u64,
    /// Services that use this ring.
    pub services: Vec<String>,
    pub members: Vec<RingMember>,
    /// Slots with a handover under way.
    pub open_slots: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RingMember {
    pub host: String,
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
