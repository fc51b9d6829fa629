//! Where an instance keeps what outlives its daemon.

use std::path::PathBuf;

/// Beginning of the names of folders with maps that were in use before.
const BEFORE: &str = "maps-before-";

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
        self.maps().join(name)
    }

    pub fn maps(&self) -> PathBuf {
        self.pins.join("maps")
    }

    /// Maps that are made beside those in use, to take their place: bpffs allows no dots in names.
    pub fn next(&self) -> PathBuf {
        self.pins.join("maps-next")
    }

    /// Maps that are made to see whether they could.
    pub fn rehearsal(&self) -> PathBuf {
        self.pins.join("maps-check")
    }

    /// Folders of maps that were in use before, out of which not everything has been taken over yet, the latest first.
    pub fn befores(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.pins).into_iter().flatten().flatten();
        let number = |path: PathBuf| Some((Self::number_of(&path)?, path));
        let mut folders: Vec<(u32, PathBuf)> = entries.filter_map(|entry| number(entry.path())).collect();
        folders.sort();
        folders.into_iter().rev().map(|(_, path)| path).collect()
    }

    /// A folder for maps that are in use now, and will not be.
    pub fn new_before(&self) -> PathBuf {
        let last = self.befores().first().and_then(|path| Self::number_of(path)).unwrap_or(0);
        self.pins.join(format!("{BEFORE}{}", last + 1))
    }

    fn number_of(before: &std::path::Path) -> Option<u32> {
        before.file_name()?.to_str()?.strip_prefix(BEFORE)?.parse().ok()
    }

    /// Arrays of the programs that others call, one for each load.
    pub fn programs(&self) -> PathBuf {
        self.pins.join("programs")
    }

    /// What a load that traces takes over, while it is made.
    pub fn tracing(&self) -> PathBuf {
        self.pins.join("tracing")
    }

    pub fn links(&self) -> PathBuf {
        self.pins.join("links")
    }

    /// The link of an interface: by its index, as names change, and with the mode, which the kernel does not tell.
    pub fn link(&self, ifindex: u32, mode: &str) -> PathBuf {
        self.links().join(format!("{mode}-{ifindex}"))
    }
}
