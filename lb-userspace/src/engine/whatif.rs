//! What a drain would do, and whether it may.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lb_common::flow::Phase;

use super::drains::near;
use super::rings::{Ring, Rings};
use super::{Engine, Error};
use crate::api::types::{BrokenRule, DrainPlan, DrainStatus, LiveFlows, Order, PlanRequest};
use crate::dataplane::Sizes;
use crate::drain::Wish;
use crate::whatif::{self, Input, RingChange, rules};

#[cfg(test)]
mod tests;

/// What became of each ring, or of that of the only service that is meant. A service that gets a ring of its own had the slots of the one
/// that it shared.
fn changes<'a>(before: &'a Rings, after: &'a Rings, only: Option<&str>) -> Vec<RingChange<'a>> {
    let is_meant = |ring: &&Ring| only.is_none_or(|only| ring.services.contains(only));
    let rings = after.rings.values().filter(is_meant).filter_map(|after| {
        let of = |ring: &&Ring| !ring.services.is_disjoint(&after.services);
        Some((before.rings.values().find(of)?, after))
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
        let targets = self.targets(&hosts, service)?;
        let wish = Wish { share: request.share, ..Wish::default() };
        if service.is_some() || request.share.is_some() {
            for target in &targets {
                self.order(target, &wish, self.clock.now(), 0)?;
            }
        }
        let mut intents = self.intents();
        for target in &targets {
            match (target.pair(), request.share) {
                (Some(pair), _) => {
                    intents.pairs.entry(pair).or_default();
                }
                (None, Some(share)) => {
                    let keeps = Order { share: Some(share), ..Order::default() }.keeps();
                    intents.shares.insert(target.host.clone(), keeps);
                }
                (None, None) => {
                    intents.out.insert(target.host.clone());
                }
            }
        }
        let mut after = self.rings.clone();
        after.regroup(&self.wanted_with(&intents.pairs), Sizes::RINGS as usize);
        self.with_making_of(&intents, |making| after.publish(making));
        let rings = changes(&self.rings, &after, service);
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
            share: request.share,
            admin: &|host| self.admin(host),
            down: &self.down,
            unwell: &self.unwell(),
            pairs: &self.pairs().into_keys().collect(),
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

    /// The rules that a drain would break, of one service alone or of all.
    pub(super) fn broken_rules(&self, hosts: &[String], only: Option<&str>) -> Vec<BrokenRule> {
        let pairs = self.pairs().into_keys().collect();
        rules::broken(&self.model, &self.out(), &pairs, &self.down, &self.unwell(), hosts, only)
    }

    /// Refuses a drain that would break a rule, unless it is forced.
    pub(super) fn check_rules(&self, hosts: &[String], only: Option<&str>, force: bool) -> Result<(), Error> {
        let broken = self.broken_rules(hosts, only);
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
            hosts.contains(&status.host) && status.service.as_ref().is_none_or(|only| only == *service)
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
