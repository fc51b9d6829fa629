//! Runs: what is to be carried through many hosts or steps, and how far it is.

use rusqlite::params;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Fault, Result};
use super::revisions::{self, Change, Kind};
use super::{Journal, from_sql, to_sql};

/// What kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    Maintain,
    Shift,
}

impl RunKind {
    fn name(self) -> &'static str {
        match self {
            RunKind::Maintain => "maintain",
            RunKind::Shift => "shift",
        }
    }

    fn revision(self) -> Kind {
        match self {
            RunKind::Maintain => Kind::Maintain,
            RunKind::Shift => Kind::Shift,
        }
    }
}

impl Journal {
    /// Notes a new run, made by `make` out of its number.
    pub fn begin_run<R: Serialize>(
        &mut self,
        kind: RunKind,
        make: impl FnOnce(u64) -> R,
        change: &Change<'_>,
        detail: impl FnOnce(u64) -> Value,
    ) -> Result<R> {
        self.write("note a run", |tx| {
            tx.execute("INSERT INTO runs (kind, body) VALUES (?1, '')", [kind.name()])?;
            let number = tx.last_insert_rowid();
            let run = make(from_sql(number));
            tx.execute("UPDATE runs SET body = ?2 WHERE number = ?1", params![number, body(&run)?])?;
            revisions::add(tx, kind.revision(), change, &detail(from_sql(number)))?;
            Ok(run)
        })
    }

    /// Notes how a run goes on.
    pub fn note_run<R: Serialize>(
        &mut self,
        kind: RunKind,
        number: u64,
        run: &R,
        is_over: bool,
        change: &Change<'_>,
        detail: &Value,
    ) -> Result<()> {
        self.write("note a step of a run", |tx| {
            let changed = tx.execute(
                "UPDATE runs SET body = ?2, is_over = ?3 WHERE number = ?1",
                params![to_sql(number), body(run)?, is_over],
            )?;
            if changed != 1 {
                return Err(Fault::Content(format!("it has no run {number}")));
            }
            revisions::add(tx, kind.revision(), change, detail)?;
            Ok(())
        })
    }

    /// Runs under way, the oldest first.
    pub fn runs_under_way<R: DeserializeOwned>(&self, kind: RunKind) -> Result<Vec<R>> {
        self.runs_where(kind, "is_over = 0 ORDER BY number")
    }

    /// Runs that are over, the newest first.
    pub fn last_runs<R: DeserializeOwned>(&self, kind: RunKind, limit: u32) -> Result<Vec<R>> {
        self.runs_where(kind, &format!("is_over = 1 ORDER BY number DESC LIMIT {limit}"))
    }

    pub fn run<R: DeserializeOwned>(&self, kind: RunKind, number: u64) -> Result<Option<R>> {
        Ok(self.runs_where(kind, &format!("number = {}", to_sql(number)))?.pop())
    }

    /// The last shift of each service, over or not.
    pub fn last_shifts<R: DeserializeOwned>(&self) -> Result<Vec<R>> {
        let last =
            "SELECT max(number) FROM runs WHERE kind = 'shift' GROUP BY json_extract(body, '$.service')";
        self.runs_where(RunKind::Shift, &format!("number IN ({last}) ORDER BY number"))
    }

    fn runs_where<R: DeserializeOwned>(&self, kind: RunKind, which: &str) -> Result<Vec<R>> {
        self.read("read runs", |db| {
            let mut query =
                db.prepare_cached(&format!("SELECT number, body FROM runs WHERE kind = ?1 AND {which}"))?;
            let mut rows = query.query([kind.name()])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let (number, body): (i64, String) = (row.get(0)?, row.get(1)?);
                let run = serde_json::from_str(&body)
                    .map_err(|error| Fault::Content(format!("run {number} cannot be read: {error}")))?;
                found.push(run);
            }
            Ok(found)
        })
    }
}

fn body<R: Serialize>(run: &R) -> std::result::Result<String, Fault> {
    serde_json::to_string(run).map_err(|error| Fault::Content(error.to_string()))
}
