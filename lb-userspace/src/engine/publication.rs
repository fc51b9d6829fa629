//! Publishing: rings by the present members, journalled, then made the ones that packets go by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::layout::FEATURE_TAGS;

use super::rings::{Making, Rings};
use super::{Engine, Error, Intents};
use crate::api::types::Happening;
use crate::journal::Journal;
use crate::netlink::NextHopState;
use crate::plan::Inputs;

/// Why a host is down that nothing can be sent to.
pub(super) const NO_NEXT_HOP: &str = "it has no next hop";

/// What that means that nobody can be reached.
pub(super) const CUT_OFF: &str = "it is taken for a fault of this machine's own link, and no slot moves";

impl Engine {
    /// Publishes rings and tables by the present state of drains, hosts and next hops. When it returns, no packet is
    /// decided by anything older.
    ///
    /// # Errors
    /// Also where the journal cannot be written: rings that it does not know are not put in force, see [`Self::publish_beside`].
    pub(super) fn publish(&mut self) -> Result<(), Error> {
        self.find_published()?;
        // What is taken in below is no news to the next round, which has to publish it all the same if this one cannot.
        self.stale = true;
        let is_news = self.next_hops.has_changed().unwrap_or(false);
        self.take_in_hops();
        if let Some(relay) = &mut self.relay {
            self.path_mtus = relay.paths.borrow_and_update().clone();
        }
        let down = self.unreachable(&self.published_hops);
        for host in down.difference(&self.down) {
            log::warn!("{host} is down: it has no next hop");
            self.tell(Happening::HostDown { host: host.clone(), service: None, why: NO_NEXT_HOP.to_owned() });
        }
        for host in self.down.difference(&down) {
            log::info!("{host} is up: its next hops are known");
            let why = "its next hops are known".to_owned();
            self.tell(Happening::HostUp { host: host.clone(), service: None, why });
        }
        let was_cut_off = self.cut_off.is_on();
        self.note_down(down);
        self.health.board.set_unseen(self.cut_off.awaited().clone());
        match (was_cut_off, self.cut_off.is_on()) {
            (false, true) => log::error!("no host can be reached: {CUT_OFF}"),
            (true, false) => log::info!("hosts can be reached again"),
            _ => {}
        }
        self.published_shares = self.partial_shares();
        self.publish_rings().or_else(|error| self.publish_beside(error, is_news))
    }

    fn publish_rings(&mut self) -> Result<(), Error> {
        let mut rings = self.rings.clone();
        self.take_in_health()?;
        let intents = self.intents();
        let stuck = rings.regroup(&self.wanted(&intents), &intents.needed, self.room());
        self.note_shares(&rings, stuck);
        let moved = self.with_making(|making| rings.publish(making));
        if moved != 0 {
            log::info!("{moved} slots change hands");
        }
        self.put_in_force(rings)
    }

    /// New rings cannot be noted, so they are not put in force, and neither is what goes with them: a host that the rings in force name
    /// gets new flows, which no bound of its drain may end. Next hops and what else needs no history must not wait for a disk.
    ///
    /// # Errors
    /// Always: the rings are still to be published.
    fn publish_beside(&mut self, error: Error, is_news: bool) -> Result<(), Error> {
        let is_of_disk = matches!(&error, Error::Journal(error) if error.mend().is_some());
        let Some(words) = self.rings.words_in_force().filter(|_| is_of_disk) else { return Err(error) };
        let (ring_of, in_use) = (self.rings.by_service(), self.rings.in_use());
        let mut health = self.left_by_health();
        health.retain(|(name, host), _| !in_use.get(name).is_some_and(|hosts| hosts.contains(host)));
        let tables = self.with_inputs(|inputs| {
            let inputs = Inputs { serving_on: &in_use, health: &health, ..*inputs };
            inputs.tables(|name| ring_of.get(name).copied(), words)
        });
        if let Err(failed) = self.dataplane.publish(&tables) {
            self.publication_failed();
            return Err(failed.into());
        }
        self.tell_ways();
        // Each round comes here.
        if is_news {
            log::warn!("next hops alone are published: {error}");
        }
        Err(error)
    }

