//! Configs: the one in force, those before it, and one that waits for somebody to confirm it.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;

use super::error::{Error, Fault, Result};
use super::revisions::{self, Change, Kind, Settles};
use super::{Journal, from_sql, to_sql};

/// Patience of a config of which it is not known yet whether it can be put in force; one that waits to be confirmed has a second at least.
/// A version that does not know of it takes such a config back at its start.
const UNTRIED: i64 = 0;

/// The config in force, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// That made it so.
    pub revision: u64,
    pub text: String,
    /// The daemon's own file, as it was when it was last looked at: another text now is news.
    pub seen: String,
    pub pending: Option<Pending>,
    /// The config before, while it is not known yet that this one can be put in force: a start that cannot do so goes by it.
    pub before: Option<String>,
}

impl Applied {
    /// The config that a start goes by where this one cannot be used.
    pub fn back_to(&self) -> Option<&str> {
        let pending = self.pending.as_ref().map(|pending| pending.back_to.as_str());
        pending.or(self.before.as_deref())
    }
}

/// It is taken back unless somebody confirms it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The config that comes back.
    pub back_to: String,
    /// Unix seconds.
    pub deadline: u64,
    /// Seconds that there were in the beginning.
    pub patience: u64,
}

impl Pending {
    /// Seconds that are left at `now`: never more than there were, whatever has become of the clock.
    pub fn left(&self, now: u64) -> u64 {
        self.deadline.saturating_sub(now).min(self.patience)
    }
}

/// A config that is to be in force.
#[derive(Debug, Clone, Copy)]
pub struct NewConfig<'a> {
    pub text: &'a str,
    /// The daemon's own file, if it was looked at.
    pub seen: Option<&'a str>,
    /// Seconds in which somebody has to confirm it; else the last one that did not wait for that comes back.
    pub confirm: Option<u64>,
    /// The revision that it takes back.
    pub about: Option<u64>,
}

impl Journal {
    /// The config in force; `None`: none was noted yet.
    pub fn applied(&self) -> Result<Option<Applied>> {
        self.read("read the config in force", |db| {
            let row = db
                .prepare_cached("SELECT revision, config, seen, back_to, deadline, patience FROM applied")?
                .query_row([], |row| {
                    let pending: Option<(i64, i64, i64)> = match row.get::<_, Option<i64>>(3)? {
                        Some(back_to) => Some((back_to, row.get(4)?, row.get(5)?)),
                        None => None,
                    };
                    Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, pending))
                })
                .optional()?;
            let Some((revision, config, seen, pending)) = row else { return Ok(None) };
            let (pending, before) = match pending {
                Some((back_to, _, UNTRIED)) => (None, Some(text(db, back_to)?)),
                Some((back_to, deadline, patience)) => {
                    let (deadline, patience) = (from_sql(deadline), from_sql(patience));
                    (Some(Pending { back_to: text(db, back_to)?, deadline, patience }), None)
                }
                None => (None, None),
            };
            let (revision, seen) = (from_sql(revision), text(db, seen)?);
            Ok(Some(Applied { revision, text: text(db, config)?, seen, pending, before }))
        })
    }

    /// Notes that a config is in force from now on, and returns the number of the revision. To be called before it is published; until
    /// [`Self::note_tried`] it is not known whether that can be done, unless it takes one back that waited.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`] while another one waits to be confirmed, unless this takes that one back.
    pub fn apply(
        &mut self,
        kind: Kind,
        new: &NewConfig<'_>,
        change: &Change<'_>,
        detail: &Value,
    ) -> Result<u64> {
        self.write("note a config", |tx| {
            let before: Option<(i64, Option<i64>)> = tx
                .query_row("SELECT config, patience FROM applied", [], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let revision = put_in_force(tx, kind, new, change, detail)?;
            // What nobody has confirmed is nothing to go back to.
            if let Some((before, None | Some(UNTRIED))) = before {
                tx.execute(
                    "UPDATE applied SET back_to = ?1, deadline = ?2, patience = ?3 WHERE back_to IS NULL AND config != ?1",
                    params![before, to_sql(change.at), UNTRIED],
                )?;
            }
            Ok(revision)
        })
    }

    /// Notes that the config in force could be put in force.
    pub fn note_tried(&mut self) -> Result<()> {
        self.write("note that a config could be put in force", |tx| {
            tx.execute(
                "UPDATE applied SET back_to = NULL, deadline = NULL, patience = NULL WHERE patience = ?1",
                [UNTRIED],
            )?;
            Ok(())
        })
    }

    /// Notes the config that a start has put in force in the place of one that is taken back.
    pub fn go_on_by(
        &mut self,
        kind: Kind,
        new: &NewConfig<'_>,
        change: &Change<'_>,
        detail: &Value,
    ) -> Result<u64> {
        self.write("note the config of a start", |tx| put_in_force(tx, kind, new, change, detail))
    }

    /// Notes that a config could not be put in force, and that the one before is in force as it was: if it waited to be confirmed it does
    /// so still.
    pub fn take_back(
        &mut self,
        failed: u64,
        before: &Applied,
        change: &Change<'_>,
        detail: &Value,
    ) -> Result<u64> {
        let config = NewConfig { text: &before.text, seen: None, confirm: None, about: Some(failed) };
        self.write("note a config that failed", |tx| {
            let revision = put_in_force(tx, Kind::Failed, &config, change, detail)?;
            if let Some(Pending { back_to, deadline, patience }) = &before.pending {
                let back_to = number(tx, back_to)?;
                tx.execute(
                    "UPDATE applied SET back_to = ?1, deadline = ?2, patience = ?3",
                    params![back_to, to_sql(*deadline), to_sql(*patience)],
                )?;
            }
            Ok(revision)
        })
    }

    /// Notes that the config in force is to stay; returns the number of the revision.
    ///
    /// # Errors
    /// [`Error::NothingToConfirm`]
    pub fn confirm(&mut self, change: &Change<'_>) -> Result<u64> {
        self.write("note a confirmation", |tx| {
            let pending: Option<i64> = tx
                .query_row("SELECT revision FROM applied WHERE patience != ?1", [UNTRIED], |row| row.get(0))
                .optional()?;
            let Some(revision) = pending.map(from_sql) else { return Err(Error::NothingToConfirm.into()) };
            tx.execute("UPDATE applied SET back_to = NULL, deadline = NULL, patience = NULL", [])?;
            let settles = Settles { config: None, about: Some(revision) };
            revisions::add_settling(tx, Kind::Confirm, change, &Value::Object(Default::default()), settles)
        })
    }

    /// Notes that the daemon's own file was looked at, and found to be what is in force or not to be taken.
    pub fn note_seen(&mut self, file: &str) -> Result<()> {
        self.write("note the config file", |tx| {
            let seen = number(tx, file)?;
            tx.execute("UPDATE applied SET seen = ?1 WHERE seen != ?1", [seen])?;
            Ok(())
        })
    }

    /// The config that was in force after the revision; `None`: it is not known any more, or was not noted yet.
    pub fn config_at(&self, revision: u64) -> Result<Option<String>> {
        self.read("read an earlier config", |db| {
            let config: Option<i64> = db
                .prepare_cached(
                    "SELECT config FROM revisions WHERE config IS NOT NULL AND number <= ?1 ORDER BY number DESC LIMIT 1",
                )?
                .query_row([to_sql(revision)], |row| row.get(0))
                .optional()?;
            config.map(|config| text(db, config)).transpose()
        })
    }

    /// The last revision before this one that put another config in force than this one left.
    pub fn change_before(&self, revision: u64) -> Result<Option<u64>> {
        self.read("read the config before", |db| {
            let earlier = db
                .prepare_cached(
                    "SELECT max(number) FROM revisions WHERE config IS NOT NULL AND number < ?1 AND config != (
                         SELECT config FROM revisions WHERE config IS NOT NULL AND number <= ?1 ORDER BY number DESC LIMIT 1
                     )",
                )?
                .query_row([to_sql(revision)], |row| row.get::<_, Option<i64>>(0))?;
            Ok(earlier.map(from_sql))
        })
    }
}

