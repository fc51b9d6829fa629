//! What is fixed for one load of the program: read-only globals, which the verifier treats as constants.

use super::layout;
use crate::flow::{TIMEOUT_SETS, Timeouts};

/// `Settings::features`: time comes from the map `TEST_CLOCK`, not from the kernel's clock. For tests only.
pub const FEATURE_TEST_CLOCK: u32 = 1;
/// `Settings::features`: some service has a range of ports.
pub const FEATURE_RANGES: u32 = 2;
/// `Settings::features`: some service forwards by `gue`.
pub const FEATURE_GUE: u32 = 4;
/// `Settings::features`: some service forwards by `nat`.
pub const FEATURE_NAT: u32 = 8;
/// `Settings::features`: frames may leave with VLAN tags. Those that come in with some need no feature.
pub const FEATURE_TAGS: u32 = 16;
/// `Settings::features`: echo requests to VIPs are answered here.
pub const FEATURE_PING: u32 = 32;

/// `Settings::features`: a dry run, which decides about packets and writes nothing that another load of the program shares: for who
/// asks why a packet goes where it goes.
pub const FEATURE_DRY: u32 = 64;
/// `Settings::features`: decisions are shown to who traces, as they are made.
pub const FEATURE_TRACE: u32 = 128;

/// Lengths of prefixes that VIPs may have at once.
pub const PREFIXES: usize = 8;

/// A length of prefixes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefix {
    /// [`super::prefix_mask`]; all 0: none, and none after it.
    pub mask: [u64; 2],
    /// [`super::prefix_mark`]
    pub mark: [u64; 2],
}
layout!(Prefix, 32, 8);

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
    /// ICMP packets of one kind that a CPU may answer with in a second.
    pub icmp_rate: u32,
    /// Maximum segment size that SYNs over IPv4 may announce, over IPv6 20 less; 0: any.
    pub mss: u32,
    pub pad: u32,
    /// Of VIPs, the longest first.
    pub prefixes: [Prefix; PREFIXES],
}
layout!(Settings, 576, 8);
