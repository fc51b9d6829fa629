//! From what should be and what is known to what the data path is to do. Pure: the same inputs give the same tables.

mod abilities;
pub mod audience;
mod backend;
mod ids;
mod keys;
mod last;
mod path_mtu;
mod sizes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::layout::{Backend, BackendFlags, Control, Deadline, HostId, HostState, Policy, Tuple};

use crate::dataplane::{BackendTable, ClientTable, ServiceTable, Tables};
use crate::model::{Affinity, FlowPolicy, Model, Service, Tracking, UdpHandover, Vip, WhenEmpty};
use crate::netlink::NextHopState;
use crate::relay::PathMtus;
use crate::ring::{Member, SHARE_FULL};

pub use abilities::abilities;
pub use ids::Ids;
use keys::{keys_of, keys_of_leaving, vip_key, vips};
pub use sizes::sizes;

/// Everything that a publication rests on, the rings aside.
pub struct Inputs<'a> {
    pub model: &'a Model,
    pub ids: &'a Ids,
    /// Hosts that operators took out: draining or drained.
    pub out: &'a BTreeSet<String>,
    /// The bounds of drains that have some.
    pub deadlines: &'a BTreeMap<String, Deadline>,
    /// (service, host) that operators took out for this service alone, or for some clients of it: see [`audience`].
    pub pairs: &'a BTreeMap<(String, String), Pair>,
    /// Clients that are treated apart, by name.
    pub clients: &'a BTreeSet<String>,
    /// Hosts in use with less than their full share, in 256ths.
    pub shares: &'a BTreeMap<String, u16>,
    /// Hosts that are out and that no stateless answer may name any more.
    pub sealed: &'a BTreeSet<String>,
    /// Hosts that cannot be reached, as far as that counts.
    pub down: &'a BTreeSet<String>,
    /// What the health of a service leaves its hosts, by (service, host); hosts without an entry are in full use.
    pub health: &'a BTreeMap<(String, String), Left>,
    pub next_hops: &'a BTreeMap<IpAddr, NextHopState>,
    pub path_mtus: &'a PathMtus,
    /// Hosts that are out and serve on as the last in use, by service.
    pub serving_on: &'a BTreeMap<String, BTreeSet<String>>,
    /// Backends that the config does not name any more, but that still have flows: (service, host) → record.
    pub leaving: &'a BTreeMap<(u16, HostId), BackendTable>,
}

/// How a host is out for one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pair {
    /// The bound of the drain, if it has one.
    pub deadline: Option<Deadline>,
    /// No stateless answer may name the host any more.
    pub is_sealed: bool,
    /// The drain is done.
    pub is_done: bool,
    /// Number of the counters that a drain for some clients has; 0: none.
    pub tally: u32,
}

/// What a service's health leaves a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// It is down: no new flows.
    pub is_down: bool,
    /// When its flows are moved or reset, if they are.
    pub deadline: Option<Deadline>,
}

