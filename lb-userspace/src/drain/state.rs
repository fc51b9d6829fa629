//! What the machine remembers of a host, and what it is told.

use crate::api::types::{LiveFlows, Receipt};

use super::account::Tally;

/// What the counters say of one host at one moment.
///
/// The totals only grow; they begin again at 0 when the counters are lost (reboot).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Live pins that name the host: the exact gauge, not an estimate.
    pub live: LiveFlows,
    /// Live pins of the host that were dropped for want of space.
    pub evicted_total: u64,
    /// New flows that the host was given.
    pub new_flows_total: u64,
    /// Packets of the host's flows that went to another backend.
    pub misrouted_total: u64,
}

/// What one full sweep of the flow table found for one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Read at the end of the sweep.
    pub gauges: Gauges,
    /// Live pins that name the host, counted by the sweep itself.
    pub counted: u64,
    /// Seconds of a clock that nobody sets (`CLOCK_BOOTTIME`) at the end of the sweep. A wall clock that is put
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

    /// No live pin names the host, and no live flow can be without a pin.
    pub fn done(&self) -> bool {
        self.gauges.live.total == 0
            && self.counted == 0
            && (self.complete_for() > self.idle_timeout || self.slots_open_long_enough)
    }
}

/// The counters at the moment from which no new flow could reach the host: the zero line of a receipt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// Live flows.
    pub flows: u64,
    pub evicted_total: u64,
    pub new_flows_total: u64,
    pub misrouted_total: u64,
}

impl From<&Gauges> for Start {
    fn from(gauges: &Gauges) -> Self {
        Start {
            flows: gauges.live.total,
            evicted_total: gauges.evicted_total,
            new_flows_total: gauges.new_flows_total,
            misrouted_total: gauges.misrouted_total,
        }
    }
}

/// An operator's wish to take a host out of service, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Never used twice.
    pub id: u64,
    pub host: String,
    /// Unix seconds.
    pub started_at: u64,
    pub by: String,
    pub reason: Option<String>,
    /// `None` until the rings without the host are published.
    pub start: Option<Start>,
}

/// A drain that has come to its end, one way or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub drain: Drain,
    pub receipt: Receipt,
}

/// A drain under way.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// In use; `last` is the drain that ended last, if one is known.
    Active { last: Option<Box<Finished>> },
    /// No new flow goes there; the live ones go on.
    Draining(Box<Draining>),
    /// No flow is left, and none will come.
    Drained(Box<Finished>),
}
