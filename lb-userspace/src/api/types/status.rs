//! What the balancer is and does now.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigStatus, DrainStatus, LeavingHost, RampStatus, ShiftRun, TracerStatus};
use crate::model::{Ports, Protocols};

/// `GET /v1/status`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Its name.
    pub instance: String,
    /// Of the daemon.
    pub version: String,
    /// Of the daemon.
    pub pid: u32,
    /// Of the daemon, Unix seconds.
    pub started_at: u64,
    /// Number of the last publication of the rings.
    pub generation: u64,
    /// Number of the last change in the journal.
    pub revision: u64,
    /// The daemon's own config file.
    pub config: String,
    /// Which config is in force.
    #[serde(default)]
    pub config_in_force: ConfigStatus,
    /// `external` or `local`.
    pub vip_mode: String,
    /// Those with the XDP program.
    pub interfaces: Vec<InterfaceStatus>,
    /// Those of the config.
    pub services: Vec<ServiceStatus>,
    /// By name.
    pub hosts: Vec<HostStatus>,
    /// Drains for some clients alone that are in force.
    #[serde(default)]
    pub drains_of_clients: Vec<DrainStatus>,
    /// Hosts that the config does not name any more, and whose flows go on to their end.
    #[serde(default)]
    pub leaving: Vec<LeavingHost>,
    /// Those who are shown packets, which slows down the packets that they ask for.
    #[serde(default)]
    pub tracers: Vec<TracerStatus>,
    /// How full it is.
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

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceStatus {
    /// As in the config.
    pub name: String,
    /// The kernel's number of it.
    pub ifindex: u32,
    /// `native` or `generic`
    pub mode: String,
    /// Why the mode is not the one wanted, or null.
    pub note: Option<String>,
}

/// A service and its backends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ServiceStatus {
    /// As in the config.
    pub name: String,
    /// An address, or a prefix such as `203.0.113.0/28`.
    pub vip: String,
    /// `protocols`, and `protocol`, which is null if there are two.
    #[serde(flatten)]
    pub protocols: Protocols,
    /// `ports`: each with `first` and `last`; and `port`, which is null if there is more than one.
    #[serde(flatten)]
    pub ports: Ports,
    /// How packets go to backends.
    pub forward: String,
    /// Number of its ring.
    pub ring: u32,
    /// Live flows, by phase.
    pub live_flows: LiveFlows,
    /// What it has of traffic.
    pub traffic: Traffic,
    /// One for each of its hosts.
    pub backends: Vec<BackendStatus>,
    /// The last shift between its hosts, whose split is in force; null: there was none.
    #[serde(default)]
    pub split: Option<ShiftRun>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BackendStatus {
    /// The host that it is on.
    pub host: String,
    /// The address that packets go to.
    pub address: String,
    /// Live flows, by phase.
    pub live_flows: LiveFlows,
    /// What it has of traffic.
    pub traffic: Traffic,
    /// Where packets go: interface and MAC, or why they cannot go yet.
    pub next_hop: String,
    /// The drain of the host for this service alone that is under way or was the last, if any.
    #[serde(default)]
    pub drain: Option<DrainStatus>,
    /// Bytes of the longest IP packet that the path behind it takes, if a router has told; for ten minutes.
    #[serde(default)]
    pub path_mtu: Option<u16>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct HostStatus {
    /// As in the config.
    pub name: String,
    /// What the operator wants of it.
    pub admin: AdminState,
    /// Down: it has no next hop, or checks say so for all of its services. Unknown: some have not said anything yet.
    pub oper: OperState,
    /// Services that checks say it is down for.
    #[serde(default)]
    pub down_for: Vec<String>,
    /// As in the config.
    pub weight: u16,
    /// Part of the slots that the host owns, 0 to 1, over all rings that it is a member of.
    pub share: f64,
    /// Live flows, by phase.
    pub live_flows: LiveFlows,
    /// What it has of traffic.
    pub traffic: Traffic,
    /// The drain that is under way or was the last, if any.
    pub drain: Option<DrainStatus>,
    /// Null unless the host is coming back share by share.
    #[serde(default)]
    pub ramp: Option<RampStatus>,
}

/// What the operator wants of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdminState {
    Active,
    Draining,
    Drained,
    /// By the config, and not by a drain.
    Disabled,
}

/// What is known of whether a host can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperState {
    Up,
    Down,
    /// It has a next hop, and checks of a service that has some have not come to a result yet. It is used like one that is up.
    Unknown,
}

/// Live pins by phase: pinned, not closed, not idle past the phase's timeout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LiveFlows {
    /// TCP, whose handshake is not over.
    pub half_open: u64,
    /// TCP, established.
    pub established: u64,
    /// TCP, after a FIN or RST, until their timeout.
    pub closing: u64,
    /// UDP.
    pub udp: u64,
    /// All that are live.
    pub total: u64,
    /// There may be more: a service tracks edges only, and flows of a settled slot have no pin that could be counted.
    #[serde(default)]
    pub hidden: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Packets and bytes forwarded since the counters began.
    pub packets: u64,
    /// Bytes of IP packets so far.
    pub bytes: u64,
    /// New flows since the counters began.
    pub new_flows: u64,
    /// Packets a second.
    pub packets_per_second: f64,
    /// Bytes of IP packets a second.
    pub bytes_per_second: f64,
    /// New flows a second.
    pub new_flows_per_second: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct FlowTableStatus {
    /// Pins that the table was made for.
    pub pins: u64,
    /// Words of the hot array; about half of them are used when `pins` flows live.
    pub words: u64,
    /// Live pins, of all hosts.
    pub live: u64,
    /// Flows that have one now.
    pub overflow_used: u64,
    /// Flows that can find a place beside the table.
    pub overflow_size: u64,
    /// Bytes of hot array, cold array, marks and overflow.
    pub memory: u64,
    /// Microseconds that the last sweep took.
    pub sweep_us: u64,
}

/// ICMP errors about packets that were sent to backends in outer headers, since the daemon's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathErrors {
    /// ICMP errors about packets of ours.
    pub heard: u64,
    /// Those that the client was told of, whose packet was inside.
    pub told: u64,
    /// Those that no client was told of, as it would have been too many a second.
    pub suppressed: u64,
    /// Those that could not be sent to the client.
    pub failed: u64,
}
