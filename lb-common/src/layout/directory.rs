//! Where packets find their service and its backends.

use super::{Backend, EGRESSES, Egress, Service, layout};

/// Places for records of services; a power of two. Three times the services there may be, so that searches are short.
pub const PLACES: usize = 1 << 15;
/// Services at most: their numbers are below.
pub const SERVICES: usize = 10_240;
/// Records of backends at most; a power of two.
pub const BACKENDS: usize = 1 << 15;
/// Pairs of (service, host) at most, in all windows; a power of two.
pub const PAIRS: usize = 1 << 17;

/// One element of one map: it is found once a packet, and then everything in it is a sum away, where an array of its own
/// each would cost a look-up. 3.7 MiB, as older kernels take elements of 4 MiB at most; only what is used is ever
/// in a cache.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Directory {
    /// Records of services, each at the first free place from where its search begins: see [`crate::services`].
    pub services: [Service; PLACES],
    /// Number of the service, by place.
    pub numbers: [u16; PLACES],
    /// [`super::PortRange`] of the record, by place, where it is of a range.
    pub ranges: [u32; PLACES],
    /// Place of a record of the service, by number.
    pub places: [u16; SERVICES],
    /// (service, host) → number of the backend's record; 0: none.
    pub pairs: [u32; PAIRS],
    /// Records of backends. Number 0 is never used.
    pub backends: [Backend; BACKENDS],
    /// Ways out.
    pub egresses: [Egress; EGRESSES],
}
layout!(Directory, 3_899_392, 8);
