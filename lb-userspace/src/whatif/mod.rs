//! What if these hosts were drained? Pure: from the model, the states of hosts, the rings before and after, and what was measured, to
//! slots, loads and the rules that would be broken.
//!
//! Who gets a drained host's slots is not guessed from weights: the rings after are those that publishing the drain would make.

mod load;
mod named;
mod notes;
pub mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::api::types::{
    AdminState, BrokenRule, DrainPlan, LiveFlows, Load, OperState, PlannedHost, Survivor, Unserved,
};
use crate::model::{Model, Service, Tracking, WhenEmpty};
use crate::plan;
use crate::ring::{HOST_NONE, HostId, Member};

pub use load::Moves;
pub use named::{Unknown, named};

/// A ring as it is and as the drain would make it.
pub struct RingChange<'a> {
    /// The services that use it.
    pub services: &'a BTreeSet<String>,
    /// All of them, in use or not.
    pub members: &'a [Member],
    /// The owner of each slot.
    pub before: &'a [HostId],
    pub after: &'a [HostId],
}

/// What is known.
pub struct Input<'a> {
    pub model: &'a Model,
    /// The hosts to drain, each once.
    pub hosts: &'a [String],
    /// The only service that is meant.
    pub service: Option<&'a str>,
    /// The only clients that are meant.
    pub clients: Option<IpNet>,
    /// Percent of its slots that each host would give up; `None`: all.
    pub share: Option<u8>,
    /// What operators want of each host.
    pub admin: &'a dyn Fn(&str) -> AdminState,
    pub down: &'a BTreeSet<String>,
    /// The rules that the drain would break.
    pub rules: Vec<BrokenRule>,
    pub rings: &'a [RingChange<'a>],
    /// What a host gets of a service now.
    pub load: &'a dyn Fn(&Service, &str) -> Load,
    /// Live flows of each of `hosts`.
    pub live: &'a dyn Fn(&str) -> LiveFlows,
    /// The longest time that a live flow may be silent, seconds.
    pub idle_timeout: u64,
    /// Seconds until the flows that live there now have ended, but one of a hundred.
    pub expected: Option<u64>,
}

impl Input<'_> {
    /// The services that are meant.
    fn services(&self) -> impl Iterator<Item = &Service> {
        self.model.services.iter().filter(|service| self.service.is_none_or(|only| only == service.name))
    }

    fn load_of(&self, host: &str) -> Load {
        let services = self.services().filter(|service| has(service, host));
        services.fold(Load::default(), |sum, service| load::sum(sum, (self.load)(service, host)))
    }
}

/// The whole plan.
pub fn plan(input: &Input<'_>) -> DrainPlan {
    let moves = Moves::of(input);
    let drained: BTreeSet<&str> = input.hosts.iter().map(String::as_str).collect();
    let survivors = survivors(input, &moves, &drained);
    let hosts: Vec<PlannedHost> = input.hosts.iter().map(|host| planned(input, &moves, host)).collect();
    let unserved =
        (moves.unserved_slots > 0).then_some(Unserved { slots: moves.unserved_slots, load: moves.unserved });
    let mut plan = DrainPlan {
        service: input.service.map(str::to_owned),
        clients: input.clients.map(|clients| clients.to_string()),
        share: input.share,
        hosts,
        survivors,
        unserved,
        expected_seconds: input.expected.map(|seconds| seconds.max(at_least(input))),
        at_least_seconds: at_least(input),
        // One that gives up a part stays in use.
        rules: if input.share.is_none() { input.rules.clone() } else { Vec::new() },
        notes: Vec::new(),
    };
    plan.notes = notes::notes(input, &plan);
    plan
}

fn planned(input: &Input<'_>, moves: &Moves, host: &str) -> PlannedHost {
    PlannedHost {
        host: host.to_owned(),
        zone: input.model.hosts.get(host).and_then(|host| host.zone.clone()),
        admin: (input.admin)(host),
        oper: if input.down.contains(host) { OperState::Down } else { OperState::Up },
        slots: moves.slots_before.get(host).copied().unwrap_or(0),
        kept: moves.slots_after.get(host).copied().unwrap_or(0),
        moves: moves.slots.get(host).cloned().unwrap_or_default(),
        live_flows: (input.live)(host),
        load: input.load_of(host),
    }
}

/// Hosts in use that share a ring with a host that loses slots.
fn survivors(input: &Input<'_>, moves: &Moves, drained: &BTreeSet<&str>) -> Vec<Survivor> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    // Slots of all rings that a host is a member of.
    let mut all: BTreeMap<&str, f64> = BTreeMap::new();
    for ring in input.rings {
        let owners: BTreeSet<HostId> = ring.before.iter().chain(ring.after).copied().collect();
        let loses = |member: &Member| drained.contains(member.name.as_str()) && owners.contains(&member.id);
        let is_concerned = ring.members.iter().any(loses);
        for member in ring.members.iter().filter(|member| !drained.contains(member.name.as_str())) {
            *all.entry(&member.name).or_default() += ring.before.len() as f64;
            if is_concerned && owners.contains(&member.id) {
                names.insert(&member.name);
            }
        }
    }
    let survivor = |name: &str| {
        let slots = |of: &BTreeMap<String, u32>| of.get(name).copied().unwrap_or(0);
        let (slots_before, slots_after) = (slots(&moves.slots_before), slots(&moves.slots_after));
        let before = input.load_of(name);
        let gained = moves.gained.get(name).copied().unwrap_or_default();
        Survivor {
            host: name.to_owned(),
            slots_before,
            slots_after,
            share_before: f64::from(slots_before) / all[name],
            share_after: f64::from(slots_after) / all[name],
            before,
            after: load::sum(before, gained),
        }
    };
    names.into_iter().map(survivor).collect()
}

/// Flows of services that track edges only have no pin that could be counted: they all must have spoken, or be dead.
fn at_least(input: &Input<'_>) -> u64 {
    let edges = input.services().filter(|service| service.flows.tracking == Tracking::Edges);
    let mut edges = edges.filter(|service| input.hosts.iter().any(|host| has(service, host)));
    if edges.next().is_some() { input.idle_timeout + 1 } else { 0 }
}

fn has(service: &Service, host: &str) -> bool {
    service.hosts.iter().any(|name| name == host)
}

/// Services whose last hosts would be these, and would serve on.
fn served_on<'a>(input: &Input<'a>) -> impl Iterator<Item = (&'a Service, Vec<&'a str>)> {
    let rings = input.rings.iter().map(|ring| (ring.services, ring.members, ring.after));
    let rings: Vec<_> = rings.collect();
    let (model, hosts, only) = (input.model, input.hosts, input.service);
    let services = model.services.iter().filter(move |service| only.is_none_or(|only| only == service.name));
    // Of a part each host keeps some anyway.
    let services = services.filter(|_| input.share.is_none());
    services.filter(|service| service.when_empty == WhenEmpty::Last).filter_map(move |service| {
        let (_, members, after) = rings.iter().find(|(services, ..)| {
            services.iter().any(|name| plan::audience::parse(name).0 == service.name)
        })?;
        let owners: BTreeSet<HostId> = after.iter().copied().filter(|owner| *owner != HOST_NONE).collect();
        let kept =
            members.iter().filter(|member| owners.contains(&member.id) && hosts.contains(&member.name));
        let kept: Vec<&str> = kept.map(|member| member.name.as_str()).collect();
        (!kept.is_empty()).then_some((service, kept))
    })
}
