//! Health: which hosts of a service are well, found out by asking them, and who is used therefore.
//!
//! What decides is pure: when a check runs ([`schedule`]), what its results come to ([`Track`]), and who of a service's hosts is in use
//! ([`mod@choose`]), each a function of what was before, of what happened, and of the time. Around it are the probes themselves (`probe`), and
//! the [`Checkers`], one thread that runs them and keeps the [`Board`] on which everybody reads what they found.
//!
//! `down` is not `drained`: a drain is an operator's will, and outranks what checks say.

mod board;
pub mod choose;
mod ear;
pub mod passive;
mod probe;
mod said;
pub mod schedule;
mod task;
#[cfg(test)]
mod tests;
mod track;

pub use board::{Board, Changed, CheckId, Entry, Figures, Runs, Seen, Way, sum};
pub use choose::{Choice, choose, is_cut_off};
pub use probe::{Result, Run, Target};
pub use said::{Good, Said};
pub use task::Checkers;
pub use track::{Flip, Kept, Oper, Outcome, Track};
