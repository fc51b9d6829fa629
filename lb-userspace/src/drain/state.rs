//! What the machine remembers of a host, and what it is told.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::api::types::{DrainStatus, LiveFlows, Order, Percentiles, Receipt};

use super::account::Tally;

/// What the counters say of one host at one moment.
///
/// The totals only grow; they begin again at 0 when the counters are lost (reboot).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Number of the counters that are meant, of a drain for some clients; 0: those of the host.
    pub tally: u32,
    /// Live pins that name the host: the exact gauge, not an estimate.
    pub live: LiveFlows,
    /// Live pins of the host that were dropped for want of space.
    pub evicted_total: u64,
    /// New flows that the host was given.
    pub new_flows_total: u64,
    /// Packets of the host's flows that went to another backend.
    pub misrouted_total: u64,
    /// Flows that went on to another host at a deadline.
    pub moved_total: u64,
    /// Flows whose client was answered with a RST.
    pub reset_total: u64,
    /// Flows that the daemon ended because they said nothing.
    pub silent_total: u64,
    /// Flows of the host that an operator has ended.
    pub kicked_total: u64,
    /// Flows that were ended, and whose end the host could not be told yet.
    pub unconfirmed: u64,
    /// Packets and bytes that went to the host.
    pub packets_total: u64,
    pub bytes_total: u64,
    /// Must-be-zero counters of the instance that are not zero.
    pub violations: BTreeMap<String, u64>,
    /// Of the flows that have ended since the drain began, if all of it was watched.
    pub durations: Option<Percentiles>,
}

/// What one full sweep of the flow table found for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Read at the end of the sweep.
    pub gauges: Gauges,
    /// Live pins that name the host, counted by the sweep itself.
    pub counted: u64,
    /// Seconds of a clock that nobody sets (`CLOCK_MONOTONIC_COARSE`, the data path's) at the end of the sweep. A wall clock that is put
    /// forward would end drains too early.
    pub clock: u64,
    /// Seconds of the same clock: since when no live pin of the host was dropped and every packet of its flows was
    /// tracked.
    pub complete_since: u64,
    /// All slots whose previous owner is the host have been open for more than `idle_timeout` since the later of
    /// their last change and the last loss of state.
    pub slots_open_long_enough: bool,
    /// The longest time that a live flow may be silent, in seconds.
    pub idle_timeout: u64,
}

impl Observation {
    /// Seconds for which the host's pins have been complete.
    pub(super) fn complete_for(&self) -> u64 {
        self.clock.saturating_sub(self.complete_since)
    }

    /// Every live flow has had the time to be seen, so it has a pin.
    pub(super) fn is_complete(&self) -> bool {
        self.complete_for() > self.idle_timeout
    }

    /// No live pin names the host, and no live flow can be without a pin: for the time that says so, or because `ends_all`, the
    /// deadline of the order, lets no flow that has none reach the host.
    pub fn done(&self, ends_all: bool) -> bool {
        self.gauges.live.total == 0
            && self.counted == 0
            && (ends_all || self.is_complete() || self.slots_open_long_enough)
    }
}

/// The counters at the moment from which no new flow could reach the host: the zero line of a receipt. As the journal keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Start {
    /// Of the publication that made it so.
    pub generation: u64,
    /// Number of the counters that are meant, of a drain for some clients; 0: those of the host.
    #[serde(skip_serializing_if = "is_zero")]
    pub tally: u32,
    /// Live flows.
    pub flows: u64,
    pub evicted_total: u64,
    pub new_flows_total: u64,
    pub misrouted_total: u64,
    pub moved_total: u64,
    pub reset_total: u64,
    pub silent_total: u64,
    #[serde(default)]
    pub kicked_total: u64,
    pub packets_total: u64,
    pub bytes_total: u64,
    pub violations: BTreeMap<String, u64>,
    /// The counters of then are gone, and those of now began at 0 after it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_gone: bool,
}

fn is_zero(tally: &u32) -> bool {
    *tally == 0
}

