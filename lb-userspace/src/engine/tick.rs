//! What the engine does by itself, once a second or more often: sweep, close handovers, end drains, follow next hops.

use std::collections::{BTreeSet, HashMap};

use lb_common::layout::{Cold, HostId, HostState};
use serde_json::json;

use super::progress::Watched;
use super::{Engine, Error, telling};
use crate::api::types::{AtDeadline, Happening};
use crate::dataplane::{BackendTable, EndCause, SweepInput};
use crate::drain::{Action, Event, Observation, State, Target, step};
use crate::journal::{Change, Kind};
use crate::plan::{address_of, state_of_leaving};

impl Engine {
    /// One round.
    pub(super) fn tick(&mut self) -> Result<(), Error> {
        self.dataplane.log();
        if let Err(error) = self.settle_debt() {
            log::warn!("{error}");
        }
        // Pins end and drains go on, whether or not something can be published.
        let interfaces = self.follow_interfaces();
        let own = self.follow_own();
        self.follow_vips();
        let published = self.catch_up().and(own).and(interfaces);
        let leased = self.end_leases();
        let ramped = self.advance_ramps();
        let shifted = self.advance_shifts();
        let healthy = self.put_health_into_effect();
        self.note_edges();
        self.advance_kicks()?;
        self.sweep()?;
        self.tell_of_resets();
        self.recount()?;
        // A journal that cannot be written holds up what must be noted, and nothing else.
        let closed = self.close_handovers();
        self.tell_of_deadlines()?;
        let advanced = self.advance_drains();
        let maintained = self.advance_runs();
        self.tell_of_violations()?;
        self.let_go()?;
        let retired = self.retire();
        self.sample_rates()?;
        self.advance_self()?;
        self.keep_house();
        let turned = closed.and(advanced).and(maintained).and(shifted).and(retired);
        published.and(leased).and(ramped).and(healthy).and(turned)
    }

    /// Publishes what an earlier attempt could not, or what changed by itself.
    pub(super) fn catch_up(&mut self) -> Result<(), Error> {
        self.put_back()?;
        if self.stale {
            self.publish()?;
        } else {
            self.follow_next_hops()?;
        }
        self.note_starts()
    }

    /// Publishes anew when a next hop changed, or what is known of the path behind it.
    fn follow_next_hops(&mut self) -> Result<(), Error> {
        let path = self.relay.as_ref().is_some_and(|relay| relay.paths.has_changed().unwrap_or(false));
        let is_new = self.next_hops.has_changed().unwrap_or(false) && self.hops() != self.published_hops;
        if !path && !is_new && !self.cut_off.is_over(self.clock.now()) {
            return Ok(());
        }
        self.publish()?;
        self.look_at_ways_out();
        Ok(())
    }

    /// Hosts none of whose backends packets can be sent to.
    pub(super) fn unreachable(
        &self,
        hops: &std::collections::BTreeMap<std::net::IpAddr, crate::netlink::NextHopState>,
    ) -> BTreeSet<String> {
        let (mut down, mut up) = (BTreeSet::new(), BTreeSet::new());
        for service in &self.model.services {
            for name in &service.hosts {
                let address = self.model.address(service, name);
                let reachable = address.and_then(|address| hops.get(&address)?.next_hop()).is_some();
                if reachable {
                    up.insert(name.clone())
                } else {
                    down.insert(name.clone())
                };
            }
        }
        // One family without a next hop does not take the host from the other.
        down.difference(&up).cloned().collect()
    }

    pub(super) fn sweep(&mut self) -> Result<(), Error> {
        let rings = &self.rings.rings;
        let audiences = self.audiences();
        let audience_of = |cold: &Cold| match audiences.get(&cold.service())?.as_slice() {
            [all] => Some(all),
            some => {
                let client = address_of(cold.source);
                some.iter().find(|audience| audience.clients.is_none_or(|prefix| prefix.contains(&client)))
            }
        };
        let sealed: BTreeSet<HostId> =
            self.sealed_hosts().iter().filter_map(|host| self.ids.hosts.get(host).copied()).collect();
        // A host that the config names no more has a backend only where it leaves one; after a reboot it has none.
        let members: HashMap<u32, BTreeSet<HostId>> = rings
            .iter()
            .map(|(&number, ring)| (number, ring.members.iter().map(|member| member.id).collect()))
            .collect();
        let leaves: BTreeSet<HostId> = self.leaving.keys().map(|&(_, host)| host).collect();
        let of_clients: Vec<(Target, Watched)> = self
            .drains
            .iter()
            .filter(|(target, state)| target.clients.is_some() && matches!(state, State::Draining(_)))
            .filter_map(|(target, _)| Some((target.clone(), self.watched_target(target, None)?)))
            .collect();
        let counted: BTreeSet<HostId> = of_clients.iter().map(|(_, watched)| watched.host).collect();
        let input = SweepInput {
            ring_of: &|cold| audience_of(cold).map(|audience| audience.ring),
            slots: &|number| rings.get(&number).map(|ring| ring.words.as_slice()),
            state: &|cold, host| match (self.leaving.get(&(cold.service(), host)), audience_of(cold)) {
                (Some(backend), _) => state_of_leaving(&backend.record),
                _ if sealed.contains(&host) => HostState::Drained,
                (None, Some(audience)) if audience.sealed.contains(&host) => HostState::Drained,
                (None, Some(audience)) if members[&audience.ring].contains(&host) => HostState::Up,
                (None, _) => HostState::Gone,
            },
            losers: &|host| {
                leaves.contains(&host) || counted.contains(&host) || self.rings.may_have_foreign_pins(host)
            },
            drain_of: &|cold, host| {
                let is_of =
                    |(_, watched): &(Target, Watched)| watched.is_of(host, cold.service(), cold.source);
                of_clients.iter().position(is_of)
            },
            leaving: &|service, host| self.leaving.contains_key(&(service, host)),
        };
        let swept = self.dataplane.sweep(&input)?;
        let live = |number| swept.live_of_drains.get(&number).copied().unwrap_or_default();
        self.of_clients =
            of_clients.into_iter().enumerate().map(|(number, (target, _))| (target, live(number))).collect();
        self.swept = Some(swept);
        self.note_durations();
        Ok(())
    }

