//! Rings as the data path sees them: an array of slots, and a head that says where the valid copy is.

use super::{HOST_NONE, HostId};

/// Slots in one block of the array of rings (64 bytes: one cache line).
pub const SLOTS_A_BLOCK: usize = 16;

/// One entry of a ring in 32 bits: owner in 0–14, previous owner in 15–29, "handover open" in 30.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub u32);

impl Slot {
    const HOST: u32 = 0x7fff;
    const OPEN: u32 = 1 << 30;

    pub const fn settled(owner: HostId) -> Self {
        Slot(owner as u32 & Self::HOST)
    }

    /// A slot whose handover is open. `previous` is the oldest previous owner and may equal the owner.
    pub const fn open(owner: HostId, previous: HostId) -> Self {
        Slot(owner as u32 & Self::HOST | (previous as u32 & Self::HOST) << 15 | Self::OPEN)
    }

    /// The host that gets new flows; [`HOST_NONE`] if no member is in use.
    #[inline(always)]
    pub const fn owner(self) -> HostId {
        (self.0 & Self::HOST) as HostId
    }

    /// The host before the change that opened the handover; [`HOST_NONE`] in a settled slot.
    #[inline(always)]
    pub const fn previous(self) -> HostId {
        if self.is_open() { (self.0 >> 15 & Self::HOST) as HostId } else { HOST_NONE }
    }

    #[inline(always)]
    pub const fn is_open(self) -> bool {
        self.0 & Self::OPEN != 0
    }
}

/// Where the valid copy of a ring lies; flipped in one store, so that a packet sees one generation (C5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingHead {
    /// First block of the copy.
    pub block: u32,
    /// Low 32 bits of the generation that wrote the copy.
    pub generation: u32,
}

impl RingHead {
    pub const fn pack(self) -> u64 {
        (self.block as u64) << 32 | self.generation as u64
    }

    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        RingHead { block: (word >> 32) as u32, generation: word as u32 }
    }
}
