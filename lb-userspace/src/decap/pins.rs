//! Where the link and the maps are pinned: `BPFFS/sluice/INSTANCE/decap/INTERFACE/`.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapType};
use lb_common::decap::DECAP_REASONS;
use nix::fcntl::{Flock, FlockArg};

use super::error::DecapError;
use super::sys;
use crate::bpffs::make_folder;

/// Names of the maps in the object and of their pins.
pub const ADDRESSES: &str = "ADDRESSES";
pub const GUE_PORT: &str = "GUE_PORT";
pub const COUNTERS: &str = "COUNTERS";

/// The pins of one interface.
#[derive(Debug, Clone)]
pub struct Pins {
    bpffs: PathBuf,
    folder: PathBuf,
}

/// While it lives, no other process changes these pins.
pub struct Lock(#[allow(dead_code, reason = "unlocks when dropped")] Flock<File>);

impl Pins {
    /// # Errors
    /// The instance's name cannot be a folder's.
    pub fn new(bpffs: &Path, instance: &str, interface: &str) -> Result<Pins, DecapError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if instance.is_empty() || !instance.chars().all(is_plain) {
            return Err(DecapError::InstanceName { name: instance.to_owned() });
        }
        let folder = bpffs.join("sluice").join(instance).join("decap").join(escape(interface));
        Ok(Pins { bpffs: bpffs.to_owned(), folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn link(&self) -> PathBuf {
        self.folder.join("link")
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes the folder and locks it.
    pub fn create_and_lock(&self) -> Result<Lock, DecapError> {
        loop {
            make_folder(&self.folder).map_err(|source| self.error("create", source))?;
            if let Some(lock) = self.lock()? {
                return Ok(lock);
            }
        }
    }

    /// Locks the folder; `None` if there is none.
    pub fn lock(&self) -> Result<Option<Lock>, DecapError> {
        loop {
            let file = match File::open(&self.folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened.map_err(|source| self.error("open", source))?,
            };
            let lock = Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, errno)| self.error("lock", errno.into()))?;
            // Who had the lock before may have removed the folder.
            let locked = lock.metadata().map_err(|source| self.error("look at", source))?;
            match fs::metadata(&self.folder) {
                Ok(now) if (now.dev(), now.ino()) == (locked.dev(), locked.ino()) => {
                    return Ok(Some(Lock(lock)));
                }
                _ => continue,
            }
        }
    }

    /// Pins an object in the place of what has the name now: at no moment is there nothing.
    pub fn replace(&self, name: &str, object: impl AsFd) -> Result<(), DecapError> {
        // The file system of BPF takes no dots in names.
        let new = self.folder.join(format!("{name}_new"));
        remove_file(&new)?;
        sys::pin(object, &new).map_err(|source| pin_error("pin", &new, source))?;
        let path = self.folder.join(name);
        fs::rename(&new, &path).map_err(|source| {
            let _ = fs::remove_file(&new);
            pin_error("replace", &path, source)
        })
    }

    /// Removes the pins, their folder, and the folders above that are empty then.
    pub fn remove(&self) -> Result<(), DecapError> {
        let entries = fs::read_dir(&self.folder).map_err(|source| self.error("list", source))?;
        for entry in entries {
            let entry = entry.map_err(|source| self.error("list", source))?;
            remove_file(&entry.path())?;
        }
        fs::remove_dir(&self.folder).map_err(|source| self.error("remove", source))?;
        for folder in self.folder.ancestors().skip(1).take_while(|folder| *folder != self.bpffs) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn error(&self, action: &'static str, source: io::Error) -> DecapError {
        pin_error(action, &self.folder, source)
    }
}

/// Removes a pin, if there is one.
pub fn remove_file(path: &Path) -> Result<(), DecapError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(pin_error("remove", path, source)),
        _ => Ok(()),
    }
}

pub fn pin_error(action: &'static str, path: &Path, source: io::Error) -> DecapError {
    DecapError::Pin { action, path: path.to_owned(), source }
}

/// Whether the pinned map is what this version of the program takes for its counters; `None`: there is no such pin.
pub fn are_counters_ours(path: &Path) -> Result<Option<bool>, DecapError> {
    open_map(path)?
        .map(|map| has_shape(&map, path, MapType::PerCpuArray, (4, 8), Some(DECAP_REASONS)))
        .transpose()
}

/// Opens a pinned map; `None`: there is no such pin. Whoever reads it compares its shape first, as aya does not.
pub fn open_map(path: &Path) -> Result<Option<MapData>, DecapError> {
    if !path.exists() {
        return Ok(None);
    }
    MapData::from_pin(path).map(Some).map_err(|source| DecapError::Map { path: path.to_owned(), source })
}

/// Compares type, sizes of key and value in bytes, and, if given, the number of entries.
pub fn has_shape(
    map: &MapData,
    path: &Path,
    kind: MapType,
    sizes: (u32, u32),
    entries: Option<u32>,
) -> Result<bool, DecapError> {
    let error = |source| DecapError::Map { path: path.to_owned(), source };
    let info = map.info().map_err(error)?;
    Ok(info.map_type().map_err(error)? == kind
        && (info.key_size(), info.value_size()) == sizes
        && entries.is_none_or(|entries| entries == info.max_entries()))
}

/// An interface's name as a name in the BPF file system, which takes no dots.
fn escape(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e").replace('/', "%2f")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(instance: &str, interface: &str) -> Result<PathBuf, DecapError> {
        Pins::new(Path::new("/b"), instance, interface).map(|pins| pins.folder)
    }

    #[test]
    fn folders_follow_instance_and_interface() {
        assert_eq!(folder("default", "eth0").unwrap(), Path::new("/b/sluice/default/decap/eth0"));
        assert_eq!(folder("a", "eth0.100").unwrap(), Path::new("/b/sluice/a/decap/eth0%2e100"));
        assert_eq!(folder("a", "../x").unwrap(), Path::new("/b/sluice/a/decap/%2e%2e%2fx"));
    }

    #[test]
    fn an_instance_is_a_plain_name() {
        for name in ["", ".", "..", "a/b", "a.b", "a b"] {
            let error = folder(name, "eth0").unwrap_err();
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
    }
}
