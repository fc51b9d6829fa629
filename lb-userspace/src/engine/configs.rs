//! Configs that come while the daemon runs: held against the one in force, planned, journalled, published; and taken back if that
//! fails, or if nobody confirms them in time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::layout::{HostId, PHASES_COUNTED};
use serde_json::json;

use super::cut_off::CutOff;
use super::health::Health;
use super::rings::Rings;
use super::start::{number, options_with};
use super::way_back::WayBack;
use super::{Engine, Error};
use crate::api::types::{
    Applied, ConfigChange, ConfigPlan, ConfigStatus, ConfirmRequest, Confirmed, EndingService, Happening,
    LeavingHost, SlotChange,
};
use crate::changes;
use crate::config;
use crate::dataplane::{Abilities, BackendTable, Dataplane, Options};
use crate::drain::{State, Target};
use crate::journal::{self, Change, Kind, NewConfig, TimeoutSets};
use crate::model::Model;
use crate::netlink::NextHopState;
use crate::plan::Ids;
use crate::ramp::Ramp;
use crate::relay;

/// Why a config is taken back at its deadline.
pub const NOT_CONFIRMED: &str = "not confirmed in time";
/// Why one is taken back that has failed.
pub const NOT_APPLIED: &str = "it could not be put in force";

/// A config that is right in itself and for this machine, and what the network's side of the daemon has made ready for it.
pub struct Resolved {
    pub text: String,
    pub model: Model,
    /// By [`crate::plan::abilities`].
    pub abilities: Abilities,
    /// Interfaces that may be missing: of a config that has been in force before.
    pub awaited: BTreeSet<String>,
    pub relay: Option<relay::View>,
}

/// Who wants a config, and on what terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct How {
    pub kind: Kind,
    /// How the journal calls where it comes from.
    pub file: String,
    /// It is the daemon's own file.
    pub is_own: bool,
    /// Seconds in which it has to be confirmed.
    pub confirm: Option<u64>,
    /// The revision that it takes back.
    pub about: Option<u64>,
    pub dry_run: bool,
    pub author: String,
    pub reason: Option<String>,
}

/// What the journal says of the config in force.
#[derive(Debug, Clone, Default)]
pub(super) struct InForce {
    pub status: ConfigStatus,
    pub(super) way_back: WayBack,
    /// It is, and the journal does not know yet that it could be.
    pub(super) is_untried: bool,
    /// Interfaces that may be missing.
    pub(super) awaited: BTreeSet<String>,
    reload_problem: Option<String>,
    page_problem: Option<String>,
    scrapes_problem: Option<String>,
    /// Why it could not be taken back at its deadline.
    way_back_problem: Option<String>,
}

impl InForce {
    /// Before it is known.
    pub(super) fn awaiting(awaited: BTreeSet<String>) -> Self {
        InForce { awaited, ..InForce::default() }
    }
}

/// What of the engine rests on the config, while another one is tried.
pub(super) struct Before {
    model: Model,
    ids: Ids,
    rings: Rings,
    drains: BTreeMap<Target, State>,
    tallies: BTreeMap<Target, u32>,
    of_clients: BTreeMap<Target, [u64; PHASES_COUNTED]>,
    ramps: BTreeMap<String, Ramp>,
    sealed: BTreeSet<Target>,
    down: BTreeSet<String>,
    cut_off: CutOff,
    health: Health,
    leaving: BTreeMap<(u16, HostId), BackendTable>,
    published_hops: BTreeMap<IpAddr, NextHopState>,
    relay: Option<relay::View>,
    /// Another program was loaded beside it.
    dataplane: Option<Dataplane>,
}

