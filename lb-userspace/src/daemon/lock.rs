//! One daemon at a time on an instance: whatever journals they have, its maps are the same.

use std::fs::{self, File, TryLockError};
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::private;
use crate::dataplane::Paths;

/// The exclusive `flock(2)` on the folder of the instance's pins, held until this is dropped or the process ends. The folder is its owner's
/// alone, as whoever may read a folder may lock it.
#[derive(Debug)]
pub struct InstanceLock {
    path: PathBuf,
    _folder: File,
}

impl Drop for InstanceLock {
    /// A folder without pins is nobody's, nor is that of all instances without any: those with something in them stay.
    fn drop(&mut self) {
        if fs::remove_dir(&self.path).is_ok()
            && let Some(all) = self.path.parent()
        {
            let _ = fs::remove_dir(all);
        }
    }
}

impl InstanceLock {
    /// Locks the instance.
    ///
    /// # Errors
    /// Another process has it.
    pub fn acquire(instance: &str) -> anyhow::Result<InstanceLock> {
        Self::on(&Paths::of(instance).pins)
            .with_context(|| format!("instance {instance} is in use: end its daemon first (SIGTERM)"))
    }

    fn on(path: &Path) -> anyhow::Result<InstanceLock> {
        // Who removes the last pin removes the folder as well: then it is another one that must be locked.
        for _ in 0..100 {
            private::make_folder(path).with_context(|| format!("cannot make {}", path.display()))?;
            let Ok(folder) = File::open(path) else { continue };
            match folder.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => match holder(&folder) {
                    Some(pid) => bail!("process {pid} holds the lock on {}", path.display()),
                    None => bail!("another process holds the lock on {}", path.display()),
                },
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            if is_still(path, &folder) {
                return Ok(InstanceLock { path: path.to_owned(), _folder: folder });
            }
        }
        bail!("{} is made and removed all the time", path.display())
    }
}

fn is_still(path: &Path, folder: &File) -> bool {
    let (Ok(now), Ok(locked)) = (fs::metadata(path), folder.metadata()) else { return false };
    (now.st_dev(), now.st_ino()) == (locked.st_dev(), locked.st_ino())
}

/// The process that has the lock, as the kernel tells: `1: FLOCK ADVISORY WRITE 4711 00:1f:8015 0 EOF`.
fn holder(folder: &File) -> Option<u32> {
    let inode = folder.metadata().ok()?.st_ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let mut lines = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find_map(|words| match words.as_slice() {
        [_, "FLOCK", _, _, pid, place, ..] if place.rsplit(':').next() == Some(&inode) => pid.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_second_is_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instance");
        let first = InstanceLock::on(&path).unwrap();
        let error = InstanceLock::on(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} holds", std::process::id())), "{error}");
        assert_eq!(
            path.metadata().unwrap().st_mode() & 0o7777,
            0o700,
            "nobody else may open it, and so lock it"
        );
        drop(first);
        assert!(!path.exists(), "empty, so nobody's");
        drop(InstanceLock::on(&path).unwrap());
        std::fs::create_dir_all(path.join("maps")).unwrap();
        drop(InstanceLock::on(&path).unwrap());
        assert!(path.exists());
    }

    #[test]
    fn a_folder_that_was_made_anew_is_locked_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instance");
        let old = File::open({
            fs::create_dir(&path).unwrap();
            &path
        })
        .unwrap();
        fs::remove_dir(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(!is_still(&path, &old));
        assert!(is_still(&path, &File::open(&path).unwrap()));
    }
}
