//! The journal: what must outlive the daemon and the machine, in one SQLite file per instance.
//!
//! It holds the secret hash key, the numeric ids that the data path knows hosts and services by, every change with
//! its author and reason (revisions), the operators' drains with their receipts, and the inputs of rings whose handover
//! is open. What is here can be asked for again after a kill or a power cut: each call that writes is one transaction,
//! and it returns after that transaction is on the disk (WAL with `synchronous=FULL`).
//!
//! One daemon at a time has it open ([`Lock`]); other programs may read the file meanwhile (`sqlite3 -readonly`).
//! A file that is damaged, of another program, or of a newer Sluice is refused and left as it is.
//!
//! The calls are synchronous and short (a write is one or two disk flushes).

mod clock;
mod configs;
mod copy;
mod drains;
mod error;
mod file;
mod health;
mod ids;
mod itself;
mod lineages;
mod lock;
mod meta;
mod prune;
mod ramps;
mod revisions;
mod runs;
mod schema;
mod timeouts;
mod trouble;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use clock::Boot;
pub use configs::{Applied, NewConfig, Pending};
pub use copy::Copy;
pub use drains::{Amended, DrainRow, TakenBack};
pub use error::Error;
pub use health::HealthRows;
pub use ids::{IdKind, Numbers};
pub use lock::Lock;
pub use meta::HashKey;
pub use prune::{ALWAYS_KEPT, Keep};
pub use ramps::Ramps;
pub use revisions::{Change, Kind, Revision, Which};
pub use runs::RunKind;
pub use timeouts::{SetNumber, TimeoutSet, TimeoutSets};

use error::{Fault, Result};
use trouble::Trouble;

/// An open journal, and the lock on it.
pub struct Journal {
    db: Connection,
    path: PathBuf,
    hash_key: HashKey,
    key_replaced: bool,
    lock: Lock,
    /// Why the last write failed; `None`: it did not.
    trouble: Option<Trouble>,
}

impl Journal {
    /// Opens the journal at `path` (`<directory>/<instance>.db`), or makes it, and its directory, if it is not there.
    ///
    /// `config_key` is the hash key that the config gives, if it gives one: it wins over the journal's, and a
    /// replacement is noted as a revision. `now` is Unix time in seconds.
    ///
    /// # Errors
    /// [`Error::Locked`] while another daemon has it; [`Error::Foreign`], [`Error::Damaged`] and [`Error::Newer`] for a
    /// file that is no journal, is broken, or comes from a newer version, none of which is changed.
    pub fn open(path: &Path, config_key: Option<HashKey>, now: u64) -> Result<Journal> {
        let lock = Lock::beside(path)?;
        let (mut db, fresh) = file::open(path)?;
        let found = transact(&mut db, path, "read or make its tables", |tx| {
            schema::bring_up_to_date(tx, path)?;
            meta::settle_key(tx, path, config_key, now)
        });
        let (hash_key, key_replaced) = match found {
            Ok(key) => key,
            Err(error) => {
                file::keep_as_it_is(&db);
                return Err(error);
            }
        };
        file::run(&db, path)?;
        if fresh {
            file::sync_directory(path)?;
        }
        Ok(Journal { db, path: path.to_owned(), hash_key, key_replaced, lock, trouble: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock that keeps other daemons off; held as long as the journal is open.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Runs `work` as one transaction: all of it is on the disk when this returns `Ok`, else nothing of it.
    fn write<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> std::result::Result<T, Fault>,
    ) -> Result<T> {
        let written = transact(&mut self.db, &self.path, action, work);
        self.trouble = match &written {
            Ok(_) => None,
            // Refusals say nothing of the disk.
            Err(error) => Trouble::of(error).or(self.trouble.take()),
        };
        written
    }

    /// Runs `work` as a transaction of which nothing stays.
    fn try_out<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> std::result::Result<T, Fault>,
    ) -> Result<T> {
        let run = || {
            let tx = self.db.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let done = work(&tx)?;
            tx.rollback()?;
            Ok(done)
        };
        run().map_err(|fault: Fault| fault.at(&self.path, action))
    }

    fn read<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> std::result::Result<T, Fault>,
    ) -> Result<T> {
        work(&self.db).map_err(|fault| fault.at(&self.path, action))
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.path).finish_non_exhaustive()
    }
}

fn transact<T>(
    db: &mut Connection,
    path: &Path,
    action: &'static str,
    work: impl FnOnce(&Transaction<'_>) -> std::result::Result<T, Fault>,
) -> Result<T> {
    let run = || {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&tx)?;
        tx.commit()?;
        Ok(done)
    };
    let done = run();
    done.map_err(|fault: Fault| match fault.at(path, action) {
        Error::Sqlite { path, action, source, .. } => {
            // SAFETY: the handle is that of the open connection.
            let errno = unsafe { rusqlite::ffi::sqlite3_system_errno(db.handle()) };
            Error::Sqlite { path, action, errno, source }
        }
        error => error,
    })
}

/// SQLite's integers are signed; no number here comes near the end of either kind.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
