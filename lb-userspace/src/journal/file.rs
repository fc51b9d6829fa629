//! Opening the database file without harming one that is not ours or not whole.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::{Error, Fault, Result};

/// SQLite's `application_id` of a journal: "Slce".
pub(super) const APPLICATION_ID: i32 = 0x536c_6365;

/// A database header is this long; <https://www.sqlite.org/fileformat2.html#the_database_header>.
const HEADER: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const APPLICATION_ID_AT: usize = 68;

/// How long an opening waits for another program that holds a lock.
const PATIENCE_TO_OPEN: Duration = Duration::from_secs(5);
/// How long a write does: a round of the engine makes several, and packets' next hops and the watchdog's beat wait for them.
const PATIENCE: Duration = Duration::from_millis(250);

/// Opens `path` or makes it, mode 600 because of the key in it; says whether it is new. What was there is only read.
pub(super) fn open(path: &Path) -> Result<(Connection, bool)> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(source) => return Err(Error::File { path: path.to_owned(), action: "make the journal", source }),
    }
    let fresh = check_header(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db =
        Connection::open_with_flags(path, flags).map_err(|error| Fault::Sql(error).at(path, "open it"))?;
    keep_as_it_is(&db);
    check_content(&db).map_err(|fault| fault.at(path, "check it"))?;
    Ok((db, fresh))
}

/// Keeps SQLite from moving the write-ahead log into the database when the connection is closed.
pub(super) fn keep_as_it_is(db: &Connection) {
    // It fails only for a database that cannot be written anyway.
    let _ = db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
}

/// From here on the file is known to be good: readers beside the writer, one flush a commit.
pub(super) fn run(db: &Connection, path: &Path) -> Result<()> {
    let set = || {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        let mode: String = db.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(Fault::Refused(Error::File {
                path: path.to_owned(),
                action: "keep a write-ahead log (a local file system is needed) for",
                source: ErrorKind::Unsupported.into(),
            }));
        }
        db.busy_timeout(PATIENCE)?;
        Ok(())
    };
    set().map_err(|fault| fault.at(path, "turn its write-ahead log on"))
}

/// Makes the entry of a new file durable.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|source| Error::File {
        path: directory.to_owned(),
        action: "flush the directory",
        source,
    })
}

/// Looks at the header before SQLite does, which might roll a foreign database back or forward.
///
/// The id in the header is always current: it is written with the tables, before the write-ahead log is turned on.
/// With a rollback file beside it the header may be half written; then the tables tell, see `schema`.
///
/// Says whether the file is yet to be made into a journal: it is empty, or its making was cut short.
fn check_header(path: &Path) -> Result<bool> {
    let mut rollback = path.as_os_str().to_owned();
    rollback.push("-journal");
    let half_made = PathBuf::from(rollback).exists();
    let mut header = Vec::with_capacity(HEADER);
    File::open(path)
        .and_then(|file| file.take(HEADER as u64).read_to_end(&mut header))
        .map_err(|source| Error::File { path: path.to_owned(), action: "read the journal", source })?;
    if header.is_empty() || half_made {
        return Ok(true);
    }
    if !header.starts_with(MAGIC) {
        let found = "it does not begin like an SQLite database, or its beginning is overwritten".to_owned();
        return Err(Error::Foreign { path: path.to_owned(), found });
    }
    let Some(id) = header.get(APPLICATION_ID_AT..APPLICATION_ID_AT + 4).and_then(|id| id.first_chunk())
    else {
        let detail = format!("it ends after {} bytes", header.len());
        return Err(Error::Damaged { path: path.to_owned(), detail });
    };
    match i32::from_be_bytes(*id) {
        APPLICATION_ID => Ok(false),
        other => Err(foreign(path, other)),
    }
}

pub(super) fn foreign(path: &Path, id: i32) -> Error {
    Error::Foreign {
        path: path.to_owned(),
        found: format!("an SQLite database with the application id {id:#x}"),
    }
}

fn check_content(db: &Connection) -> std::result::Result<(), Fault> {
    db.busy_timeout(PATIENCE_TO_OPEN)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    let found: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Fault::Content(found.replace('\n', " "))) }
}