pub(super) fn put_in_force(
    tx: &Transaction<'_>,
    kind: Kind,
    new: &NewConfig<'_>,
    change: &Change<'_>,
    detail: &Value,
) -> std::result::Result<u64, Fault> {
    type Before = (i64, i64, Option<i64>, i64, Option<i64>);
    let before: Option<Before> = tx
        .query_row(
            "SELECT config, revision, iif(patience = ?1, NULL, deadline), seen, iif(patience = ?1, NULL, back_to) FROM applied",
            [UNTRIED],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )
        .optional()?;
    if let Some((_, waiting, Some(deadline), ..)) = before
        && new.about != Some(from_sql(waiting))
    {
        let (revision, deadline) = (from_sql(waiting), from_sql(deadline));
        return Err(Error::Unconfirmed { revision, deadline }.into());
    }
    let config = number(tx, new.text)?;
    let seen = match (new.seen, before) {
        (Some(seen), _) => number(tx, seen)?,
        (None, Some((_, _, _, seen, _))) => seen,
        (None, None) => config,
    };
    let pending = match (new.confirm, before) {
        // What nobody has confirmed is nothing to go back to.
        (Some(patience), Some((before, .., back_to))) => {
            Some((back_to.unwrap_or(before), to_sql(change.at.saturating_add(patience)), to_sql(patience)))
        }
        _ => None,
    };
    let settles = Settles { config: Some(config), about: new.about };
    let revision = revisions::add_settling(tx, kind, change, detail, settles)?;
    tx.execute(
        "INSERT OR REPLACE INTO applied (one, config, revision, seen, back_to, deadline, patience)
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            config,
            to_sql(revision),
            seen,
            pending.map(|pending| pending.0),
            pending.map(|pending| pending.1),
            pending.map(|pending| pending.2)
        ],
    )?;
    Ok(revision)
}

/// The number of a text; one that is not there gets one. There are few, and most differ in length.
fn number(tx: &Transaction<'_>, text: &str) -> std::result::Result<i64, Fault> {
    let kept = tx
        .prepare_cached("SELECT number FROM configs WHERE length(text) = length(?1) AND text = ?1")?
        .query_row([text], |row| row.get(0))
        .optional()?;
    match kept {
        Some(number) => Ok(number),
        None => {
            tx.prepare_cached("INSERT INTO configs (text) VALUES (?1)")?.execute([text])?;
            Ok(tx.last_insert_rowid())
        }
    }
}

fn text(db: &Connection, number: i64) -> std::result::Result<String, Fault> {
    let text = db
        .prepare_cached("SELECT text FROM configs WHERE number = ?1")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    text.ok_or_else(|| Fault::Content(format!("the config {number} is missing")))
}