    fn close_handovers(&mut self) -> Result<(), Error> {
        // What the data path does not know yet is not over.
        let Some(swept) = self.swept.as_ref().filter(|_| !self.stale) else { return Ok(()) };
        let done = self.drains.iter().filter(|(target, state)| {
            target.is_whole() && matches!(state, State::Drained(_)) && state.is_out()
        });
        let done: BTreeSet<HostId> =
            done.filter_map(|(target, _)| self.ids.hosts.get(&target.host).copied()).collect();
        let pairs = self.intents().pairs;
        let is_done = |name: &String, host: HostId| {
            let mut own = pairs.iter().filter(|((of, _), pair)| of == name && pair.is_done);
            own.any(|((_, of), _)| self.ids.hosts.get(of) == Some(&host))
        };
        let mut rings = self.rings.clone();
        // Without pins that would hold a slot open, the second in which packets learnt of it counts in full.
        let t = self.idle_timeout() + u64::from(self.any_edges());
        let (now, lost_at) = (self.clock.now(), self.lost_at());
        let closed = rings.close(now, t, lost_at, &swept.foreign, |names, host| {
            done.contains(&host) || names.iter().all(|name| is_done(name, host))
        });
        if closed == 0 {
            return Ok(());
        }
        let done = self.put_in_force(rings);
        match &done {
            Ok(()) => log::info!("{closed} slots are handed over"),
            // The data path is as it was, and the handovers stay open.
            Err(Error::Journal(_)) => self.stale = false,
            Err(_) => {}
        }
        done
    }

    fn advance_drains(&mut self) -> Result<(), Error> {
        // What the data path does not know yet, a seal above all, proves nothing about a drain.
        if self.stale {
            return Ok(());
        }
        let draining: Vec<Target> = self
            .drains
            .iter()
            .filter(|(_, state)| matches!(state, State::Draining(_)))
            .map(|(target, _)| target.clone())
            .collect();
        for target in draining {
            let observation = self.observe(&target)?;
            let now = self.clock.now();
            let event = Event::Sweep(observation);
            let (state, actions) = step(&target, self.drains[&target].clone(), event, now);
            self.carry_out(&target, state, actions)?;
        }
        Ok(())
    }

    fn observe(&self, target: &Target) -> Result<Observation, Error> {
        let host = &target.host;
        let id = self.ids.hosts[host];
        let (now, t) = (self.clock.now(), self.idle_timeout());
        let gauges = self.drain_gauges(target)?;
        if !target.is_whole() || self.part(host).is_some() {
            // The host's other slots may be settled, where flows need no pins, so its pins may never be complete. Those handed over are.
            let t = t + u64::from(self.any_edges());
            let names = (!target.is_whole()).then(|| self.audiences_of(target));
            return Ok(Observation {
                // All pins of a host that has no slot of a service are in slots of others.
                counted: match target.clients {
                    Some(_) => gauges.live.total,
                    None => self.foreign(target).iter().sum(),
                },
                gauges,
                clock: self.clock.monotonic(),
                complete_since: self.dataplane.incomplete_since(id),
                slots_open_long_enough: self.rings.open_long_enough(
                    names.as_ref(),
                    id,
                    now,
                    t,
                    self.lost_at(),
                ),
                idle_timeout: t,
            });
        }
        Ok(Observation {
            gauges,
            counted: self.swept.as_ref().map_or(0, |swept| swept.counted(id)),
            clock: self.clock.monotonic(),
            complete_since: self.dataplane.incomplete_since(id),
            // Flows without pins were not counted until the data path had the new rings, which the pins' completeness tells.
            slots_open_long_enough: !self.has_edges(host)
                && self.rings.open_long_enough(None, id, now, t, self.lost_at()),
            idle_timeout: t,
        })
    }

