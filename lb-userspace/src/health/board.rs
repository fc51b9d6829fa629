//! What all checks have found, where the checkers write it and everybody reads it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::probe::{Result, Run, Target};
use super::{Good, Kept, Oper, Said, Track, passive, schedule};
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

/// Runs of a check by what came of them, since the daemon's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runs {
    pub ok: u64,
    pub failed: u64,
    /// The balancer could not ask, or could not see the host.
    pub not_run: u64,
}

impl Runs {
    fn count(&mut self, result: &Result) {
        *match result {
            Result::Ok(_) => &mut self.ok,
            Result::Failed(_) => &mut self.failed,
            Result::NotRun(_) => &mut self.not_run,
        } += 1;
    }
}

impl std::ops::AddAssign for Runs {
    fn add_assign(&mut self, other: Runs) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.not_run += other.not_run;
    }
}

/// The figures of a check.
#[derive(Debug, Clone)]
pub struct Figures {
    pub target: Arc<Target>,
    pub oper: Oper,
    pub runs: Runs,
    /// What the last run took.
    pub took: Option<Duration>,
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
    pub runs: Runs,
    /// The last ones, if they succeeded.
    good: Option<Good>,
    /// Unix second at which the last run began.
    began: u64,
    /// The host could not be seen then.
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
    /// What passive checks have come to, by (service, host).
    passive: BTreeMap<(String, String), Kept>,
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
                Entry {
                    target: target.into(),
                    track,
                    seen: VecDeque::new(),
                    due: None,
                    runs: Runs::default(),
                    good: None,
                    began: 0,
                    is_unseen: false,
                }
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

    /// The target of a check that begins to run at `now`, Unix seconds; `None`: the entries are others by now.
    pub(super) fn start(&self, version: u64, index: usize, now: u64) -> Option<Arc<Target>> {
        let mut inner = self.lock();
        if inner.version != version {
            return None;
        }
        let unseen = inner.unseen.clone();
        let entry = inner.entries.get_mut(index)?;
        (entry.due, entry.began) = (None, now);
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
        entry.runs.count(&seen.run.result);
        match &seen.run.result {
            Result::NotRun(_) if is_unseen => {}
            Result::NotRun(_) => inner.not_run += 1,
            result => {
                let outcome = result.outcome();
                let since = entry.good.map_or(entry.began, |good| good.since);
                entry.good = outcome.is_ok.then_some(Good { since, last: entry.began });
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

    /// Has what passive checks have come to before.
    pub fn set_passive(&self, passive: BTreeMap<(String, String), Kept>) {
        self.lock().passive = passive;
    }

    /// A passive check says otherwise than before.
    pub fn note_passive(&self, pair: (String, String), kept: Kept) {
        let mut inner = self.lock();
        inner.passive.insert(pair.clone(), kept);
        inner.changed.insert(pair);
        self.changes.notify_one();
    }

    /// The checks of these pairs, by what they are known by, as of one moment. One look at each check, however many pairs are asked for.
    pub fn kept_of(&self, pairs: &Changed) -> BTreeMap<(String, String), BTreeMap<String, Kept>> {
        let mut found: BTreeMap<&str, BTreeMap<&str, BTreeMap<String, Kept>>> = BTreeMap::new();
        for (service, host) in pairs {
            found.entry(service).or_default().entry(host).or_default();
        }
        let inner = self.lock();
        for entry in &inner.entries {
            let id = &entry.target.id;
            let checks = found.get_mut(id.service.as_str()).and_then(|hosts| hosts.get_mut(id.host.as_str()));
            if let Some(checks) = checks {
                checks.insert(id.check.clone(), entry.track.kept.clone());
            }
        }
        let passive = |pair: &(String, String)| inner.passive.get(pair).cloned();
        let mut all = BTreeMap::new();
        for (service, hosts) in found {
            for (host, mut checks) in hosts {
                let pair = (service.to_owned(), host.to_owned());
                checks.extend(passive(&pair).map(|kept| (passive::NAME.to_owned(), kept)));
                all.insert(pair, checks);
            }
        }
        all
    }

    /// What these checks have said since this daemon's start.
    pub fn said(&self, is_meant: impl Fn(&CheckId) -> bool) -> Vec<Said> {
        let inner = self.lock();
        let said = |entry: &Entry| Said {
            id: entry.target.id.clone(),
            oper: entry.track.kept.oper,
            runs: entry.runs,
            good: entry.good,
            last: entry.seen.front().map(|seen| seen.run.result.outcome().why),
        };
        inner.entries.iter().filter(|entry| is_meant(&entry.target.id)).map(said).collect()
    }

    /// All that is known, of one host or of all.
    pub fn entries(&self, host: Option<&str>) -> Vec<Entry> {
        let inner = self.lock();
        let is_meant = |entry: &&Entry| host.is_none_or(|host| entry.target.id.host == host);
        inner.entries.iter().filter(is_meant).cloned().collect()
    }

    /// What all checks have counted, those of a (service, host) beside each other. Who writes waits meanwhile, so nothing long is copied.
    pub fn figures(&self) -> Vec<Figures> {
        let inner = self.lock();
        let figures = inner.entries.iter().map(|entry| Figures {
            target: entry.target.clone(),
            oper: entry.track.kept.oper,
            runs: entry.runs,
            took: entry.seen.front().map(|seen| seen.run.took),
        });
        figures.collect()
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

    /// Of backends that are to be asked once; they may go with the next [`Self::set_ways`].
    pub fn add_ways(&self, ways: impl IntoIterator<Item = ((String, String), Way)>) {
        Arc::make_mut(&mut self.lock().ways).extend(ways);
    }

    pub(super) fn way(&self, service: &str, host: &str) -> Option<Way> {
        let ways = self.lock().ways.clone();
        ways.get(&(service.to_owned(), host.to_owned())).copied()
    }
}

/// What the checks of a pair come to, and which of them says that it is down.
pub fn sum(checks: &BTreeMap<String, Kept>) -> (Oper, Option<&str>) {
    let down = checks.iter().find(|(_, kept)| kept.oper == Oper::Down).map(|(check, _)| check.as_str());
    (Oper::of_all(checks.values().map(|kept| kept.oper)), down)
}
