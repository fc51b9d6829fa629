//! How large the maps are.

use lb_common::layout::{BackendStats, Cold, Directory, SLOTS_A_BLOCK};
use lb_common::table::BUCKET;

/// Entries of the maps; fixed when the maps are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub ring_size: u32,
    /// Copies of rings that the array has room for, old and new ones.
    pub ring_copies: u32,
    /// Backends that have counters, and behind them [`Self::TALLIES`].
    pub stats: u32,
    pub buckets: u32,
    pub overflow: u32,
}

impl Sizes {
    /// Services at most.
    pub const SERVICES: u32 = lb_common::layout::SERVICES as u32;
    /// Distinct rings at most.
    pub const RINGS: u32 = 64;
    /// Prefixes of clients that services treat apart, at most: see `CLIENTS` of the data path.
    pub const CLIENTS: u32 = 4096;
    /// Drains for some clients alone that may be under way at once: each has counters of its own.
    pub const TALLIES: u32 = 64;
    /// Backends at most. There are twice as many records: a changed backend gets a new one before the old one goes.
    pub const BACKENDS: u32 = lb_common::layout::BACKENDS as u32 / 2;

    /// For rings of `ring_size` slots and a flow table for `pins` pins.
    pub fn new(ring_size: u32, pins: u32) -> Self {
        // Half full at `pins`, so that under 0.1 % of them overflow their two buckets.
        let buckets = (pins.div_ceil(BUCKET) * 2).next_power_of_two().max(16);
        Sizes {
            ring_size,
            // All may change at once; and a daemon that was killed in the middle of that left two copies of each in use.
            ring_copies: Self::RINGS * 3,
            // Numbers begin at 1. Behind those of backends are the tallies.
            stats: Self::BACKENDS + 1 + Self::TALLIES,
            buckets,
            overflow: (pins / 25).max(1024),
        }
    }

    /// Rings that there is room for.
    pub fn rings(&self) -> usize {
        self.ring_copies as usize / 3
    }

    /// Number of the counters of the first drain for some clients.
    pub fn first_tally(&self) -> u32 {
        self.stats - Self::TALLIES
    }

    /// Blocks that one copy of a ring takes.
    pub fn blocks_a_ring(&self) -> u32 {
        self.ring_size.div_ceil(SLOTS_A_BLOCK as u32)
    }

    /// Words of the hot array.
    pub fn words(&self) -> u32 {
        self.buckets * BUCKET
    }

    /// Bytes of the flow table: hot array, cold array, marks, and the overflow map when it is full.
    pub fn flow_table_bytes(&self) -> u64 {
        let words = u64::from(self.words());
        // An element of a BPF hash map has some 48 bytes beside key and value, and its bucket 16.
        words * 8
            + words * size_of::<Cold>() as u64
            + u64::from(self.buckets) * 4
            + u64::from(self.overflow) * (40 + 64 + 64)
    }

    /// Bytes of all other maps on a machine with `cpus` CPUs.
    pub fn other_bytes(&self, cpus: u64) -> u64 {
        u64::from(self.ring_copies) * u64::from(self.blocks_a_ring()) * 64
            + size_of::<Directory>() as u64
            + u64::from(self.stats) * size_of::<BackendStats>() as u64 * (cpus + 1)
    }

    /// `max_entries` of each map, by name.
    pub fn entries(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("RINGS", self.ring_copies * self.blocks_a_ring()),
            ("HOT", self.buckets),
            ("COLD", self.words()),
            ("MARKS", self.buckets / 16),
            ("OVERFLOW", self.overflow),
            ("BACKEND_STATS", self.stats),
            ("USER_STATS", self.stats),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_pins_span_16_mib_half_full() {
        let sizes = Sizes::new(65_537, 1_000_000);
        assert_eq!(sizes.words() * 8, 16 << 20);
        assert_eq!(sizes.overflow, 40_000);
    }
}
