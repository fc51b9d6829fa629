//! A way out, as the data path sees it.

use super::layout;

/// Ways out at most; a power of two.
pub const EGRESSES: usize = 256;

/// What packets that leave by one way have in common, beside the interface and the MAC addresses, which are in the backend's
/// record: its outer source and its VLAN tags. Never rewritten while a record names it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Egress {
    /// Source of outer headers, as it lies in a packet; IPv4 in the first four bytes.
    pub source: [u64; 2],
    /// Bits of the source that come from the flow's hash instead, so that backends' receive queues share the load.
    pub spread: [u64; 2],
    /// VLAN tags of the frame, the outer one first, as they lie in it: TPID and TCI (IEEE 802.1Q). 0: none.
    pub tags: [u32; 2],
    pub pad: [u32; 2],
}
layout!(Egress, 48, 8);
