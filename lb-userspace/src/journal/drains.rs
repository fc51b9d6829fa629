//! The operators' drains: begun, amended, done, taken back, each together with its revision.

use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::{Value, json};

use crate::api::types::{Order, Receipt};
use crate::drain::{Drain, Start};

use super::error::{Error, Fault, Result};
use super::ramps::{self, Ramps};
use super::revisions::{self, Change, Kind};
use super::{Journal, from_sql, to_sql};

/// A drain as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct DrainRow {
    pub drain: Drain,
    /// `draining`, `drained` or `undrained` (taken back before its end)
    pub state: String,
    /// The drain keeps new flows off its host: until it is taken back, also after it is done.
    pub in_force: bool,
    /// Unix seconds; `None` while it is under way.
    pub ended_at: Option<u64>,
    pub receipt: Option<Receipt>,
}

/// Another order for a drain in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amended {
    pub drain: u64,
    pub order: Order,
}

/// A drain that is taken back.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenBack {
    pub drain: u64,
    /// There if the drain was still under way.
    pub receipt: Option<Receipt>,
}

const COLUMNS: &str = "id, host, state, in_force, started_at, author, reason, bounds, counters_at_start, ended_at, receipt, service, clients";

impl Journal {
    /// The number that the next drain has to take; several at once take the following ones.
    pub fn next_drain_id(&self) -> Result<u64> {
        self.read("number a drain", |db| {
            let last: Option<i64> = db
                .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'drains'", [], |row| row.get(0))
                .optional()?;
            Ok(from_sql(last.unwrap_or(0)) + 1)
        })
    }

    /// Begins the first of these drains, of one host each, which ends their ramps, amends the others, and returns the number of the last revision.
    /// All or none.
    ///
    /// # Errors
    /// [`Error::DrainInForce`] if one of the hosts is out already, [`Error::NoSuchDrain`] for one to amend that is not in force.
    pub fn drain(&mut self, begun: &[Drain], amended: &[Amended], change: &Change<'_>) -> Result<u64> {
        self.drain_instead(begun, amended, &[], change)
    }

    /// As [`Self::drain`], in the place of drains that are taken back for it.
    pub fn drain_instead(
        &mut self,
        begun: &[Drain],
        amended: &[Amended],
        superseded: &[TakenBack],
        change: &Change<'_>,
    ) -> Result<u64> {
        self.write("begin or amend a drain", |tx| {
            let mut taken = Vec::new();
            for superseded in superseded {
                taken.push(take_back(tx, superseded)?);
            }
            if !taken.is_empty() {
                revisions::add(tx, Kind::Undrain, change, &json!({ "drains": taken, "superseded": true }))?;
            }
            let mut noted = Vec::new();
            for drain in begun {
                begin(tx, drain)?;
                noted.push(json!({
                    "id": drain.id, "host": drain.host, "service": drain.service, "clients": drain.clients,
                    "order": drain.order
                }));
            }
            let mut revision = 0;
            if !noted.is_empty() {
                revision = revisions::add(tx, Kind::Drain, change, &json!({ "drains": noted }))?;
            }
            let mut noted = Vec::new();
            for amended in amended {
                let host = amend(tx, amended)?;
                noted.push(json!({ "id": amended.drain, "host": host, "order": amended.order }));
            }
            if !noted.is_empty() {
                revision = revisions::add(tx, Kind::Amend, change, &json!({ "drains": noted }))?;
            }
            Ok(revision)
        })
    }

    /// Notes the counters from which the receipt counts; the first call for a drain stays.
    pub fn note_drain_start(&mut self, drain: u64, start: &Start) -> Result<()> {
        self.write("note the start of a drain", |tx| {
            tx.execute(
                "UPDATE drains SET counters_at_start = ?2 WHERE id = ?1 AND counters_at_start IS NULL",
                params![to_sql(drain), to_json(start)?],
            )?;
            Ok(())
        })
    }

    /// Ends a drain that is done; it stays in force, but that of a host that has left the config. Returns the number of the revision.
    ///
    /// # Errors
    /// [`Error::NoSuchDrain`] if it is not under way.
    pub fn finish_drain(&mut self, receipt: &Receipt, change: &Change<'_>) -> Result<u64> {
        self.write("end a drain", |tx| {
            end(tx, receipt, "drained", !receipt.order.leaving)?;
            revisions::add(tx, Kind::Drained, change, &json!({ "receipt": receipt }))
        })
    }

