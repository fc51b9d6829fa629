//! The library behind the `sluice` binary: the daemon's parts, each with one job, and the command line.

pub mod api;
pub mod bpffs;
pub mod decap;
pub mod model;
pub mod objects;
