//! Who gets a new flow: consistent-hash rings over hosts, and the handover of slots from one host to another.
//!
//! Everything here is a function of its arguments: no clock, no randomness, no I/O, and integer arithmetic only, so that two
//! balancers with the same inputs agree to the last slot, whatever machine or build they run on.
//!
//! - [`maglev`]: the base, which names the first choice of each slot out of all members, in use or not.
//! - [`owners`]: the base without the hosts that are out: who owns each slot now.
//! - [`slots`]: owners over time: each changed slot remembers its previous owner until its handover closes.
//! - [`lineage`]: the inputs behind the open handovers, from which the slots are made again after a reboot.

mod fixed_log;
pub mod lineage;
pub mod maglev;
#[doc(hidden)]
pub mod model;
pub mod owners;
mod siphash;
pub mod slot_set;
pub mod slots;

pub use lineage::{Lineage, LineageError};
pub use maglev::Base;
pub use slot_set::SlotSet;
pub use slots::{Moved, Slots};

pub use lb_common::layout::{HOST_NONE, HostId};

/// The share of a host that takes all that its weight entitles it to.
pub const SHARE_FULL: u16 = 256;

/// A host as a ring sees it. Names within one ring are distinct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: HostId,
    pub name: String,
    /// Relative part of the slots, 0 to 65535; 0: none at all.
    pub weight: u16,
    /// How much of that part is in use, in 256ths: 0 is out (drained or down), [`SHARE_FULL`] and more is in full use.
    pub share: u16,
}
