//! A plain model of the handover rules, run over random histories: the reference that the product is held against.
//!
//! It is made of a [`Control`], which does what the daemon does by the very code of this module's parent, a [`Datapath`], which does
//! what the XDP program does, and a [`history()`] that throws drains, false alarms, ramps, evictions, losses and reboots at both and knows
//! which host each flow is really on. [`Plain`] is a data path in a few lines; another one may drive the real program.
//!
//! Checked, for TCP flows that speak at least once in the idle timeout: see [`Law`]. With one of the rules left out
//! ([`Broken`]) the histories must find the flow that it costs.

mod control;
mod datapath;
mod history;
pub(crate) mod rng;

pub use control::Control;
pub use datapath::{Datapath, Found, HostState, Packet, Pin, Plain};
pub use history::{HOSTS, Law, Report, SLOTS, Violation, history};

/// The idle timeout of a flow, in seconds of the model.
pub const T: u64 = 30;

/// What a service tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// Each packet looks its pin up and refreshes it.
    Full,
    /// In a settled slot only a SYN touches the pins.
    Edges,
}

/// A rule of the handover that is left out, to see that the check notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A further change of a slot makes its latest owner the previous one, instead of keeping the oldest.
    Newest,
    /// A handover closes without waiting for the idle timeout.
    NoT,
    /// A live pin of a slot in handover may be evicted.
    EvictAny,
    /// A loss of state does not keep handovers open for longer.
    NoLoss,
    /// A drain is done as soon as the host has no pin, whether or not its pins are complete.
    Short,
    /// A packet that goes to another host because its own is down is pinned to the other one.
    PinDown,
    /// Closed handovers are not noted in the lineage before a reboot.
    Unobserved,
    /// The data path is told owners only.
    NoPrevious,
}

impl Broken {
    pub const ALL: [Broken; 8] = [
        Broken::Newest,
        Broken::NoT,
        Broken::EvictAny,
        Broken::NoLoss,
        Broken::Short,
        Broken::PinDown,
        Broken::Unobserved,
        Broken::NoPrevious,
    ];
}
