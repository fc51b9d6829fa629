//! VIPs on an interface of this machine: for `vip_mode = "local"`, where others find them by ARP, and for `[announce]`, where a routing
//! daemon does. They are there as long as this balancer wants their traffic, also when its daemon has ended. Those that Sluice added are noted in a file, so that
//! exactly they are removed again; in `/run`, as addresses do not outlive a reboot either.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::engine::interface_of_vips;
use crate::model::Model;
use crate::netlink;

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Added {
    /// As the config calls it.
    interface: String,
    /// The kernel's number of it, which it keeps when it gets another name.
    #[serde(default)]
    index: u32,
    addresses: BTreeSet<IpAddr>,
}

/// In [`Added::index`]: of a note by a version that did not note it.
const UNKNOWN: u32 = 0;

/// The file that keeps what was added.
struct Note {
    path: PathBuf,
}

/// Adds the VIPs where the config wants them, if the balancer wants their traffic; else takes them off. Returns the number of the
/// interface that has them.
pub fn keep(instance: &str, model: &Model, wanted: bool) -> anyhow::Result<Option<u32>> {
    match interface_of_vips(model).filter(|_| wanted) {
        Some(interface) => add(&Note::of(instance), interface, model).map(Some),
        None => take_off(&Note::of(instance)).map(|()| None),
    }
}

/// Adds the VIPs that are not there yet, and takes others off.
fn add(note: &Note, interface: &str, model: &Model) -> anyhow::Result<u32> {
    // The config has no prefix then.
    let vips: BTreeSet<IpAddr> = model.services.iter().map(|service| service.vip.address()).collect();
    let noted = note.read()?;
    let index = noted.place(interface)?;
    let mut added = noted.clone();
    if noted.interface != interface || noted.index()? != Some(index) {
        noted.take_off(&noted.addresses)?;
        added.addresses.clear();
    }
    (added.interface, added.index) = (interface.to_owned(), index);
    let gone: BTreeSet<IpAddr> = added.addresses.difference(&vips).copied().collect();
    added.take_off(&gone)?;
    added.addresses.retain(|vip| vips.contains(vip));
    let there = netlink::addresses_on(index)?;
    let missing: Vec<IpAddr> = vips.difference(&there).copied().collect();
    // Noted before they are there: a kill in between leaves a note of an address that is not, which does no harm.
    added.addresses.extend(&missing);
    note.keep(&noted, &added)?;
    let new = netlink::add_vips(index, &missing)?;
    if new != missing {
        // Somebody else was faster with some of them, so those are theirs.
        let before = added.clone();
        added.addresses.retain(|vip| !missing.contains(vip) || new.contains(vip));
        note.keep(&before, &added)?;
    }
    Ok(index)
}

/// The interface stays noted: it may have another name when the VIPs come back.
fn take_off(note: &Note) -> anyhow::Result<()> {
    let noted = note.read()?;
    noted.take_off(&noted.addresses)?;
    note.keep(&noted, &Added { addresses: BTreeSet::new(), ..noted.clone() })
}

/// Removes the VIPs that were added, and the note; whether there were any.
pub fn remove(instance: &str) -> anyhow::Result<bool> {
    let note = Note::of(instance);
    let added = note.read()?;
    added.take_off(&added.addresses)?;
    note.remove()?;
    Ok(!added.addresses.is_empty())
}

impl Added {
    /// The number of an interface of the config. One that was renamed keeps the VIPs, as it keeps the program, for as long as no other takes
    /// its name.
    fn place(&self, interface: &str) -> anyhow::Result<u32> {
        match netlink::index_of(interface) {
            Err(netlink::Error::NoInterface { .. }) if self.interface == interface && self.is_there()? => {
                Ok(self.index)
            }
            found => Ok(found?),
        }
    }

    fn is_there(&self) -> anyhow::Result<bool> {
        Ok(netlink::interfaces()?.iter().any(|there| there.index == self.index))
    }

    /// The number of the interface that has them; `None`: it is gone, and they with it.
    fn index(&self) -> anyhow::Result<Option<u32>> {
        if self.index != UNKNOWN {
            return Ok(Some(self.index));
        }
        match netlink::index_of(&self.interface) {
            Err(netlink::Error::NoInterface { .. }) => Ok(None),
            found => Ok(Some(found?)),
        }
    }

    fn take_off(&self, vips: &BTreeSet<IpAddr>) -> anyhow::Result<()> {
        let Some(index) = self.index()?.filter(|_| !vips.is_empty()) else { return Ok(()) };
        Ok(netlink::remove_vips(index, &vips.iter().copied().collect::<Vec<_>>())?)
    }
}

impl Note {
    fn of(instance: &str) -> Self {
        Note { path: Path::new("/run/sluice").join(format!("{instance}.vips")) }
    }

    /// A damaged one counts as empty: it must not keep the daemon from its start, nor the operator from a detach.
    fn read(&self) -> anyhow::Result<Added> {
        let path = self.path.display();
        match fs::read(&self.path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                log::warn!(
                    "{path} is damaged ({error}): VIPs that an earlier daemon has put on an interface are not taken off by this one; \
                     `ip address del` does that"
                );
                Added::default()
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Added::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
        }
    }

    /// Writes it if it has changed.
    fn keep(&self, before: &Added, now: &Added) -> anyhow::Result<()> {
        if before == now { Ok(()) } else { self.write(now) }
    }

    /// In one step: a kill, or a full file system, leaves the note as it was.
    fn write(&self, added: &Added) -> anyhow::Result<()> {
        let beside = self.path.with_extension("vips.new");
        let write = || {
            fs::create_dir_all(self.path.parent().unwrap_or(Path::new("/")))?;
            fs::write(&beside, serde_json::to_vec(added)?)?;
            fs::rename(&beside, &self.path)
        };
        write()
            .inspect_err(|_| {
                // What went wrong is of more interest.
                let _ = fs::remove_file(&beside);
            })
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added() -> Added {
        Added {
            interface: "lo".to_owned(),
            index: 1,
            addresses: BTreeSet::from(["203.0.113.1".parse().unwrap()]),
        }
    }

    #[test]
    fn what_was_added_is_noted_in_one_step_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let note = Note { path: folder.path().join("sluice/x.vips") };
        assert_eq!(note.read().unwrap(), Added::default());
        note.write(&added()).unwrap();
        assert_eq!(note.read().unwrap(), added());
        // Whoever holds the one before sees it whole.
        let before = fs::File::open(&note.path).unwrap();
        note.write(&Added::default()).unwrap();
        assert_eq!(serde_json::from_reader::<_, Added>(before).unwrap(), added());
        assert_eq!(fs::read_dir(note.path.parent().unwrap()).unwrap().count(), 1, "nothing lies beside it");
        note.remove().unwrap();
        assert_eq!(note.read().unwrap(), Added::default());
    }

    #[test]
    fn a_note_that_cannot_be_written_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let note = Note { path: folder.path().join("x.vips") };
        note.write(&added()).unwrap();
        fs::create_dir(folder.path().join("x.vips.new")).unwrap();
        assert!(note.write(&Added::default()).is_err());
        assert_eq!(note.read().unwrap(), added());
    }

    #[test]
    fn a_damaged_note_counts_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        let note = Note { path: folder.path().join("x.vips") };
        for text in ["", "{\"interface\":\"lo\",\"addr"] {
            fs::write(&note.path, text).unwrap();
            assert_eq!(note.read().unwrap(), Added::default(), "{text:?}");
        }
    }
}