impl Engine {
    /// Puts a config in force, or says what it would do. When it returns, no packet is decided by the one before; when it fails, that one
    /// is in force as before.
    pub fn apply(&mut self, new: Resolved, how: &How) -> Result<Applied, Error> {
        self.come_back()?;
        self.check_changeable(&new.model)?;
        self.check_confirmed(how)?;
        let plan = self.plan_config(&new.model)?;
        let applied = self.journal.applied()?;
        let is_same = applied.as_ref().is_some_and(|applied| applied.text == new.text);
        if how.dry_run || (is_same && self.waiting().is_none()) {
            if !how.dry_run && how.is_own {
                self.journal.note_seen(&new.text)?;
                self.find_in_force()?;
            }
            return Ok(Applied { revision: None, confirm_by: self.in_force.status.confirm_by, plan });
        }
        // What is taken up below is what the journal knows.
        self.note_findings()?;
        let now = self.clock.now();
        let sets = self.journal.timeout_sets(&new.model.all_timeouts(), now)?;
        // The verifier has its say before anything is written down.
        let dataplane = self.other_dataplane(&new, &sets)?;
        let ids = number(&new.model, &mut self.journal, sets, true)?;
        self.journal.note_timeout_sets(&ids.timeouts)?;
        let config = NewConfig {
            text: &new.text,
            seen: how.is_own.then_some(new.text.as_str()),
            confirm: how.confirm,
            about: how.about,
        };
        let change = Change { at: now, author: &how.author, reason: how.reason.as_deref() };
        let detail = json!({ "file": how.file, "changes": plan.changes, "slots_moved": plan.slots_moved, "confirm": how.confirm });
        let revision = self.journal.apply(how.kind, &config, &change, &detail)?;
        log::info!("revision {revision}: the config of {} is put in force for {}", how.file, how.author);
        changes::lines(&plan.changes).iter().for_each(|line| log::info!("revision {revision}: {line}"));
        self.look_at_leavers();
        let before = self.exchange(new.model, ids, new.relay, dataplane);
        let awaited = std::mem::replace(&mut self.in_force.awaited, new.awaited);
        if let Err(error) = self.settle().and_then(|()| self.enforce()) {
            self.in_force.awaited = awaited;
            self.go_back(before, revision, applied);
            return Err(Error::NotApplied { revision, source: Box::new(error) });
        }
        // It is in force: what goes wrong from here on is no reason to say that it is not.
        self.in_force.status.revision = revision;
        self.in_force.status.confirm_by = how.confirm.map(|patience| now + patience);
        self.in_force.is_untried = true;
        self.in_force.way_back_problem = None;
        if let Err(error) = self.settle_debt().and_then(|()| self.find_in_force()) {
            log::warn!("{error}");
        }
        if let Err(error) = self.retire() {
            // The next round does it.
            log::warn!("{error}");
        }
        self.announce();
        self.tell(Happening::ConfigApplied {
            revision,
            kind: how.kind.to_string(),
            by: how.author.clone(),
            reason: how.reason.clone(),
            confirm_by: self.in_force.status.confirm_by,
        });
        if let Err(error) = self.keep_findings() {
            log::warn!("{error}");
        }
        // Gauges of drains rest on the last sweep, which knows the rings of before.
        if let Err(error) = self.sweep() {
            log::warn!("{error}");
        }
        Ok(Applied { revision: Some(revision), confirm_by: self.in_force.status.confirm_by, plan })
    }

    /// The config in force is to stay; if a revision is named, only the config of that one.
    ///
    /// # Errors
    /// [`Error::WaitsForAnother`]: another config was put in force since whoever asks has looked.
    pub fn confirm(&mut self, request: &ConfirmRequest, author: &str) -> Result<Confirmed, Error> {
        self.come_back()?;
        let reason = request.reason.as_deref();
        let confirmed = self.in_force.status.revision;
        if let (Some(wanted), Some(waits)) = (request.revision, self.waiting())
            && wanted != waits
        {
            return Err(Error::WaitsForAnother { wanted, waits });
        }
        let revision = self.journal.confirm(&Change { at: self.clock.now(), author, reason })?;
        log::info!("revision {confirmed} is confirmed by {author}");
        self.in_force.way_back_problem = None;
        self.find_in_force()?;
        if let Err(error) = self.keep_findings() {
            log::warn!("{error}");
        }
        self.tell(Happening::ConfigConfirmed {
            revision: confirmed,
            by: author.to_owned(),
            reason: reason.map(str::to_owned),
        });
        Ok(Confirmed { revision, confirmed })
    }

    /// Seconds that are left to confirm the config in force, and its revision.
    pub fn time_to_confirm(&self) -> Option<(u64, u64)> {
        let by = self.in_force.status.confirm_by?;
        Some((self.in_force.status.revision, by.saturating_sub(self.clock.now())))
    }

    /// The config to go back to: that of a revision, or the one before that in force. With the revision whose config it was.
    pub fn earlier_config(&mut self, revision: Option<u64>) -> Result<(u64, String), Error> {
        self.come_back()?;
        let last = self.journal.last_revision()?;
        let revision = match revision {
            Some(revision) if revision == 0 || revision > last => return Err(Error::NoRevision(revision)),
            Some(revision) => revision,
            None => {
                let current = self.in_force.status.revision;
                let before = self.journal.change_before(current)?;
                before.ok_or(Error::NoConfigBefore(current))?
            }
        };
        let text = self.journal.config_at(revision)?.ok_or(Error::NoConfigAt(revision))?;
        Ok((revision, text))
    }

