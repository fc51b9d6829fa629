//! A journal that cannot be written: what is wrong, and what is to be done.

use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use rusqlite::ErrorCode;

use super::Journal;
use super::error::{Error, Fault, Result};

/// Bytes that a file system should have left: a config of the usual size, and what a checkpoint takes.
const LEAST_FREE: u64 = 1 << 20;

/// What keeps the journal from being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Full,
    ReadOnly,
    /// Another program holds a lock on it.
    Busy,
    Damaged,
    /// Whatever else the disk says.
    Disk,
}

impl Trouble {
    /// `None`: the journal refused something that was asked of it.
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Sqlite { source, errno, .. } => {
                Some(match (Self::of_code(source.sqlite_error_code()), *errno) {
                    (Trouble::Disk, libc::EROFS) => Trouble::ReadOnly,
                    (Trouble::Disk, libc::ENOSPC | libc::EDQUOT) => Trouble::Full,
                    (trouble, _) => trouble,
                })
            }
            Error::Damaged { .. } => Some(Trouble::Damaged),
            _ => None,
        }
    }

    fn of_code(code: Option<ErrorCode>) -> Self {
        match code {
            Some(ErrorCode::DiskFull) => Trouble::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Trouble::ReadOnly,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged,
            _ => Trouble::Disk,
        }
    }

    /// What is wrong.
    pub fn words(self) -> &'static str {
        match self {
            Trouble::Full => "its file system is full",
            Trouble::ReadOnly => "its file system or file is read-only",
            Trouble::Busy => "another program holds a lock on it",
            Trouble::Damaged => "it is damaged",
            Trouble::Disk => "the disk does not take it",
        }
    }

    /// What to do about it.
    pub fn mend(self) -> &'static str {
        match self {
            Trouble::Full => "make room there; nothing is to be restarted",
            Trouble::ReadOnly => {
                "see the kernel's log for the disk's errors, then make it writable again; restart the daemon if it says so still"
            }
            Trouble::Busy => "end that program, a shell of sqlite3 perhaps",
            Trouble::Damaged => {
                "end the daemon and start it again: it says what is damaged and how it is mended; packets are forwarded meanwhile"
            }
            Trouble::Disk => {
                "see the daemon's and the kernel's log, and whether the directory of the journal is there"
            }
        }
    }
}

impl Journal {
    /// What an operator should know of the journal, with what to do; as of the last write.
    pub fn problem(&self) -> Option<String> {
        let trouble = self.trouble.or_else(|| nearly(&self.path))?;
        let (words, mend) = (trouble.words(), trouble.mend());
        Some(match self.trouble {
            Some(_) => format!(
                "the journal {} cannot be written, {words}, so changes are refused, and drains do not come to their end; packets and \
                 what was acknowledged are safe: {mend}",
                self.path.display()
            ),
            None => format!("the journal {}: {words}, or nearly so: {mend}", self.path.display()),
        })
    }

    pub fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Writes something that means nothing, to see whether that can be done again.
    pub fn try_again(&mut self) -> Result<()> {
        self.write("be written", |tx| {
            // Another value each time: SQLite writes nothing where nothing changes.
            tx.execute("UPDATE pruning SET tried = tried + 1", [])?;
            Ok::<_, Fault>(())
        })
    }
}

/// What the file system will say before long.
fn nearly(journal: &Path) -> Option<Trouble> {
    let real = journal.canonicalize().ok()?;
    let found = statvfs(real.parent()?).ok()?;
    if found.flags().contains(FsFlags::ST_RDONLY) {
        return Some(Trouble::ReadOnly);
    }
    let free = found.blocks_available() * found.fragment_size();
    (free < LEAST_FREE).then_some(Trouble::Full)
}
