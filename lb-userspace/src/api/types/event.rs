//! Events: what happens, told as it happens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AtDeadline, HostStep, Order, Outcome, RunState, ShiftState};

/// Something that happened: the data of one event of `GET /v1/events`, and what a hook reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Grows by one with each event, and never shrinks: a daemon begins with the Unix time of its start, times a million.
    pub seq: u64,
    /// Unix seconds.
    pub at: u64,
    #[serde(flatten)]
    pub happening: Happening,
}

/// What happened. `service` and `clients`, of a drain, are the only ones that the host is drained for; each is missing where that is all. `by` and `reason` are those of who asked for it; of the ends of a drain those of who began it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// A host is taken out; with the `published` that follows no new flow reaches it.
    DrainBegan {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clients: Option<String>,
        drain: u64,
        by: String,
        reason: Option<String>,
        order: Order,
    },
    /// A drain has another order.
    DrainAmended {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clients: Option<String>,
        drain: u64,
        by: String,
        reason: Option<String>,
        order: Order,
    },
    /// The deadline has passed, and flows that are left go on.
    DrainOverdue {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clients: Option<String>,
        drain: u64,
        by: String,
        reason: Option<String>,
        deadline: u64,
        left: u64,
    },
    /// The deadline has passed, and flows that are left are moved or reset.
    Deadline {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clients: Option<String>,
        drain: u64,
        by: String,
        reason: Option<String>,
        deadline: u64,
        at_deadline: AtDeadline,
        left: u64,
    },
    /// No flow is left. The receipt has the drain's number.
    Drained {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clients: Option<String>,
        drain: u64,
        by: String,
        reason: Option<String>,
        outcome: Outcome,
    },
    /// Somebody took the host back; `left` flows of a drain under way, null if it was done.
    Undrained {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clients: Option<String>,
        drain: u64,
        by: String,
        reason: Option<String>,
        left: Option<u64>,
    },
    /// The host was taken back at the end of its lease; `left` as in `undrained`.
    LeaseOver {
        host: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clients: Option<String>,
        drain: u64,
        by: String,
        reason: Option<String>,
        left: Option<u64>,
    },
    /// Chosen flows are to be ended, `rate` a second.
    KickBegan {
        host: String,
        service: Option<String>,
        kick: u64,
        by: String,
        reason: Option<String>,
        chosen: u64,
        rate: u32,
    },
    KickEnded {
        host: String,
        kick: u64,
        by: String,
        reason: Option<String>,
        chosen: u64,
        kicked: u64,
        missed: u64,
    },
    /// Checks say that the host is up again for a service; without one: packets can be sent to it again.
    HostUp {
        host: String,
        service: Option<String>,
        why: String,
    },
    /// Checks say that the host is down for a service; without one: it has no next hop. Also told of each such host when the daemon starts.
    HostDown {
        host: String,
        service: Option<String>,
        why: String,
    },
    /// How the flows of clients fare speaks against the host, which stays in use all the same.
    HostSuspected {
        host: String,
        service: String,
        why: String,
    },
    /// Nothing of the sort does any more.
    HostCleared {
        host: String,
        service: String,
    },
    /// So little of the service's weight is up that all hosts are used again. Also told when the daemon starts and it is so.
    PanicBegan {
        service: String,
        why: String,
    },
    /// Enough is up again, and hosts that are down get no new flows.
    PanicEnded {
        service: String,
        why: String,
    },
    /// Too little of the primary hosts' weight is up and not drained: new flows go to the standby hosts as well.
    StandbyJoined {
        service: String,
        why: String,
    },
    /// The primary hosts are enough again.
    StandbyLeft {
        service: String,
        why: String,
    },
    /// Rings and tables are in force.
    Published {
        generation: u64,
    },
    /// Another config is in force; `kind` is `apply` or `rollback`. Unless it is confirmed by `confirm_by`, if that is not null, the one
    /// before comes back.
    ConfigApplied {
        revision: u64,
        kind: String,
        by: String,
        reason: Option<String>,
        confirm_by: Option<u64>,
    },
    /// The config of that revision is to stay.
    ConfigConfirmed {
        revision: u64,
        by: String,
        reason: Option<String>,
    },
    /// The config of that revision could not be put in force, so the one before is in force again.
    ConfigFailed {
        revision: u64,
    },
    /// The host is not in the config any more, and its last flow has ended.
    HostLeft {
        host: String,
    },
    /// A must-be-zero counter moved, by so much.
    Violation {
        counter: String,
        more: u64,
    },
    DaemonStarted {
        version: String,
        adopted: bool,
    },
    DaemonStopping,
    /// The balancer itself wants no traffic any more.
    SelfDrainBegan {
        by: String,
        reason: Option<String>,
    },
    /// For long enough little has come to the balancer; `by` and `reason` are the beginning's.
    SelfDrained {
        by: String,
        reason: Option<String>,
    },
    /// The balancer wants traffic again.
    SelfUndrained {
        by: String,
        reason: Option<String>,
    },
    /// A maintenance run began, with so many hosts.
    MaintainBegan {
        run: u64,
        name: String,
        by: String,
        reason: Option<String>,
        hosts: usize,
    },
    /// A host of a maintenance run is at another step; `is_back`: on its way back, as something failed or the run was aborted.
    MaintainStep {
        run: u64,
        host: String,
        step: HostStep,
        is_back: bool,
    },
    /// A maintenance run is over; `why` it did not come to its end, null if it did.
    MaintainEnded {
        run: u64,
        name: String,
        outcome: RunState,
        why: Option<String>,
    },
    /// A shift began, is at another step, or is over; `wanted`: the part of the service's new flows that goes to `to`, from 0 to 1.
    Shift {
        shift: u64,
        service: String,
        from: Vec<String>,
        to: Vec<String>,
        state: ShiftState,
        wanted: f64,
        why: Option<String>,
    },
    /// Somebody is shown packets; `filter` in words which, and `bytes` of each frame, 0 if none.
    TraceBegan {
        by: String,
        reason: Option<String>,
        filter: String,
        bytes: u32,
    },
    /// Nobody is shown those any more; `shown` of `wanted` packets that the filter asked for were.
    TraceEnded {
        by: String,
        reason: Option<String>,
        filter: String,
        shown: u64,
        wanted: u64,
    },
    /// Events that the reader was too slow for, or that are too old to be remembered; how many is not known (null) where they
    /// were an earlier daemon's.
    Lost {
        count: Option<u64>,
    },
}

