//! The numbers of timeout sets: the instance's timeouts, and those that services have of their own.
//!
//! A pin carries the number, so it keeps its meaning for as long as a pin may carry it: a set that nobody has any more is
//! forgotten when it has been unused for longer than its longest timeout. Only if all numbers are taken and a new set needs
//! one, the set that has been unused for longest gives way earlier; pins that still carry its number then go by the new one,
//! until their flow's next packet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lb_common::flow::TIMEOUT_SETS;
use rusqlite::{Connection, Transaction, params};

use super::error::{Error, Fault, Result};
use super::{Journal, from_sql, to_sql};
use crate::model::Timeouts;

/// Number of a set.
pub type SetNumber = u8;

/// Every set that a pin may carry, by number.
pub type TimeoutSets = BTreeMap<SetNumber, TimeoutSet>;

/// A timeout set with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutSet {
    pub timeouts: Timeouts,
    /// Unix seconds of the start that found that nobody has it any more.
    pub unused_since: Option<u64>,
}

impl TimeoutSet {
    /// No pin that carries its number can be alive.
    pub fn is_over(&self, now: u64) -> bool {
        self.unused_since.is_some_and(|since| now.saturating_sub(since) > self.timeouts.longest().as_secs())
    }
}

impl Journal {
    /// The sets that are kept, with those in `used`, which get their numbers. Nothing is written: the data path that goes by them
    /// may be refused.
    ///
    /// # Errors
    /// [`Error::TooManyTimeouts`] when more are used than there are numbers.
    pub fn timeout_sets(&self, used: &BTreeSet<Timeouts>, now: u64) -> Result<TimeoutSets> {
        let mut sets = self.read("read the timeouts of services", read)?;
        sets.retain(|_, set| used.contains(&set.timeouts) || !set.is_over(now));
        for set in sets.values_mut() {
            let is_used = used.contains(&set.timeouts);
            set.unused_since = if is_used { None } else { set.unused_since.or(Some(now)) };
        }
        for timeouts in used {
            if !sets.values().any(|set| set.timeouts == *timeouts) {
                let number = number(&sets).ok_or(Error::TooManyTimeouts)?;
                sets.insert(number, TimeoutSet { timeouts: *timeouts, unused_since: None });
            }
        }
        Ok(sets)
    }

    /// Notes the sets that a data path in force goes by.
    pub fn note_timeout_sets(&mut self, sets: &TimeoutSets) -> Result<()> {
        self.write("note the timeouts of services", |tx| write(tx, sets))
    }
}

/// A free number, or that of the set which has been unused for longest.
fn number(sets: &TimeoutSets) -> Option<SetNumber> {
    let free = (0..TIMEOUT_SETS as SetNumber).find(|number| !sets.contains_key(number));
    free.or_else(|| {
        let unused = sets.iter().filter_map(|(number, set)| Some((set.unused_since?, *number)));
        let (_, number) = unused.min()?;
        log::warn!(
            "timeouts changed often: idle connections of services that had {:?} go by other ones until their next packet",
            sets[&number].timeouts
        );
        Some(number)
    })
}

fn read(db: &Connection) -> std::result::Result<TimeoutSets, Fault> {
    let mut query = db.prepare(
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
        sets.insert(row.get(0)?, TimeoutSet { timeouts, unused_since });
    }
    Ok(sets)
}

fn write(tx: &Transaction<'_>, sets: &TimeoutSets) -> std::result::Result<(), Fault> {
    tx.execute("DELETE FROM timeout_sets", [])?;
    for (number, TimeoutSet { timeouts: t, unused_since }) in sets {
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
