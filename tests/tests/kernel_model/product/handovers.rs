//! The rules of the daemon, written down once more: who owns a slot, who owned it before, when a handover ends, and when a drain may
//! be called done. The ring itself, a pure function, is the product's.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{HOST_NONE, HostId, HostState, Slot};
use lb_userspace::ring::Base;

use super::setup::{Setup, T, key};
use crate::client::Service;

/// Seconds in which hosts are to be found again after nobody could be reached.
const PATIENCE: u64 = 4;

/// A slot over time.
#[derive(Debug, Clone, Copy)]
struct Held {
    owner: HostId,
    /// While a handover is open: who owned the slot when it opened, and the Unix time of the last change.
    handover: Option<(HostId, u64)>,
}

pub struct Handovers {
    pub setup: Setup,
    /// Hosts that operators took out, in the config or not.
    pub out: BTreeSet<HostId>,
    /// Hosts without a next hop, as far as the daemon has noticed.
    pub unreachable: BTreeSet<HostId>,
    /// Those of them that count as down.
    pub down: BTreeSet<HostId>,
    /// Nobody can be reached.
    is_cut_off: bool,
    /// Hosts that were not down when nobody could be reached any more, and have not been found since.
    awaited: BTreeSet<HostId>,
    /// Unix time until which they are waited for; `None`: nobody has been found.
    until: Option<u64>,
    /// Hosts that had slots of a service by the last publication.
    in_use: BTreeMap<Service, BTreeSet<HostId>>,
    /// Hosts that no stateless answer may name.
    pub sealed: BTreeSet<HostId>,
    slots: BTreeMap<Service, Vec<Held>>,
    /// Unix time of the last moment in which flows may have been without a pin, of all hosts and of one.
    pub lost_at: u64,
    complete_since: BTreeMap<HostId, u64>,
    /// Hosts with flows that packets do not pin, as published.
    untracked: BTreeSet<HostId>,
}

impl Handovers {
    /// A balancer without history.
    pub fn new(setup: Setup, now: u64) -> Handovers {
        let mut handovers = Handovers {
            setup,
            out: BTreeSet::new(),
            unreachable: BTreeSet::new(),
            down: BTreeSet::new(),
            is_cut_off: false,
            awaited: BTreeSet::new(),
            until: None,
            in_use: BTreeMap::new(),
            sealed: BTreeSet::new(),
            slots: BTreeMap::new(),
            lost_at: now,
            complete_since: BTreeMap::new(),
            untracked: BTreeSet::new(),
        };
        handovers.slots = Service::ALL
            .map(|service| {
                let settled = |owner| Held { owner, handover: None };
                (service, handovers.owners(service).into_iter().map(settled).collect())
            })
            .into();
        handovers.in_use = Service::ALL.map(|service| (service, handovers.used(service))).into();
        handovers.lose(now);
        handovers.note_untracked(now);
        handovers
    }

    /// The hosts of a service that take new flows. While none of those that are not out can be reached, nothing changes.
    pub fn used(&self, service: Service) -> BTreeSet<HostId> {
        let active = self.setup.hosts(service).into_iter().filter(|host| !self.out.contains(host));
        let (down, up): (BTreeSet<HostId>, BTreeSet<HostId>) =
            active.partition(|host| self.down.contains(host));
        let stays = |host: &HostId| self.in_use.get(&service).is_none_or(|in_use| in_use.contains(host));
        if up.is_empty() { down.into_iter().filter(stays).collect() } else { up }
    }

    /// The daemon notices who cannot be reached.
    pub fn notice(&mut self, unreachable: BTreeSet<HostId>, now: u64) {
        let hosts: BTreeSet<HostId> = self.setup.weights.keys().copied().collect();
        let was_cut_off = std::mem::replace(&mut self.is_cut_off, hosts.is_subset(&unreachable));
        if self.is_cut_off {
            self.awaited = &hosts - &self.down;
            self.until = None;
        } else if was_cut_off {
            self.until = Some(now + PATIENCE);
        }
        if self.is_over(now) {
            self.awaited.clear();
        }
        self.awaited.retain(|host| unreachable.contains(host));
        if self.awaited.is_empty() {
            self.until = None;
        }
        self.down = &unreachable - &self.awaited;
        self.unreachable = unreachable;
    }

    /// Whether hosts have been waited for long enough.
    pub fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// Another daemon waits for nobody yet.
    pub fn forget_awaited(&mut self) {
        (self.down, self.is_cut_off, self.awaited, self.until) = Default::default();
    }

    /// The hosts that new flows go to, by slot: a function of the present alone (C4).
    fn owners(&self, service: Service) -> Vec<HostId> {
        let used = self.used(service);
        let members = self.setup.members(service, |host| used.contains(&host));
        Base::build(&key(), self.setup.ring, &members).owners(&members)
    }