impl Inputs<'_> {
    fn left(&self, service: &str, host: &str) -> Option<&Left> {
        if self.health.is_empty() {
            return None;
        }
        self.health.get(&(service.to_owned(), host.to_owned()))
    }

    fn pair(&self, service: &str, host: &str) -> Option<&Pair> {
        // Few or none: a search is cheaper than keys to look them up by.
        self.pairs.iter().find(|((of, at), _)| of == service && at == host).map(|(_, pair)| pair)
    }

    fn is_out(&self, service: &str, host: &str) -> bool {
        self.out.contains(host) || self.pair(service, host).is_some()
    }

    /// What the data path may do with a host for a service.
    fn state(&self, service: &str, host: &str) -> HostState {
        if self.sealed.contains(host) || self.pair(service, host).is_some_and(|pair| pair.is_sealed) {
            HostState::Drained
        } else if self.down.contains(host) {
            HostState::Down
        } else if self.is_out(service, host) && !self.serves_on(service, host) {
            HostState::Draining
        } else if self.left(service, host).is_some_and(|left| left.is_down) {
            // Its flows stay with it: another host's kernel would reset them, and a false alarm is over in a moment.
            HostState::Draining
        } else {
            HostState::Up
        }
    }

    fn serves_on(&self, service: &str, host: &str) -> bool {
        self.serving_on.get(service).is_some_and(|hosts| hosts.contains(host))
    }

    /// The same, with the bound of a host's drain: the data path keeps to it with or without a daemon. One that serves on has none: its
    /// flows would have nowhere to go.
    fn control(&self, service: &str, host: &str) -> Control {
        let control = Control::new(self.state(service, host));
        let is_bounded = self.is_out(service, host)
            && !self.serves_on(service, host)
            && matches!(control.state(), HostState::Draining | HostState::Down);
        let pair = self.pair(service, host).and_then(|pair| pair.deadline);
        let by_health = || {
            let may_end = matches!(control.state(), HostState::Draining | HostState::Down);
            self.left(service, host).filter(|left| left.is_down && may_end)?.deadline
        };
        match self.deadlines.get(host).copied().or(pair).filter(|_| is_bounded).or_else(by_health) {
            Some(deadline) => control.with_deadline(deadline),
            None => control,
        }
    }

    /// The members of a ring: all of them always, and whether they are in use by their share. `in_use`: those that were until now; `None`: the
    /// ring is new. `keeps_last`: of these the last ones serve on when all are out.
    /// `without`: hosts that are out for the services of this ring alone. `by_health`: shares of hosts that health leaves less than the full
    /// one.
    pub fn members(
        &self,
        hosts: &[String],
        in_use: Option<&BTreeSet<String>>,
        keeps_last: bool,
        without: &BTreeSet<String>,
        by_health: &BTreeMap<String, u16>,
    ) -> Vec<Member> {
        let is_out = |name: &String| self.out.contains(name) || without.contains(name);
        let is_down = |name: &str| self.down.contains(name);
        let (out, active): (Vec<&String>, Vec<&String>) = hosts.iter().partition(|name| is_out(name));
        let is_last = |name: &&&String| keeps_last && in_use.is_some_and(|in_use| in_use.contains(**name));
        let last: Vec<&String> = out.iter().filter(is_last).copied().collect();
        let stay = last::stay(&active, &last, in_use, is_down);
        let member = |name: &String| {
            let host = self.model.hosts.get(name)?;
            let is_used = !is_out(name) && (!is_down(name) || stay.contains(name.as_str()));
            let share = |of: &BTreeMap<String, u16>| of.get(name).copied().unwrap_or(SHARE_FULL);
            Some(Member {
                id: *self.ids.hosts.get(name)?,
                name: name.clone(),
                weight: host.weight,
                share: if is_used { share(self.shares).min(share(by_health)) } else { 0 },
            })
        };
        let mut members: Vec<Member> = hosts.iter().filter_map(member).collect();
        if let Some(last) = in_use.filter(|_| keeps_last) {
            last::keep_last(&mut members, last, is_down);
        }
        members
    }

    /// The tables of one generation. `ring_of` names the ring of a service, `rings` has the slots of each.
    pub fn tables(&self, ring_of: impl Fn(&str) -> Option<u32>, rings: BTreeMap<u32, Vec<u32>>) -> Tables {
        let mut services = BTreeMap::new();
        for service in &self.model.services {
            if let (Some(&number), Some(ring)) =
                (self.ids.services.get(&service.name), ring_of(&service.name))
            {
                let backends = self.backends(number, service, &service.name);
                let set = self.ids.timeout_set(service);
                let (keys, policy) = (keys_of(self.model, service), policy_of(service).with_set(set));
                services.insert(number, ServiceTable { keys, policy, ring, backends });
            }
        }
        let claimed =
            || services.values().flat_map(|service: &ServiceTable| &service.keys).copied().collect();
        for (number, key) in keys_of_leaving(self.model, &self.ids.services, self.leaving, claimed) {
            if let Some(service) = services.get_mut(&number) {
                service.keys.push(key);
            }
        }
        let mut clients = BTreeMap::new();
        for name in self.clients {
            let (of, prefix) = audience::parse(name);
            let service = self.model.services.iter().find(|service| service.name == of);
            if let (Some(service), Some(prefix), Some(&number), Some(ring)) =
                (service, prefix, self.ids.services.get(of), ring_of(name))
            {
                let backends = self.backends(number, service, name);
                clients.insert((number, vip_key(Vip::of(prefix))), ClientTable { ring, backends });
            }
        }
        Tables { services, clients, rings, vips: vips(self.model) }
    }

    /// `name` is that of the service or of some clients of it.
    fn backends(&self, number: u16, service: &Service, name: &str) -> BTreeMap<HostId, BackendTable> {
        let audience = name;
        let leaving = self.leaving.range((number, 0)..=(number, HostId::MAX));
        let mut backends: BTreeMap<HostId, BackendTable> = leaving
            .map(|(&(_, host), &BackendTable { record, egress })| {
                // Nobody takes the bound of its drain away.
                let control =
                    Control::new(state_of_leaving(&record)).with_deadline(Control(record.control).deadline());
                let record = Backend { control: control.0, ..record };
                (host, BackendTable { record, egress })
            })
            .collect();
        for name in &service.hosts {
            let pair = (service.name.clone(), name.clone());
            let (Some(address), Some(&id), Some(&stats)) =
                (self.model.address(service, name), self.ids.hosts.get(name), self.ids.stats.get(&pair))
            else {
                continue;
            };
            let next_hop = self.next_hops.get(&address).and_then(NextHopState::next_hop);
            let control = self.control(audience, name).0;
            let mut backend = backend::record(self.model, service, address, next_hop, stats, control);
            if let Some(&mtu) = self.path_mtus.get(&address) {
                path_mtu::lower(&mut backend.record, !service.vip.is_ipv4(), mtu);
            }
            backend.record.tally = self.pair(audience, name).map_or(0, |pair| pair.tally);
            backends.insert(id, backend);
        }
        backends
    }
}

