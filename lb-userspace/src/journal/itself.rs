//! The drain of the balancer itself.

use rusqlite::{OptionalExtension, params};
use serde_json::json;

use super::Journal;
use super::error::{Fault, Result};
use super::revisions::{self, Change, Kind};
use crate::drain::SelfDrain;

impl Journal {
    /// Notes how it stands, `None`: it is over and the balancer in use; returns the number of the revision.
    pub fn note_self(&mut self, kind: Kind, drain: Option<&SelfDrain>, change: &Change<'_>) -> Result<u64> {
        self.write("note the balancer's own drain", |tx| {
            match drain {
                Some(drain) => {
                    let body =
                        serde_json::to_string(drain).map_err(|error| Fault::Content(error.to_string()))?;
                    tx.execute(
                        "INSERT OR REPLACE INTO self_drain (one, body) VALUES (1, ?1)",
                        params![body],
                    )?;
                }
                None => {
                    tx.execute("DELETE FROM self_drain", [])?;
                }
            }
            revisions::add(tx, kind, change, &json!({ "self": drain }))
        })
    }

    pub fn self_drain(&self) -> Result<Option<SelfDrain>> {
        self.read("read the balancer's own drain", |db| {
            let body: Option<String> =
                db.query_row("SELECT body FROM self_drain", [], |row| row.get(0)).optional()?;
            let read = |body: String| {
                serde_json::from_str(&body).map_err(|error| {
                    Fault::Content(format!("the balancer's own drain cannot be read: {error}"))
                })
            };
            body.map(read).transpose()
        })
    }
}