    /// The revision whose config is in force.
    pub fn revision_in_force(&self) -> u64 {
        self.in_force.status.revision
    }

    /// The config to go back to as the time to confirm the one in force, of this revision, is over.
    pub fn overdue(&mut self) -> Result<Option<(u64, String)>, Error> {
        self.come_back()?;
        if self.time_to_confirm().is_none_or(|(_, left)| left > 0) {
            return Ok(None);
        }
        let applied = self.journal.applied()?;
        Ok(applied.and_then(|applied| Some((applied.revision, applied.pending?.back_to))))
    }

    /// How a config is taken back that nobody has confirmed.
    pub fn taking_back(revision: u64, name: &str) -> How {
        How {
            kind: Kind::Rollback,
            file: name.to_owned(),
            is_own: false,
            confirm: None,
            about: Some(revision),
            dry_run: false,
            author: "sluice".to_owned(),
            reason: Some(NOT_CONFIRMED.to_owned()),
        }
    }

    /// What came of reading the daemon's own file again: a problem, or none.
    pub fn note_reload(&mut self, problem: Option<String>) {
        self.in_force.reload_problem = problem;
    }

    /// Why the page for browsers that the config wants is not served, or that it is.
    pub fn note_page(&mut self, problem: Option<String>) {
        self.in_force.page_problem = problem;
    }

    /// Why the metrics that the config wants are not served, or that they are.
    pub fn note_scrapes(&mut self, problem: Option<String>) {
        self.in_force.scrapes_problem = problem;
    }

    /// Why a config that nobody has confirmed could not be taken back, or that it was.
    pub fn note_way_back(&mut self, problem: Option<String>) {
        self.in_force.way_back_problem = problem;
    }

    /// The revision that waits to be confirmed.
    pub fn waiting(&self) -> Option<u64> {
        self.in_force.status.confirm_by.map(|_| self.in_force.status.revision)
    }

    /// Looks up what the journal says of the config in force.
    pub(super) fn find_in_force(&mut self) -> Result<(), Error> {
        let Some(applied) = self.journal.applied()? else { return Ok(()) };
        let now = self.clock.now();
        self.in_force.status = ConfigStatus {
            revision: applied.revision,
            differs_from_file: applied.text != applied.seen && !same_model(&applied.text, &applied.seen),
            confirm_by: applied.pending.map(|pending| now + pending.left(now)),
        };
        Ok(())
    }

    /// How the model differs from an earlier config; empty if that cannot be read any more.
    pub(super) fn changes_since(&self, text: &str) -> Vec<ConfigChange> {
        let before = config::parse(text, "the config before");
        before.map(|before| changes::between(&before.model, &self.model)).unwrap_or_default()
    }

    /// Sizes and keys cannot be changed under pins.
    fn check_changeable(&self, new: &Model) -> Result<(), Error> {
        let fixed = changes::fixed(&self.model, new, self.journal.hash_key());
        if fixed.is_empty() { Ok(()) } else { Err(Error::Fixed(fixed)) }
    }

    /// One config at a time waits to be confirmed.
    fn check_confirmed(&self, how: &How) -> Result<(), Error> {
        match self.waiting().filter(|waiting| how.about != Some(*waiting)) {
            Some(revision) => {
                let deadline = self.in_force.status.confirm_by.unwrap_or_default();
                Err(journal::Error::Unconfirmed { revision, deadline }.into())
            }
            None => Ok(()),
        }
    }