/// The kinds of events.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum EventName {
    DrainBegan,
    DrainAmended,
    DrainOverdue,
    Deadline,
    Drained,
    Undrained,
    LeaseOver,
    KickBegan,
    KickEnded,
    HostUp,
    HostDown,
    HostSuspected,
    HostCleared,
    PanicBegan,
    PanicEnded,
    StandbyJoined,
    StandbyLeft,
    Published,
    ConfigApplied,
    ConfigConfirmed,
    ConfigFailed,
    HostLeft,
    Violation,
    DaemonStarted,
    DaemonStopping,
    SelfDrainBegan,
    SelfDrained,
    SelfUndrained,
    MaintainBegan,
    MaintainStep,
    MaintainEnded,
    Shift,
    TraceBegan,
    TraceEnded,
    Lost,
}

impl Happening {
    pub fn name(&self) -> EventName {
        match self {
            Happening::DrainBegan { .. } => EventName::DrainBegan,
            Happening::DrainAmended { .. } => EventName::DrainAmended,
            Happening::DrainOverdue { .. } => EventName::DrainOverdue,
            Happening::Deadline { .. } => EventName::Deadline,
            Happening::Drained { .. } => EventName::Drained,
            Happening::Undrained { .. } => EventName::Undrained,
            Happening::LeaseOver { .. } => EventName::LeaseOver,
            Happening::KickBegan { .. } => EventName::KickBegan,
            Happening::KickEnded { .. } => EventName::KickEnded,
            Happening::HostUp { .. } => EventName::HostUp,
            Happening::HostDown { .. } => EventName::HostDown,
            Happening::HostSuspected { .. } => EventName::HostSuspected,
            Happening::HostCleared { .. } => EventName::HostCleared,
            Happening::PanicBegan { .. } => EventName::PanicBegan,
            Happening::PanicEnded { .. } => EventName::PanicEnded,
            Happening::StandbyJoined { .. } => EventName::StandbyJoined,
            Happening::StandbyLeft { .. } => EventName::StandbyLeft,
            Happening::Published { .. } => EventName::Published,
            Happening::ConfigApplied { .. } => EventName::ConfigApplied,
            Happening::ConfigConfirmed { .. } => EventName::ConfigConfirmed,
            Happening::ConfigFailed { .. } => EventName::ConfigFailed,
            Happening::HostLeft { .. } => EventName::HostLeft,
            Happening::Violation { .. } => EventName::Violation,
            Happening::DaemonStarted { .. } => EventName::DaemonStarted,
            Happening::DaemonStopping => EventName::DaemonStopping,
            Happening::SelfDrainBegan { .. } => EventName::SelfDrainBegan,
            Happening::SelfDrained { .. } => EventName::SelfDrained,
            Happening::SelfUndrained { .. } => EventName::SelfUndrained,
            Happening::MaintainBegan { .. } => EventName::MaintainBegan,
            Happening::MaintainStep { .. } => EventName::MaintainStep,
            Happening::MaintainEnded { .. } => EventName::MaintainEnded,
            Happening::Shift { .. } => EventName::Shift,
            Happening::TraceBegan { .. } => EventName::TraceBegan,
            Happening::TraceEnded { .. } => EventName::TraceEnded,
            Happening::Lost { .. } => EventName::Lost,
        }
    }

