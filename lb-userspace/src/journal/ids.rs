//! The numbers that the data path knows hosts, services and their pairs by.
//!
//! A pin names its host by number, so a name keeps its number also while it is not configured, until the caller says that no pin can
//! name it any more. Then the number may go to another name.

use std::collections::BTreeMap;
use std::fmt;

use lb_common::layout::{BACKENDS, SERVICES};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::Journal;
use super::error::{Error, Fault, Result};

/// What a number stands for; each kind counts from 1 by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    Host,
    Service,
    /// A (service, host) pair, which has counters of its own.
    Stat,
}

impl IdKind {
    /// The greatest number of the kind: a pin's word has 12 bits for its host, of which all zeros and all ones are taken; the others are
    /// indices of the data path's arrays.
    pub const fn max(self) -> u32 {
        match self {
            IdKind::Host => 4094,
            IdKind::Service => SERVICES as u32 - 1,
            IdKind::Stat => BACKENDS as u32 / 2,
        }
    }

    /// What has such numbers.
    pub fn words(self) -> &'static str {
        match self {
            IdKind::Host => "hosts",
            IdKind::Service => "services",
            IdKind::Stat => "pairs of a service and a host",
        }
    }
}

impl fmt::Display for IdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            IdKind::Host => "host",
            IdKind::Service => "service",
            IdKind::Stat => "stat",
        })
    }
}

/// The numbers of all that a config names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    pub hosts: BTreeMap<String, u16>,
    pub services: BTreeMap<String, u16>,
    /// (service, host)
    pub stats: BTreeMap<(String, String), u32>,
}

impl Journal {
    /// The numbers of these hosts, services and pairs of them; what has none gets one. All or none. Unless they are to be kept they are
    /// those that a later call would give.
    pub fn numbers<'a>(
        &mut self,
        hosts: impl Iterator<Item = &'a str>,
        services: impl Iterator<Item = &'a str>,
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        keep: bool,
    ) -> Result<Numbers> {
        let number_all = |tx: &Transaction<'_>| {
            let mut numbers = Numbers::default();
            let mut free = Free::default();
            for host in hosts {
                let id = number(tx, IdKind::Host, host, "", &mut free)?;
                numbers.hosts.insert(host.to_owned(), narrow(IdKind::Host, id)?);
            }
            let mut free = Free::default();
            for service in services {
                let id = number(tx, IdKind::Service, service, "", &mut free)?;
                numbers.services.insert(service.to_owned(), narrow(IdKind::Service, id)?);
            }
            let mut free = Free::default();
            for (service, host) in pairs {
                let id = number(tx, IdKind::Stat, service, host, &mut free)?;
                numbers.stats.insert((service.to_owned(), host.to_owned()), id);
            }
            Ok(numbers)
        };
        let action = "number hosts and services";
        if keep { self.write(action, number_all) } else { self.try_out(action, number_all) }
    }

    /// The numbers (1 to 4094) of these hosts; hosts without one get one. All or none.
    pub fn host_ids(&mut self, names: &[impl AsRef<str>]) -> Result<BTreeMap<String, u16>> {
        self.numbers_of(IdKind::Host, names)
    }

    /// The numbers (1 to 65535) of these services; services without one get one. All or none.
    pub fn service_ids(&mut self, names: &[impl AsRef<str>]) -> Result<BTreeMap<String, u16>> {
        self.numbers_of(IdKind::Service, names)
    }

    /// The numbers (from 1, as small as can be) of these (service, host) pairs; pairs without one get one. All or none.
    pub fn stat_ids(
        &mut self,
        pairs: &[(impl AsRef<str>, impl AsRef<str>)],
    ) -> Result<BTreeMap<(String, String), u32>> {
        self.write("number pairs of service and host", |tx| {
            let mut free = Free::default();
            let mut ids = BTreeMap::new();
            for (service, host) in pairs {
                let (service, host) = (service.as_ref(), host.as_ref());
                let id = number(tx, IdKind::Stat, service, host, &mut free)?;
                ids.insert((service.to_owned(), host.to_owned()), id);
            }
            Ok(ids)
        })
    }

    /// Every host that has a number, configured or not.
    pub fn known_hosts(&self) -> Result<BTreeMap<String, u16>> {
        self.known(IdKind::Host)
    }

    /// The numbers of the counters that a host has in these services, configured or not.
    pub fn stats_of_host<'a>(&self, host: &str, services: impl Iterator<Item = &'a str>) -> Result<Vec<u32>> {
        self.read("read the numbers of a host's counters", |db| {
            let mut query =
                db.prepare_cached("SELECT id FROM ids WHERE kind = 'stat' AND name = ?1 AND part = ?2")?;
            let mut stats = Vec::new();
            for service in services {
                let id: Option<u32> = query.query_row([service, host], |row| row.get(0)).optional()?;
                stats.extend(id);
            }
            Ok(stats)
        })
    }

    /// Every number that is kept.
    pub fn all_numbers(&self) -> Result<Numbers> {
        let (hosts, services) = (self.known(IdKind::Host)?, self.known(IdKind::Service)?);
        let stats = self.read("read ids", |db| {
            let mut query = db.prepare_cached("SELECT name, part, id FROM ids WHERE kind = 'stat'")?;
            let rows = query.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })?;
        Ok(Numbers { hosts, services, stats })
    }

    /// Gives numbers back, all or none; those of hosts that have a drain in force stay. Only those that are not configured and that no pin,
    /// slot or record of the data path names any more, nor a lineage.
    pub fn release(&mut self, numbers: &Numbers) -> Result<()> {
        self.write("release numbers", |tx| {
            let mut host = tx.prepare_cached(
                "DELETE FROM ids WHERE kind = 'host' AND name = ?1
                 AND NOT EXISTS (SELECT 1 FROM drains WHERE host = ?1 AND in_force = 1)",
            )?;
            for name in numbers.hosts.keys() {
                host.execute([name])?;
            }
            let mut other =
                tx.prepare_cached("DELETE FROM ids WHERE kind = ?1 AND name = ?2 AND part = ?3")?;
            for name in numbers.services.keys() {
                other.execute([&IdKind::Service.to_string(), name, ""])?;
            }
            for (service, host) in numbers.stats.keys() {
                other.execute([&IdKind::Stat.to_string(), service, host])?;
            }
            Ok::<_, Fault>(())
        })
    }

    fn numbers_of(&mut self, kind: IdKind, names: &[impl AsRef<str>]) -> Result<BTreeMap<String, u16>> {
        self.write("number hosts or services", |tx| {
            let mut free = Free::default();
            let mut ids = BTreeMap::new();
            for name in names {
                let id = number(tx, kind, name.as_ref(), "", &mut free)?;
                ids.insert(name.as_ref().to_owned(), narrow(kind, id)?);
            }
            Ok(ids)
        })
    }

    fn known(&self, kind: IdKind) -> Result<BTreeMap<String, u16>> {
        self.read("read ids", |db| {
            let mut query = db.prepare_cached("SELECT name, id FROM ids WHERE kind = ?1")?;
            let mut rows = query.query([kind.to_string()])?;
            let mut ids = BTreeMap::new();
            while let Some(row) = rows.next()? {
                ids.insert(row.get(0)?, narrow(kind, row.get(1)?)?);
            }
            Ok(ids)
        })
    }
}

