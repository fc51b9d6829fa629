//! What a drain would do, and whether it may.

use std::collections::{BTreeMap, BTreeSet};

use super::drains::near;
use super::rings::Rings;
use super::{Engine, Error};
use crate::api::types::{DrainPlan, DrainStatus, LiveFlows};
use crate::whatif::{self, Input, RingChange, rules};

#[cfg(test)]
mod tests;

/// What became of each ring.
fn changes<'a>(before: &'a Rings, after: &'a Rings) -> Vec<RingChange<'a>> {
    let rings = before.rings.values().zip(after.rings.values());
    rings
        .map(|(before, after)| RingChange {
            services: &before.services,
            members: &before.members,
            before: before.slots.owners(),
            after: after.slots.owners(),
        })
        .collect()
}

impl Engine {
    /// What draining these hosts would do. Nothing is changed.
    pub fn plan_drain(&self, hosts: &[String]) -> Result<DrainPlan, Error> {
        let hosts = self.named(hosts)?;
        let mut out = self.out();
        out.extend(hosts.iter().cloned());
        let mut after = self.rings.clone();
        self.with_making_without(&out, |making| after.publish(making));
        let rings = changes(&self.rings, &after);
        let mut live: BTreeMap<&str, LiveFlows> = BTreeMap::new();
        for host in &hosts {
            live.insert(host, self.marked(self.host_sum(host)?.live(), host, self.has_edges(host)));
        }
        Ok(whatif::plan(&Input {
            model: &self.model,
            hosts: &hosts,
            admin: &|host| self.admin(host),
            down: &self.down,
            unwell: &self.unwell(),
            rings: &rings,
            load: &|service, host| self.load(&service.name, host),
            live: &|host| live.get(host).copied().unwrap_or_default(),
            idle_timeout: self.idle_timeout(),
            expected: self.expected_of(&hosts),
        }))
    }

    /// Refuses a drain that would break a rule, unless it is forced.
    pub(super) fn check_rules(&self, hosts: &[String], force: bool) -> Result<(), Error> {
        let broken = rules::broken(&self.model, &self.out(), &self.down, &self.unwell(), hosts);
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
        let services = serving_on.iter().filter(|(_, hosts)| hosts.contains(&status.host));
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