    /// Takes these drains back, with the ramps by which hosts come back, and returns the number of the revision. All or none.
    ///
    /// # Errors
    /// [`Error::NoSuchDrain`] for one that is not in force, or not under way although it has a receipt.
    pub fn undrain(&mut self, drains: &[TakenBack], ramps: &Ramps, change: &Change<'_>) -> Result<u64> {
        self.write("take a drain back", |tx| {
            ramps::put(tx, ramps)?;
            let mut noted = Vec::new();
            for taken in drains {
                noted.push(take_back(tx, taken)?);
            }
            revisions::add(tx, Kind::Undrain, change, &json!({ "drains": noted, "ramps": ramps }))
        })
    }

    /// Every drain that keeps a host out, under way or done, by its number.
    pub fn open_drains(&self) -> Result<Vec<DrainRow>> {
        self.read("read the drains in force", |db| select(db, "WHERE in_force = 1 ORDER BY id", []))
    }

    /// The drain of the host that began last.
    pub fn last_drain(&self, host: &str) -> Result<Option<DrainRow>> {
        self.read("read the last drain of a host", |db| {
            Ok(select(db, "WHERE host = ?1 ORDER BY id DESC LIMIT 1", [host])?.pop())
        })
    }

    /// The drain with this number.
    pub fn drain_row(&self, id: u64) -> Result<Option<DrainRow>> {
        self.read("read a drain", |db| Ok(select(db, "WHERE id = ?1", [to_sql(id)])?.pop()))
    }

    /// Up to `limit` receipts, of `host` if given; the newest drains first.
    pub fn receipts(&self, host: Option<&str>, limit: u32) -> Result<Vec<Receipt>> {
        self.read("read receipts", |db| {
            let condition =
                "WHERE receipt IS NOT NULL AND (?1 IS NULL OR host = ?1) ORDER BY id DESC LIMIT ?2";
            let rows = select(db, condition, params![host, limit])?;
            Ok(rows.into_iter().filter_map(|row| row.receipt).collect())
        })
    }

    /// Up to `limit` drains, of `host` if given, the newest first.
    pub fn drains(&self, host: Option<&str>, limit: u32) -> Result<Vec<DrainRow>> {
        self.read("read drains", |db| {
            select(db, "WHERE ?1 IS NULL OR host = ?1 ORDER BY id DESC LIMIT ?2", params![host, limit])
        })
    }
}

fn begin(tx: &Transaction<'_>, drain: &Drain) -> std::result::Result<(), Fault> {
    // One of a part of the slots that is done gives way.
    tx.execute(
        "UPDATE drains SET in_force = 0
         WHERE host = ?1 AND service IS NULL AND clients IS NULL AND in_force = 1 AND state = 'drained' AND json_extract(bounds, '$.share') IS NOT NULL",
        [&drain.host],
    )?;
    let clients = drain.clients.map(|clients| clients.to_string());
    let in_force: Option<i64> = tx
        .query_row(
            "SELECT id FROM drains WHERE host = ?1 AND service IS ?2 AND clients IS ?3 AND in_force = 1",
            params![drain.host, drain.service, clients],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(id) = in_force {
        return Err(Error::DrainInForce { host: drain.host.clone(), drain: from_sql(id) }.into());
    }
    if drain.target().is_whole() {
        tx.execute("DELETE FROM ramps WHERE host = ?1", [&drain.host])?;
    }
    tx.execute(
        "INSERT INTO drains (id, host, state, in_force, started_at, author, reason, bounds, counters_at_start, service, clients)
         VALUES (?1, ?2, 'draining', 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            to_sql(drain.id),
            drain.host,
            to_sql(drain.started_at),
            drain.by,
            drain.reason,
            to_json(&drain.order)?,
            drain.start.as_ref().map(to_json).transpose()?,
            drain.service,
            clients,
        ],
    )?;
    Ok(())
}

/// Returns the host.
fn amend(tx: &Transaction<'_>, amended: &Amended) -> std::result::Result<String, Fault> {
    let host = tx
        .query_row(
            // Of another part of the slots other flows are counted.
            "UPDATE drains SET bounds = ?2, counters_at_start =
                 CASE WHEN json_extract(bounds, '$.share') IS json_extract(?2, '$.share') THEN counters_at_start END
             WHERE id = ?1 AND in_force = 1 RETURNING host",
            params![to_sql(amended.drain), to_json(&amended.order)?],
            |row| row.get(0),
        )
        .optional()?;
    host.ok_or_else(|| Error::NoSuchDrain { drain: amended.drain, wanted: "in force" }.into())
}

fn to_json(value: &impl serde::Serialize) -> std::result::Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::Content(error.to_string()))
}

