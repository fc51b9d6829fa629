//! The library behind the `sluice` binary: the daemon's parts, each with one job, and the command line.

pub mod ages;
pub mod api;
pub mod bpffs;
pub mod changes;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod decap;
pub mod doctor;
pub mod drain;
pub mod engine;
pub mod events;
pub mod explain;
pub mod health;
pub mod jobs;
pub mod journal;
#[cfg(test)]
mod made;
pub mod maintain;
pub mod metrics;
pub mod model;
pub mod netlink;
pub mod objects;
pub mod plan;
pub mod ramp;
pub mod relay;
pub mod ring;
mod seldom;
pub mod shift;
pub mod speak;
pub mod top;
pub mod trace;
pub mod whatif;
