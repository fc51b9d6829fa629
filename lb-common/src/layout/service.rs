//! A service as the data path sees it.

use super::{HostId, layout};

/// What a service is known by: where its clients send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Address as in [`super::Tuple`].
    pub address: [u64; 2],
    /// Port as it lies in the packet, network byte order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl ServiceKey {
    /// Port and protocol as one word of 24 bits; never 0, as no protocol that has ports is.
    pub const fn transport(&self) -> u32 {
        self.port as u32 | (self.protocol as u32) << 16
    }
}

/// Record of a service. Each field is written on its own, atomically; the address only while no packet may read it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Service {
    /// Of the [`ServiceKey`].
    pub address: [u64; 2],
    /// [`ServiceKey::transport`] in bits 0–23, which makes the record valid, and [`Policy`] in bits 24–31; else
    /// [`Service::FREE`] or [`Service::GONE`].
    pub transport: u32,
    /// First block of the valid copy of the service's ring, in the array of rings. One store flips it, so a packet, which
    /// reads it once, sees one generation (C5).
    pub block: u32,
    /// [`Window`]: where the backends of this service are.
    pub window: u64,
}
layout!(Service, 32, 8);

impl Service {
    /// No record, and none further on that belongs here: the end of a search.
    pub const FREE: u32 = 0;
    /// No record any more; a search goes on.
    pub const GONE: u32 = u32::MAX;
    /// The part of `transport` that is compared.
    pub const TRANSPORT: u32 = 0x00ff_ffff;

    pub const fn policy(&self) -> Policy {
        Policy((self.transport >> 24) as u8)
    }
}

/// How flows of a service are treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy(pub u8);

impl Policy {
    /// In a settled slot only a SYN touches the flow table (TCP).
    pub const EDGES: u8 = 1;
    /// The slot comes from the client's address and the service, so that all flows of a client to the service go to one host.
    pub const CLIENT: u8 = 2;
    /// UDP in a slot in handover: a flow goes to the owner when it has been silent for a gap.
    pub const GAP: u8 = 4;
    /// UDP in a slot in handover: a flow goes to the owner at once.
    pub const IMMEDIATE: u8 = 8;
    /// Bits 4–5: the timeout set of the service's pins, see [`crate::flow::Timeouts`].
    const SET_SHIFT: u8 = 4;

    /// The same policy with a timeout set.
    pub const fn with_set(self, set: u8) -> Policy {
        Policy(self.0 & !(3 << Self::SET_SHIFT) | (set & 3) << Self::SET_SHIFT)
    }

    /// The timeout set of the service's pins.
    #[inline(always)]
    pub const fn set(self) -> u8 {
        self.0 >> Self::SET_SHIFT & 3
    }

    #[inline(always)]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

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

    /// Index of the pair of `host`, if the window covers it. Readers mask it: a stray word may give any number.
    #[inline(always)]
    pub const fn pair(self, host: HostId) -> Option<u32> {
        let offset = host.wrapping_sub(self.first);
        if offset < self.count { Some(self.base.wrapping_add(offset as u32)) } else { None }
    }
}
