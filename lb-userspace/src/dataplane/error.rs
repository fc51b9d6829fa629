//! What can go wrong between user space and the kernel.

use std::io;
use std::path::PathBuf;

/// Error of the data plane; the message names the object and, where there is one, the mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{call}: {source}")]
    Syscall { call: &'static str, source: io::Error },
    #[error("cannot load the XDP program: {0}")]
    Load(#[from] aya::EbpfError),
    #[error("the kernel refuses the XDP program: {0}")]
    Program(#[from] aya::programs::ProgramError),
    #[error("map {name}: {source}")]
    Map { name: String, source: aya::maps::MapError },
    #[error("the object has no map or program named {0}")]
    Missing(&'static str),
    #[error("cannot use {path}: {source}")]
    Path { path: PathBuf, source: io::Error },
    #[error("pin of a link under {path}: {message}")]
    Link { path: PathBuf, message: String },
    #[error(
        "the maps under {path} were made by another version or with other sizes:\n{}\nand cannot be taken over:\n{}\n\
         they hold live flows, so they are left alone; start the version that made them, or run `sluice detach` \
         to end forwarding and remove them",
        .differences.join("\n"), .refusals.join("\n")
    )]
    Incompatible {
        path: PathBuf,
        /// All of them.
        differences: Vec<String>,
        /// Those that nothing can be done about.
        refusals: Vec<String>,
    },
    #[error(
        "{live} flows are live, and a flow table of this size is for {room}, where {no_place} of them found no place: set \
         flow_table.pins to at least {live}, or wait until flows have ended; the data path goes on as it was"
    )]
    NoRoom { live: u64, room: u64, no_place: u64 },
    #[error(
        "interface {interface} has an XDP program that is not this instance's: stop the balancer that owns it \
         (`sluice detach --instance NAME`), or remove it with `ip link set dev {interface} xdp off`"
    )]
    Occupied { interface: String },
    #[error("interface {interface} does not exist in this network namespace")]
    NoInterface { interface: String },
    #[error("cannot attach to {interface} in {mode} mode: {message}")]
    Attach { interface: String, mode: &'static str, message: String },
    #[error(
        "{interface} does not take the new program: {source}; the one before runs on{others}{}",
        mend(source)
    )]
    NotTaken {
        interface: String,
        source: io::Error,
        /// What the other interfaces have, as a part of the sentence.
        others: String,
    },
    #[error("another check of an upgrade is under way: wait for its end")]
    CheckUnderWay,
    #[error("{what} are used up: {limit} at most")]
    Full { what: &'static str, limit: u32 },
    #[error("missing {missing}: run sluice as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")]
    Capability { missing: String },
}

/// What an interface that refuses a program may be helped by.
fn mend(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ERANGE) => {
            "; it gets frames that are too long for a program that takes each in one piece: give it the MTU of its other end, or that one its"
        }
        _ => "",
    }
}

impl Error {
    pub(super) fn map(name: impl Into<String>) -> impl FnOnce(aya::maps::MapError) -> Error {
        let name = name.into();
        move |source| Error::Map { name, source }
    }

    pub(super) fn path(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Path { path, source }
    }
}
