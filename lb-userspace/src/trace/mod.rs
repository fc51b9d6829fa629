//! What the data path does with packets, as it does it: who wants to see which, and what they are told of each. Pure.

mod ask;
pub mod pcapng;
mod told;
mod words;

pub use ask::{Asked, Known, Refused, ServiceEnds, in_words};
pub use told::{told, with_frames};
pub use words::decision;

/// Packets a second that are shown unless somebody asks for another number.
pub const RATE: u32 = 100;
/// At most.
pub const MOST_RATE: u32 = 10_000;
/// Seconds that somebody may ask for at most.
pub const LONGEST: u64 = 86_400;