fn narrow(kind: IdKind, id: u32) -> std::result::Result<u16, Fault> {
    match u16::try_from(id) {
        Ok(narrow) if id <= kind.max() => Ok(narrow),
        _ => Err(Fault::Content(format!("a {kind} has the id {id}"))),
    }
}

/// Where the search for a free number goes on: all below are taken.
#[derive(Default)]
struct Free {
    from: u32,
}

fn number(
    tx: &Transaction<'_>,
    kind: IdKind,
    name: &str,
    part: &str,
    free: &mut Free,
) -> std::result::Result<u32, Fault> {
    let kept = tx
        .prepare_cached("SELECT id FROM ids WHERE kind = ?1 AND name = ?2 AND part = ?3")?
        .query_row(params![kind.to_string(), name, part], |row| row.get(0))
        .optional()?;
    match kept {
        Some(id) if id <= kind.max() => return Ok(id),
        // Versions before gave numbers that the data path has no place for.
        Some(_) => {
            tx.execute(
                "DELETE FROM ids WHERE kind = ?1 AND name = ?2 AND part = ?3",
                params![kind.to_string(), name, part],
            )?;
        }
        None => {}
    }
    let id = lowest_free(tx, kind, free.from.saturating_add(1))?;
    tx.prepare_cached("INSERT INTO ids (kind, name, part, id) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        kind.to_string(),
        name,
        part,
        id
    ])?;
    free.from = id;
    Ok(id)
}

/// The lowest number from `from` on that nobody has. The lowest, so that arrays indexed by it stay short.
fn lowest_free(db: &Connection, kind: IdKind, from: u32) -> std::result::Result<u32, Fault> {
    let mut query = db.prepare_cached("SELECT id FROM ids WHERE kind = ?1 AND id >= ?2 ORDER BY id")?;
    let mut rows = query.query(params![kind.to_string(), from])?;
    let mut free = i64::from(from);
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? != free {
            break;
        }
        free += 1;
    }
    match u32::try_from(free) {
        Ok(id) if id <= kind.max() => Ok(id),
        _ => Err(Error::IdsExhausted { kind, max: kind.max() }.into()),
    }
}