    /// Whether a drain of these hosts would take the last one that is not out from a service, or the last that is also up.
    pub fn is_refused(&self, hosts: &BTreeSet<HostId>) -> bool {
        Service::ALL.into_iter().any(|service| {
            let members = self.setup.hosts(service);
            let loses_all = |is: &dyn Fn(HostId) -> bool| {
                let mut those = members.iter().filter(|host| is(**host)).peekable();
                those.peek().is_some() && those.all(|host| hosts.contains(host))
            };
            loses_all(&|host| !self.out.contains(&host))
                || loses_all(&|host| !self.out.contains(&host) && !self.unreachable.contains(&host))
        })
    }

    /// Rings of the present hosts are in force.
    pub fn publish(&mut self, now: u64) {
        for service in Service::ALL {
            let (owners, used) = (self.owners(service), self.used(service));
            self.in_use.insert(service, used);
            for (held, owner) in self.slots.get_mut(&service).expect("all have slots").iter_mut().zip(owners)
            {
                let before = std::mem::replace(&mut held.owner, owner);
                if owner == before {
                    continue;
                }
                held.handover = match held.handover {
                    // The first previous owner stays.
                    Some((previous, _)) => Some((previous, now)),
                    // Nobody's slot has no flows.
                    None if before == HOST_NONE => None,
                    None => Some((before, now)),
                };
            }
        }
        self.note_untracked(now);
    }

    /// From now on, by what is published, packets do not pin all flows of these hosts.
    fn note_untracked(&mut self, now: u64) {
        let is_untracked = |host: &HostId| self.setup.has_edges(*host) && !self.out.contains(host);
        let untracked: BTreeSet<HostId> = self.setup.weights.keys().copied().filter(is_untracked).collect();
        for &host in self.untracked.union(&untracked) {
            self.complete_since.insert(host, now);
        }
        self.untracked = untracked;
    }

    /// All pins are lost.
    pub fn lose(&mut self, now: u64) {
        self.lost_at = now;
        self.complete_since = (1..=super::setup::HOSTS).map(|host| (host, now)).collect();
    }

    /// A pin of the host is lost.
    pub fn lose_one(&mut self, host: HostId, now: u64) {
        self.complete_since.insert(host, now);
    }

    /// Handovers that nobody needs any more end. `foreign` are the slots with a live pin on another host than the owner, `drained` the
    /// hosts whose drain is done.
    pub fn close(
        &mut self,
        now: u64,
        foreign: &BTreeMap<Service, BTreeSet<u32>>,
        drained: &BTreeSet<HostId>,
    ) {
        let wait = u64::from(T) + u64::from(self.setup.any_edges());
        let lost_at = self.lost_at;
        for (service, slots) in &mut self.slots {
            for (number, held) in (0..).zip(slots) {
                let Some((previous, changed)) = held.handover else { continue };
                let have_spoken = now > changed.max(lost_at) + wait;
                let is_needed = foreign.get(service).is_some_and(|foreign| foreign.contains(&number));
                if !is_needed && (have_spoken || drained.contains(&previous)) {
                    held.handover = None;
                }
            }
        }
    }

    /// Whether no flow can be alive on a host none of whose flows has a pin.
    pub fn knows_all_flows(&self, host: HostId, now: u64) -> bool {
        let complete = self.complete_since[&host];
        if !self.untracked.contains(&host) && now > complete + u64::from(T) {
            return true;
        }
        let open_long_enough = |held: &Held| match held.handover {
            Some((previous, changed)) if previous == host => now > changed.max(self.lost_at) + u64::from(T),
            _ => true,
        };
        !self.setup.has_edges(host) && self.slots.values().flatten().all(open_long_enough)
    }

    /// Since when the pins of the host tell all its flows, Unix time; `None`: they do not.
    pub fn complete_since(&self, host: HostId) -> Option<u64> {
        (!self.untracked.contains(&host)).then(|| self.complete_since[&host])
    }

    /// What packets are to go by.
    pub fn slots(&self) -> BTreeMap<Service, Vec<Slot>> {
        let slot = |held: &Held| match held.handover {
            Some((previous, _)) => Slot::open(held.owner, previous),
            None => Slot::settled(held.owner),
        };
        self.slots.iter().map(|(&service, slots)| (service, slots.iter().map(slot).collect())).collect()
    }

    /// Of a host that the config names.
    pub fn state(&self, host: HostId) -> HostState {
        if self.sealed.contains(&host) {
            HostState::Drained
        } else if self.down.contains(&host) {
            HostState::Down
        } else if self.out.contains(&host) {
            HostState::Draining
        } else {
            HostState::Up
        }
    }
}
