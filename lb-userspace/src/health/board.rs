//! What all checks have found, where the checkers write it and everybody reads it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::probe::{Result, Run, Target};
use super::{Kept, Oper, Track, schedule};
use crate::dataplane::BackendTable;

/// Runs that are remembered of each check.
const REMEMBERED: usize = 8;

/// A check of a host for a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckId {
    pub service: String,
    pub host: String,
    /// As [`crate::model::Check`] is displayed.
    pub check: String,
}

/// A run that is over.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Unix seconds of its end.
    pub at: u64,
    pub run: Run,
}

/// What is known of a check.
#[derive(Debug, Clone)]
pub struct Entry {
    pub target: Arc<Target>,
    pub track: Track,
    /// The last ones, the latest first.
    pub seen: VecDeque<Seen>,
    /// When it runs next, milliseconds of the checkers' clock; `None`: it runs now.
    pub due: Option<u64>,
    /// The host could not be seen when the run began.
    is_unseen: bool,
}

/// How packets for a backend leave this machine, as the last publication has it.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub backend: BackendTable,
    /// This machine's own address, of the VIP's family.
    pub source: Option<IpAddr>,
}

/// (service, host) pairs whose checks say otherwise than before.
pub type Changed = BTreeSet<(String, String)>;

#[derive(Default)]
struct Inner {
    /// Grows when the entries are others.
    version: u64,
    entries: Vec<Entry>,
    changed: Changed,
    /// Hosts of which failures say nothing.
    unseen: Arc<BTreeSet<String>>,
    ways: Arc<BTreeMap<(String, String), Way>>,
    runs: u64,
    /// Runs that could not be made, for want of this machine's own means.
    not_run: u64,
}

/// Shared by checkers and engine.
pub struct Board {
    /// The zero of the checkers' clock.
    pub(super) began: Instant,
    inner: Mutex<Inner>,
    /// Woken with the first change that nobody has taken.
    pub changes: Notify,
    /// Woken when the entries are others.
    pub replaced: Notify,
}

impl Default for Board {
    fn default() -> Self {
        Board {
            began: Instant::now(),
            inner: Mutex::default(),
            changes: Notify::new(),
            replaced: Notify::new(),
        }
    }
}

impl Board {
    /// Milliseconds of the checkers' clock.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is in it is whole at any moment.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these checks from now on; nothing is done if it has them. What is known of one that was there before stays; of others an earlier daemon may have `kept` something.
    pub fn set(&self, targets: Vec<Target>, kept: &BTreeMap<CheckId, Kept>) {
        let mut inner = self.lock();
        if inner.entries.len() == targets.len()
            && inner.entries.iter().zip(&targets).all(|(entry, target)| *entry.target == *target)
        {
            return;
        }
        let mut known: BTreeMap<CheckId, Entry> =
            inner.entries.drain(..).map(|entry| (entry.target.id.clone(), entry)).collect();
        let entries = targets.into_iter().map(|target| match known.remove(&target.id) {
            Some(entry) => Entry { target: target.into(), due: None, ..entry },
            None => {
                let track = Track::resume(kept.get(&target.id).cloned().unwrap_or_default());
                Entry { target: target.into(), track, seen: VecDeque::new(), due: None, is_unseen: false }
            }
        });
        inner.entries = entries.collect();
        inner.version += 1;
        drop(inner);
        self.replaced.notify_one();
    }

    /// The entries' version, and when each runs first.
    pub(super) fn begin(&self, now: u64) -> (u64, Vec<u64>) {
        let mut inner = self.lock();
        let due = inner.entries.iter_mut().map(|entry| {
            let target = &entry.target;
            let first = schedule::first(target.seed, target.health.interval.as_millis() as u64, now);
            entry.due = Some(first);
            first
        });
        let due = due.collect();
        (inner.version, due)
    }

