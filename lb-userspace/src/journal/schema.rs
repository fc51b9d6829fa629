//! The tables, by version. `user_version` of the file is the number of steps that were taken.

use std::path::Path;

use rusqlite::Transaction;

use super::error::{Error, Fault};
use super::file::{APPLICATION_ID, foreign};

/// Step `n` brings a file of version `n` to `n + 1`. A step that was released is never changed again.
const STEPS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
    include_str!("schema_8.sql"),
    include_str!("schema_9.sql"),
    #[cfg(feature = "layout-next")]
    include_str!("schema_next.sql"),
];

/// The newest schema that this version reads and writes.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// Whether a file of a later version says that it is of use to this one.
fn is_readable(tx: &Transaction<'_>) -> rusqlite::Result<bool> {
    let column = "SELECT count(*) FROM pragma_table_info('meta') WHERE name = 'readable_from'";
    let says: bool = tx.query_row(column, [], |row| row.get(0))?;
    Ok(says && tx.query_row("SELECT readable_from <= ?1 FROM meta", [VERSION], |row| row.get(0))?)
}

/// Takes the steps that are missing, after a look whether the tables are a journal's at all.
pub(super) fn bring_up_to_date(tx: &Transaction<'_>, path: &Path) -> Result<(), Fault> {
    let id: i32 = tx.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let empty: bool = tx.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
    if id != APPLICATION_ID && !(id == 0 && empty) {
        return Err(foreign(path, id).into());
    }
    let found: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > VERSION {
        // What a later version has added stays, for when it comes back.
        if is_readable(tx)? {
            return Ok(());
        }
        return Err(Error::Newer { path: path.to_owned(), found, supported: VERSION }.into());
    }
    let Ok(done) = usize::try_from(found) else {
        return Err(Fault::Content(format!("its schema has the number {found}")));
    };
    for step in &STEPS[done..] {
        tx.execute_batch(step)?;
    }
    if found < VERSION {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(())
}
