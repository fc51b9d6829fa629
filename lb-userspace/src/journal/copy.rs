//! A copy of a journal that a daemon has open, to try things with.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::error::{Error, Fault, Result};

/// The copy; gone with this value.
pub struct Copy {
    path: PathBuf,
}

impl Copy {
    /// Copies the journal at `from` to a file beside it that ends in `ending`. The daemon that has it open is not disturbed.
    ///
    /// # Errors
    /// The journal cannot be read, or the copy not be written.
    pub fn of(from: &Path, ending: &str) -> Result<Copy> {
        let copy = Copy { path: from.with_extension(ending) };
        copy.remove();
        // Mode 600 because of the key in it; SQLite takes an empty file.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy.path).map_err(|source| {
            Error::File { path: copy.path.clone(), action: "make a copy of the journal in", source }
        })?;
        let into = copy.path.to_string_lossy().into_owned();
        let written = Connection::open_with_flags(
            from,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .and_then(|db| db.execute("VACUUM INTO ?1", [into]));
        written.map_err(|error| Fault::Sql(error).at(from, "copy it"))?;
        Ok(copy)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) {
        for ending in ["", "-wal", "-shm"] {
            let mut name = self.path.clone().into_os_string();
            name.push(ending);
            let _ = fs::remove_file(name);
        }
        let _ = fs::remove_file(self.path.with_extension("lock"));
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.remove();
    }
}
