//! What can go wrong, and what to do about it.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use thiserror::Error;

use super::interface::Mode;
use crate::bpffs::BpffsError;

#[derive(Debug, Error)]
pub enum DecapError {
    #[error(transparent)]
    Bpffs(#[from] BpffsError),
    #[error("`{name}` cannot name an instance: use letters, digits, `-` and `_`")]
    InstanceName { name: String },
    #[error("there is no interface `{interface}` in this network namespace: `ip link` lists them")]
    NoInterface { interface: String },
    #[error("cannot ask the kernel about interface `{interface}`")]
    Interface { interface: String, source: io::Error },
    #[error("interface `{interface}` has no address to accept packets for: give some with --address")]
    NoAddress { interface: String },
    #[error("{address} cannot be the destination of an outer header: it is not the address of one host")]
    NotUnicast { address: std::net::IpAddr },
    #[error(
        "interface `{interface}` runs another XDP program already (number {program}, {mode}), and it takes only one: \
         see what it is with `bpftool prog show id {program}` and remove it with the tool that attached it, or with \
         `ip link set dev {interface} xdp off`",
        mode = mode.name()
    )]
    Busy { interface: String, mode: Mode, program: u32 },
    #[error(
        "interface `{interface}` got an XDP program from somebody else just now: look at it with `ip -d link show {interface}`, then try again"
    )]
    Raced { interface: String, source: io::Error },
    #[error(
        "{path} holds a decapsulator that runs on an interface with index {ifindex}, which is not `{interface}` here: \
         the interface was renamed (then detach it first, with --detach), or another network namespace uses the same \
         instance (then choose one with --instance)",
        path = path.display()
    )]
    Elsewhere { interface: String, path: PathBuf, ifindex: u32 },
    #[error("cannot load the decapsulator's maps: be root, or have CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Maps(#[source] EbpfError),
    #[error("the kernel refuses the decapsulator: be root, or have CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Program(#[source] ProgramError),
    #[error(
        "cannot attach to interface `{interface}`, neither in native mode ({native}) nor in generic mode: Linux 5.9 \
         and CAP_NET_ADMIN are needed"
    )]
    Attach { interface: String, native: io::Error, source: io::Error },
    #[error(
        "cannot replace the program on interface `{interface}`: the old one is still in place; try --detach first"
    )]
    Update { interface: String, source: io::Error },
    #[error("cannot detach from interface `{interface}`")]
    Detach { interface: String, source: io::Error },
    #[error("cannot {action} {path}", path = path.display())]
    Pin { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{path} was made by another version of this program: run `sluice decap` for the interface again to renew it",
        path = path.display()
    )]
    OtherVersion { path: PathBuf },
    #[error("cannot use the map at {path}", path = path.display())]
    Map { path: PathBuf, source: MapError },
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
}

impl DecapError {
    /// What was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, DecapError::NoInterface { .. })
    }
}