    /// The only service that a drain is for.
    pub fn service(&self) -> Option<&str> {
        match self {
            Happening::DrainBegan { service, .. }
            | Happening::DrainAmended { service, .. }
            | Happening::DrainOverdue { service, .. }
            | Happening::Deadline { service, .. }
            | Happening::Drained { service, .. }
            | Happening::Undrained { service, .. }
            | Happening::LeaseOver { service, .. }
            | Happening::KickBegan { service, .. } => service.as_deref(),
            _ => None,
        }
    }

    /// The only clients that a drain is for.
    pub fn clients(&self) -> Option<&str> {
        match self {
            Happening::DrainBegan { clients, .. }
            | Happening::DrainAmended { clients, .. }
            | Happening::DrainOverdue { clients, .. }
            | Happening::Deadline { clients, .. }
            | Happening::Drained { clients, .. }
            | Happening::Undrained { clients, .. }
            | Happening::LeaseOver { clients, .. } => clients.as_deref(),
            _ => None,
        }
    }

    pub fn host(&self) -> Option<&str> {
        match self {
            Happening::DrainBegan { host, .. }
            | Happening::DrainAmended { host, .. }
            | Happening::DrainOverdue { host, .. }
            | Happening::Deadline { host, .. }
            | Happening::Drained { host, .. }
            | Happening::Undrained { host, .. }
            | Happening::LeaseOver { host, .. }
            | Happening::KickBegan { host, .. }
            | Happening::KickEnded { host, .. }
            | Happening::MaintainStep { host, .. }
            | Happening::HostUp { host, .. }
            | Happening::HostDown { host, .. }
            | Happening::HostSuspected { host, .. }
            | Happening::HostCleared { host, .. }
            | Happening::HostLeft { host } => Some(host),
            Happening::PanicBegan { .. }
            | Happening::PanicEnded { .. }
            | Happening::StandbyJoined { .. }
            | Happening::StandbyLeft { .. }
            | Happening::Published { .. }
            | Happening::ConfigApplied { .. }
            | Happening::ConfigConfirmed { .. }
            | Happening::ConfigFailed { .. }
            | Happening::Violation { .. }
            | Happening::DaemonStarted { .. }
            | Happening::DaemonStopping
            | Happening::SelfDrainBegan { .. }
            | Happening::SelfDrained { .. }
            | Happening::SelfUndrained { .. }
            | Happening::MaintainBegan { .. }
            | Happening::MaintainEnded { .. }
            | Happening::Shift { .. }
            | Happening::TraceBegan { .. }
            | Happening::TraceEnded { .. }
            | Happening::Lost { .. } => None,
        }
    }
}

