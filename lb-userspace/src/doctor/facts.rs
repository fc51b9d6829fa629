//! What there is to know; nothing here is a judgement. Where something could not be found out it is `None`, and nothing is said of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{Forward, Model, XdpMode};
use crate::netlink::NextHopState;

#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub machine: Machine,
    /// Those of the config, in its order.
    pub interfaces: Vec<Interface>,
    /// Ways to backends.
    pub backends: Vec<Backend>,
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
    /// Whether this instance's program is attached.
    pub is_attached: bool,
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

#[derive(Debug, Clone, Default)]
pub struct Daemon {
    /// It answers.
    pub runs: bool,
    /// What its status says that somebody should look at.
    pub problems: Vec<String>,
    /// What hosts answered for the VIPs.
    pub behind: Vec<Behind>,
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
