//! What a drain would do, and whether it may.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;
use lb_common::flow::Phase;

use super::drains::near;
use super::rings::{Ring, Rings};
use super::{Engine, Error};
use crate::api::types::{BrokenRule, DrainPlan, DrainStatus, LiveFlows, Order, PlanRequest};
use crate::drain::{self, Target, Wish};
use crate::model::Model;
use crate::plan::audience;
use crate::whatif::rules::Unwell;
use crate::whatif::{self, Input, RingChange, rules};

#[cfg(test)]
mod tests;

/// What became of each ring, or of those of the only services or clients that are meant. Who gets a ring of its own had the slots of the one
/// before.
fn changes<'a>(before: &'a Rings, after: &'a Rings, only: Option<&BTreeSet<String>>) -> Vec<RingChange<'a>> {
    let is_meant = |ring: &&Ring| only.is_none_or(|only| !ring.services.is_disjoint(only));
    let rings = after.rings.values().filter(is_meant).filter_map(|after| {
        // Clients that would be treated apart go by the ring around theirs until then.
        let name = after.services.first()?;
        let has = |name: &String| before.rings.values().find(|ring| ring.services.contains(name));
        Some((has(name).or_else(|| has(&audience::around(name, before.names())))?, after))
    });
    rings
        .map(|(before, after)| RingChange {
            services: &after.services,
            members: &before.members,
            before: before.slots.owners(),
            after: after.slots.owners(),
        })
        .collect()
}

impl Engine {
    /// What draining these hosts would do. Nothing is changed.
    pub fn plan_drain(&self, request: &PlanRequest) -> Result<DrainPlan, Error> {
        let hosts = self.named(&request.hosts)?;
        let service = request.service.as_deref();
        let clients = request.clients.as_deref().map(drain::clients).transpose()?;
        let targets = self.targets(&hosts, service, clients)?;
        let wish = Wish { share: request.share, ..Wish::default() };
        if service.is_some() || clients.is_some() || request.share.is_some() {
            for target in &targets {
                self.order(target, &wish, self.clock.now(), 0)?;
            }
        }
        let in_part: Vec<Target> = targets.iter().filter(|target| !target.is_whole()).cloned().collect();
        let mut intents = self.intents_with(&in_part);
        for target in targets.iter().filter(|target| target.is_whole()) {
            if let Some(share) = request.share {
                let keeps = Order { share: Some(share), ..Order::default() }.keeps();
                intents.shares.insert(target.host.clone(), keeps);
            } else {
                intents.out.insert(target.host.clone());
            }
        }
        let mut after = self.rings.clone();
        after.regroup(&self.wanted(&intents), &intents.needed, self.room());
        self.with_making_of(&intents, |making| after.publish(making));
        let only: Option<BTreeSet<String>> = (!in_part.is_empty()).then(|| match clients {
            Some(clients) => {
                let services = in_part.iter().flat_map(|target| self.services_of(target));
                services.map(|service| audience::name(&service.name, clients)).collect()
            }
            None => service.iter().map(|name| (*name).to_owned()).collect(),
        });
        let rings = changes(&self.rings, &after, only.as_ref());
        let mut live: BTreeMap<&str, LiveFlows> = BTreeMap::new();
        for target in &targets {
            let flows = match request.share {
                Some(_) => self.live_given_up(&target.host, &after),
                None => self.live_of(target)?,
            };
            live.insert(&target.host, flows);
        }
        Ok(whatif::plan(&Input {
            model: &self.model,
            hosts: &hosts,
            service,
            clients,
            share: request.share,
            admin: &|host| self.admin(host),
            down: &self.down,
            rules: self.broken_by(&targets),
            rings: &rings,
            load: &|service, host| self.load(&service.name, host),
            live: &|host| live.get(host).copied().unwrap_or_default(),
            idle_timeout: self.idle_timeout(),
            expected: self.expected_of(&targets),
        }))
    }

    /// Live flows of a host in slots that it would not own any more.
    fn live_given_up(&self, host: &str, after: &Rings) -> LiveFlows {
        let Some(&id) = self.ids.hosts.get(host) else { return LiveFlows::default() };
        let ring_of = after.by_service();
        let ring_of: HashMap<u16, &Ring> = ring_of
            .into_iter()
            .filter_map(|(name, number)| Some((*self.ids.services.get(name)?, after.rings.get(&number)?)))
            .collect();
        let mut live = LiveFlows::default();
        self.dataplane.each_live(
            |of| of == id,
            |flow| {
                let owner =
                    ring_of.get(&flow.service).map(|ring| ring.slots.owners().get(flow.slot as usize));
                if owner.flatten().is_some_and(|owner| *owner != id) {
                    *match flow.phase {
                        Phase::HalfOpen => &mut live.half_open,
                        Phase::Closing => &mut live.closing,
                        Phase::Udp => &mut live.udp,
                        _ => &mut live.established,
                    } += 1;
                    live.total += 1;
                }
            },
        );
        live
    }