fn end(
    tx: &Transaction<'_>,
    receipt: &Receipt,
    state: &str,
    in_force: bool,
) -> std::result::Result<(), Fault> {
    let text = to_json(receipt)?;
    let changed = tx.execute(
        "UPDATE drains SET state = ?2, in_force = ?3, ended_at = ?4, receipt = ?5 WHERE id = ?1 AND state = 'draining'",
        params![to_sql(receipt.drain), state, in_force, to_sql(receipt.ended_at), text],
    )?;
    if changed == 1 {
        Ok(())
    } else {
        Err(Error::NoSuchDrain { drain: receipt.drain, wanted: "under way" }.into())
    }
}

fn take_back(tx: &Transaction<'_>, taken: &TakenBack) -> std::result::Result<Value, Fault> {
    let host: Option<String> = tx
        .query_row("SELECT host FROM drains WHERE id = ?1 AND in_force = 1", [to_sql(taken.drain)], |row| {
            row.get(0)
        })
        .optional()?;
    let Some(host) = host else {
        return Err(Error::NoSuchDrain { drain: taken.drain, wanted: "in force" }.into());
    };
    match &taken.receipt {
        Some(receipt) if receipt.drain == taken.drain => end(tx, receipt, "undrained", false)?,
        Some(receipt) => {
            return Err(
                Error::NoSuchDrain { drain: receipt.drain, wanted: "the one that is taken back" }.into()
            );
        }
        None => {
            let changed = tx.execute(
                "UPDATE drains SET in_force = 0 WHERE id = ?1 AND state = 'drained'",
                [to_sql(taken.drain)],
            )?;
            if changed != 1 {
                return Err(Error::NoSuchDrain { drain: taken.drain, wanted: "done" }.into());
            }
        }
    }
    Ok(json!({ "id": taken.drain, "host": host, "receipt": taken.receipt }))
}

fn select(
    db: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
) -> std::result::Result<Vec<DrainRow>, Fault> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM drains {condition}"))?;
    let mut rows = query.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(of_row(row)?);
    }
    Ok(found)
}

fn of_row(row: &Row<'_>) -> std::result::Result<DrainRow, Fault> {
    let id = from_sql(row.get(0)?);
    Ok(DrainRow {
        drain: Drain {
            id,
            host: row.get(1)?,
            service: row.get(11)?,
            clients: of_text(id, row.get(12)?)?,
            started_at: from_sql(row.get(4)?),
            by: row.get(5)?,
            reason: row.get(6)?,
            order: of_json(id, "order", row.get(7)?)?.unwrap_or_default(),
            start: of_json(id, "start", row.get(8)?)?,
        },
        state: row.get(2)?,
        in_force: row.get(3)?,
        ended_at: row.get::<_, Option<i64>>(9)?.map(from_sql),
        receipt: of_json(id, "receipt", row.get(10)?)?,
    })
}

fn of_text(drain: u64, text: Option<String>) -> std::result::Result<Option<IpNet>, Fault> {
    let read = text.map(|text| text.parse()).transpose();
    read.map_err(|_| Fault::Content(format!("the clients of drain {drain} are no prefix")))
}

fn of_json<T: serde::de::DeserializeOwned>(
    drain: u64,
    what: &str,
    text: Option<String>,
) -> std::result::Result<Option<T>, Fault> {
    let read = text.map(|text| serde_json::from_str(&text)).transpose();
    read.map_err(|error| Fault::Content(format!("the {what} of drain {drain} cannot be read: {error}")))
}
