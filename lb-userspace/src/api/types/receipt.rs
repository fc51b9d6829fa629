//! Receipts: what became of the flows of a drain that is over.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Order;

/// How a drain ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All flows ended by themselves.
    #[default]
    Drained,
    /// No flow is left; the deadline moved at least one to another host.
    Moved,
    /// No flow is left; at least one was reset.
    Reset,
    /// Somebody took the host back before.
    Undrained,
    /// The host was taken back before because its lease ran out.
    LeaseOver,
}

impl Outcome {
    /// The host was taken back while flows may have been left.
    pub fn is_taken_back(self) -> bool {
        matches!(self, Outcome::Undrained | Outcome::LeaseOver)
    }

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Drained => "drained",
            Outcome::Moved => "moved",
            Outcome::Reset => "reset",
            Outcome::Undrained => "undrained",
            Outcome::LeaseOver => "lease_over",
        }
    }
}

/// The record of a finished drain. What came of its flows adds up:
///
/// ```text
/// flows_at_start + appeared = ended + moved + reset + silent + kicked + evicted + left
/// ```
///
/// Where the host gave up a part of its slots (`order.share`), the flows are those in these slots; new flows are not counted, as the host
/// goes on to get some, and a flow that was evicted or kicked counts as ended.
///
/// Receipts that an earlier version wrote have `appeared` 0 and need not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// Number of the drain.
    pub drain: u64,
    /// The host that was drained.
    pub host: String,
    /// The only service that was drained; null: all.
    #[serde(default)]
    pub service: Option<String>,
    /// The only clients that are meant, as a prefix; null: all.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub clients: Option<IpNet>,
    /// How the flows came to their end.
    pub outcome: Outcome,
    /// Who asked for it.
    pub by: String,
    /// Why, as who asked has put it; null: nothing was said.
    pub reason: Option<String>,
    /// Unix seconds.
    pub started_at: u64,
    /// Unix seconds.
    pub ended_at: u64,
    /// Of the publication from which on no new flow reached the host; 0: there was none before the drain was taken back.
    #[serde(default)]
    pub generation: u64,
    /// As it was at the end.
    #[serde(default)]
    pub order: Order,
    /// Live flows when it began.
    pub flows_at_start: u64,
    /// Flows that had no pin at the start and got one with their next packet, as flows do whose pin was evicted or lost.
    #[serde(default)]
    pub appeared: u64,
    /// Flows that came to their end on the host by themselves.
    pub ended: u64,
    /// Flows that went on to another host at the deadline.
    #[serde(default)]
    pub moved: u64,
    /// Flows whose client was answered with a RST.
    #[serde(default)]
    pub reset: u64,
    /// Flows that said nothing after the deadline, so that the daemon ended them.
    #[serde(default)]
    pub silent: u64,
    /// Flows that an operator ended early.
    #[serde(default)]
    pub kicked: u64,
    /// Resets of which the backend could not be told.
    #[serde(default)]
    pub unconfirmed: u64,
    /// Flows left when the drain was taken back.
    pub left: u64,
    /// Live flows that lost their pin because the table was full.
    pub evicted: u64,
    /// New flows that reached the host after the drain began; must be 0.
    pub new_flows: u64,
    /// Packets sent to another backend than their flow's; must be 0.
    pub misrouted: u64,
    /// The must-be-zero counters of the instance that moved during the drain, and by how much: empty on a sound receipt.
    #[serde(default)]
    pub violations: BTreeMap<String, u64>,
    /// Packets and bytes that went to the host during the drain.
    #[serde(default)]
    pub packets: u64,
    /// Bytes of IP packets to the host during the drain.
    #[serde(default)]
    pub bytes: u64,
    /// Packets a second, on average.
    #[serde(default)]
    pub packets_per_second: f64,
    /// Bytes a second, on average.
    #[serde(default)]
    pub bytes_per_second: f64,
    /// Of connections and datagram flows that ended by themselves during the drain, from their first packet to their last; null if there were
    /// none, or the daemon was not there all the time.
    #[serde(default)]
    pub durations: Option<Percentiles>,
}

impl Receipt {
    /// Flows that did not end by themselves: moved, reset, silent, or kicked.
    pub fn not_by_themselves(&self) -> u64 {
        self.moved + self.reset + self.silent + self.kicked
    }
}

/// Half of the values, and 99 of 100, are not longer. Seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// Of half of them.
    pub p50: u64,
    /// Of 99 of 100.
    pub p99: u64,
}

/// `GET /v1/receipts?…`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptQuery {
    pub host: Option<String>,
    /// At most this many, the newest first; 100 if it is not given, 1000 at most.
    pub limit: Option<u32>,
}

/// Answer to `GET /v1/receipts`: the newest first. `GET /v1/receipts/ID` answers with one [`Receipt`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Receipts {
    /// The newest first.
    pub receipts: Vec<Receipt>,
}
