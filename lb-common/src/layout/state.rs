//! Indices of the words that data path and daemon share.

/// Whether half-open pins exceed their quota of the table (0 or 1); written by the sweep.
pub const HALF_OPEN_OVER_QUOTA: u32 = 0;
/// Second of the last loss of state: a start without the old table, or a flow that only a pin could have kept at its
/// host found no place.
pub const LOST_AT: u32 = 1;
/// [`super::LAYOUT_VERSION`] of the maps.
pub const LAYOUT: u32 = 2;
/// Checksum of what the pins rest on: hash key and size of the rings. Pins of another key cannot be found.
pub const IDENTITY: u32 = 3;
/// Number of words.
pub const WORDS: u32 = 4;
