//! From a config to what is in force, the same way at a start and when a config is applied: what the journal knows of its hosts is
//! taken up, rings go on from their history, and all of it is published.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{BackendFlags, HostState};

use super::rings::{Rings, Wanted};
use super::{Engine, Error};
use crate::dataplane::grace_period;
use crate::drain::{State, resume};
use crate::model::{Interface, Service, WhenEmpty};
use crate::plan::state_of_leaving;

impl Engine {
    /// Takes up what is known of the hosts of the model: by memory, and of those that are new to it by the journal. Nothing changes for
    /// packets.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let mut known = std::mem::take(&mut self.drains);
        let new: BTreeSet<String> =
            self.model.hosts.keys().filter(|host| !known.contains_key(*host)).cloned().collect();
        let mut state = |host: &String| known.remove(host).unwrap_or(State::Active { last: None });
        self.drains = self.model.hosts.keys().map(|host| (host.clone(), state(host))).collect();
        self.sealed.retain(|host| self.drains.contains_key(host));
        self.ramps.retain(|host, _| self.drains.contains_key(host));
        self.resume_drains(&new)?;
        self.resume_ramps(&new)?;
        self.take_in_hops();
        self.find_leaving();
        self.continue_rings()
    }

    /// Puts the model in force.
    pub(super) fn enforce(&mut self) -> Result<(), Error> {
        self.continue_edges();
        self.publish()?;
        self.note_lost()?;
        self.note_starts()?;
        self.follow_own()?;
        self.attach()?;
        self.look_at_ways_out();
        Ok(())
    }

    fn resume_drains(&mut self, of: &BTreeSet<String>) -> Result<(), Error> {
        let kept = self.dataplane.adopted;
        for row in self.journal.open_drains()? {
            let host = row.drain.host.clone();
            if !self.drains.contains_key(&host) {
                log::warn!("{host} is drained, but the config does not name it any more");
            }
            if !of.contains(&host) {
                continue;
            }
            let receipt = row.receipt.filter(|receipt| !receipt.outcome.is_taken_back());
            let (state, _) = resume(row.drain, receipt, kept);
            if matches!(state, State::Drained(_)) && state.is_out() {
                self.sealed.insert(host.clone());
            }
            log::info!("{host} stays {:?} by the journal", state.admin());
            self.drains.insert(host, state);
        }
        Ok(())
    }

    /// Backends that an earlier daemon published and the config does not name any more: their flows go on.
    fn find_leaving(&mut self) {
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
        self.leaving.clear();
        let services: BTreeSet<u16> = known.iter().map(|(service, _)| *service).collect();
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
        let wanted = |service: &Service| Wanted {
            hosts: service.hosts.clone(),
            keeps_last: service.when_empty == WhenEmpty::Last,
        };
        let services: Vec<_> =
            self.model.services.iter().map(|service| (service.name.clone(), wanted(service))).collect();
        self.rings = self.with_making(|making| Rings::continued(making, services, &lineages));
        Ok(())
    }

    fn attach(&mut self) -> Result<(), Error> {
        self.attached.clear();
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
}
