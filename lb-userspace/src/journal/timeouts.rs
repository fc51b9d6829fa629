//! The numbers of the timeouts that services have of their own.
//!
//! A pin carries the number, so it keeps its meaning for as long as a pin may carry it: a set that no service has any more is
//! forgotten when it has been unused for longer than its longest timeout. Only if all numbers are taken and a new set needs
//! one, the set that has been unused for longest gives way earlier; pins that still carry its number then go by the new one,
//! until their flow's next packet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_common::flow::TIMEOUT_SETS;
use rusqlite::{Transaction, params};

use super::error::{Error, Fault, Result};
use super::{Journal, from_sql, to_sql};
use crate::model::Timeouts;

/// Number of a set, from 1.
pub type SetNumber = u8;

impl Journal {
    /// Every set that a pin may carry, by number, after those in `used` have got theirs. To be called at a start.
    ///
    /// # Errors
    /// [`Error::TooManyTimeouts`] when more are used than there are numbers.
    pub fn timeout_sets(
        &mut self,
        used: &BTreeSet<Timeouts>,
        now: u64,
    ) -> Result<BTreeMap<SetNumber, Timeouts>> {
        self.write("number the timeouts of services", |tx| {
            let mut kept = read(tx)?;
            kept.retain(|_, set| used.contains(&set.timeouts) || !set.is_over(now));
            for set in kept.values_mut() {
                let is_used = used.contains(&set.timeouts);
                set.unused_since = if is_used { None } else { set.unused_since.or(Some(now)) };
            }
            for timeouts in used {
                if !kept.values().any(|set| set.timeouts == *timeouts) {
                    let number = number(&kept).ok_or(Error::TooManyTimeouts)?;
                    kept.insert(number, Set { timeouts: *timeouts, unused_since: None });
                }
            }
            write(tx, &kept)?;
            Ok(kept.into_iter().map(|(number, set)| (number, set.timeouts)).collect())
        })
    }
}

struct Set {
    timeouts: Timeouts,
    unused_since: Option<u64>,
}

impl Set {
    /// No pin that carries its number can be alive.
    fn is_over(&self, now: u64) -> bool {
        self.unused_since.is_some_and(|since| now.saturating_sub(since) > self.timeouts.longest().as_secs())
    }
}

/// A free number, or that of the set which has been unused for longest.
fn number(kept: &BTreeMap<SetNumber, Set>) -> Option<SetNumber> {
    let free = (1..TIMEOUT_SETS as SetNumber).find(|number| !kept.contains_key(number));
    free.or_else(|| {
        let unused = kept.iter().filter_map(|(number, set)| Some((set.unused_since?, *number)));
        unused.min().map(|(_, number)| number)
    })
}

fn read(tx: &Transaction<'_>) -> std::result::Result<BTreeMap<SetNumber, Set>, Fault> {
    let mut query = tx.prepare(
        "SELECT number, half_open, established, closing, udp, udp_gap, unused_since FROM timeout_sets",
    )?;
    let mut rows = query.query([])?;
    let mut sets = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let seconds = |column| Ok::<_, rusqlite::Error>(Duration::from_secs(from_sql(row.get(column)?)));
        let timeouts = Timeouts {
            half_open: seconds(1)?,
            established: seconds(2)?,
            closing: seconds(3)?,
            udp: seconds(4)?,
            udp_gap: seconds(5)?,
        };
        let unused_since = row.get::<_, Option<i64>>(6)?.map(from_sql);
        sets.insert(row.get(0)?, Set { timeouts, unused_since });
    }
    Ok(sets)
}

fn write(tx: &Transaction<'_>, sets: &BTreeMap<SetNumber, Set>) -> std::result::Result<(), Fault> {
    tx.execute("DELETE FROM timeout_sets", [])?;
    for (number, Set { timeouts: t, unused_since }) in sets {
        let seconds = |duration: Duration| to_sql(duration.as_secs());
        tx.execute(
            "INSERT INTO timeout_sets VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                number,
                seconds(t.half_open),
                seconds(t.established),
                seconds(t.closing),
                seconds(t.udp),
                seconds(t.udp_gap),
                unused_since.map(to_sql),
            ],
        )?;
    }
    Ok(())
}
