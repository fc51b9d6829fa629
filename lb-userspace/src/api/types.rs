//! The bodies of the `/v1` API: what the daemon answers and what `--json` prints. Field names are stable.
//!
//! Times are Unix seconds, durations seconds, rates per second over the daemon's last sampling interval.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Ports, Protocols};

/// `GET /v1/status`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub instance: String,
    pub version: String,
    pub pid: u32,
    pub started_at: u64,
    /// Number of the last publication of the rings.
    pub generation: u64,
    /// Number of the last change in the journal.
    pub revision: u64,
    pub config: String,
    pub vip_mode: String,
    pub interfaces: Vec<InterfaceStatus>,
    pub services: Vec<ServiceStatus>,
    pub hosts: Vec<HostStatus>,
    pub flow_table: FlowTableStatus,
    /// Errors from the paths to backends; null where no packet has an outer header, or where they cannot be heard.
    #[serde(default)]
    pub path_errors: Option<PathErrors>,
    /// Packets by reason, reasons that occurred only.
    pub reasons: BTreeMap<String, u64>,
    /// The must-be-zero counters, those that are not zero only: empty on a healthy balancer.
    pub violations: BTreeMap<String, u64>,
    /// What an operator should look at, in words; empty when all is well.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InterfaceStatus {
    pub name: String,
    pub ifindex: u32,
    /// `native` or `generic`
    pub mode: String,
    /// Why the mode is not the one wanted, or null.
    pub note: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub name: String,
    /// An address, or a prefix such as `203.0.113.0/28`.
    pub vip: String,
    /// `protocols`, and `protocol`, which is null if there are two.
    #[serde(flatten)]
    pub protocols: Protocols,
    /// `ports`: each with `first` and `last`; and `port`, which is null if there is more than one.
    #[serde(flatten)]
    pub ports: Ports,
    pub forward: String,
    pub ring: u32,
    pub live_flows: LiveFlows,
    pub traffic: Traffic,
    pub backends: Vec<BackendStatus>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackendStatus {
    pub host: String,
    pub address: String,
    pub live_flows: LiveFlows,
    pub traffic: Traffic,
    /// Where packets go: interface and MAC, or why they cannot go yet.
    pub next_hop: String,
    /// Bytes of the longest IP packet that the path behind it takes, if a router has told; for ten minutes.
    #[serde(default)]
    pub path_mtu: Option<u16>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostStatus {
    pub name: String,
    pub admin: AdminState,
    pub oper: OperState,
    pub weight: u16,
    /// Part of the slots that the host owns, 0 to 1, over all rings that it is a member of.
    pub share: f64,
    pub live_flows: LiveFlows,
    pub traffic: Traffic,
    /// The drain that is under way or was the last, if any.
    pub drain: Option<DrainStatus>,
}

/// What the operator wants of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    Active,
    Draining,
    Drained,
}

/// What is known of a host's reachability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperState {
    Up,
    Down,
}

/// Live pins by phase: pinned, not closed, not idle past the phase's timeout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveFlows {
    pub half_open: u64,
    pub established: u64,
    pub closing: u64,
    pub udp: u64,
    pub total: u64,
    /// There may be more: a service tracks edges only, and flows of a settled slot have no pin that could be counted.
    #[serde(default)]
    pub hidden: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets and bytes forwarded since the counters began.
    pub packets: u64,
    pub bytes: u64,
    /// New flows since the counters began.
    pub new_flows: u64,
    pub packets_per_second: f64,
    pub bytes_per_second: f64,
    pub new_flows_per_second: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlowTableStatus {
    /// Pins that the table was made for.
    pub pins: u64,
    /// Words of the hot array; about half of them are used when `pins` flows live.
    pub words: u64,
    pub live: u64,
    pub overflow_used: u64,
    pub overflow_size: u64,
    /// Bytes of hot array, cold array, marks and overflow.
    pub memory: u64,
    /// Microseconds that the last sweep took.
    pub sweep_us: u64,
}

/// ICMP errors about packets that were sent to backends in outer headers, since the daemon's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathErrors {
    pub heard: u64,
    /// Those that the client was told of, whose packet was inside.
    pub told: u64,
    /// Those that no client was told of, as it would have been too many a second.
    pub suppressed: u64,
    /// Those that could not be sent to the client.
    pub failed: u64,
}

/// A drain: under way in `HostStatus`, or finished with its `receipt`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainStatus {
    pub id: u64,
    pub host: String,
    /// `draining`, `drained` or `undrained` (taken back before its end)
    pub state: String,
    pub started_at: u64,
    pub by: String,
    pub reason: Option<String>,
    pub flows_at_start: u64,
    pub live_flows: LiveFlows,
    /// Why the drain is not done yet, in words; null when it is.
    pub waiting_for: Option<String>,
    pub receipt: Option<Receipt>,
}

/// The record of a finished drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub drain: u64,
    pub host: String,
    /// `drained` or `undrained`
    pub outcome: String,
    pub by: String,
    pub reason: Option<String>,
    pub started_at: u64,
    pub ended_at: u64,
    pub flows_at_start: u64,
    /// Flows that came to their end on the host.
    pub ended: u64,
    /// Flows left when the drain was taken back.
    pub left: u64,
    /// Live flows that lost their pin because the table was full.
    pub evicted: u64,
    /// New flows that reached the host after the drain began; must be 0.
    pub new_flows: u64,
    /// Packets sent to another backend than their flow's; must be 0.
    pub misrouted: u64,
}

/// `POST /v1/drain` and `POST /v1/undrain`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    pub hosts: Vec<String>,
    #[serde(default)]
    pub reason: Option<String>,
    /// Who asks; the daemon notes the peer's user name where it is missing.
    #[serde(default)]
    pub by: Option<String>,
}

/// Answer to `POST /v1/drain`, `POST /v1/undrain` and `GET /v1/drains?host=`: in the order asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Drains {
    pub drains: Vec<DrainStatus>,
}

/// Which flows to list; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FlowPhase {
    HalfOpen,
    Established,
    Closing,
    Udp,
}

/// `GET /v1/flows?…`, with the fields of [`FlowQuery`]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flows {
    pub flows: Vec<Flow>,
    /// Pass as `cursor` for the next page; null on the last.
    pub next: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flow {
    pub protocol: String,
    /// `address:port`, IPv6 in brackets
    pub client: String,
    pub vip: String,
    pub service: String,
    pub host: String,
    /// `half-open`, `established`, `closing` or `udp`
    pub phase: String,
    pub age: u64,
    pub idle: u64,
    pub slot: u32,
}

/// `GET /v1/rings`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rings {
    pub rings: Vec<Ring>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
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

#[derive(Debug, Clone, Serialize, Deserialize)]
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

/// Body of every answer with a status of 400 and above.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiError {
    /// `not_found`, `bad_request`, `conflict` or `internal`
    pub code: String,
    /// What is wrong and where, in lower case.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}