    /// The rules that draining whole hosts would break.
    pub(super) fn broken_rules(&self, hosts: &[String]) -> Vec<BrokenRule> {
        let targets: Vec<Target> = hosts.iter().map(|host| Target::host(host)).collect();
        self.broken_by(&targets)
    }

    /// The rules that these drains, all for the same service and clients, would break. Some clients alone are not to be left without a
    /// host, neither by a drain for them nor by one for more; what else a service has to keep is a matter of all its clients.
    fn broken_by(&self, targets: &[Target]) -> Vec<BrokenRule> {
        self.broken_in(&self.model, &self.unwell(), targets)
    }

    /// As [`Self::broken_by`], by the rules of this model, which is the config's but for them, and by what hosts are said to count for.
    pub(super) fn broken_in(&self, model: &Model, unwell: &Unwell, targets: &[Target]) -> Vec<BrokenRule> {
        let Some(first) = targets.first() else { return Vec::new() };
        let hosts: Vec<String> = targets.iter().map(|target| target.host.clone()).collect();
        let out = self.out();
        let in_force: Vec<&Target> = self
            .drains
            .iter()
            .filter(|(target, state)| state.is_out() && !target.is_whole())
            .map(|(target, _)| target)
            .collect();
        let within = |clients: &IpNet| first.clients.is_none_or(|around| around.contains(clients));
        let apart: BTreeSet<IpNet> =
            in_force.iter().filter_map(|target| target.clients).filter(within).chain(first.clients).collect();
        let of_all = first.clients.is_none().then_some(None);
        let mut broken: Vec<BrokenRule> = Vec::new();
        for clients in of_all.into_iter().chain(apart.into_iter().map(Some)) {
            let is_of = |target: &&&Target| match (target.clients, clients) {
                (None, _) => true,
                (Some(around), Some(clients)) => around.contains(&clients),
                (Some(_), None) => false,
            };
            let pairs: BTreeSet<(String, String)> = in_force
                .iter()
                .filter(is_of)
                .flat_map(|target| {
                    self.services_of(target).map(|service| (service.name.clone(), target.host.clone()))
                })
                .collect();
            let only = first.service.as_deref();
            let rules = rules::broken(model, &out, &pairs, &self.down, unwell, &hosts, only);
            broken.extend(rules.into_iter().filter_map(|rule| match clients {
                None => Some(rule),
                Some(clients) => (rule.rule == "last_host").then(|| BrokenRule {
                    message: format!("{}, for clients {clients}", rule.message),
                    ..rule
                }),
            }));
        }
        // Who has no host at all needs not be said of some clients as well.
        let all = broken.clone();
        broken.retain(|rule| {
            let is_part = |other: &BrokenRule| other.rule == rule.rule && other.service == rule.service;
            !rule.message.contains(", for clients ")
                || !all.iter().any(|other| is_part(other) && !other.message.contains(", for clients "))
        });
        broken
    }

    /// Refuses drains that would break a rule, unless it is forced.
    pub(super) fn check_rules(&self, targets: &[Target], force: bool) -> Result<(), Error> {
        let broken = self.broken_by(targets);
        if broken.is_empty() {
            return Ok(());
        }
        if !force {
            return Err(Error::Rules(broken));
        }
        for rule in broken {
            log::warn!("forced: {}", rule.message);
        }
        Ok(())
    }

    /// The hosts that these words mean, each once and in order; an error names the first that means none.
    pub(super) fn named(&self, words: &[String]) -> Result<Vec<String>, Error> {
        if words.is_empty() {
            return Err(Error::NoHosts);
        }
        whatif::named(&self.model, words).map_err(|unknown| {
            let known = unknown.known(&self.model);
            Error::Unknown {
                near: near(&unknown.word(), known.iter()),
                unknown,
                known: known.into_iter().collect(),
            }
        })
    }
}

/// `status` of a drain, with what its end waits for where the host is among those that serve on, by service.
pub(super) fn explained(
    mut status: DrainStatus,
    serving_on: &BTreeMap<String, BTreeSet<String>>,
) -> DrainStatus {
    if let Some(why) = &mut status.waiting_for {
        let services = serving_on.iter().filter(|(service, hosts)| {
            let (service, clients) = audience::parse(service);
            hosts.contains(&status.host)
                && status.service.as_ref().is_none_or(|only| only == service)
                && status.clients.is_none_or(|of| clients.is_some_and(|clients| of.contains(&clients)))
        });
        let services: Vec<&str> = services.map(|(service, _)| service.as_str()).collect();
        if !services.is_empty() {
            *why = format!(
                "another host of {}, whose new flows it gets as the last in use (when_empty = \"last\")",
                rules::list(&services)
            );
        }
    }
    status
}