    /// What the config would do; nothing is changed.
    fn plan_config(&mut self, model: &Model) -> Result<ConfigPlan, Error> {
        let changes = changes::between(&self.model, model);
        let sets = self.journal.timeout_sets(&model.all_timeouts(), self.clock.now())?;
        let ids = match number(model, &mut self.journal, sets.clone(), false) {
            Err(Error::Journal(journal::Error::IdsExhausted { .. })) => {
                self.give_numbers_back()?;
                number(model, &mut self.journal, sets, false)?
            }
            ids => ids?,
        };
        let slots_before = self.slots();
        let (leaving, ending) = (self.flows_left_by(model)?, self.flows_ended_by(model)?);
        let relay = self.relay.clone();
        let before = self.exchange(model.clone(), ids, relay, None);
        let planned = self.settle().map(|()| {
            let down = self.unreachable(&self.published_hops);
            let notes = down.difference(&before.down).map(|host| format!("{host} cannot be reached now"));
            let notes: Vec<String> = notes.collect();
            self.note_down(down);
            self.resume_shares();
            let mut rings = self.rings.clone();
            let intents = self.intents();
            rings.regroup(&self.wanted(&intents), &intents.needed, self.room());
            let moved = self.with_making(|making| rings.publish(making));
            self.rings = rings;
            (moved as u64, self.slots(), notes)
        });
        drop(self.restore(before));
        // What was seen of next hops meanwhile counts as news.
        self.next_hops.mark_changed();
        let (slots_moved, slots_after, mut notes) = planned?;
        notes.extend(drains_left_behind(&self.drains, model));
        if self.model.api != model.api {
            notes.push("the groups under [api] count from the daemon's next start on".to_owned());
        }
        let hosts: BTreeSet<&String> = slots_before.keys().chain(slots_after.keys()).collect();
        let count = |slots: &BTreeMap<String, u64>, host: &String| slots.get(host).copied().unwrap_or(0);
        let moves = hosts.into_iter().filter_map(|host| {
            let (before, after) = (count(&slots_before, host), count(&slots_after, host));
            (before != after).then(|| SlotChange { host: host.clone(), before, after })
        });
        let (moves, slots) = (moves.collect(), slots_after.values().sum());
        Ok(ConfigPlan { changes, slots_moved, slots, moves, leaving, ending, notes })
    }

    /// Slots of each host over all rings.
    fn slots(&self) -> BTreeMap<String, u64> {
        let mut slots = BTreeMap::new();
        for (host, count) in self.rings.rings.values().flat_map(|ring| ring.owned()) {
            let name = self.ids.host_name(host).map_or_else(|| format!("host {host}"), str::to_owned);
            *slots.entry(name).or_default() += u64::from(count);
        }
        slots
    }

    /// Live flows of pairs that a model does not name any more, of services that it does.
    fn flows_left_by(&self, model: &Model) -> Result<Vec<LeavingHost>, Error> {
        let mut leaving = Vec::new();
        for service in &self.model.services {
            let Some(after) = model.services.iter().find(|after| after.name == service.name) else {
                continue;
            };
            for host in service.hosts.iter().filter(|host| !after.hosts.contains(host)) {
                let pair = (service.name.clone(), host.clone());
                let Some(&stats) = self.ids.stats.get(&pair) else { continue };
                let live_flows = self.live_on(stats)?;
                leaving.push(LeavingHost {
                    host: host.clone(),
                    service: service.name.clone(),
                    live_flows,
                    drain: None,
                });
            }
        }
        Ok(leaving)
    }

    /// Live flows of services that a model does not name any more.
    fn flows_ended_by(&self, model: &Model) -> Result<Vec<EndingService>, Error> {
        let mut ending = Vec::new();
        let gone = self.model.services.iter();
        for service in gone.filter(|service| model.services.iter().all(|after| after.name != service.name)) {
            let mut live_flows = 0;
            for host in &service.hosts {
                if let Some(&stats) = self.ids.stats.get(&(service.name.clone(), host.clone())) {
                    live_flows += self.live_on(stats)?;
                }
            }
            ending.push(EndingService { service: service.name.clone(), live_flows });
        }
        Ok(ending)
    }

    /// Hosts that left the config and still have flows, or whose slots are still handed over.
    pub(super) fn leaving_hosts(&self) -> Result<Vec<LeavingHost>, Error> {
        let mut hosts = Vec::new();
        for (&(service, host), backend) in &self.leaving {
            let (Some(host), Some(service)) = (self.ids.host_name(host), self.ids.service_name(service))
            else {
                continue;
            };
            hosts.push(LeavingHost {
                host: host.to_owned(),
                service: service.to_owned(),
                live_flows: self.live_on(backend.record.stats)?,
                drain: self.retiring.number(host),
            });
        }
        Ok(hosts)
    }

    fn live_on(&self, stats: u32) -> Result<u64, Error> {
        Ok(self.sum_of(&[stats])?.live().total)
    }

    /// A data path beside the one that runs, with the same maps, if the config needs another program.
    fn other_dataplane(&self, new: &Resolved, sets: &TimeoutSets) -> Result<Option<Dataplane>, Error> {
        let current = &self.dataplane.options;
        let wanted = options_with(&self.instance, &new.model, &self.journal, &new.abilities, sets);
        // Sizes are as they were, see `check_changeable`.
        let Options { sizes, test_clock, records, .. } = *current;
        let abilities = self.dataplane.serving(&wanted.abilities);
        let wanted = Options { sizes, test_clock, records, abilities, ..wanted };
        if wanted == *current {
            return Ok(None);
        }
        Ok(Some(Dataplane::open(wanted)?))
    }

