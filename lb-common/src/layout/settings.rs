//! What is fixed for one load of the program: read-only globals, which the verifier treats as constants.

use super::layout;
use crate::flow::{TIMEOUT_SETS, Timeouts};

/// `Settings::features`: time comes from the map `TEST_CLOCK`, not from the kernel's clock. For tests only.
pub const FEATURE_TEST_CLOCK: u32 = 1;

/// Read-only settings of one load of the data path.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// [`crate::hash::Key`], two words that only balancers of the same inputs share.
    pub key: [u64; 2],
    /// Slots of every ring.
    pub ring_size: u32,
    /// Buckets of the flow table less one; a power of two less one.
    pub bucket_mask: u32,
    /// For how long a pin may be idle.
    pub timeouts: Timeouts,
    /// [`crate::table::keeps`]
    pub keeps: Timeouts,
    /// Seconds of silence after which a UDP flow may change its host, by timeout set: see [`super::Policy::GAP`].
    pub udp_gap: [u32; TIMEOUT_SETS],
    /// [`super::LAYOUT_VERSION`]
    pub layout_version: u32,
    /// `FEATURE_…` bits.
    pub features: u32,
    /// Pins that a CPU may make in a second for TCP flows of settled slots; 0: any number.
    pub flood_gate: u32,
    pub pad: u32,
}
layout!(Settings, 312, 8);
