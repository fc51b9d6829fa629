//! Drains: asked for and under way.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::line::line;
use super::{LiveFlows, Progress, RampStatus, Receipt};

/// What becomes of the flows that are left at a drain's deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AtDeadline {
    /// They go on; status says since when the drain is overdue
    #[default]
    Keep,
    /// Each goes to another host with its next packet
    Move,
    /// TCP flows are reset with their client's next packet; others move
    Reset,
}

/// How a drain is bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Order {
    /// Unix seconds; null: it takes the time that it takes.
    pub deadline: Option<u64>,
    /// What becomes of the flows that are left at the deadline.
    pub at_deadline: AtDeadline,
    /// Seconds after the deadline over which flows meet their ends, so that clients do not come back all at once.
    pub spread: u16,
    /// Percent of its slots that the host gives up, 1 to 99; null: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<u8>,
    /// Unix seconds at which the host is taken back, done or not; null: when somebody takes it back.
    pub lease: Option<u64>,
    /// The host left the config: the drain began with that, and ends when the config names the host again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// A drain: under way in `HostStatus`, or finished with its `receipt`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DrainStatus {
    /// Number of the drain.
    pub id: u64,
    /// Name of the host.
    pub host: String,
    /// The only service that is meant; null: all.
    #[serde(default)]
    pub service: Option<String>,
    /// The only clients that are meant, as a prefix; null: all.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub clients: Option<IpNet>,
    /// `draining`; `drained`, however its flows came to their end; `undrained`: the host was taken back before. The receipt's
    /// `outcome` tells more.
    pub state: String,
    /// Unix seconds.
    pub started_at: u64,
    /// Who asked for it.
    pub by: String,
    /// Why, as who asked has put it; null: nothing was said.
    pub reason: Option<String>,
    /// How it is bounded.
    #[serde(default)]
    pub order: Order,
    /// Since when flows are left that the deadline lets go on; null if there are none, or none yet.
    #[serde(default)]
    pub overdue_since: Option<u64>,
    /// The daemon's clock when it said all this: what is left until the deadline counts from here.
    #[serde(default)]
    pub as_of: u64,
    /// Of a part: flows in the slots that the host gave up. So are `live_flows`.
    pub flows_at_start: u64,
    /// Live flows that it waits for, by phase.
    pub live_flows: LiveFlows,
    /// Why the drain is not done yet, in words; null when it is.
    pub waiting_for: Option<String>,
    /// How far it is and when it will be done; null unless the host is draining.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// Of a host that was taken back and comes back share by share.
    #[serde(default)]
    pub ramp: Option<RampStatus>,
    /// Of a drain that is over; null: it is not.
    pub receipt: Option<Receipt>,
}

/// `POST /v1/drain`. A host that is out already joins its drain, and what is given of the order amends it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Names, `@GROUP` or `@zone:ZONE`.
    pub hosts: Vec<String>,
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks; the daemon notes the peer's user name where it is missing.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
    /// Seconds from now; 0: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// What becomes then of the flows that are left; null: `keep`, or as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_deadline: Option<AtDeadline>,
    /// Seconds from now after which the host is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
    /// The only service to drain the hosts for; null: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The only clients to drain the hosts for, as an address or a prefix; null: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<String>,
    /// Percent of its slots that each host gives up, 1 to 99; null: all, also of a host that gave up a part before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u8>,
    /// Drain although rules would be broken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// `POST /v1/undrain`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UndrainRequest {
    /// Names, `@GROUP` or `@zone:ZONE`.
    pub hosts: Vec<String>,
    /// Why, for the journal and for whoever looks: one line.
    #[serde(default, deserialize_with = "line")]
    pub reason: Option<String>,
    /// Who asks; the daemon notes the peer's user name where it is missing.
    #[serde(default, deserialize_with = "line")]
    pub by: Option<String>,
    /// The only service to take the hosts back for; null: all for which they are out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The only clients to take the hosts back for, as their drain names them; null: all for which they are out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<String>,
    /// Seconds in which the share goes from nothing to full; null: at once, also of a host whose share is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<u64>,
}

/// `GET /v1/drains?…`; `host` may be given several times.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainsQuery {
    /// Only of these hosts, in this order; without it of all.
    #[serde(default)]
    pub host: Vec<String>,
    /// Only drains for this service alone; without it all drains of the hosts.
    #[serde(default)]
    pub service: Option<String>,
    /// Only drains for these clients alone.
    #[serde(default)]
    pub clients: Option<String>,
    /// With the progress of each, and so many of its oldest flows.
    #[serde(default)]
    pub blockers: Option<usize>,
}

/// `GET /v1/drains/{host}?…`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockersQuery {
    /// The drain of the host for this service alone; without it that of the whole host.
    #[serde(default)]
    pub service: Option<String>,
    /// The drain of the host for these clients alone.
    #[serde(default)]
    pub clients: Option<String>,
    /// So many of its oldest flows.
    #[serde(default)]
    pub blockers: Option<usize>,
}

/// Answer to `POST /v1/drain`, `POST /v1/undrain` and `GET /v1/drains?host=&service=&blockers=`: in the order asked for.
/// `GET /v1/drains/HOST?service=&blockers=` answers with one [`DrainStatus`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Drains {
    /// One for each host.
    pub drains: Vec<DrainStatus>,
}