impl EventName {
    /// All of them.
    pub const ALL: &'static [EventName] = &[
        EventName::DrainBegan,
        EventName::DrainAmended,
        EventName::DrainOverdue,
        EventName::Deadline,
        EventName::Drained,
        EventName::Undrained,
        EventName::LeaseOver,
        EventName::KickBegan,
        EventName::KickEnded,
        EventName::HostUp,
        EventName::HostDown,
        EventName::HostSuspected,
        EventName::HostCleared,
        EventName::PanicBegan,
        EventName::PanicEnded,
        EventName::StandbyJoined,
        EventName::StandbyLeft,
        EventName::Published,
        EventName::ConfigApplied,
        EventName::ConfigConfirmed,
        EventName::ConfigFailed,
        EventName::HostLeft,
        EventName::Violation,
        EventName::DaemonStarted,
        EventName::DaemonStopping,
        EventName::SelfDrainBegan,
        EventName::SelfDrained,
        EventName::SelfUndrained,
        EventName::MaintainBegan,
        EventName::MaintainStep,
        EventName::MaintainEnded,
        EventName::Shift,
        EventName::TraceBegan,
        EventName::TraceEnded,
        EventName::Lost,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            EventName::DrainBegan => "drain_began",
            EventName::DrainAmended => "drain_amended",
            EventName::DrainOverdue => "drain_overdue",
            EventName::Deadline => "deadline",
            EventName::Drained => "drained",
            EventName::Undrained => "undrained",
            EventName::LeaseOver => "lease_over",
            EventName::KickBegan => "kick_began",
            EventName::KickEnded => "kick_ended",
            EventName::HostUp => "host_up",
            EventName::HostDown => "host_down",
            EventName::HostSuspected => "host_suspected",
            EventName::HostCleared => "host_cleared",
            EventName::PanicBegan => "panic_began",
            EventName::PanicEnded => "panic_ended",
            EventName::StandbyJoined => "standby_joined",
            EventName::StandbyLeft => "standby_left",
            EventName::Published => "published",
            EventName::ConfigApplied => "config_applied",
            EventName::ConfigConfirmed => "config_confirmed",
            EventName::ConfigFailed => "config_failed",
            EventName::HostLeft => "host_left",
            EventName::Violation => "violation",
            EventName::DaemonStarted => "daemon_started",
            EventName::DaemonStopping => "daemon_stopping",
            EventName::SelfDrainBegan => "self_drain_began",
            EventName::SelfDrained => "self_drained",
            EventName::SelfUndrained => "self_undrained",
            EventName::MaintainBegan => "maintain_began",
            EventName::MaintainStep => "maintain_step",
            EventName::MaintainEnded => "maintain_ended",
            EventName::Shift => "shift",
            EventName::TraceBegan => "trace_began",
            EventName::TraceEnded => "trace_ended",
            EventName::Lost => "lost",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|event| event.name() == name)
    }
}

/// `GET /v1/events?…`; `host` and `event` may be given several times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only events of these hosts.
    #[serde(default)]
    pub host: Vec<String>,
    /// Only events of these kinds. `lost` is always told.
    #[serde(default)]
    pub event: Vec<EventName>,
    /// Begin behind the event of this number, of those that are remembered: 1000. 0: with the first of them. Without it, and
    /// without the header `Last-Event-ID`, which means the same, only what happens from now on is told.
    pub after: Option<u64>,
    /// False: end with what is remembered, instead of waiting for more.
    pub follow: Option<bool>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_flat_and_tagged() {
        let happening = Happening::Drained {
            host: "a".to_owned(),
            service: None,
            clients: None,
            drain: 7,
            by: "bob".to_owned(),
            reason: None,
            outcome: Outcome::Moved,
        };
        let event = Event { seq: 5, at: 100, happening };
        let json = json!({"seq": 5, "at": 100, "event": "drained", "host": "a", "drain": 7, "by": "bob", "reason": null,
            "outcome": "moved"});
        assert_eq!(serde_json::to_value(&event).unwrap(), json);
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
        let stopping = Event { seq: 1, at: 2, happening: Happening::DaemonStopping };
        let json = json!({"seq": 1, "at": 2, "event": "daemon_stopping"});
        assert_eq!(serde_json::to_value(&stopping).unwrap(), json);
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), stopping);
    }

    #[test]
    fn each_kind_has_the_name_that_json_gives_it() {
        for name in EventName::ALL {
            assert_eq!(serde_json::to_value(name).unwrap(), name.name());
            assert_eq!(EventName::from_name(name.name()), Some(*name));
            let value = clap::ValueEnum::to_possible_value(name).unwrap();
            assert_eq!(value.get_name(), name.name());
        }
        assert_eq!(EventName::ALL.len(), <EventName as clap::ValueEnum>::value_variants().len());
        for happening in [
            Happening::Lost { count: None },
            Happening::HostUp { host: "a".to_owned(), service: None, why: String::new() },
            Happening::Published { generation: 3 },
        ] {
            assert_eq!(serde_json::to_value(&happening).unwrap()["event"], happening.name().name());
        }
    }
}
