//! Old revisions go, by age and by count. What is needed stays, and the database itself refuses to let go of it (see the triggers
//! of the schema): drains with their receipts, the configs of the last ten changes, and the one that was in force at the oldest
//! revision that stays.

use std::time::Duration;

use rusqlite::params;

use super::error::Result;
use super::{Journal, from_sql, to_sql};

/// Revisions that stay however old they are: a clock that was set wrong must not empty the journal.
pub const ALWAYS_KEPT: u64 = 100;

/// How long revisions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    pub time: Duration,
    pub revisions: u64,
}

impl Journal {
    /// Deletes what is older than `keep` says, as one transaction; returns how many revisions went.
    pub fn prune(&mut self, keep: Keep, now: u64) -> Result<u64> {
        let oldest_kept = to_sql(now.saturating_sub(keep.time.as_secs()));
        let below = self.read("look for old revisions", |db| {
            let last: i64 =
                db.query_row("SELECT coalesce(max(number), 0) FROM revisions", [], |row| row.get(0))?;
            let last = from_sql(last);
            // Times need not grow with numbers, as clocks are set: whatever is before the first that is young enough is old.
            let young: Option<i64> = db.query_row(
                "SELECT min(number) FROM revisions WHERE at >= ?1 AND number > 1",
                [oldest_kept],
                |row| row.get(0),
            )?;
            let by_age = young.map_or(last + 1, from_sql).min((last + 1).saturating_sub(ALWAYS_KEPT));
            Ok(by_age.max((last + 1).saturating_sub(keep.revisions.max(ALWAYS_KEPT))))
        })?;
        let is_any = self.read("look for old revisions", |db| {
            let oldest: Option<i64> =
                db.query_row("SELECT min(number) FROM revisions WHERE number > 1", [], |row| row.get(0))?;
            Ok(oldest.is_some_and(|oldest| from_sql(oldest) < below))
        })?;
        if !is_any {
            return Ok(0);
        }
        self.write("delete old revisions", |tx| {
            tx.execute("UPDATE pruning SET below = ?1", [to_sql(below)])?;
            let gone = tx.execute(
                "DELETE FROM revisions
                 WHERE number < ?1 AND number > 1 AND number NOT IN (SELECT revision FROM applied) AND (
                     config IS NULL
                     OR number < (SELECT min(number) FROM (
                            SELECT number FROM revisions WHERE config IS NOT NULL ORDER BY number DESC LIMIT 10
                        ))
                        AND number < (SELECT max(number) FROM revisions WHERE config IS NOT NULL AND number < ?1)
                 )",
                [to_sql(below)],
            )? as u64;
            tx.execute(
                "DELETE FROM configs WHERE number NOT IN (SELECT config FROM revisions WHERE config IS NOT NULL)
                     AND NOT EXISTS (SELECT 1 FROM applied WHERE configs.number IN (config, seen, back_to))",
                [],
            )?;
            tx.execute("UPDATE pruning SET below = 0, pruned = pruned + ?1", params![to_sql(gone)])?;
            Ok(gone)
        })
    }

    /// Revisions that are gone.
    pub fn pruned(&self) -> Result<u64> {
        self.read("read what was pruned", |db| {
            Ok(from_sql(db.query_row("SELECT pruned FROM pruning", [], |row| row.get(0))?))
        })
    }
}
