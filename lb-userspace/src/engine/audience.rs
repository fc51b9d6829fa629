//! Who is treated apart: services, and those of their clients for whom hosts are out.
//!
//! Both go by names in rings and tables: a service by its own, clients by that of their service and their prefix, with a space in between,
//! which no name of a service has. Clients have a ring of their own for as long as a drain is for them, and until its handovers are over. It
//! begins as a copy of the one that they went by before: that of the longest prefix around theirs, or that of the service.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::rings::Wanted;
use super::{Engine, Intents};
use crate::drain::{State, Target};
use crate::model::{Service, WhenEmpty};
use crate::plan::{Pair, audience};
use crate::ring::HostId;

/// Those of a service that go by one ring, for the sweep.
pub(super) struct Audience {
    /// `None`: all others.
    pub clients: Option<IpNet>,
    pub ring: u32,
    /// Hosts that no stateless answer to them may name.
    pub sealed: BTreeSet<HostId>,
}

impl Engine {
    /// The services that a drain is about.
    pub(super) fn services_of(&self, target: &Target) -> impl Iterator<Item = &Service> {
        let services = self.model.services.iter().filter(|service| service.hosts.contains(&target.host));
        services.filter(|service| target.service.as_ref().is_none_or(|only| *only == service.name))
    }

    /// Names of the services and clients that a drain is about.
    pub(super) fn audiences_of(&self, target: &Target) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for service in self.services_of(target) {
            let is_meant = |clients: Option<IpNet>| {
                let within = |prefix: &IpNet| clients.is_some_and(|clients| prefix.contains(&clients));
                target.clients.as_ref().is_none_or(within)
            };
            let all = self.rings.names().chain([&service.name]);
            names.extend(
                all.filter(|name| {
                    let (of, clients) = audience::parse(name);
                    of == service.name && is_meant(clients)
                })
                .cloned(),
            );
        }
        names
    }

    /// What operators want.
    pub(super) fn intents(&self) -> Intents {
        self.intents_with(&[])
    }

    /// The same, if they had drained these as well, each for a service or for some clients.
    pub(super) fn intents_with(&self, more: &[Target]) -> Intents {
        let in_force = self.drains.iter().filter(|(_, state)| state.is_out());
        let in_force = in_force.map(|(target, state)| {
            let pair = Pair {
                deadline: self.deadline(state),
                is_sealed: self.sealed.contains(target),
                is_done: matches!(state, State::Drained(_)),
                tally: self.tallies.get(target).copied().unwrap_or(0),
            };
            (target, pair)
        });
        let more = more.iter().map(|target| (target, Pair::default()));
        let drains: Vec<(&Target, Pair)> =
            in_force.chain(more).filter(|(target, _)| !target.is_whole()).collect();
        let mut needed = BTreeSet::new();
        for (target, _) in &drains {
            if let Some(clients) = target.clients {
                needed.extend(self.services_of(target).map(|service| audience::name(&service.name, clients)));
            }
        }
        let is_known = |name: &&String| {
            let (service, clients) = audience::parse(name);
            clients.is_some() && self.model.services.iter().any(|of| of.name == service)
        };
        let present = self.rings.names().filter(is_known).cloned();
        let clients: BTreeSet<String> = needed.iter().cloned().chain(present).collect();
        let mut pairs = BTreeMap::new();
        for (target, pair) in drains {
            for service in self.services_of(target) {
                if target.clients.is_none() {
                    pairs.insert((service.name.clone(), target.host.clone()), pair);
                }
                for name in &clients {
                    let (of, Some(prefix)) = audience::parse(name) else { continue };
                    if of == service.name && target.clients.is_none_or(|around| around.contains(&prefix)) {
                        pairs.insert((name.clone(), target.host.clone()), pair);
                    }
                }
            }
        }
        Intents { out: self.out(), pairs, shares: self.partial_shares(), clients, needed }
    }

    /// What ring each service, and each clients that are treated apart, are to have.
    pub(super) fn wanted(&self, intents: &Intents) -> BTreeMap<String, Wanted> {
        let wanted = |service: &Service, name: &String| {
            let without = intents.pairs.keys().filter(|(of, _)| of == name).map(|(_, host)| host.clone());
            Wanted {
                hosts: service.hosts.clone(),
                keeps_last: service.when_empty == WhenEmpty::Last,
                without: without.collect(),
                shares: self.shares_of(name),
            }
        };
        let services = self.model.services.iter();
        let mut all: BTreeMap<String, Wanted> =
            services.map(|service| (service.name.clone(), wanted(service, &service.name))).collect();
        for name in &intents.clients {
            let (of, _) = audience::parse(name);
            if let Some(service) = self.model.services.iter().find(|service| service.name == of) {
                all.insert(name.clone(), wanted(service, name));
            }
        }
        all
    }

    /// How many rings there can be.
    pub(super) fn room(&self) -> usize {
        self.dataplane.options.sizes.rings()
    }

    /// By number of the service, the longest prefix of clients first.
    pub(super) fn audiences(&self) -> BTreeMap<u16, Vec<Audience>> {
        let pairs = self.intents().pairs;
        let mut audiences: BTreeMap<u16, Vec<Audience>> = BTreeMap::new();
        for (name, ring) in self.rings.by_service() {
            let (service, clients) = audience::parse(name);
            let Some(&number) = self.ids.services.get(service) else { continue };
            let sealed = pairs.iter().filter(|((of, _), pair)| of == name && pair.is_sealed);
            let sealed = sealed.filter_map(|((_, host), _)| self.ids.hosts.get(host).copied());
            let audience = Audience { clients, ring, sealed: sealed.collect() };
            audiences.entry(number).or_default().push(audience);
        }
        for of in audiences.values_mut() {
            of.sort_by_key(|audience| {
                std::cmp::Reverse(audience.clients.map(|prefix| prefix.prefix_len() + 1))
            });
        }
        audiences
    }
}
