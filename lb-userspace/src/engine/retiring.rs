//! Hosts that the config in force does not name any more. Each leaves by a drain, by that which it had or by one of its own, whose
//! receipt is written when no pin and no slot names the host.
//!
//! What should be is in the journal and in the data path: the drains in force, and the backends that are left. So it is found again
//! by any later round, whatever became of the round or the daemon before.

use std::collections::{BTreeMap, BTreeSet};

use super::{Engine, Error, telling};
use crate::api::types::{DrainStatus, Order};
use crate::drain::{Action, Draining, Event, Gauges, State, Target, resume, step};
use crate::journal::{Change, TakenBack};
use crate::ramp::Ramp;

/// The author of what nobody asked for.
const BY_ITSELF: &str = "sluice";
const NAMED_AGAIN: &str = "the config names it again";

/// The hosts.
#[derive(Default)]
pub(super) struct Retiring {
    hosts: BTreeMap<String, Leaver>,
    /// The journal was asked since the last change of the config.
    is_known: bool,
}

struct Leaver {
    /// Under way.
    draining: Box<Draining>,
    /// The counters at the last look, which is before the host gets new flows again.
    seen: Option<Gauges>,
    /// Numbers of its counters.
    stats: Vec<u32>,
}

impl Retiring {
    /// Another config is tried.
    pub fn look_again(&mut self) {
        self.is_known = false;
    }

    /// The drain by which a host leaves.
    pub fn number(&self, host: &str) -> Option<u64> {
        self.hosts.get(host).map(|leaver| leaver.draining.drain.id)
    }

    /// Numbers of its counters, which are those of no host of the config.
    pub fn counters(&self, host: &str) -> &[u32] {
        self.hosts.get(host).map_or(&[], |leaver| &leaver.stats)
    }
}

impl Engine {
    /// One round for all of them.
    pub(super) fn retire(&mut self) -> Result<(), Error> {
        // Who leaves is known when what is published is.
        if self.in_force.way_back.is_open() {
            return Ok(());
        }
        if !self.retiring.is_known {
            self.find_retiring()?;
            self.retiring.is_known = true;
        }
        let hosts: Vec<String> = self.retiring.hosts.keys().cloned().collect();
        for host in hosts {
            if self.model.hosts.contains_key(&host) {
                self.stay(&host)?;
            } else if self.leaving_names().contains(&host) {
                self.watch_leaver(&host)?;
            } else {
                self.leave(&host)?;
            }
        }
        Ok(())
    }

    /// A last look at all of them, before a config is put in force that may name some again.
    pub(super) fn look_at_leavers(&mut self) {
        let hosts: Vec<String> = self.retiring.hosts.keys().cloned().collect();
        if let Err(error) = hosts.iter().try_for_each(|host| self.watch_leaver(host)) {
            // Its receipt tells of the look before.
            log::warn!("{error}");
        }
    }

    /// The drains of all hosts that the config does not name any more, for the list of drains.
    pub(super) fn retiring_statuses(&self) -> Result<Vec<DrainStatus>, Error> {
        let now = self.clock.now();
        let status = |leaver: &Leaver| {
            let live = self.sum_of(&leaver.stats)?.live();
            Ok(State::Draining(leaver.draining.clone()).status(live, now))
        };
        let statuses: Result<Vec<_>, Error> = self.retiring.hosts.values().map(status).collect();
        Ok(statuses?.into_iter().flatten().collect())
    }

    /// Hosts that the config does not name, and that have backends all the same.
    fn leaving_names(&self) -> BTreeSet<String> {
        let names = self.leaving.keys().filter_map(|&(_, host)| self.ids.host_name(host));
        names.filter(|name| !self.model.hosts.contains_key(*name)).map(str::to_owned).collect()
    }

    /// Takes up the drains that are under way, and begins those that are missing.
    fn find_retiring(&mut self) -> Result<(), Error> {
        let mut without = self.leaving_names();
        for row in self.journal.open_drains()? {
            let host = row.drain.host.clone();
            let is_whole = row.drain.target().is_whole();
            let is_part = row.drain.order.share.is_some();
            if is_whole {
                // Also one that was drained before: it has its receipt.
                without.remove(&host);
            }
            let is_named = self.model.hosts.contains_key(&host);
            let is_meant = is_whole && row.receipt.is_none() && (!is_named || row.drain.order.leaving);
            if !is_meant || self.retiring.hosts.contains_key(&host) {
                continue;
            }
            if let (State::Draining(mut draining), _) = resume(row.drain, None, self.counters_kept) {
                if is_named || is_part {
                    // It may have had new flows since, so nothing tells what became of the old ones; and one of a part counts others.
                    draining.tally = None;
                }
                let stats = self.counters_of(&host)?;
                self.retiring.hosts.insert(host, Leaver { draining, seen: None, stats });
            }
        }
        without.iter().try_for_each(|host| self.begin_to_leave(host))
    }

