//! Starting the engine: the journal replayed, the data path of an earlier daemon adopted, everything published.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lb_common::flow::{self, Phase, TIMEOUT_SETS};
use lb_common::layout::{BackendFlags, HostState};
use serde_json::json;
use tokio::sync::watch;

use super::edges::Edges;
use super::health::Health;
use super::itself::Itself;
use super::kicks::Kicks;
use super::progress::Durations;
use super::ramps::Watch;
use super::rates::Rates;
use super::resets::Resets;
use super::rings::Rings;
use super::telling::Telling;
use super::{Clock, Engine, Error};
use crate::dataplane::{Abilities, Dataplane, Options, Sizes, grace_period};
use crate::drain::{State, Target, resume};
use crate::journal::{Change, Journal, SetNumber, TimeoutSets};
use crate::model::{Interface, Model, Timeouts};
use crate::netlink::{self, NextHopState};
use crate::plan::{Ids, state_of_leaving};
use crate::relay::{self, PathMtus};

/// What the engine starts from.
pub struct Start {
    pub instance: String,
    pub config: PathBuf,
    pub model: Model,
    pub journal: Journal,
    pub next_hops: watch::Receiver<BTreeMap<IpAddr, NextHopState>>,
    /// By [`crate::plan::abilities`].
    pub abilities: Abilities,
    /// This machine's own addresses, by interface.
    pub own: watch::Receiver<netlink::Own>,
    /// `None`: errors from the paths to backends are not heard.
    pub relay: Option<relay::View>,
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

