//! Starting the engine: the journal replayed, the data path of an earlier daemon adopted, everything published.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lb_common::flow::{self, Phase, TIMEOUT_SETS};
use serde_json::json;
use tokio::sync::watch;

use super::configs::{InForce, NOT_APPLIED};
use super::cut_off::CutOff;
use super::edges::Edges;
use super::health::Health;
use super::house::House;
use super::itself::Itself;
use super::kicks::Kicks;
use super::maintain::Maintenance;
use super::progress::Durations;
use super::ramps::Watch;
use super::rates::Rates;
use super::resets::Resets;
use super::retiring::Retiring;
use super::rings::Rings;
use super::shift::Shifts;
use super::telling::Telling;
use super::{Clock, Engine, Error};
use crate::api::types::Happening;
use crate::dataplane::{Abilities, Dataplane, Options};
use crate::journal::{Boot, Change, Journal, Kind, NewConfig, Numbers, SetNumber, TimeoutSets};
use crate::model::{Model, Timeouts};
use crate::netlink::{self, NextHopState};
use crate::plan::{Ids, sizes};
use crate::relay::{self, PathMtus};

/// What the engine starts from.
pub struct Start {
    pub instance: String,
    pub config: PathBuf,
    /// The config's text; `None`: a test has made the model.
    pub text: Option<Text>,
    pub model: Model,
    pub journal: Journal,
    pub next_hops: watch::Receiver<BTreeMap<IpAddr, NextHopState>>,
    /// By [`crate::plan::abilities`].
    pub abilities: Abilities,
    /// This machine's own addresses, by interface.
    pub own: watch::Receiver<netlink::Own>,
    /// Interfaces of the model that may be missing: they get the program when they come.
    pub awaited: BTreeSet<String>,
    /// `None`: errors from the paths to backends are not heard.
    pub relay: Option<relay::View>,
}

/// Where the config of a start comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    /// The daemon's own file, as it is now.
    pub seen: String,
    /// The revision whose config is taken back before anybody has confirmed it, and why.
    pub takes_back: Option<(u64, &'static str)>,
}

impl Start {
    /// Puts everything in force. Packets of an instance that is adopted go on all the while.
    pub fn start(self) -> Result<Engine, Error> {
        let clock = Clock::start();
        let sets = self.journal.timeout_sets(&self.model.all_timeouts(), clock.now())?;
        let Start { instance, model, journal, abilities, .. } = &self;
        let dataplane = Dataplane::open(options_with(instance, model, journal, abilities, &sets))?;
        self.go_on(dataplane, clock, sets)
    }

    /// [`Self::start`] on a data path that is loaded already: what a test does whose engines start by the thousand.
    #[doc(hidden)]
    pub fn start_on(self, dataplane: Dataplane, clock: Clock) -> Result<Engine, Error> {
        let sets = self.journal.timeout_sets(&self.model.all_timeouts(), clock.now())?;
        self.go_on(dataplane, clock, sets)
    }