    /// The target of a check that begins to run; `None`: the entries are others by now.
    pub(super) fn start(&self, version: u64, index: usize) -> Option<Arc<Target>> {
        let mut inner = self.lock();
        if inner.version != version {
            return None;
        }
        let unseen = inner.unseen.clone();
        let entry = inner.entries.get_mut(index)?;
        entry.due = None;
        entry.is_unseen = unseen.contains(&entry.target.id.host);
        Some(entry.target.clone())
    }

    /// Takes in a run, and says when the check runs next.
    pub(super) fn note(&self, version: u64, index: usize, mut seen: Seen, due: u64) {
        let mut inner = self.lock();
        if inner.version != version {
            return;
        }
        let inner = &mut *inner;
        let Some(entry) = inner.entries.get_mut(index) else { return };
        entry.due = Some(due);
        inner.runs += 1;
        let is_unseen = entry.is_unseen || inner.unseen.contains(&entry.target.id.host);
        if let Result::Failed(why) = &seen.run.result
            && is_unseen
        {
            seen.run.result = Result::NotRun(format!("this machine was cut off: {why}"));
        }
        match &seen.run.result {
            Result::NotRun(_) if is_unseen => {}
            Result::NotRun(_) => inner.not_run += 1,
            result => {
                let outcome = result.outcome();
                if entry.track.step(&entry.target.health, &outcome, seen.at).is_some() {
                    let id = &entry.target.id;
                    inner.changed.insert((id.service.clone(), id.host.clone()));
                    self.changes.notify_one();
                }
            }
        }
        entry.seen.push_front(seen);
        entry.seen.truncate(REMEMBERED);
    }

    /// The pairs that changed since the last call.
    pub fn take_changed(&self) -> Changed {
        std::mem::take(&mut self.lock().changed)
    }

    /// Says again that pairs have changed: what follows from it could not be done.
    pub fn give_back(&self, changed: Changed) {
        self.lock().changed.extend(changed);
        self.changes.notify_one();
    }

    /// The checks of a pair, by what they are known by.
    pub fn kept(&self, service: &str, host: &str) -> BTreeMap<String, Kept> {
        let inner = self.lock();
        let entries = inner.entries.iter().filter(|entry| {
            let id = &entry.target.id;
            id.service == service && id.host == host
        });
        entries.map(|entry| (entry.target.id.check.clone(), entry.track.kept.clone())).collect()
    }

    /// All that is known, of one host or of all.
    pub fn entries(&self, host: Option<&str>) -> Vec<Entry> {
        let inner = self.lock();
        let is_meant = |entry: &&Entry| host.is_none_or(|host| entry.target.id.host == host);
        inner.entries.iter().filter(is_meant).cloned().collect()
    }

    /// Runs that are over.
    pub fn runs(&self) -> u64 {
        self.lock().runs
    }

    /// Runs that could not be made.
    pub fn not_run(&self) -> u64 {
        self.lock().not_run
    }

    /// Says of which hosts failures tell nothing from now on, as it is this machine that cannot reach anybody.
    pub fn set_unseen(&self, hosts: BTreeSet<String>) {
        self.lock().unseen = Arc::new(hosts);
    }

    pub fn set_ways(&self, ways: BTreeMap<(String, String), Way>) {
        self.lock().ways = Arc::new(ways);
    }

    pub(super) fn way(&self, service: &str, host: &str) -> Option<Way> {
        let ways = self.lock().ways.clone();
        ways.get(&(service.to_owned(), host.to_owned())).copied()
    }
}

/// What the checks of a pair come to: it is down if one says so, and up if all do.
pub fn sum(checks: &BTreeMap<String, Kept>) -> (Oper, Option<&str>) {
    if let Some((check, _)) = checks.iter().find(|(_, kept)| kept.oper == Oper::Down) {
        return (Oper::Down, Some(check));
    }
    let is_up = !checks.is_empty() && checks.values().all(|kept| kept.oper == Oper::Up);
    (if is_up { Oper::Up } else { Oper::Unknown }, None)
}
