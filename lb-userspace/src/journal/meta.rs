//! The one row that describes the journal itself.

use std::path::Path;

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::json;

use super::clock::Boot;
use super::configs::{self, NewConfig};
use super::error::{Error, Fault, Result};
use super::revisions::{self, Change, Kind};
use super::{Journal, from_sql, to_sql};

/// Secret key of the flow hash and of the rings.
pub type HashKey = [u8; 16];

impl Journal {
    /// The key in force: the config's if it gives one, else the one made when the journal was made.
    pub fn hash_key(&self) -> HashKey {
        self.hash_key
    }

    /// The config's key took the place of another one when the journal was opened: slots of flows, and lineages noted
    /// before, belong to the old one.
    pub fn key_replaced(&self) -> bool {
        self.key_replaced
    }

    /// Unix seconds.
    pub fn created_at(&self) -> Result<u64> {
        self.read("read when it was made", |db| {
            Ok(from_sql(db.query_row("SELECT created_at FROM meta", [], |row| row.get(0))?))
        })
    }

    /// The boot of the last start, as text; a version before noted its id alone.
    pub(super) fn boot(&self) -> Result<Option<String>> {
        self.read("read what times are counted by", |db| {
            Ok(db.query_row("SELECT boot_id FROM meta", [], |row| row.get(0))?)
        })
    }

    /// Whether the last start was in this boot. Otherwise what the data path held then is gone.
    pub fn is_of(&self, boot: &Boot) -> Result<bool> {
        Ok(self.boot()?.is_some_and(|text| text.split(' ').next() == Some(&boot.id)))
    }

    /// Notes that the counters of the drains that are under way are gone, and that those from now on are of this boot; call it before anything
    /// counts.
    pub fn note_loss(&mut self, boot: &Boot) -> Result<()> {
        self.write("note that counters are gone", |tx| {
            tx.execute("UPDATE meta SET boot_id = ?1", [boot.to_string()])?;
            tx.execute(
                "UPDATE drains SET counters_at_start = json_set(counters_at_start, '$.is_gone', json('true'))
                 WHERE state = 'draining' AND counters_at_start IS NOT NULL",
                [],
            )?;
            Ok(())
        })
    }

    /// Notes that the daemon has started, in which boot, by which config; call it when the data path is in line with the
    /// journal. Returns the number of the revision.
    pub fn note_start(
        &mut self,
        boot: &Boot,
        config: Option<&NewConfig<'_>>,
        change: &Change<'_>,
        detail: &serde_json::Value,
    ) -> Result<u64> {
        self.write("note the start", |tx| {
            tx.execute("UPDATE meta SET boot_id = ?1", [boot.to_string()])?;
            match config {
                Some(config) => configs::put_in_force(tx, Kind::Start, config, change, detail),
                None => revisions::add(tx, Kind::Start, change, detail),
            }
        })
    }
}

/// Settles which key is in force; says whether it took the place of another one.
pub(super) fn settle_key(
    tx: &Transaction<'_>,
    path: &Path,
    config_key: Option<HashKey>,
    now: u64,
) -> std::result::Result<(HashKey, bool), Fault> {
    let change = Change { at: now, author: "sluice", reason: None };
    let kept: Option<HashKey> = tx.query_row("SELECT hash_key FROM meta", [], |row| row.get(0)).optional()?;
    match (kept, config_key) {
        (None, given) => {
            let key = given.map_or_else(random_key, Ok)?;
            tx.execute(
                "INSERT INTO meta (one, hash_key, created_at) VALUES (1, ?1, ?2)",
                params![key, to_sql(now)],
            )?;
            let origin = if given.is_some() { "config" } else { "made" };
            let detail = json!({ "journal": path.to_string_lossy(), "hash_key": origin });
            revisions::add(tx, Kind::Created, &change, &detail)?;
            Ok((key, false))
        }
        (Some(kept), Some(given)) if kept != given => {
            tx.execute("UPDATE meta SET hash_key = ?1", params![given])?;
            revisions::add(tx, Kind::HashKey, &change, &json!({ "hash_key": "config" }))?;
            Ok((given, true))
        }
        (Some(kept), _) => Ok((kept, false)),
    }
}

fn random_key() -> Result<HashKey> {
    let mut key = HashKey::default();
    // SAFETY: the pointer and the length are those of `key`, which lives through the call. Requests of up to 256
    // bytes are answered whole and without interruption, see getrandom(2).
    let got = unsafe { libc::getrandom(key.as_mut_ptr().cast(), key.len(), 0) };
    if usize::try_from(got) == Ok(key.len()) {
        Ok(key)
    } else {
        Err(Error::Random { source: std::io::Error::last_os_error() })
    }
}
