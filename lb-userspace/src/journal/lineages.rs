//! The inputs of rings whose handover is open, and the number of the last publication.
//!
//! What a lineage says is the ring planner's business; here it is a JSON value under a name.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};
use serde_json::Value;

use super::error::{Fault, Result};
use super::{Journal, from_sql};

impl Journal {
    /// Number of the last publication of the rings; 0 before the first.
    pub fn generation(&self) -> Result<u64> {
        self.read("read the generation", current)
    }

    /// Begins a publication: replaces the lineages in `put`, drops those in `done`, counts the generation up and returns
    /// it, all as one change. To be called before the rings are published.
    pub fn next_generation(
        &mut self,
        put: &BTreeMap<String, Value>,
        done: &[impl AsRef<str>],
    ) -> Result<u64> {
        self.write("note a generation", |tx| {
            for key in done {
                drop_one(tx, key.as_ref())?;
            }
            for (key, body) in put {
                put_one(tx, key, body)?;
            }
            tx.execute("UPDATE meta SET generation = generation + 1", [])?;
            current(tx)
        })
    }

    pub fn replace_lineage(&mut self, key: &str, body: &Value) -> Result<()> {
        self.write("note a lineage", |tx| put_one(tx, key, body))
    }

    /// Says whether there was one.
    pub fn delete_lineage(&mut self, key: &str) -> Result<bool> {
        self.write("drop a lineage", |tx| drop_one(tx, key))
    }

    /// The names of all that are kept: with many hosts and handovers open their bodies are long.
    pub fn lineage_keys(&self) -> Result<BTreeSet<String>> {
        self.read("read the names of lineages", |db| {
            let mut query = db.prepare_cached("SELECT key FROM lineages")?;
            let keys = query.query_map([], |row| row.get(0))?;
            Ok(keys.collect::<rusqlite::Result<_>>()?)
        })
    }

    pub fn lineages(&self) -> Result<BTreeMap<String, Value>> {
        self.read("read the lineages", |db| {
            let mut query = db.prepare_cached("SELECT key, body FROM lineages")?;
            let mut rows = query.query([])?;
            let mut found = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (key, body): (String, String) = (row.get(0)?, row.get(1)?);
                let body = serde_json::from_str(&body)
                    .map_err(|error| Fault::Content(format!("the lineage {key} is no JSON: {error}")))?;
                found.insert(key, body);
            }
            Ok(found)
        })
    }
}

fn current(db: &Connection) -> std::result::Result<u64, Fault> {
    Ok(from_sql(db.query_row("SELECT generation FROM meta", [], |row| row.get(0))?))
}

fn put_one(db: &Connection, key: &str, body: &Value) -> std::result::Result<(), Fault> {
    db.prepare_cached("INSERT OR REPLACE INTO lineages (key, body) VALUES (?1, ?2)")?
        .execute(params![key, body.to_string()])?;
    Ok(())
}

fn drop_one(db: &Connection, key: &str) -> std::result::Result<bool, Fault> {
    Ok(db.prepare_cached("DELETE FROM lineages WHERE key = ?1")?.execute([key])? > 0)
}
