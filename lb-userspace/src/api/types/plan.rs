//! What a drain would do: the answer to "what if".

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AdminState, LiveFlows, OperState};

/// `POST /v1/plan/drain`; `GET /v1/plan/drain?host=` asks the same.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Names, `@GROUP` or `@zone:ZONE`.
    pub hosts: Vec<String>,
    /// The only service to drain the hosts for; null: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The only clients to drain the hosts for, as an address or a prefix; null: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<String>,
    /// Percent of its slots that each host would give up, 1 to 99; null: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u8>,
}

/// `GET /v1/plan/drain?…`; `host` may be given several times.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanQuery {
    /// As in [`PlanRequest`].
    pub host: Vec<String>,
    /// As there.
    #[serde(default)]
    pub service: Option<String>,
    /// The only clients to drain the hosts for, as an address or a prefix; null: all.
    #[serde(default)]
    pub clients: Option<String>,
    /// As there.
    #[serde(default)]
    pub share: Option<u8>,
}

/// Answer to `/v1/plan/drain`. Nothing has been changed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DrainPlan {
    /// The only service that is meant; null: all. What follows is of it alone.
    #[serde(default)]
    pub service: Option<String>,
    /// The only clients that are meant, as a prefix; null: all. Slots and flows are of them; loads of all clients, as those of some are not
    /// measured.
    #[serde(default)]
    pub clients: Option<String>,
    /// Percent of its slots that each host would give up; null: all.
    #[serde(default)]
    pub share: Option<u8>,
    /// The hosts that would be drained, each once.
    pub hosts: Vec<PlannedHost>,
    /// Hosts in use that share a ring with one of them, by name.
    pub survivors: Vec<Survivor>,
    /// What would be with no host, of services that would have none left; null if nothing.
    pub unserved: Option<Unserved>,
    /// Seconds until 99 of 100 of the flows that live now have ended on each of the hosts, by how long flows last; null: not known.
    pub expected_seconds: Option<u64>,
    /// Seconds that the drain takes in any case.
    pub at_least_seconds: u64,
    /// Every rule that would be broken: `drain` refuses unless it is forced. Empty if all is well.
    pub rules: Vec<BrokenRule>,
    /// What an operator should know, in words.
    pub notes: Vec<String>,
}

/// A host that would be drained.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PlannedHost {
    /// Name of the host.
    pub host: String,
    /// The zone of the host; null: it has none.
    pub zone: Option<String>,
    /// What the operator wants of it.
    pub admin: AdminState,
    /// What is known of whether it can be used.
    pub oper: OperState,
    /// Slots that it owns over all rings.
    pub slots: u32,
    /// Slots that it would keep: of a part, and of services with `when_empty = "last"`.
    pub kept: u32,
    /// Slots that each other host would get.
    pub moves: BTreeMap<String, u32>,
    /// Flows that would have to end, or move by their service's policy. Of a part: those in slots that it would give up.
    pub live_flows: LiveFlows,
    /// What it has of traffic now.
    pub load: Load,
}

/// A host that would get part of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Survivor {
    /// Name of the host.
    pub host: String,
    /// Slots that it owns now.
    pub slots_before: u32,
    /// And with the drain.
    pub slots_after: u32,
    /// Part of the slots, 0 to 1, over all rings that it is a member of.
    pub share_before: f64,
    /// Its part of all slots then, 0 to 1.
    pub share_after: f64,
    /// As measured.
    pub before: Load,
    /// New flows: at once. Packets and bytes: when the flows on the drained hosts have ended, if as many have begun elsewhere.
    pub after: Load,
}

/// What would be with no host.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unserved {
    /// Slots that nobody would own.
    pub slots: u32,
    /// What goes by them now.
    pub load: Load,
}

/// Traffic a second, over the daemon's last sampling interval or by the plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// New flows a second.
    pub new_flows_per_second: f64,
    /// Packets a second.
    pub packets_per_second: f64,
    /// Bytes of IP packets a second.
    pub bytes_per_second: f64,
}

/// A rule that a drain would break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BrokenRule {
    /// `last_host`, `min_healthy` or `one_zone_at_a_time`
    pub rule: String,
    /// The service that it is about.
    pub service: String,
    /// What would be wrong, with numbers.
    pub message: String,
    /// What to do instead.
    pub mend: String,
    /// Weight of the service's hosts, and of those that are up and active, before and after.
    pub weight: u64,
    /// Weight of the hosts that are healthy now.
    pub healthy_before: u64,
    /// And that would be left.
    pub healthy_after: u64,
}
