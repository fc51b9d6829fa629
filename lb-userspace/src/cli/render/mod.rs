//! What people read, made from the API's bodies: pure functions from types to text.

pub mod config;
pub mod drain;
pub mod event;
pub mod explain;
pub mod flows;
pub mod health;
pub mod history;
pub mod itself;
pub mod kick;
pub mod maintain;
pub mod number;
pub mod plan;
pub mod progress;
pub mod receipt;
pub mod rings;
pub mod shift;
pub mod status;
pub mod text;
pub mod trace;

#[cfg(test)]
pub mod fixtures;