    fn counters_of(&self, host: &str) -> Result<Vec<u32>, Error> {
        let services = self.model.services.iter().map(|service| service.name.as_str());
        Ok(self.journal.stats_of_host(host, services)?)
    }

    fn begin_to_leave(&mut self, host: &str) -> Result<(), Error> {
        let (now, target) = (self.clock.now(), Target::host(host));
        let stats = self.counters_of(host)?;
        let revision = self.in_force.status.revision;
        let author = self.journal.revision(revision)?.map_or_else(|| BY_ITSELF.to_owned(), |of| of.author);
        let reason = format!("the config of revision {revision} does not name it");
        let event = Event::Drain {
            id: self.journal.next_drain_id()?,
            by: author.clone(),
            reason: Some(reason.clone()),
            order: Order { leaving: true, ..Order::default() },
            gauges: self.gauges_of(&target, &stats)?,
        };
        let (State::Draining(draining), _) = step(&target, State::Active { last: None }, event, now) else {
            return Ok(());
        };
        let change = Change { at: now, author: &author, reason: Some(&reason) };
        self.journal.drain(std::slice::from_ref(&draining.drain), &[], &change)?;
        log::info!("drain {} of {host}: {reason}", draining.drain.id);
        self.durations.begin(&draining.drain);
        self.tell(telling::began(&draining.drain));
        self.retiring.hosts.insert(host.to_owned(), Leaver { draining, seen: None, stats });
        self.watch_leaver(host)
    }

    /// Counts; and ends what is silent after the deadline of an operator.
    fn watch_leaver(&mut self, host: &str) -> Result<(), Error> {
        if self.stale {
            // The zero line of the receipt is drawn when packets know that the host has left.
            return Ok(());
        }
        let (now, generation) = (self.clock.now(), self.generation);
        let Some(leaver) = self.retiring.hosts.get(host) else { return Ok(()) };
        let gauges = self.gauges_of(&Target::host(host), &leaver.stats)?;
        let (live, order) = (gauges.live.total, leaver.draining.drain.order);
        let Some(Leaver { draining, seen, .. }) = self.retiring.hosts.get_mut(host) else { return Ok(()) };
        *seen = Some(gauges.clone());
        if let Some(tally) = &mut draining.tally {
            tally.take(&gauges);
        } else {
            let state = State::Draining(draining.clone());
            let (state, actions) =
                step(&Target::host(host), state, Event::Published { gauges, generation }, now);
            for action in actions {
                if let Action::NoteStart { drain, start } = action {
                    self.journal.note_drain_start(drain, &start)?;
                }
            }
            if let State::Draining(begun) = state {
                *draining = begun;
            }
        }
        if live > 0 && order.ends_silent(now) {
            self.end_silent(&Target::host(host), order.at_deadline)?;
        }
        Ok(())
    }

    /// Its last flow has ended, and nothing leads to it.
    fn leave(&mut self, host: &str) -> Result<(), Error> {
        let Some(leaver) = self.retiring.hosts.get(host) else { return Ok(()) };
        let (target, now) = (Target::host(host), self.clock.now());
        let event = Event::Left { gauges: self.gauges_of(&target, &leaver.stats)? };
        let (_, actions) = step(&target, State::Draining(leaver.draining.clone()), event, now);
        for action in actions {
            if let Action::Finish(receipt) = action {
                let change = Change { at: now, author: BY_ITSELF, reason: None };
                self.journal.finish_drain(&receipt, &change)?;
                log::info!("{host} has left by drain {}: {} flows ended", receipt.drain, receipt.ended);
                self.tell(telling::drained(&receipt));
            }
        }
        self.retiring.hosts.remove(host);
        Ok(())
    }

    /// The config names it again: what an operator wanted of it goes on with the other hosts, what its leaving did is taken back.
    fn stay(&mut self, host: &str) -> Result<(), Error> {
        let Some(leaver) = self.retiring.hosts.get(host) else { return Ok(()) };
        let drain = leaver.draining.drain.clone();
        if drain.order.leaving {
            let (target, now) = (Target::host(host), self.clock.now());
            let gauges = leaver.seen.clone();
            let gauges = gauges.map_or_else(|| self.gauges_of(&target, &leaver.stats), Ok)?;
            let event = Event::Undrain { gauges };
            let (_, actions) = step(&target, State::Draining(leaver.draining.clone()), event, now);
            for action in actions {
                if let Action::TakeBack { drain: number, receipt } = action {
                    let by = Some((BY_ITSELF, Some(NAMED_AGAIN)));
                    let told = telling::taken_back(&drain, receipt.as_ref(), by);
                    let change = Change { at: now, author: BY_ITSELF, reason: Some(NAMED_AGAIN) };
                    let ramps: BTreeMap<String, Option<Ramp>> = BTreeMap::new();
                    self.journal.undrain(&[TakenBack { drain: number, receipt }], &ramps, &change)?;
                    self.tell(told);
                }
            }
            log::info!("drain {} of {host} is taken back: {NAMED_AGAIN}", drain.id);
        }
        self.retiring.hosts.remove(host);
        Ok(())
    }
}
