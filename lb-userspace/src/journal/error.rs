//! Why the journal could not do what it was asked for.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::ids::IdKind;
use super::trouble::Trouble;

pub(super) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{} is held by another daemon{}: stop that one, or give this one a name of its own with --instance",
        .path.display(), .holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Locked { path: PathBuf, holder: Option<u32> },

    #[error("cannot {action} {}", .path.display())]
    File { path: PathBuf, action: &'static str, source: io::Error },

    #[error(
        "{} is not a journal of sluice ({found}) and was not touched: move it away, or give another path for the journal",
        .path.display()
    )]
    Foreign { path: PathBuf, found: String },

    #[error(
        "journal {} is damaged ({detail}) and was not changed: restore it from a copy, or save what is readable with \
         `sqlite3 {} .recover | sqlite3 mended.db` (not every build of sqlite3 has that) and put mended.db in its place, or move it away to start with an empty \
         one, which forgets drains, applied configs and, unless the config gives hash_key, the hash key; packets are forwarded \
         meanwhile",
        .path.display(), .path.display()
    )]
    Damaged { path: PathBuf, detail: String },

    #[error(
        "journal {} has schema {found}, written by a newer sluice; this version reads up to {supported} and changed nothing: \
         install the newer version again, or move the journal away to start with an empty one",
        .path.display()
    )]
    Newer { path: PathBuf, found: i64, supported: i64 },

    #[error("{} cannot {action}, as {}: nothing was changed", .path.display(), self.why())]
    Sqlite {
        path: PathBuf,
        action: &'static str,
        /// What the operating system said to SQLite last; 0: nothing.
        errno: i32,
        source: rusqlite::Error,
    },

    #[error("cannot get random bytes for the hash key: give hash_key in the config")]
    Random { source: io::Error },

    #[error(
        "there are numbers for {max} {} only, and all are taken, by those of the config and by others that were in it before",
        .kind.words()
    )]
    IdsExhausted { kind: IdKind, max: u32 },

    #[error(
        "services have more than {} different sets of timeouts of their own: let some have the same ones",
        crate::config::limits::MAX_OWN_TIMEOUTS
    )]
    TooManyTimeouts,

    #[error("host {host} is out of service by drain {drain} already: undrain it first")]
    DrainInForce { host: String, drain: u64 },

    #[error("revision {revision} waits for its confirmation")]
    Unconfirmed {
        revision: u64,
        /// Unix seconds.
        deadline: u64,
    },

    #[error("no config waits for its confirmation")]
    NothingToConfirm,

    #[error("there is no drain {drain} that is {wanted}: look at the list of drains")]
    NoSuchDrain { drain: u64, wanted: &'static str },
}

impl Error {
    /// What is wrong with a journal that cannot be written; empty: it can.
    pub fn why(&self) -> &'static str {
        Trouble::of(self).map_or("", Trouble::words)
    }

    /// What to do about a journal that cannot be written.
    pub fn mend(&self) -> Option<&'static str> {
        Trouble::of(self).map(Trouble::mend)
    }
}

/// What goes wrong inside a transaction, before the path and the doing are known.
pub(super) enum Fault {
    Sql(rusqlite::Error),
    /// A value that no version of Sluice has written.
    Content(String),
    Refused(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Refused(error)
    }
}

impl Fault {
    pub(super) fn at(self, path: &Path, action: &'static str) -> Error {
        let path = path.to_owned();
        match self {
            Fault::Refused(error) => error,
            Fault::Content(detail) => Error::Damaged { path, detail },
            Fault::Sql(source) => match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    Error::Damaged { path, detail: source.to_string() }
                }
                _ => Error::Sqlite { path, action, errno: 0, source },
            },
        }
    }
}
