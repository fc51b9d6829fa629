//! Passive checks: how the flows of clients fare, told by what clients send. Under direct server return nothing else is seen.
//!
//! A flow whose client has acknowledged was answered by its host; one that stays half-open was not. That by itself says little: a flood of
//! SYNs, or clients with bad lines, leave such flows everywhere. So a host is held against the others of its service, in the same moments:
//! it must fare far worse than the better half of them (`looks`). Whether somebody takes pains to make it look bad is [`believe`]'s to find
//! out, and what follows [`State`]'s. All of it is a function of samples of the counters, and of the time.

mod looks;
mod state;
#[cfg(test)]
mod tests;
mod votes;

use serde::{Deserialize, Serialize};

pub use looks::{Look, Looks, Samples, Verdict};
pub use state::{Event, Moment, State, Suspicion};
pub use votes::{Asked, Fared, Network, Peers, Second, Walk, believe, network, whole_seconds};

/// What passive checks are known by, beside [`crate::model::Check`]s.
pub const NAME: &str = "passive";

/// Milliseconds between two samples.
pub const PACE: u64 = 250;
/// Milliseconds in which an answer is waited for: of a flow that began later nothing is known yet.
pub const PATIENCE: u64 = 500;

/// What was counted of a host for a service so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// TCP flows that began, and those that were answered.
    pub begun: u64,
    pub answered: u64,
    /// SYNs that came again.
    pub again: u64,
    /// Flows that clients have ended by a RST.
    pub resets: u64,
    /// ICMP errors that say that packets do not get to the host.
    pub unreachables: u64,
}

/// What clients tell.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    /// Flows that nobody answered.
    Handshakes,
    /// Flows that clients have ended by a RST.
    Resets,
    /// ICMP errors about packets to the host.
    Unreachables,
}

impl Sign {
    pub const ALL: [Sign; 3] = [Sign::Handshakes, Sign::Resets, Sign::Unreachables];
}