    /// Takes another config's things in the place of those in force, which are returned. Drains and ramps stay until [`Self::settle`].
    fn exchange(
        &mut self,
        model: Model,
        ids: Ids,
        relay: Option<relay::View>,
        dataplane: Option<Dataplane>,
    ) -> Before {
        use std::mem::replace;
        // What is published is alive from now on, whoever began it.
        self.dataplane.adopted = true;
        self.counters_kept = true;
        self.retiring.look_again();
        let down = self.down.iter().filter(|host| model.hosts.contains_key(*host)).cloned().collect();
        Before {
            model: replace(&mut self.model, model),
            ids: replace(&mut self.ids, ids),
            rings: self.rings.clone(),
            drains: self.drains.clone(),
            tallies: self.tallies.clone(),
            of_clients: self.of_clients.clone(),
            ramps: self.ramps.clone(),
            sealed: self.sealed.clone(),
            down: replace(&mut self.down, down),
            cut_off: self.cut_off.clone(),
            health: self.health.clone(),
            leaving: self.leaving.clone(),
            published_hops: self.published_hops.clone(),
            relay: replace(&mut self.relay, relay),
            dataplane: dataplane.map(|dataplane| replace(&mut self.dataplane, dataplane)),
        }
    }

    /// Takes the things of before back; returns the data path that was loaded for nothing.
    pub(super) fn restore(&mut self, before: Before) -> Option<Dataplane> {
        let Before {
            model,
            ids,
            rings,
            drains,
            tallies,
            of_clients,
            ramps,
            sealed,
            down,
            cut_off,
            health,
            leaving,
            published_hops,
            relay,
            dataplane,
        } = before;
        self.retiring.look_again();
        (self.model, self.ids, self.rings) = (model, ids, rings);
        (self.drains, self.ramps) = (drains, ramps);
        (self.tallies, self.of_clients) = (tallies, of_clients);
        (self.sealed, self.down, self.cut_off) = (sealed, down, cut_off);
        (self.health, self.leaving) = (health, leaving);
        (self.published_hops, self.relay) = (published_hops, relay);
        dataplane.map(|dataplane| std::mem::replace(&mut self.dataplane, dataplane))
    }

    /// What an operator should know of the config in force.
    pub(super) fn config_problems(&self) -> Vec<String> {
        let ConfigStatus { revision, differs_from_file, confirm_by } = &self.in_force.status;
        let mut problems: Vec<String> = self.in_force.reload_problem.iter().cloned().collect();
        problems.extend(self.in_force.page_problem.clone());
        problems.extend(self.in_force.scrapes_problem.clone());
        problems.extend(self.journal.problem());
        if let Some(jump) = self.jump() {
            let way = if jump > 0 { "forward" } else { "back" };
            problems.push(format!(
                "the wall clock was set {way} by {} s since the daemon's start: its deadlines go on by seconds, but times that it shows are \
                 of before; once the clock is right, restart the daemon",
                jump.unsigned_abs()
            ));
        }
        if let Some(by) = confirm_by {
            let left = by.saturating_sub(self.clock.now());
            problems.push(match &self.in_force.way_back_problem {
                Some(why) => format!(
                    "the config of revision {revision} was not confirmed in time, and cannot be taken back yet, which is tried each few \
                     seconds: {why}; `sluice confirm {revision}` keeps it"
                ),
                None => format!(
                    "the config of revision {revision} is taken back in {left} s: `sluice confirm {revision}` keeps it"
                ),
            });
        }
        if *differs_from_file {
            problems.push(format!(
                "the config in force is that of revision {revision}, not that of {0}: `sluice apply {0}` takes the file",
                self.config.display()
            ));
        }
        problems
    }
}

/// Drains outlive their hosts' absence from the config.
fn drains_left_behind(drains: &BTreeMap<Target, State>, model: &Model) -> Vec<String> {
    let gone =
        drains.iter().filter(|(target, state)| state.is_out() && !model.hosts.contains_key(&target.host));
    gone.map(|(target, _)| format!("{target} is drained, and would be so still if it came back")).collect()
}

/// Whether two texts say the same, whatever stands in comments.
pub fn same_model(one: &str, other: &str) -> bool {
    match (config::parse(one, "one"), config::parse(other, "other")) {
        (Ok(one), Ok(other)) => one.model == other.model,
        _ => false,
    }
}
