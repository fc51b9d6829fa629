//! One daemon per instance: a lock file beside the journal.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::{Error, Result};

/// Mode of the file.
const PRIVATE: u32 = 0o600;

/// The exclusive `flock(2)` on `<directory>/<instance>.lock`, held until this is dropped or the process ends, however
/// it ends. The file holds the pid of its holder as text and stays behind: removing it would let two daemons hold
/// locks on two files of the same name. It is its owner's alone, as whoever may read a file may lock it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Locks `<directory>/<instance>.lock`; makes the directory (mode 755 less the umask) if it is not there.
    ///
    /// # Errors
    /// [`Error::Locked`] with the holder's pid if it is known; [`Error::File`].
    pub fn acquire(directory: &Path, instance: &str) -> Result<Lock> {
        let path = directory.join(format!("{instance}.lock"));
        let failed = |action| {
            let path = path.clone();
            move |source| Error::File { path, action, source }
        };
        if !directory.as_os_str().is_empty() {
            fs::create_dir_all(directory).map_err(failed("make the directory of"))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(&path)
            .map_err(failed("open the lock file"))?;
        // One of a version that let others read it. Another user's file, which root may lock, stays as that user has it.
        let _ = file.set_permissions(Permissions::from_mode(PRIVATE));
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(Error::Locked { path, holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        // For who is refused; on a full disk the lock holds without it.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Lock { file, path })
    }

    /// The lock that belongs to the journal at `journal`: the same name with the ending `.lock`. A symbolic link is
    /// followed, so that one journal has one lock.
    pub(super) fn beside(journal: &Path) -> Result<Lock> {
        let real = fs::canonicalize(journal).unwrap_or_else(|_| journal.to_owned());
        let instance = real.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Lock::acquire(real.parent().unwrap_or(Path::new("")), &instance)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The pid of a daemon that is gone would only mislead; the kernel takes the lock off with the descriptor.
        let _ = self.file.set_len(0);
        // For all who share the descriptor: a child between fork(2) and exec(2) would hold the lock for a moment longer.
        let _ = self.file.unlock();
    }
}
