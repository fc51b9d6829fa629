//! Every change, with who made it and why. Rows are only ever added; the database itself refuses anything else.

use std::fmt;

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Fault, Result};
use super::{Journal, from_sql, to_sql};

/// Who changes something, when and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// Unix seconds.
    pub at: u64,
    pub author: &'a str,
    pub reason: Option<&'a str>,
}

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The journal was made.
    Created,
    /// The config's hash key took the place of another one.
    HashKey,
    Start,
    /// Another config was put in force.
    Apply,
    /// It is to stay.
    Confirm,
    /// An earlier config was put in force again.
    Rollback,
    /// A config could not be put in force, so the one before was again.
    Failed,
    /// A host that the config does not name any more has no flow left.
    Left,
    Drain,
    /// A drain under way was given another order.
    Amend,
    /// A drain came to its end.
    Drained,
    Undrain,
    /// A ramp changed its course, or came to its end.
    Ramp,
    /// Flows of a host were ended early.
    Kick,
    /// Checks found hosts up or down.
    Health,
    /// The balancer itself was drained, or its drain was changed.
    SelfDrain,
    /// That drain came to its end.
    SelfDrained,
    /// The balancer is in use again.
    SelfUndrain,
    /// A maintenance run began, took a step, or came to its end.
    Maintain,
    /// A shift began, took a step, or came to its end.
    Shift,
    /// The wall clock was set, and what is open dated anew.
    Clock,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Created => "created",
            Kind::HashKey => "hash-key",
            Kind::Start => "start",
            Kind::Apply => "apply",
            Kind::Confirm => "confirm",
            Kind::Rollback => "rollback",
            Kind::Failed => "failed",
            Kind::Left => "left",
            Kind::Drain => "drain",
            Kind::Amend => "amend",
            Kind::Drained => "drained",
            Kind::Undrain => "undrain",
            Kind::Ramp => "ramp",
            Kind::Kick => "kick",
            Kind::Health => "health",
            Kind::SelfDrain => "self-drain",
            Kind::SelfDrained => "self-drained",
            Kind::SelfUndrain => "self-undrain",
            Kind::Maintain => "maintain",
            Kind::Shift => "shift",
            Kind::Clock => "clock",
        })
    }
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// From 1, in the order of the changes.
    pub number: u64,
    /// Unix seconds.
    pub at: u64,
    pub author: String,
    pub reason: Option<String>,
    /// As [`Kind`] is displayed; a later version may have written one that this version does not know.
    pub kind: String,
    pub detail: Value,
    /// The earlier one that this one settles.
    pub about: Option<u64>,
    /// It put a config in force.
    pub has_config: bool,
}

/// Which revisions are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Which {
    /// With smaller numbers only.
    pub before: Option<u64>,
    /// Unix seconds: not older ones.
    pub since: Option<u64>,
}

/// What a revision is beside its detail.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settles {
    /// Number of the config that it puts in force.
    pub config: Option<i64>,
    pub about: Option<u64>,
}

const COLUMNS: &str = "number, at, author, reason, kind, detail, about, config IS NOT NULL";

impl Journal {
    /// Notes a change that has no other effect in the journal; returns its number.
    pub fn note(&mut self, kind: Kind, change: &Change<'_>, detail: &Value) -> Result<u64> {
        self.write("note a revision", |tx| add(tx, kind, change, detail))
    }

    /// Number of the last change.
    pub fn last_revision(&self) -> Result<u64> {
        self.read("read the last revision", last)
    }

    /// Up to `limit` changes, the newest first, beginning below the number `before` if given.
    pub fn revisions(&self, before: Option<u64>, limit: u32) -> Result<Vec<Revision>> {
        self.revisions_that(Which { before, since: None }, limit, |_| true)
    }

    /// Up to `limit` changes of those that are `chosen`, the newest first.
    pub fn revisions_that(
        &self,
        which: Which,
        limit: u32,
        chosen: impl Fn(&Revision) -> bool,
    ) -> Result<Vec<Revision>> {
        self.read("read revisions", |db| {
            let mut query = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM revisions WHERE number < ?1 AND at >= ?2 ORDER BY number DESC"
            ))?;
            let mut rows = query
                .query(params![which.before.map_or(i64::MAX, to_sql), to_sql(which.since.unwrap_or(0))])?;
            let mut found = Vec::new();
            while found.len() < limit as usize
                && let Some(row) = rows.next()?
            {
                let revision = of_row(row)?;
                if chosen(&revision) {
                    found.push(revision);
                }
            }
            Ok(found)
        })
    }

    /// The change with this number.
    pub fn revision(&self, number: u64) -> Result<Option<Revision>> {
        self.read("read a revision", |db| {
            let mut query =
                db.prepare_cached(&format!("SELECT {COLUMNS} FROM revisions WHERE number = ?1"))?;
            let mut rows = query.query([to_sql(number)])?;
            rows.next()?.map(of_row).transpose()
        })
    }

    /// The changes that settle this one, the oldest first.
    pub fn revisions_about(&self, number: u64) -> Result<Vec<Revision>> {
        self.read("read what came of a revision", |db| {
            let mut query = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM revisions WHERE about = ?1 ORDER BY number"
            ))?;
            let mut rows = query.query([to_sql(number)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(of_row(row)?);
            }
            Ok(found)
        })
    }
}

/// Adds a revision to a transaction that also makes its effect.
pub(super) fn add(
    db: &Connection,
    kind: Kind,
    change: &Change<'_>,
    detail: &Value,
) -> std::result::Result<u64, Fault> {
    add_settling(db, kind, change, detail, Settles::default())
}

/// As [`add`].
pub(super) fn add_settling(
    db: &Connection,
    kind: Kind,
    change: &Change<'_>,
    detail: &Value,
    Settles { config, about }: Settles,
) -> std::result::Result<u64, Fault> {
    db.prepare_cached(
        "INSERT INTO revisions (at, author, reason, kind, detail, config, about) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        to_sql(change.at),
        change.author,
        change.reason,
        kind.to_string(),
        detail.to_string(),
        config,
        about.map(to_sql),
    ])?;
    Ok(from_sql(db.last_insert_rowid()))
}

pub(super) fn last(db: &Connection) -> std::result::Result<u64, Fault> {
    Ok(from_sql(db.query_row("SELECT coalesce(max(number), 0) FROM revisions", [], |row| row.get(0))?))
}

fn of_row(row: &Row<'_>) -> std::result::Result<Revision, Fault> {
    let number = from_sql(row.get(0)?);
    let detail: String = row.get(5)?;
    Ok(Revision {
        number,
        at: from_sql(row.get(1)?),
        author: row.get(2)?,
        reason: row.get(3)?,
        kind: row.get(4)?,
        detail: serde_json::from_str(&detail).map_err(|error| {
            Fault::Content(format!("the detail of revision {number} is no JSON: {error}"))
        })?,
        about: row.get::<_, Option<i64>>(6)?.map(from_sql),
        has_config: row.get(7)?,
    })
}
