//! What the suites stand on: a veth topology in network namespaces, real servers in it, traffic whose every
//! message is accounted for, and builders of packets.
//!
//! Everything here needs root and Linux with network namespaces, veth and native XDP; all of it is removed when
//! the value that made it is dropped, also by a panic.

pub mod bench;
pub mod browser;
pub mod chaos;
pub mod demo;
pub mod emulator;
pub mod health;
pub mod kernel;
pub mod packets;
pub mod rig;
pub mod rolling;
pub mod seeds;
pub mod servers;
pub mod site;
pub mod topology;
pub mod traffic;

/// How long a test waits for what has to come before it has failed: no measure of how soon it comes, for a slow machine, or an emulated one,
/// takes its time.
pub const LIMIT: std::time::Duration = std::time::Duration::from_secs(120);
