//! Rings as the data path sees them: an array of slots. A service's record says where the valid copy of its ring is.

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

    /// Whether a handover is open: the slot is not settled.
    #[inline(always)]
    pub const fn is_open(self) -> bool {
        self.0 & Self::OPEN != 0
    }
}
