//! Hosts on their way back: their ramps, until they are over.

use std::collections::BTreeMap;

use rusqlite::{Transaction, params};
use serde_json::json;

use super::Journal;
use super::error::{Fault, Result};
use super::revisions::{self, Change, Kind};
use crate::ramp::Ramp;

/// Ramps by host; `None`: its ramp is over.
pub type Ramps = BTreeMap<String, Option<Ramp>>;

impl Journal {
    /// Notes how ramps go on, and returns the number of the revision.
    pub fn note_ramps(&mut self, ramps: &Ramps, change: &Change<'_>) -> Result<u64> {
        self.write("note a ramp", |tx| {
            put(tx, ramps)?;
            revisions::add(tx, Kind::Ramp, change, &json!({ "ramps": ramps }))
        })
    }

    pub fn ramps(&self) -> Result<BTreeMap<String, Ramp>> {
        self.read("read the ramps", |db| {
            let mut query = db.prepare_cached("SELECT host, body FROM ramps")?;
            let mut rows = query.query([])?;
            let mut found = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (host, body): (String, String) = (row.get(0)?, row.get(1)?);
                let ramp = serde_json::from_str(&body)
                    .map_err(|error| Fault::Content(format!("the ramp of {host} cannot be read: {error}")))?;
                found.insert(host, ramp);
            }
            Ok(found)
        })
    }
}

/// As part of a change.
pub(super) fn put(tx: &Transaction<'_>, ramps: &Ramps) -> std::result::Result<(), Fault> {
    for (host, ramp) in ramps {
        match ramp {
            Some(ramp) => {
                let body = serde_json::to_string(ramp).map_err(|error| Fault::Content(error.to_string()))?;
                tx.execute("INSERT OR REPLACE INTO ramps (host, body) VALUES (?1, ?2)", params![host, body])?;
            }
            None => {
                tx.execute("DELETE FROM ramps WHERE host = ?1", [host])?;
            }
        }
    }
    Ok(())
}