impl Start {
    pub fn new(gauges: &Gauges, generation: u64) -> Self {
        Start {
            generation,
            tally: gauges.tally,
            flows: gauges.live.total,
            evicted_total: gauges.evicted_total,
            new_flows_total: gauges.new_flows_total,
            misrouted_total: gauges.misrouted_total,
            moved_total: gauges.moved_total,
            reset_total: gauges.reset_total,
            silent_total: gauges.silent_total,
            kicked_total: gauges.kicked_total,
            packets_total: gauges.packets_total,
            bytes_total: gauges.bytes_total,
            violations: gauges.violations.clone(),
            is_gone: false,
        }
    }
}

/// What is drained: a host, or a host for one service or some clients alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pub host: String,
    pub service: Option<String>,
    /// Of a prefix.
    pub clients: Option<IpNet>,
}

impl Target {
    pub fn host(name: &str) -> Self {
        Target::of(name, None)
    }

    pub fn of(host: &str, service: Option<&str>) -> Self {
        Target { host: host.to_owned(), service: service.map(str::to_owned), clients: None }
    }

    /// The same for some clients alone.
    pub fn with_clients(self, clients: Option<IpNet>) -> Self {
        Target { clients, ..self }
    }

    /// The host for all its services and clients.
    pub fn is_whole(&self) -> bool {
        self.service.is_none() && self.clients.is_none()
    }

    /// Whether some flows of the host are of both.
    pub fn overlaps(&self, other: &Target) -> bool {
        let is_one = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        let meet = |(a, b): (&IpNet, &IpNet)| a.contains(b) || b.contains(a);
        self.host == other.host
            && is_one(&self.service, &other.service)
            && self.clients.as_ref().zip(other.clients.as_ref()).is_none_or(meet)
    }

    /// (service, host), if it is for one service and all clients.
    pub fn pair(&self) -> Option<(String, String)> {
        if self.clients.is_some() {
            return None;
        }
        Some((self.service.clone()?, self.host.clone()))
    }
}

impl DrainStatus {
    pub fn target(&self) -> Target {
        Target::of(&self.host, self.service.as_deref()).with_clients(self.clients)
    }
}

impl Receipt {
    pub fn target(&self) -> Target {
        Target::of(&self.host, self.service.as_deref()).with_clients(self.clients)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.host)?;
        match (&self.service, &self.clients) {
            (Some(service), None) => write!(f, " for {service}"),
            (None, Some(clients)) => write!(f, " for clients {clients}"),
            (Some(service), Some(clients)) => write!(f, " for {service}, clients {clients}"),
            (None, None) => Ok(()),
        }
    }
}

/// An operator's wish to take a host out of service, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Never used twice.
    pub id: u64,
    pub host: String,
    /// `None`: all of them.
    pub service: Option<String>,
    /// `None`: all of them.
    pub clients: Option<IpNet>,
    /// Unix seconds.
    pub started_at: u64,
    pub by: String,
    pub reason: Option<String>,
    /// How it is bounded; may be amended.
    pub order: Order,
    /// `None` until the rings without the host are published.
    pub start: Option<Start>,
}

impl Drain {
    pub fn target(&self) -> Target {
        Target::of(&self.host, self.service.as_deref()).with_clients(self.clients)
    }
}

/// A drain that has come to its end, one way or the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub drain: Drain,
    pub receipt: Receipt,
}

/// A drain under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Draining {
    pub drain: Drain,
    /// `None` until the rings without the host are published.
    pub tally: Option<Tally>,
    /// The data path was told to give no stateless answer that names the host.
    pub sealed: bool,
    /// Live flows when the drain was asked for.
    pub flows_when_asked: u64,
    /// The last sweep and its Unix time; `None` before the first one.
    pub seen: Option<(Observation, u64)>,
}

/// Where one host stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// In use; `last` is the drain that ended last, if one is known.
    Active { last: Option<Box<Finished>> },
    /// No new flow goes there; the live ones go on.
    Draining(Box<Draining>),
    /// No flow is left, and none will come.
    Drained(Box<Finished>),
}

impl State {
    /// The host gets no new flow at all, of the services that are meant, by the drain in force.
    pub fn is_out(&self) -> bool {
        self.order().is_some_and(|order| order.share.is_none())
    }

    /// The host has given up a part of its slots; the drain in force says which.
    pub fn part(&self) -> Option<Order> {
        self.order().filter(|order| order.share.is_some())
    }
}