    /// Takes in which hosts cannot be reached.
    pub(super) fn note_down(&mut self, down: BTreeSet<String>) {
        let hosts = self.model.services.iter().flat_map(|service| &service.hosts);
        self.cut_off.note(hosts, &down, self.clock.now());
        self.down = down;
    }

    /// Takes in what is known of next hops. A program that was loaded without VLAN tags would send frames to the wrong network.
    pub(super) fn take_in_hops(&mut self) {
        self.published_hops = self.hops();
    }

    /// What is known of the next hops of the model's backends.
    pub(super) fn hops(&mut self) -> BTreeMap<IpAddr, NextHopState> {
        let mut hops = self.next_hops.borrow_and_update().clone();
        let wanted: BTreeSet<IpAddr> =
            self.model.services.iter().flat_map(|service| self.model.addresses(service)).collect();
        hops.retain(|address, _| wanted.contains(address));
        if self.dataplane.options.abilities.features & FEATURE_TAGS == 0 {
            for state in hops.values_mut() {
                if let Some(next_hop) = state.next_hop().filter(|next_hop| next_hop.tags != [0; 2]) {
                    let why = format!(
                        "{} was made after the daemon's start, which knew of no VLAN: restart the daemon",
                        next_hop.interface
                    );
                    *state = NextHopState::Unresolved { why };
                }
            }
        }
        hops
    }

    /// Journals the rings and puts them in force, with tables by the present state.
    pub(super) fn put_in_force(&mut self, mut rings: Rings) -> Result<(), Error> {
        // The journal first: a restart after a kill right here replays what the data path has not seen yet, and
        // publishes it.
        self.stale = true;
        let intents = self.intents();
        rings.regroup(&self.wanted(&intents), &intents.needed, self.room());
        let kept = rings.kept()?;
        let known = self.journal.lineage_keys()?;
        let done: Vec<&String> = known.iter().filter(|key| !kept.contains_key(*key)).collect();
        let is_known = |journal: &Journal| journal.lineages().is_ok_and(|known| known == kept);
        self.generation = match self.journal.next_generation(&kept, &done) {
            Ok(generation) => generation,
            // New next hops and states of hosts need no history: packets must not wait for a disk.
            Err(error) if error.mend().is_some() && is_known(&self.journal) => {
                log::warn!("published without a note of it: {error}");
                self.generation + 1
            }
            Err(error) => return Err(error.into()),
        };
        let words = rings.words(self.generation);
        self.rings = rings;
        let ring_of = self.rings.by_service();
        let tables = self.with_inputs(|inputs| inputs.tables(|name| ring_of.get(name).copied(), words));
        if let Err(error) = self.dataplane.publish(&tables) {
            self.publication_failed();
            return Err(error.into());
        }
        self.publication_done();
        self.tell_ways();
        self.stale = false;
        self.tell(Happening::Published { generation: self.generation });
        Ok(())
    }

    /// Publishes tables alone: states of hosts and next hops, with the rings as they are. If more is to be published, all of it.
    pub(super) fn publish_tables(&mut self) -> Result<(), Error> {
        if self.stale {
            return self.publish();
        }
        self.find_published()?;
        let rings = self.rings.clone();
        self.put_in_force(rings)
    }

    /// Runs `work` with what rings are made of.
    pub(super) fn with_making<T>(&self, work: impl FnOnce(&Making<'_>) -> T) -> T {
        self.with_making_of(&self.intents(), work)
    }

    /// As [`Self::with_making`], if operators wanted this.
    pub(super) fn with_making_of<T>(&self, intents: &Intents, work: impl FnOnce(&Making<'_>) -> T) -> T {
        let key = self.journal.hash_key();
        self.with_inputs_of(intents, |inputs| {
            work(&Making {
                key: &key,
                size: self.model.ring_size,
                now: self.clock.now(),
                ids: &|name| self.ids.known_hosts.get(name).copied(),
                members: &|hosts, in_use, keeps_last, without, shares| {
                    inputs.members(hosts, in_use, keeps_last, without, shares)
                },
            })
        })
    }
}
