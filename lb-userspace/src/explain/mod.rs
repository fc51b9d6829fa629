//! Why a packet goes where it goes: the packet that is asked about, and a dry run's record turned into what people and programs read. Pure,
//! but for the reading of capture files.

pub mod capture;
mod frame;
mod reasons;
mod tell;
#[cfg(test)]
mod tests;
pub mod words;

pub use frame::{frame_of, hex};
pub use reasons::why;
pub use tell::{Names, tell, tell_without_frame};

/// Packets that are asked about at once, at most.
pub const MOST_PACKETS: usize = 256;
