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
    interface: String,
    addresses: BTreeSet<IpAddr>,
}

/// The file that keeps what was added.
struct Note {
    path: PathBuf,
}

/// Adds the VIPs where the config wants them, if the balancer wants their traffic; else takes them off.
pub fn keep(instance: &str, model: &Model, wanted: bool) -> anyhow::Result<()> {
    match interface_of_vips(model).filter(|_| wanted) {
        Some(interface) => add(&Note::of(instance), interface, model),
        None => remove(instance).map(|_| ()),
    }
}

/// Adds the VIPs that are not there yet, and takes others off.
fn add(note: &Note, interface: &str, model: &Model) -> anyhow::Result<()> {
    // The config has no prefix then.
    let vips: BTreeSet<IpAddr> = model.services.iter().map(|service| service.vip.address()).collect();
    let vips: Vec<IpAddr> = vips.into_iter().collect();
    let noted = note.read()?;
    let mut added = noted.clone();
    if added.interface != interface {
        netlink::remove_vips(&added.interface, &added.addresses.iter().copied().collect::<Vec<_>>())?;
        added = Added { interface: interface.to_owned(), addresses: BTreeSet::new() };
    }
    let gone: Vec<IpAddr> = added.addresses.iter().copied().filter(|vip| !vips.contains(vip)).collect();
    netlink::remove_vips(interface, &gone)?;
    added.addresses.retain(|vip| vips.contains(vip));
    // Noted before they are there: a kill in between leaves a note of an address that is not, which does no harm.
    let before: BTreeSet<IpAddr> =
        netlink::addresses()?.into_iter().filter(|(name, _)| name == interface).map(|(_, vip)| vip).collect();
    added.addresses.extend(vips.iter().filter(|vip| !before.contains(*vip)));
    if added != noted {
        note.write(&added)?;
    }
    netlink::add_vips(interface, &vips)?;
    Ok(())
}

/// Removes the VIPs that were added; whether there were any.
pub fn remove(instance: &str) -> anyhow::Result<bool> {
    let note = Note::of(instance);
    let added = note.read()?;
    if added.addresses.is_empty() {
        return Ok(false);
    }
    netlink::remove_vips(&added.interface, &added.addresses.iter().copied().collect::<Vec<_>>())?;
    note.remove()?;
    Ok(true)
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
        fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added() -> Added {
        Added { interface: "lo".to_owned(), addresses: BTreeSet::from(["203.0.113.1".parse().unwrap()]) }
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