    fn go_on(self, mut dataplane: Dataplane, clock: Clock, mut sets: TimeoutSets) -> Result<Engine, Error> {
        let Start { instance, config, text, model, mut journal, next_hops, own, awaited, relay, .. } = self;
        if !dataplane.adopted {
            // There are no pins that could carry the number of another one.
            let used = model.all_timeouts();
            sets.retain(|_, set| used.contains(&set.timeouts));
        }
        // Not before the data path has accepted them: until then pins were made with the numbers of the journal.
        let (counters_kept, ids) = note_beginning(&mut journal, dataplane.adopted, &clock.boot(), &sets)
            .and_then(|kept| Ok((kept, number(&model, &mut journal, sets, true)?)))
            .inspect_err(|_| dataplane.give_up())?;
        let mut engine = Engine {
            drains: BTreeMap::new(),
            instance,
            config,
            in_force: InForce::awaiting(awaited),
            model,
            ids,
            journal,
            dataplane,
            counters_kept,
            attached: Vec::new(),
            rings: Rings::default(),
            tallies: BTreeMap::new(),
            of_clients: BTreeMap::new(),
            ramps: BTreeMap::new(),
            watch: Watch::default(),
            published_shares: BTreeMap::new(),
            sealed: BTreeSet::new(),
            down: BTreeSet::new(),
            cut_off: CutOff::default(),
            health: Health::default(),
            leaving: BTreeMap::new(),
            retiring: Retiring::default(),
            published_hops: BTreeMap::new(),
            next_hops,
            relay,
            path_mtus: PathMtus::new(),
            ways_out: BTreeSet::new(),
            own,
            published_own: None,
            stale: false,
            started_at: clock.now(),
            telling: Telling::new(clock.now()),
            itself: Itself::default(),
            maintenance: Maintenance::default(),
            shifts: Shifts::default(),
            tracers: BTreeMap::new(),
            is_stopping: false,
            house: House::default(),
            clock,
            generation: 0,
            swept: None,
            uncounted: Vec::new(),
            rates: Rates::default(),
            edges: Edges::default(),
            resets: Resets::default(),
            kicks: Kicks::default(),
            durations: Durations::new(u32::try_from(clock.monotonic()).unwrap_or(u32::MAX)),
        };
        if let Err(error) = engine.begin(text.as_ref()) {
            engine.dataplane.give_up();
            return Err(error);
        }
        Ok(engine)
    }
}

/// Whether counters of before are there; a start that failed may have made the data path, which the daemons of before the boot did not know.
fn note_beginning(
    journal: &mut Journal,
    adopted: bool,
    boot: &Boot,
    sets: &TimeoutSets,
) -> Result<bool, Error> {
    journal.note_timeout_sets(sets)?;
    let counters_kept = adopted && journal.is_of(boot)?;
    if !counters_kept {
        journal.note_loss(boot)?;
    }
    Ok(counters_kept)
}

/// What the data path is loaded with.
///
/// # Errors
/// The journal cannot be read.
pub fn options(
    instance: &str,
    model: &Model,
    journal: &Journal,
    abilities: &Abilities,
) -> Result<Options, Error> {
    let sets = journal.timeout_sets(&model.all_timeouts(), Clock::start().now())?;
    Ok(options_with(instance, model, journal, abilities, &sets))
}

pub(super) fn options_with(
    instance: &str,
    model: &Model,
    journal: &Journal,
    abilities: &Abilities,
    sets: &TimeoutSets,
) -> Options {
    let sets = by_number(model, sets);
    Options {
        instance: instance.to_owned(),
        sizes: sizes(model),
        key: data_path_key(journal.hash_key()),
        timeouts: flow::timeouts(&sets.map(|set| by_phase(&set))),
        udp_gap: sets.map(|set| seconds(set.udp_gap)),
        flood_gate: model.flow_table.flood_gate,
        abilities: abilities.clone(),
        test_clock: false,
        records: false,
    }
}

impl Engine {
    fn begin(&mut self, text: Option<&Text>) -> Result<(), Error> {
        self.resume_shifts()?;
        self.settle()?;
        self.resume_self()?;
        self.resume_runs()?;
        self.down = self.unreachable(&self.published_hops);
        if self.dataplane.adopted {
            self.uncounted = self.ids.stats.values().copied().collect();
        }
        self.tell_of_start()?;
        self.enforce()?;
        self.note_start(text)
    }

