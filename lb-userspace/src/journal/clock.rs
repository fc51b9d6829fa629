//! Times that are kept, after the wall clock was set: the next daemon counts by another clock than the one before, and what is open is
//! dated anew, so that as many seconds are left of it as were. What was dated before this boot was so by another clock, which may have been
//! right: a machine whose clock begins in 1970 with each boot is no reason to move a deadline that was given before.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Transaction, params};
use serde_json::{Value, json};

use super::error::{Fault, Result};
use super::revisions::{self, Change, Kind};
use super::{Journal, to_sql};

/// Seconds that two readings of one clock may differ by.
const BLUR: u64 = 5;

/// The longest time to the bound of a drain, seconds: that of a lease.
const LONGEST_BOUND: u64 = 366 * 86_400;

/// What times are counted by: a boot of the kernel, and the Unix time at which its clock began, as it was taken to be when the daemon
/// started. In the journal as text, `ID AT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    pub id: String,
    /// Unix seconds.
    pub at: u64,
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.at)
    }
}

impl FromStr for Boot {
    type Err = ();

    /// A version before noted the boot alone.
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (id, at) = text.split_once(' ').ok_or(())?;
        Ok(Boot { id: id.to_owned(), at: at.parse().map_err(drop)? })
    }
}

impl Journal {
    /// Dates what is open anew if the clock was set since the daemon before, in the same boot, which began `uptime` seconds ago: in another
    /// one nothing tells. To be called before any time is read. Returns the seconds by which it was set: forward if positive.
    pub fn follow_clock(&mut self, boot: &Boot, uptime: u64) -> Result<i64> {
        let before = self.boot()?.and_then(|text| text.parse::<Boot>().ok());
        let Some(before) = before.filter(|before| before.id == boot.id) else { return Ok(0) };
        if boot.at.abs_diff(before.at) <= BLUR {
            return Ok(0);
        }
        let by = to_sql(boot.at) - to_sql(before.at);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let at = now.map_or(0, |time| time.as_secs());
        self.write("date what is open anew", |tx| {
            let from = before.at.saturating_sub(BLUR);
            Step { by, from, until: before.at + uptime + BLUR }.move_all(tx)?;
            tx.execute("UPDATE meta SET boot_id = ?1", [boot.to_string()])?;
            let change = Change { at, author: "sluice", reason: Some("the wall clock was set") };
            revisions::add(tx, Kind::Clock, &change, &json!({ "seconds": by }))
        })?;
        Ok(by)
    }
}

/// The clock was set by so many seconds; what was dated by it before lies within this boot, Unix seconds of that clock.
struct Step {
    by: i64,
    from: u64,
    until: u64,
}

impl Step {
    fn move_all(&self, tx: &Transaction<'_>) -> std::result::Result<(), Fault> {
        let times = [self.by, to_sql(self.from), to_sql(self.until)];
        // What has ended has its receipt, which stays as it was written.
        tx.execute(
            "UPDATE drains SET started_at = max(0, started_at + ?1)
             WHERE state = 'draining' AND started_at BETWEEN ?2 AND ?3",
            times,
        )?;
        tx.execute(
            "UPDATE applied SET deadline = max(0, deadline + ?1)
             WHERE deadline - max(0, patience) BETWEEN ?2 AND ?3",
            times,
        )?;
        tx.execute(
            "UPDATE timeout_sets SET unused_since = max(0, unused_since + ?1)
             WHERE unused_since BETWEEN ?2 AND ?3",
            times,
        )?;
        // A bound lies ahead of when it was given, which nothing tells.
        let bounds = Step { until: self.until + LONGEST_BOUND, ..*self };
        for (step, table, key, column, names) in [
            (&bounds, "drains", "id", "bounds", &["deadline", "lease"][..]),
            (self, "ramps", "host", "body", &["started_at", "since"]),
            (self, "self_drain", "one", "body", &["started_at", "done_at"]),
            // Of each generation.
            (self, "lineages", "key", "body", &["at"]),
            (self, "health", "service || ' ' || host", "body", &["since", "back", "penalty_at"]),
            // Windows of time are by the wall clock.
            (self, "runs", "number", "body", &["started_at", "since", "at", "began", "ended"]),
        ] {
            let open = match table {
                "drains" => "WHERE in_force = 1",
                "runs" => "WHERE is_over = 0",
                _ => "",
            };
            let select = format!("SELECT {key}, {column} FROM {table} {open}");
            let mut query = tx.prepare(&select)?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(rusqlite::types::Value, String)> = rows.collect::<std::result::Result<_, _>>()?;
            for (id, text) in rows {
                let mut body: Value = serde_json::from_str(&text)
                    .map_err(|error| Fault::Content(format!("{column} in {table} is no JSON: {error}")))?;
                step.move_in(&mut body, names);
                tx.execute(
                    &format!("UPDATE {table} SET {column} = ?2 WHERE {key} = ?1"),
                    params![id, body.to_string()],
                )?;
            }
        }
        Ok(())
    }

    /// Moves the numbers with these names, wherever they are in it; 0 is no time.
    fn move_in(&self, body: &mut Value, names: &[&str]) {
        match body {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_u64().filter(|time| *time > 0 && names.contains(&name.as_str())) {
                        Some(time) if (self.from..=self.until).contains(&time) => {
                            *value = json!(time.saturating_add_signed(self.by));
                        }
                        Some(_) => {}
                        None => self.move_in(value, names),
                    }
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.move_in(value, names)),
            _ => {}
        }
    }
}
