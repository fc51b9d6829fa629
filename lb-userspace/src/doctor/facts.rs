//! What there is to know; nothing here is a judgement. Where something could not be found out it is `None`, and nothing is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{Forward, Model, XdpMode};
use crate::netlink::{NextHopState, WayOut};

#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub machine: Machine,
    /// Those of the config, in its order.
    pub interfaces: Vec<Interface>,
    /// Ways to backends.
    pub backends: Vec<Backend>,
    /// Interfaces, of the config or not, by which backends are reached, and that may drop what native programs send to them.
    pub ways_out: Vec<WayOut>,
    /// Whether this instance's program is attached anywhere, so that packets are forwarded, with a daemon or without.
    pub forwards: bool,
    /// What is wrong with the config here: place, message and hint.
    pub config_problems: Vec<(String, String, String)>,
    pub site: Option<Site>,
    pub daemon: Daemon,
}

#[derive(Debug, Clone, Default)]
pub struct Machine {
    pub kernel: Option<(u32, u32)>,
    pub is_big_endian: bool,
    pub has_btf: bool,
    /// `net.core.bpf_jit_enable`; 0: off. `None` where it is not there: always on.
    pub jit: Option<u8>,
    pub bpf_stats: bool,
    /// Names of capabilities that are missing, of those without which nothing runs.
    pub missing_capabilities: Vec<String>,
    pub has_net_raw: bool,
    pub bpffs: Bpffs,
    /// Bytes that could be had.
    pub memory_available: Option<u64>,
    pub neighbours_v4: Option<u32>,
    pub neighbours_v6: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Bpffs {
    #[default]
    Mounted,
    /// The folder is there: the daemon mounts it, if it may.
    NotMounted,
    NoFolder,
}

/// What the config says as a whole.
#[derive(Debug, Clone)]
pub struct Site {
    /// Bytes that the maps need.
    pub memory: u64,
    pub has_nat: bool,
    pub is_local: bool,
    pub backends_v4: usize,
    pub backends_v6: usize,
}

#[derive(Debug, Clone, Default)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub kind: String,
    /// As ethtool has it.
    pub driver: Option<String>,
    pub mtu: u32,
    pub up: bool,
    pub carrier: Option<bool>,
    /// The mode that the config wants.
    pub wanted: XdpMode,
    pub xdp: XdpFeatures,
    /// XDP programs that are not this instance's: mode and number.
    pub other_programs: Vec<(String, u32)>,
    /// The mode in which this instance's program is attached, `native` or `generic`, if it is.
    pub attached: Option<String>,
    pub lro: Option<bool>,
    pub rxvlan: Option<bool>,
    /// Names of VLAN devices over it.
    pub vlans: Vec<String>,
    /// Counters of the driver about XDP frames that were lost, those that are not 0.
    pub xdp_errors: BTreeMap<String, Grown>,
    pub peer: Option<Peer>,
    /// The greater of the interface's and that of `all`.
    pub rp_filter: Option<u8>,
    pub accept_local: Option<bool>,
    /// Whether frames leave by it to backends, and come in by it from clients.
    pub carries_backends: bool,
}

/// What the driver says that it can do with XDP (Linux 6.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct XdpFeatures {
    /// Programs run in the driver.
    pub native: Option<bool>,
    /// It takes frames that programs on other interfaces redirect to it, now.
    pub takes_redirects: Option<bool>,
}

/// The other end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// In this network namespace.
    Here {
        name: String,
        has_native_program: bool,
        tx_checksums: Option<bool>,
    },
    Elsewhere,
}

#[derive(Debug, Clone)]
pub struct Backend {
    pub host: String,
    pub address: IpAddr,
    pub services: BTreeSet<String>,
    /// By which of them the address is reached.
    pub forwards: Vec<Forward>,
    pub state: Option<NextHopState>,
}

impl Interface {
    /// Whether the program runs in generic mode, or would; the mode in which it is attached outranks the config's.
    pub fn is_generic(&self) -> bool {
        self.attached.as_ref().map_or(self.wanted == XdpMode::Generic, |mode| mode == "generic")
    }
}

/// What the daemon answered when it was asked for its status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Answer {
    /// Nobody listens.
    #[default]
    Nobody,
    Status,
    /// It cannot be asked by this program or this user: why, and what to do.
    Barred {
        why: String,
        mend: String,
    },
    /// It gave none, or none that is a daemon's: what is wrong, and what to do.
    Wrong {
        why: String,
        mend: String,
    },
}

#[derive(Debug, Clone, Default)]
pub struct Daemon {
    pub answer: Answer,
    /// What its status says that somebody should look at.
    pub problems: Vec<String>,
    /// What hosts answered for the VIPs.
    pub behind: Vec<Behind>,
    /// Services whose VIPs no host was asked for: UDP alone, and without a check of it.
    pub not_asked: Vec<String>,
}

/// What is behind a VIP: a host's answer to a handshake by the way of real traffic.
#[derive(Debug, Clone, Default)]
pub struct Behind {
    pub host: String,
    pub service: String,
    pub vip: String,
    /// As in the config: `l2`, `ipip`, `gue`, `nat`.
    pub forward: String,
    /// An operator wants it to get new flows.
    pub is_wanted: bool,
    /// And it gets none, as its checks fail.
    pub is_down: bool,
    /// Why it did not answer, if it did not.
    pub failed: Option<String>,
    /// Why it was not asked, if it was not.
    pub not_asked: Option<String>,
}

impl Site {
    pub fn of(model: &Model, memory: u64) -> Self {
        let addresses = |wanted: fn(&IpAddr) -> bool| {
            let all: BTreeSet<IpAddr> =
                model.services.iter().flat_map(|service| model.addresses(service)).collect();
            all.iter().filter(|address| wanted(address)).count()
        };
        Site {
            memory,
            has_nat: model.services.iter().any(|service| service.forward == Forward::Nat),
            is_local: model.vip_mode == crate::model::VipMode::Local,
            backends_v4: addresses(IpAddr::is_ipv4),
            backends_v6: addresses(IpAddr::is_ipv6),
        }
    }
}

/// A counter that was looked at twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    pub all: u64,
    /// By so much it had grown at the second look.
    pub new: u64,
}
