//! From a config to what is in force, the same way at a start and when a config is applied: what the journal knows of its hosts is
//! taken up, rings go on from their history, and all of it is published.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::HostState;
use nix::net::if_::if_nametoindex;

use super::interfaces::{awaited, without_program};
use super::rings::{self, Rings};
use super::{Engine, Error};
use crate::dataplane::{self, Attached, grace_period};
use crate::drain::{State, Target, resume};
use crate::model::Interface;
use crate::plan::{audience, state_of_leaving};

impl Engine {
    /// Takes up what is known of the hosts of the model: by memory, and of those that are new to it by the journal. Nothing changes for
    /// packets.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let mut drains = std::mem::take(&mut self.drains);
        drains.retain(|target, _| self.is_named(target));
        let hosts = self.model.hosts.keys();
        let new: BTreeSet<String> =
            hosts.filter(|host| !drains.contains_key(&Target::host(host))).cloned().collect();
        drains.extend(new.iter().map(|host| (Target::host(host), State::Active { last: None })));
        self.drains = drains;
        self.sealed.retain(|target| self.drains.contains_key(target));
        self.tallies.retain(|target, _| self.drains.contains_key(target));
        self.of_clients.retain(|target, _| self.drains.contains_key(target));
        self.ramps.retain(|host, _| self.model.hosts.contains_key(host));
        self.resume_drains(&new)?;
        self.resume_ramps(&new)?;
        self.resume_health()?;
        self.take_in_hops();
        self.find_leaving()?;
        self.continue_rings()
    }

    /// Whether the model has the host, and has it serve the service.
    fn is_named(&self, target: &Target) -> bool {
        self.model.hosts.contains_key(&target.host)
            && target.service.as_ref().is_none_or(|name| {
                let mut services = self.model.services.iter();
                services.any(|service| service.name == *name && service.hosts.contains(&target.host))
            })
    }

    /// Puts the model in force. What an interface may refuse comes first, so that nothing has changed for packets if one does: the program
    /// also knows what is published so far. Maps that no packet goes by yet are filled before.
    pub(super) fn enforce(&mut self) -> Result<(), Error> {
        self.continue_edges();
        let is_filled_first = self.dataplane.is_filled_first;
        // After a switch the program before knows less than this one. On the way back all is tried again.
        let is_switch = self.dataplane.is_taking_over();
        let links = (!self.in_force.way_back.is_open()).then(|| self.dataplane.links()).transpose()?;
        let attached = self.attached.clone();
        if is_filled_first {
            self.enforce_tables()?;
        }
        let keep = match self.attach() {
            Ok(keep) => keep,
            Err(error) => {
                match &links {
                    Some(links) if is_switch => self.forget_new(links),
                    Some(links) => self.dataplane.put_links_back(links),
                    None => {}
                }
                return Err(error);
            }
        };
        if !is_filled_first && let Err(error) = self.enforce_tables() {
            // Some tables may be new by now, and the program before need not know them.
            if let Some(links) = &links {
                self.forget_new(links);
                self.attached = attached;
            }
            return Err(error);
        }
        self.let_go_of_others(&keep)?;
        self.look_at_ways_out();
        self.begin_checks();
        Ok(())
    }

    /// Interfaces that had no program are let go, and programs that no other runs: the next start brings more of them.
    fn forget_new(&self, before: &dataplane::Links) {
        self.dataplane.forget_new_links(before);
        if let Err(error) = self.dataplane.forget_unused_programs() {
            log::warn!("{error}");
        }
    }

    fn enforce_tables(&mut self) -> Result<(), Error> {
        self.publish()?;
        self.note_lost()?;
        self.note_starts()?;
        self.follow_own()
    }

    /// Takes up the drains of these hosts, and of all hosts those for single services that are not known.
    fn resume_drains(&mut self, new: &BTreeSet<String>) -> Result<(), Error> {
        let mut without_counters = Vec::new();
        for row in self.journal.open_drains()? {
            let target = row.drain.target();
            if row.drain.order.leaving {
                // See `retire`.
                continue;
            }
            if !self.is_named(&target) {
                log::warn!("{target} is drained, but the config does not name it any more");
                continue;
            }
            let is_known = if target.is_whole() {
                !new.contains(&target.host)
            } else {
                self.drains.contains_key(&target)
            };
            if is_known {
                continue;
            }
            let receipt = row.receipt.filter(|receipt| !receipt.outcome.is_taken_back());
            let (state, _) = resume(row.drain, receipt, self.counters_kept);
            if matches!(state, State::Drained(_)) && state.is_out() {
                self.sealed.insert(target.clone());
            }
            log::info!("{target} stays {:?} by the journal", state.admin());
            if let (Some(_), State::Draining(draining)) = (target.clients, &state) {
                let noted = draining.drain.start.as_ref().map(|start| start.tally);
                let is_free = |tally: &u32| *tally != 0 && !self.tallies.values().any(|used| used == tally);
                match noted.filter(is_free) {
                    Some(tally) => drop(self.tallies.insert(target.clone(), tally)),
                    None => without_counters.push(target.clone()),
                }
            }
            self.drains.insert(target, state);
        }
        // Once it is known which ones others have.
        for target in without_counters {
            let tally = self.free_tally();
            self.tallies.extend(tally.map(|tally| (target, tally)));
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
        self.leaving.clear();
        for ((service, host), backend) in self.dataplane.published_backends() {
            if services.contains(&service) && !known.contains(&(service, host)) {
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
        self.resume_shares();
        let mut intents = self.intents();
        // Handovers of drains that are over may still be open.
        intents
            .clients
            .extend(rings::names(&lineages).into_iter().filter(|name| audience::parse(name).1.is_some()));
        let services = self.wanted(&intents);
        self.rings = self.with_making(|making| Rings::continued(making, services, &lineages));
        Ok(())
    }

    /// Gives the model's interfaces the program; indices of those whose links are to stay.
    fn attach(&mut self) -> Result<Vec<u32>, Error> {
        self.dataplane.take_over()?;
        let wanted = self.model.interfaces.iter();
        let mut wanted: Vec<u32> = wanted.filter_map(|wanted| if_nametoindex(&*wanted.name).ok()).collect();
        // One that was renamed is to understand the new tables, too.
        let named = |attached: &&Attached| self.model.interfaces.iter().any(|i| i.name == attached.interface);
        wanted.extend(self.attached.iter().filter(named).map(|attached| attached.ifindex));
        match self.dataplane.replace_all(&wanted) {
            // Each interface for itself, then.
            Err(error) if self.in_force.way_back.is_open() => log::error!("{error}"),
            replaced => replaced?,
        }
        let (mut all, mut keep) = (Vec::new(), Vec::new());
        for Interface { name: interface, xdp_mode } in &self.model.interfaces {
            let attached = match self.dataplane.attach(interface, *xdp_mode) {
                // Nothing else may wait for it, and it is tried again with each round.
                Err(error) if self.in_force.way_back.is_open() => {
                    log::error!("{error}");
                    let before = self.attached.iter().filter(|before| before.interface == *interface);
                    keep.extend(before.map(|before| before.ifindex));
                    without_program(interface, &error)
                }
                // Of a config that has been in force: it is looked for with each round.
                Err(dataplane::Error::NoInterface { .. }) if self.in_force.awaited.contains(interface) => {
                    awaited(interface)
                }
                attached => attached?,
            };
            match &attached.note {
                Some(note) => log::warn!("{interface}: {} mode: {note}", attached.mode),
                None => log::info!("{interface}: {} mode", attached.mode),
            }
            keep.push(attached.ifindex);
            all.push(attached);
        }
        self.attached = all;
        Ok(keep)
    }

    /// Takes the program off interfaces that the model does not name, and lets programs go that nothing runs any more.
    fn let_go_of_others(&self, keep: &[u32]) -> Result<(), Error> {
        // One that is missing may have another name by now, and its program, which goes on until it has its own again.
        let is_missing =
            |attached: &Attached| !attached.is_there() && self.in_force.awaited.contains(&attached.interface);
        if !self.attached.iter().any(is_missing) {
            self.dataplane.detach_others(keep)?;
        }
        // One that refuses goes on by the program before, which calls others of its load.
        if self.attached.iter().all(Attached::is_there) {
            self.dataplane.forget_earlier_programs()?;
        }
        Ok(())
    }
}
