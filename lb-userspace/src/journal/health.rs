//! What checks found, so that no host turns up or down by a restart.

use std::collections::BTreeMap;

use rusqlite::params;
use serde_json::Value;

use super::Journal;
use super::error::{Fault, Result};
use super::revisions::{self, Change, Kind};

/// By (service, host); the host is empty for what a service remembers as a whole.
pub type HealthRows = BTreeMap<(String, String), Value>;

impl Journal {
    /// Notes what checks found, and returns the number of the revision.
    pub fn note_health(&mut self, rows: &HealthRows, change: &Change<'_>, detail: &Value) -> Result<u64> {
        self.write("note what checks found", |tx| {
            let mut put =
                tx.prepare_cached("INSERT OR REPLACE INTO health (service, host, body) VALUES (?1, ?2, ?3)")?;
            for ((service, host), body) in rows {
                put.execute(params![service, host, body.to_string()])?;
            }
            drop(put);
            revisions::add(tx, Kind::Health, change, detail)
        })
    }

    /// Forgets what was found of these.
    pub fn forget_health(&mut self, gone: &[(String, String)]) -> Result<()> {
        self.write("forget what checks found", |tx| {
            for (service, host) in gone {
                tx.execute("DELETE FROM health WHERE service = ?1 AND host = ?2", params![service, host])?;
            }
            Ok(())
        })
    }

    pub fn health(&self) -> Result<HealthRows> {
        self.read("read what checks found", |db| {
            let mut query = db.prepare_cached("SELECT service, host, body FROM health")?;
            let mut rows = query.query([])?;
            let mut found = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (service, host, body): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let body = serde_json::from_str(&body).map_err(|error| {
                    Fault::Content(format!("what checks found of {host} for {service} is no JSON: {error}"))
                })?;
                found.insert((service, host), body);
            }
            Ok(found)
        })
    }
}
