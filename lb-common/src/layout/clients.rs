//! Clients that a service treats apart: those of a prefix go by a ring of their own, to backends of their own.

use super::layout;

/// Whom a ring of clients is for: key of a trie, in which the longest prefix counts.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientKey {
    /// Number of the service, which counts as a whole.
    pub service: u32,
    /// Address as in [`super::Tuple`], in halves of its words: an element of a trie has no gaps.
    pub address: [u32; 4],
}
layout!(ClientKey, 20, 4);

impl ClientKey {
    /// Bits of the service's number, which come before those of the address.
    pub const SERVICE: u32 = 32;

    #[inline(always)]
    pub const fn new(service: u16, address: [u64; 2]) -> Self {
        let [upper, lower] = address;
        #[cfg(target_endian = "little")]
        let address = [upper as u32, (upper >> 32) as u32, lower as u32, (lower >> 32) as u32];
        #[cfg(target_endian = "big")]
        let address = [(upper >> 32) as u32, upper as u32, (lower >> 32) as u32, lower as u32];
        ClientKey { service: service as u32, address }
    }
}

/// What packets of such clients go by. The kernel replaces an element of a trie as a whole, so a packet sees one generation (C5).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientRing {
    /// [`super::Window`]: where the backends are.
    pub window: u64,
    /// First block of the valid copy of the ring.
    pub block: u32,
    pub pad: u32,
}
layout!(ClientRing, 16, 8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Tuple;

    #[test]
    fn the_address_lies_in_the_key_as_on_the_wire() {
        let octets: [u8; 16] = core::array::from_fn(|i| i as u8 + 1);
        let key = ClientKey::new(7, Tuple::words(octets));
        let bytes: [[u8; 4]; 4] = key.address.map(u32::to_ne_bytes);
        assert_eq!(bytes.concat(), octets);
        let v4 = ClientKey::new(7, Tuple::v4(u32::from_ne_bytes([10, 1, 2, 3])));
        assert_eq!(v4.address[3].to_ne_bytes(), [10, 1, 2, 3]);
        assert_eq!(v4.address[2].to_ne_bytes(), [0, 0, 0xff, 0xff]);
    }
}
