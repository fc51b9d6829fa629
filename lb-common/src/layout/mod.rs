//! The types that the kernel's maps hold: `repr(C)`, integers and byte arrays only, padding named, size asserted.
//!
//! Whoever changes the size, the order or the meaning of any of them raises [`LAYOUT_VERSION`].

mod backend;
mod clients;
mod cold;
mod decision;
mod directory;
mod egress;
mod own;
mod ring;
mod service;
mod settings;
pub mod state;
mod stats;
mod trace;
mod vip;

pub use backend::{
    AtDeadline, Backend, BackendFlags, Control, Deadline, HostState, MODE_GUE, MODE_IPIP, MODE_L2, MODE_NAT,
};
pub use clients::{ClientKey, ClientRing};
pub use cold::{Cold, Overflow, Tuple};
pub use decision::{DecisionRecord, Side, Way};
pub use directory::{BACKENDS, Directory, PAIRS, PLACES, SERVICES};
pub use egress::{EGRESSES, Egress};
pub use own::Own;
pub use ring::{SLOTS_A_BLOCK, Slot};
pub use service::{Policy, PortRange, Service, ServiceKey, Window, prefix_mark, prefix_mask};
pub use settings::{
    FEATURE_DRY, FEATURE_GUE, FEATURE_NAT, FEATURE_PING, FEATURE_RANGES, FEATURE_TAGS, FEATURE_TEST_CLOCK,
    FEATURE_TRACE, PREFIXES, Prefix, Settings,
};
pub use stats::{BackendStats, PHASES_COUNTED};
pub use trace::{TRACE_BYTES, TRACE_LEAST, TRACERS, TraceCounts, TraceFilter, TraceRecord};
pub use vip::VipFlags;

/// Compared when a daemon finds maps of another one: what differs is migrated or refused.
pub const LAYOUT_VERSION: u32 = 7 + NEXT as u32;

/// 1 in the other version that tests of upgrades and downgrades need.
const NEXT: usize = cfg!(feature = "layout-next") as usize;

/// Number of a host, 1 to [`HOST_MAX`], stable for as long as a pin may name it.
pub type HostId = u16;
/// The greatest host number: a flow word has 12 bits for it.
pub const HOST_MAX: HostId = 4094;
/// "No host": a slot without an owner.
pub const HOST_NONE: HostId = 0x7fff;

/// Proves at compile time that a layout has no hidden padding and the size that its readers expect.
macro_rules! layout {
    ($type:ty, $size:expr, $align:expr) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        const _: () = assert!(core::mem::align_of::<$type>() == $align);
        // SAFETY: `repr(C)`, integers and byte arrays only, no padding (the size is the sum of the fields).
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use layout;