    /// Journal first, then the data path; the new state last, when all of it worked.
    fn carry_out(&mut self, target: &Target, state: State, actions: Vec<Action>) -> Result<(), Error> {
        let mut publish = false;
        for action in actions {
            match action {
                Action::SealHost(_) => publish |= self.sealed.insert(target.clone()),
                Action::UnsealHost(_) => publish |= self.sealed.remove(target),
                Action::Finish(receipt) => {
                    let change = Change { at: self.clock.now(), author: "sluice", reason: None };
                    self.journal.finish_drain(&receipt, &change)?;
                    self.tell(telling::drained(&receipt));
                    let crate::api::types::Receipt { ended, moved, reset, silent, .. } = receipt;
                    log::info!(
                        "{target} is drained: {ended} flows ended, {moved} moved, {reset} reset, {silent} silent"
                    );
                }
                Action::EndSilent { action, .. } => self.end_silent(target, action)?,
                // The end of the drain lets its handovers close; the next round does that.
                Action::PublishRings => {}
                // Not of a sweep.
                Action::Begin(_)
                | Action::Amend { .. }
                | Action::NoteStart { .. }
                | Action::PublishTables
                | Action::TakeBack { .. } => {}
            }
        }
        if publish {
            self.publish_tables()?;
        }
        if !matches!(state, State::Draining(_)) {
            self.tallies.remove(target);
        }
        self.drains.insert(target.clone(), state);
        Ok(())
    }

    /// Ends the flows of a host that have said nothing since its deadline. The sums of the drain learn of them by the counters.
    pub(super) fn end_silent(&mut self, target: &Target, action: AtDeadline) -> Result<(), Error> {
        let Some(&id) = self.ids.known_hosts.get(&target.host) else { return Ok(()) };
        let Some(watched) = self.watched_target(target, None) else { return Ok(()) };
        let tally = self.tallies.get(target).copied().unwrap_or(0);
        let cause = if action == AtDeadline::Reset { EndCause::Reset } else { EndCause::Moved };
        let is_meant = |cold: &Cold| watched.is_of(id, cold.service(), cold.source);
        let ended = self.dataplane.end_those(id, is_meant, cause, tally)?;
        if ended.overflow > 0 {
            self.uncounted.extend(self.ids.stats_of_host(&target.host));
            self.uncounted.extend(self.retiring.counters(&target.host));
        }
        if ended.total() > 0 {
            log::info!("{} flows of {target} said nothing after the deadline: ended", ended.total());
        }
        Ok(())
    }

    /// Forgets backends that the config does not name any more, once no flow and no handover of their service needs them.
    fn let_go(&mut self) -> Result<(), Error> {
        // What waits to be published comes first, with rings that may name others than the data path does.
        let Some(swept) = self.swept.as_ref().filter(|_| !self.stale) else { return Ok(()) };
        let is_needed = |(&(service, host), backend): (&(u16, HostId), &BackendTable)| {
            // No stateless answer names a host that is lost.
            let is_previous = state_of_leaving(&backend.record) != HostState::Lost
                && self.ids.service_name(service).is_some_and(|name| self.rings.is_previous_of(name, host));
            is_previous || swept.leaving.contains_key(&(service, host))
        };
        let needed = self.leaving.iter().filter(|entry| is_needed(*entry)).map(|(&key, _)| key);
        let needed: BTreeSet<(u16, HostId)> = needed.collect();
        if needed.len() == self.leaving.len() {
            return Ok(());
        }
        let let_go: BTreeSet<HostId> =
            self.leaving.keys().filter(|key| !needed.contains(*key)).map(|&(_, host)| host).collect();
        self.leaving.retain(|key, _| needed.contains(key));
        self.publish_tables()?;
        for host in let_go {
            self.note_left(host);
        }
        Ok(())
    }

    /// A host that the config does not name any more may have no backend left.
    fn note_left(&mut self, host: HostId) {
        let Some(name) = self.ids.host_name(host).map(str::to_owned) else { return };
        if self.model.hosts.contains_key(&name) || self.leaving.keys().any(|&(_, other)| other == host) {
            return;
        }
        log::info!("{name} has left the config, and its last flow has ended");
        let change = Change { at: self.clock.now(), author: "sluice", reason: None };
        if let Err(error) = self.journal.note(Kind::Left, &change, &json!({ "host": name })) {
            log::warn!("{error}");
        }
        self.tell(Happening::HostLeft { host: name });
    }

    /// Sets gauges right that a daemon before may have left off by one, as soon as they stand still for a moment; see
    /// `Dataplane::recount`.
    pub(super) fn recount(&mut self) -> Result<(), Error> {
        if !self.uncounted.is_empty() {
            self.uncounted = self.dataplane.recount(&self.uncounted)?;
        }
        Ok(())
    }
}