/// What the data path may do with a host that the config does not name any more, by its last record: nobody resolves its next hop
/// again, so one that left while it could not be reached has no flow that can go on.
pub fn state_of_leaving(record: &Backend) -> HostState {
    if record.flags & BackendFlags::REACHABLE != 0 { HostState::Draining } else { HostState::Lost }
}

/// A service's policy in the data path, but for its timeout set.
pub fn policy_of(service: &Service) -> Policy {
    let FlowPolicy { tracking, affinity, udp_handover } = service.flows;
    let tracking = if tracking == Tracking::Edges { Policy::EDGES } else { 0 };
    let affinity = if affinity == Affinity::Client { Policy::CLIENT } else { 0 };
    let handover = match udp_handover {
        UdpHandover::Pin => 0,
        UdpHandover::Gap => Policy::GAP,
        UdpHandover::Immediate => Policy::IMMEDIATE,
    };
    let port = if service.backend_port.is_some() { Policy::PORT } else { 0 };
    let pass = if service.when_empty == WhenEmpty::Pass { Policy::PASS } else { 0 };
    Policy(tracking | affinity | handover | port | pass)
}

/// An address as the data path keeps it.
pub fn address_words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => Tuple::v4(u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => Tuple::words(address.octets()),
    }
}

/// The address that the data path keeps in two words.
pub fn address_of(words: [u64; 2]) -> IpAddr {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&words[0].to_ne_bytes());
    octets[8..].copy_from_slice(&words[1].to_ne_bytes());
    std::net::Ipv6Addr::from(octets).to_canonical()
}
