//! A service as the data path sees it.

use super::{HostId, layout};

/// Key of the map that finds a service: one look-up for IPv4 and IPv6.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// Address as in [`super::Tuple`].
    pub address: [u64; 2],
    /// Port as it lies in the packet, network byte order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u16,
    pub pad: u32,
}
layout!(ServiceKey, 24, 8);

/// Record of a service, by its number. Each field is written on its own, atomically.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Service {
    /// [`Window`]: where the backends of this service are.
    pub window: u64,
    /// Number of the ring.
    pub ring: u32,
    pub pad: u32,
}
layout!(Service, 16, 8);

/// Backend numbers in one block of the array of pairs.
pub const PAIRS_A_BLOCK: usize = 16;

/// Where the backends of a service lie in the array of (service, host) pairs: the pair of host `h` has the index
/// `base + (h - first)` if `h - first < count`. One word, so that all of it changes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub base: u32,
    pub first: HostId,
    pub count: u16,
}

impl Window {
    pub const fn pack(self) -> u64 {
        (self.base as u64) << 32 | (self.first as u64) << 16 | self.count as u64
    }

    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Window { base: (word >> 32) as u32, first: (word >> 16) as u16, count: word as u16 }
    }

    /// Index of the pair of `host`, if the window covers it.
    #[inline(always)]
    pub const fn pair(self, host: HostId) -> Option<u32> {
        let offset = host.wrapping_sub(self.first);
        if offset < self.count { Some(self.base + offset as u32) } else { None }
    }
}
