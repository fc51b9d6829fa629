//! The flow hash: one 64-bit keyed hash of the tuple, from which slot, bucket and tag are taken.
//!
//! | bits | use |
//! |---|---|
//! | 0–21 | bucket |
//! | 20–41 | tag |
//! | 32–63 | slot, by multiplication with the ring's size (the upper 20 bits decide all but one in 4096) |
//!
//! The destination is hashed first, because the place of its service comes from that part: packets for nobody here are
//! told apart after one multiplication.
//!
//! Rounds of multiplication from a secret start, not a cryptographic hash: an attacker who sees neither key nor slot
//! cannot aim, and the price is 3 multiplications. Two balancers with the same key agree.

use crate::flow::{TAG_BITS, TAG_SHIFT};
use crate::layout::{PLACES, Tuple};

/// Secret key of hash and rings.
pub type Key = [u64; 2];

const M1: u64 = 0x9e37_79b9_7f4a_7c15;
const M2: u64 = 0xd6e8_feb8_6659_fd93;

#[inline(always)]
const fn fold(state: u64, word: u64, odd: u64) -> u64 {
    let x = (state ^ word).wrapping_mul(odd);
    x ^ (x >> 32)
}

/// Hash of a destination: address, port and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationHash(pub u64);

impl DestinationHash {
    /// Hashes the destination of a flow: its address, and [`Tuple::transport`]. The lower half of an IPv4 address's second
    /// word is constant, so one word holds address, port and protocol; its first word is 0.
    #[inline(always)]
    pub const fn of(address: &[u64; 2], transport: u32, key: Key) -> DestinationHash {
        let mut h = key[0];
        if address[0] != 0 {
            h = fold(h, address[0], M2);
        }
        DestinationHash(fold(h, address[1] ^ transport as u64, M1))
    }

    /// Where the search for the service's record begins.
    #[inline(always)]
    pub const fn place(self) -> u32 {
        (self.0 >> (64 - PLACES.trailing_zeros())) as u32
    }

    /// Hash of a flow to this destination. As for the destination, IPv4 takes one word; of IPv6, whose sources choose many
    /// bits of their address, each word has a round of its own.
    #[inline(always)]
    pub const fn flow(self, tuple: &Tuple, key: Key) -> FlowHash {
        let mut h = self.0 ^ key[1];
        let mut last = tuple.source_port_raw() as u64;
        if tuple.source[0] | tuple.destination[0] != 0 {
            h = fold(h, tuple.source[0], M1);
            h = fold(h, tuple.source[1], M2);
        } else {
            last ^= tuple.source[1];
        }
        h = fold(h, last, M1);
        h = h.wrapping_mul(M2);
        FlowHash(h ^ (h >> 29))
    }
}

/// Hash of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowHash(pub u64);

impl FlowHash {
    #[inline(always)]
    pub const fn of(tuple: &Tuple, key: Key) -> FlowHash {
        DestinationHash::of(&tuple.destination, tuple.transport(), key).flow(tuple, key)
    }

    /// Hash of all flows of a client to a service, for [`Self::slot`] only. Of the service's address alone, as its record has it:
    /// so all its ports and protocols, and other services of that address over the same hosts, find the client's flows on one
    /// host.
    #[inline(always)]
    pub const fn of_client(tuple: &Tuple, service: &[u64; 2], key: Key) -> FlowHash {
        DestinationHash::of(service, 0, key).flow(&Tuple { ports: 0, ..*tuple }, key)
    }

    /// When within [`crate::layout::Deadline::spread`] the flow meets its end. Not of the bits that its slot comes from, as a
    /// host has few slots.
    #[inline(always)]
    pub const fn turn(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Slot in a ring of `size`.
    #[inline(always)]
    pub const fn slot(self, size: u32) -> u32 {
        (((self.0 >> 32) * size as u64) >> 32) as u32
    }

    /// First bucket.
    #[inline(always)]
    pub const fn bucket(self, mask: u32) -> u32 {
        self.0 as u32 & mask
    }

    /// Tag of the flow's word; never 0, so that a free word matches no flow.
    #[inline(always)]
    pub const fn tag(self) -> u32 {
        let tag = (self.0 >> 20) as u32 & ((1 << TAG_BITS) - 1);
        if tag == 0 { 1 } else { tag }
    }
}

const _: () = assert!(TAG_BITS + TAG_SHIFT == 64);

/// The word of a bucket that a flow is looked for first, and gets if it is free: the upper 3 bits of its tag.
#[inline(always)]
pub const fn preferred(tag: u32) -> u32 {
    tag >> (TAG_BITS - 3)
}

/// The other bucket of a flow, from either bucket and the tag alone; never the same one.
#[inline(always)]
pub const fn other_bucket(bucket: u32, tag: u32, mask: u32) -> u32 {
    let spread = tag.wrapping_mul(0x9e37_79b1) >> 7;
    (bucket ^ (spread | 1)) & mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn flow(n: u64) -> Tuple {
        Tuple {
            source: [0, 0xffff_c633_6400 + (n >> 14)],
            destination: [0, 0xffff_cb00_710a],
            ports: (n as u32 & 0x3fff) << 16 | 443,
            protocol: 6,
        }
    }

    #[test]
    fn slots_and_buckets_are_even() {
        let key = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        let (mut slots, mut buckets) = ([0u32; 61], [0u32; 64]);
        for n in 0..64_000 {
            let hash = FlowHash::of(&flow(n), key);
            slots[hash.slot(61) as usize] += 1;
            buckets[hash.bucket(63) as usize] += 1;
        }
        // Chi-square with 60 and 63 degrees of freedom; 120 is far beyond the 99.99 % quantile.
        let chi = |counts: &[u32]| {
            let mean = 64_000.0 / counts.len() as f64;
            counts.iter().map(|&c| (f64::from(c) - mean).powi(2) / mean).sum::<f64>()
        };
        assert!(chi(&slots) < 120.0, "{}", chi(&slots));
        assert!(chi(&buckets) < 120.0, "{}", chi(&buckets));
    }

    #[test]
    fn flows_of_one_bucket_differ_in_tag() {
        let mut seen: HashMap<(u32, u32), u32> = HashMap::new();
        for n in 0..1_000_000 {
            let hash = FlowHash::of(&flow(n), [7, 9]);
            *seen.entry((hash.bucket(0x3_ffff), hash.tag())).or_default() += 1;
        }
        // Expected: n²/2 / (2^18 · 2^23) less the two bits that tag and bucket share: about one pair.
        let collisions: u32 = seen.values().map(|&n| n - 1).sum();
        assert!(collisions <= 8, "{collisions}");
    }

    proptest! {
        #[test]
        fn the_other_bucket_leads_back(bucket: u32, tag in 1u32..1 << TAG_BITS, bits in 1u32..23) {
            let mask = (1 << bits) - 1;
            let bucket = bucket & mask;
            let other = other_bucket(bucket, tag, mask);
            prop_assert_ne!(other, bucket);
            prop_assert_eq!(other_bucket(other, tag, mask), bucket);
        }
    }
}