    fn note_start(&mut self, text: Option<&Text>) -> Result<(), Error> {
        let boot = self.clock.boot();
        let change = Change { at: self.clock.now(), author: "sluice", reason: None };
        let mut detail = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "config": self.config.display().to_string(),
            "adopted": self.dataplane.adopted,
        });
        let applied = self.journal.applied()?;
        let Some(text) = text else {
            self.journal.note_start(&boot, None, &change, &detail)?;
            return Ok(());
        };
        if let Some((about, why)) = text.takes_back {
            let new =
                NewConfig { text: &text.text, seen: Some(&text.seen), confirm: None, about: Some(about) };
            let reason = Some(why);
            let changes = applied.as_ref().map(|applied| self.changes_since(&applied.text));
            let detail = json!({ "changes": changes });
            let has_failed = why == NOT_APPLIED;
            let kind = if has_failed { Kind::Failed } else { Kind::Rollback };
            self.journal.go_on_by(kind, &new, &Change { reason, ..change }, &detail)?;
            log::warn!("revision {about}: {why}: the config before it is in force again");
            if has_failed {
                self.tell(Happening::ConfigFailed { revision: about });
            }
        }
        let applied = self.journal.applied()?;
        let is_new = applied.as_ref().is_none_or(|applied| applied.text != text.text);
        if is_new {
            if let Some(before) = &applied {
                detail["changes"] = json!(self.changes_since(&before.text));
            }
            // A file that was edited while another config waited for its confirmation settles that one, too.
            let about =
                applied.as_ref().and_then(|applied| applied.pending.as_ref().map(|_| applied.revision));
            let new = NewConfig { text: &text.text, seen: Some(&text.seen), confirm: None, about };
            self.journal.note_start(&boot, Some(&new), &change, &detail)?;
        } else {
            self.journal.note_start(&boot, None, &change, &detail)?;
            self.journal.note_tried()?;
            self.journal.note_seen(&text.seen)?;
        }
        self.find_in_force()?;
        self.keep_findings()
    }

    /// Whether the data path of an earlier daemon was taken over.
    pub fn adopted(&self) -> bool {
        self.dataplane.adopted
    }

    /// Bytes that the flow table takes, and all other maps.
    pub fn memory(&self) -> (u64, u64) {
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
        let sizes = &self.dataplane.options.sizes;
        (sizes.flow_table_bytes(), sizes.other_bytes(cpus))
    }
}

/// The numbers of everything that the config names; to be kept, or to see what they would be.
pub(super) fn number(
    model: &Model,
    journal: &mut Journal,
    timeouts: TimeoutSets,
    keep: bool,
) -> Result<Ids, Error> {
    let hosts = model.hosts.keys().map(String::as_str);
    let services = model.services.iter().map(|service| service.name.as_str());
    let pairs = model
        .services
        .iter()
        .flat_map(|service| service.hosts.iter().map(|host| (service.name.as_str(), host.as_str())));
    let mut known_hosts = journal.known_hosts()?;
    let Numbers { hosts, services, stats } = journal.numbers(hosts, services, pairs, keep)?;
    known_hosts.extend(hosts.clone());
    Ok(Ids { hosts, known_hosts, services, timeouts, ..Ids::with_stats(stats) })
}

/// The secret of the flow hash.
pub fn data_path_key(key: [u8; 16]) -> lb_common::hash::Key {
    let (low, high) = key.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    [word(low), word(high)]
}

/// The timeouts of every number; one that nobody has stands for the instance's.
fn by_number(model: &Model, sets: &TimeoutSets) -> [Timeouts; TIMEOUT_SETS] {
    std::array::from_fn(|number| sets.get(&(number as SetNumber)).map_or(model.timeouts, |set| set.timeouts))
}

fn seconds(duration: Duration) -> u32 {
    duration.as_secs() as u32
}

/// Idle timeouts by the number of the phase.
pub fn by_phase(timeouts: &Timeouts) -> [u32; 8] {
    let mut by_phase = [0; 8];
    by_phase[Phase::HalfOpen as usize] = seconds(timeouts.half_open);
    by_phase[Phase::Established as usize] = seconds(timeouts.established);
    by_phase[Phase::Closing as usize] = seconds(timeouts.closing);
    by_phase[Phase::Udp as usize] = seconds(timeouts.udp);
    by_phase[Phase::Reset as usize] = seconds(timeouts.closing);
    by_phase
}
