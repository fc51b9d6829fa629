//! What on this machine would keep Sluice from working, or packets from arriving, each with a mend.
//!
//! [`facts`] are gathered by [`gather`], which looks and touches nothing, and by [`vips`], which has the daemon ask the hosts; [`judge`] makes
//! findings of them and is pure.

pub mod ethtool;
pub mod facts;
pub mod gather;
mod judge;
#[cfg(test)]
mod tests;
pub mod vips;

use serde::Serialize;

pub use judge::judge;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Works, but worse than it could, or not for all packets.
    Warning,
    /// Does not work.
    Error,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// What was looked at: stable, for programs.
    pub check: Check,
    /// An interface, a host, or empty: the machine.
    pub subject: String,
    /// What is wrong.
    pub what: String,
    /// What to do; a command where there is one.
    pub mend: String,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// What is looked at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            pub const ALL: &'static [Check] = &[$(Check::$name),*];

            /// As in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Check::$name => $text,)* }
            }
        }
    };
}

checks! {
    /// Linux 5.15, little-endian.
    Kernel "kernel",
    Btf "btf",
    Jit "jit",
    /// `kernel.bpf_stats_enabled` costs every packet.
    BpfStats "bpf_stats",
    Capabilities "capabilities",
    Bpffs "bpffs",
    Memory "memory",
    /// The config, and what of it this machine does not have.
    Config "config",
    /// Up, and with a carrier.
    Link "link",
    /// Whether the driver runs XDP programs itself.
    XdpMode "xdp_mode",
    /// Another XDP program is attached.
    OtherProgram "other_program",
    /// Offloads that hide or join frames.
    Offload "offload",
    /// Frames that the kernel could not send on after the program had.
    Swallowed "swallowed",
    /// The other end of a veth pair.
    VethPeer "veth_peer",
    /// The interface that a packet leaves by takes frames from others.
    Redirect "redirect",
    /// Outer headers have room.
    Mtu "mtu",
    Route "route",
    Neighbour "neighbour",
    /// Room in the kernel's table of neighbours.
    NeighbourTable "neighbour_table",
    RpFilter "rp_filter",
    /// The daemon, if it runs.
    Daemon "daemon",
    /// Hosts answer for the VIP, as the daemon found by the way of real traffic.
    Vip "vip",
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The worst first.
    pub findings: Vec<Finding>,
    /// What was looked at and is well, in words.
    pub well: Vec<String>,
}

impl Report {
    pub fn is_ill(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}
