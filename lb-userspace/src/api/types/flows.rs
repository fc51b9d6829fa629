//! Live flows, one by one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which flows to list; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowQuery {
    pub host: Option<String>,
    pub service: Option<String>,
    /// Client addresses: one, or a prefix such as `10.0.0.0/8`.
    pub client: Option<String>,
    pub phase: Option<FlowPhase>,
    /// Seconds since the flow began, at least.
    pub min_age: Option<u64>,
    /// Seconds since its last packet, at least.
    pub min_idle: Option<u64>,
    /// Flows on a page, at most. A page may have fewer, or none, and another behind it.
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<u64>,
}

/// A phase that live flows are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FlowPhase {
    HalfOpen,
    Established,
    Closing,
    Udp,
}

/// `GET /v1/flows?…`, with the fields of [`FlowQuery`]
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Flows {
    /// In no particular order.
    pub flows: Vec<Flow>,
    /// Pass as `cursor` for the next page; null on the last.
    pub next: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `address:port`, IPv6 in brackets
    pub client: String,
    /// `address:port` that the client sends to.
    pub vip: String,
    /// The service that it is of.
    pub service: String,
    /// The host that it is pinned to.
    pub host: String,
    /// `half-open`, `established`, `closing` or `udp`
    pub phase: String,
    /// Seconds since its first packet.
    pub age: u64,
    /// Seconds since its last packet.
    pub idle: u64,
    /// Number of its slot in the ring.
    pub slot: u32,
}
