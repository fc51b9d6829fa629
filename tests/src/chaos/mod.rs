//! Chaos: everything at once, as a seed has it, with a plain model that says what may come of it.
//!
//! `plan` makes a list of actions out of a seed, `stage` does them under load, `model` is told of both and judges what the
//! clients notice, and `books` closes the accounts.

mod action;
mod backend;
mod books;
mod flood;
mod load;
mod model;
mod noticed;
mod plan;
mod run;
mod stage;

pub use backend::serve;
pub use run::{Options, run};