    fn go_on(self, dataplane: Dataplane, clock: Clock, mut sets: TimeoutSets) -> Result<Engine, Error> {
        let Start { instance, config, model, mut journal, next_hops, own, relay, .. } = self;
        if !dataplane.adopted {
            // There are no pins that could carry the number of another one.
            let used = model.all_timeouts();
            sets.retain(|_, set| used.contains(&set.timeouts));
        }
        // Not before the data path has accepted them: until then pins were made with the numbers of the journal.
        journal.note_timeout_sets(&sets)?;
        let ids = number(&model, &mut journal, sets)?;
        let health = Health::resumed(&model, &instance, &journal.health()?);
        let mut engine = Engine {
            drains: model
                .hosts
                .keys()
                .map(|host| (Target::host(host), State::Active { last: None }))
                .collect(),
            instance,
            config,
            model,
            ids,
            journal,
            dataplane,
            attached: Vec::new(),
            rings: Rings::default(),
            ramps: BTreeMap::new(),
            watch: Watch::default(),
            published_shares: BTreeMap::new(),
            sealed: BTreeSet::new(),
            down: BTreeSet::new(),
            health,
            leaving: BTreeMap::new(),
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
            is_stopping: false,
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
        engine.resume_drains()?;
        engine.resume_self()?;
        engine.resume_ramps()?;
        engine.continue_edges();
        engine.take_in_hops();
        engine.down = engine.unreachable(&engine.published_hops);
        engine.find_leaving()?;
        engine.continue_rings()?;
        if engine.dataplane.adopted {
            engine.uncounted = engine.ids.stats.values().copied().collect();
        }
        engine.tell_of_start()?;
        engine.publish()?;
        engine.note_lost()?;
        engine.note_starts()?;
        engine.follow_own()?;
        engine.attach()?;
        engine.look_at_ways_out();
        engine.note_start()?;
        Ok(engine)
    }
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

fn options_with(
    instance: &str,
    model: &Model,
    journal: &Journal,
    abilities: &Abilities,
    sets: &TimeoutSets,
) -> Options {
    let sets = by_number(model, sets);
    Options {
        instance: instance.to_owned(),
        sizes: Sizes {
            overflow: model.flow_table.overflow,
            ..Sizes::new(model.ring_size, model.flow_table.pins)
        },
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
    fn resume_drains(&mut self) -> Result<(), Error> {
        let kept = self.dataplane.adopted;
        for row in self.journal.open_drains()? {
            let target = row.drain.target();
            let is_named = self.host_state(&target.host).is_some()
                && target.service.as_ref().is_none_or(|name| {
                    let mut services = self.model.services.iter();
                    services.any(|service| service.name == *name && service.hosts.contains(&target.host))
                });
            if !is_named {
                log::warn!("{target} is drained, but the config does not name it any more");
                continue;
            }
            let receipt = row.receipt.filter(|receipt| !receipt.outcome.is_taken_back());
            let (state, _) = resume(row.drain, receipt, kept);
            if matches!(state, State::Drained(_)) && state.is_out() {
                self.sealed.insert(target.clone());
            }
            log::info!("{target} stays {:?} by the journal", state.admin());
            self.drains.insert(target, state);
        }
        Ok(())
    }

    /// Backends that an earlier daemon published and the config does not name any more: their flows go on.
    fn find_leaving(&mut self) -> Result<(), Error> {
        let known: BTreeSet<(u16, u16)> = self
            .model
            .services
            .iter()
            .flat_map(|service| {
                let number = self.ids.services.get(&service.name).copied();
                let hosts = service.hosts.iter().filter_map(|host| self.ids.hosts.get(host).copied());
                hosts.filter_map(move |host| Some((number?, host)))
            })
            .collect();
        let services: BTreeSet<u16> = known.iter().map(|(service, _)| *service).collect();
        if self.dataplane.is_directory_new {
            self.look_for_strays(&known, &services)?;
        }
        let features = self.dataplane.options.abilities.features;
        for ((service, host), mut backend) in self.dataplane.published_backends() {
            if services.contains(&service) && !known.contains(&(service, host)) {
                if backend.needs() & !features != 0 {
                    // Nothing that the config names goes this way any more, so the program cannot go it.
                    backend.record.flags &= !BackendFlags::REACHABLE;
                }
                self.leaving.insert((service, host), backend);
            }
        }
        Ok(())
    }

    /// The directory of another version does not tell the way to a host that the config does not name, so no flow may be left on one.
    fn look_for_strays(&self, known: &BTreeSet<(u16, u16)>, services: &BTreeSet<u16>) -> Result<(), Error> {
        let mut strays: BTreeMap<(u16, u16), u64> = BTreeMap::new();
        self.dataplane.each_live(
            |_| true,
            |flow| {
                let pair = (flow.service, flow.host);
                if services.contains(&pair.0) && !known.contains(&pair) {
                    *strays.entry(pair).or_default() += 1;
                }
            },
        );
        if strays.is_empty() {
            return Ok(());
        }
        let line = |((service, host), flows): (&(u16, u16), &u64)| {
            let service = self.ids.service_name(*service).unwrap_or("?");
            let host = self.ids.host_name(*host).unwrap_or("?");
            format!(
                "  {flows} flows of {service} are on {host}, which the config does not name: name it, and drain it"
            )
        };
        let refusals: Vec<String> = strays.iter().map(line).collect();
        let path = self.dataplane.paths.maps();
        Err(crate::dataplane::Error::Incompatible { path, differences: refusals.clone(), refusals }.into())
    }

    /// Hosts that left the config while they could not be reached. Their pins end with the next sweep; from the grace period on no
    /// packet takes one of them for alive.
    fn note_lost(&mut self) -> Result<(), Error> {
        let lost =
            self.leaving.iter().filter(|(_, backend)| state_of_leaving(&backend.record) == HostState::Lost);
        let lost: BTreeSet<u16> = lost.map(|(&(_, host), _)| host).collect();
        if lost.is_empty() {
            return Ok(());
        }
        for name in lost.iter().filter_map(|&host| self.ids.host_name(host)) {
            log::warn!(
                "{name} has left the config while it could not be reached: its flows go to other hosts"
            );
        }
        Ok(grace_period()?)
    }

    fn continue_rings(&mut self) -> Result<(), Error> {
        let lineages = if self.journal.key_replaced() { BTreeMap::new() } else { self.journal.lineages()? };
        self.health.shares = self.wanted_shares(&self.choices());
        let services = self.wanted();
        self.rings = self.with_making(|making| Rings::continued(making, services, &lineages));
        Ok(())
    }

    fn attach(&mut self) -> Result<(), Error> {
        self.dataplane.take_over()?;
        for Interface { name: interface, xdp_mode } in &self.model.interfaces {
            let attached = self.dataplane.attach(interface, *xdp_mode)?;
            match &attached.note {
                Some(note) => log::warn!("{interface}: {} mode: {note}", attached.mode),
                None => log::info!("{interface}: {} mode", attached.mode),
            }
            self.attached.push(attached);
        }
        let keep: Vec<u32> = self.attached.iter().map(|attached| attached.ifindex).collect();
        Ok(self.dataplane.detach_others(&keep)?)
    }

    fn note_start(&mut self) -> Result<(), Error> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let change = Change { at: self.clock.now(), author: "sluice", reason: None };
        let detail = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "config": self.config.display().to_string(),
            "adopted": self.dataplane.adopted,
        });
        self.journal.note_start(boot_id.trim(), &change, &detail)?;
        Ok(())
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

/// The numbers of everything that the config names.
fn number(model: &Model, journal: &mut Journal, timeouts: TimeoutSets) -> Result<Ids, Error> {
    let hosts: Vec<&str> = model.hosts.keys().map(String::as_str).collect();
    let services: Vec<&str> = model.services.iter().map(|service| service.name.as_str()).collect();
    let pairs: Vec<(&str, &str)> = model
        .services
        .iter()
        .flat_map(|service| service.hosts.iter().map(|host| (service.name.as_str(), host.as_str())))
        .collect();
    let services = journal.service_ids(&services)?;
    // Numbers are not given back yet; one beyond the data path's arrays must not get there.
    if services.values().any(|&number| u32::from(number) >= Sizes::SERVICES) {
        let (what, limit) = ("services that were ever named", Sizes::SERVICES);
        return Err(crate::dataplane::Error::Full { what, limit }.into());
    }
    let hosts = journal.host_ids(&hosts)?;
    let known_hosts = journal.known_hosts()?;
    Ok(Ids { hosts, known_hosts, services, timeouts, ..Ids::with_stats(journal.stat_ids(&pairs)?) })
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
