//! Where an instance keeps what outlives its daemon.

use std::path::PathBuf;

/// Folders and files of one instance.
#[derive(Debug, Clone)]
pub struct Paths {
    /// In bpffs: maps and links.
    pub pins: PathBuf,
}

impl Paths {
    /// Where bpffs is mounted.
    pub const BPFFS: &str = "/sys/fs/bpf";

    pub fn of(instance: &str) -> Self {
        Paths { pins: PathBuf::from(Self::BPFFS).join("sluice").join(instance) }
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.pins.join("maps").join(name)
    }

    pub fn maps(&self) -> PathBuf {
        self.pins.join("maps")
    }

    /// Arrays of the programs that others call, one for each load.
    pub fn programs(&self) -> PathBuf {
        self.pins.join("programs")
    }

    pub fn links(&self) -> PathBuf {
        self.pins.join("links")
    }

    /// The link of an interface: by its index, as names change, and with the mode, which the kernel does not tell.
    pub fn link(&self, ifindex: u32, mode: &str) -> PathBuf {
        self.links().join(format!("{mode}-{ifindex}"))
    }
}
