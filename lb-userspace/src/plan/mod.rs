//! From what should be and what is known to what the data path is to do. Pure: the same inputs give the same tables.

mod backend;
mod ids;
mod path_mtu;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::layout::{
    Backend, BackendFlags, Control, HostId, HostState, Policy, ServiceKey, Tuple, VipFlags,
};

use crate::dataplane::{BackendTable, ServiceTable, Tables, Vip, VipKey};
use crate::model::{Affinity, FlowPolicy, Model, Protocol, Service, Tracking, UdpHandover};
use crate::netlink::NextHopState;
use crate::relay::PathMtus;
use crate::ring::Member;

pub use ids::Ids;

/// Everything that a publication rests on, the rings aside.
pub struct Inputs<'a> {
    pub model: &'a Model,
    pub ids: &'a Ids,
    /// Hosts that operators took out: draining or drained.
    pub out: &'a BTreeSet<String>,
    /// Those of them that no stateless answer may name any more.
    pub sealed: &'a BTreeSet<String>,
    /// Hosts that cannot be reached.
    pub down: &'a BTreeSet<String>,
    pub next_hops: &'a BTreeMap<IpAddr, NextHopState>,
    pub path_mtus: &'a PathMtus,
    /// Backends that the config does not name any more, but that still have flows: (service, host) → record.
    pub leaving: &'a BTreeMap<(u16, HostId), BackendTable>,
}

impl Inputs<'_> {
    /// What the data path may do with a host.
    fn state(&self, host: &str) -> HostState {
        if self.sealed.contains(host) {
            HostState::Drained
        } else if self.down.contains(host) {
            HostState::Down
        } else if self.out.contains(host) {
            HostState::Draining
        } else {
            HostState::Up
        }
    }

    /// The members of a ring: all of them always, and whether they are in use by their share.
    pub fn members(&self, hosts: &[String]) -> Vec<Member> {
        let member = |name: &String| {
            let host = self.model.hosts.get(name)?;
            let is_used = !self.out.contains(name) && !self.down.contains(name);
            Some(Member {
                id: *self.ids.hosts.get(name)?,
                name: name.clone(),
                weight: host.weight,
                share: if is_used { crate::ring::SHARE_FULL } else { 0 },
            })
        };
        hosts.iter().filter_map(member).collect()
    }

    /// The tables of one generation. `ring_of` names the ring of a service, `rings` has the slots of each.
    pub fn tables(&self, ring_of: impl Fn(&str) -> Option<u32>, rings: BTreeMap<u32, Vec<u32>>) -> Tables {
        let mut services = BTreeMap::new();
        for service in &self.model.services {
            if let (Some(&number), Some(ring)) =
                (self.ids.services.get(&service.name), ring_of(&service.name))
            {
                let backends = self.backends(number, service);
                let set = self.ids.timeout_set(service);
                let (keys, policy) = (vec![key_of(service)], policy_of(service).with_set(set));
                services.insert(number, ServiceTable { keys, policy, ring, backends });
            }
        }
        Tables { services, rings, vips: self.vips() }
    }

    fn vips(&self) -> BTreeMap<VipKey, Vip> {
        self.model.services.iter().map(|service| (vip_key(service.vip, 128), Vip(VipFlags::VIP))).collect()
    }

    fn backends(&self, number: u16, service: &Service) -> BTreeMap<HostId, BackendTable> {
        let leaving = self.leaving.range((number, 0)..=(number, HostId::MAX));
        let mut backends: BTreeMap<HostId, BackendTable> = leaving
            .map(|(&(_, host), &BackendTable { record, egress })| {
                // The last word on a host that left while it could not be reached: nobody resolves its next hop any more.
                let is_reachable = record.flags & BackendFlags::REACHABLE != 0;
                let state = if is_reachable { HostState::Draining } else { HostState::Down };
                let record = Backend { control: Control::new(state).0, ..record };
                (host, BackendTable { record, egress })
            })
            .collect();
        for name in &service.hosts {
            let pair = (service.name.clone(), name.clone());
            let (Some(host), Some(&id), Some(&stats)) =
                (self.model.hosts.get(name), self.ids.hosts.get(name), self.ids.stats.get(&pair))
            else {
                continue;
            };
            let Some(address) = host.address_for(service.vip) else { continue };
            let next_hop = self.next_hops.get(&address).and_then(NextHopState::next_hop);
            let control = Control::new(self.state(name)).0;
            let mut backend = backend::record(service.forward, address, next_hop, stats, control);
            if let Some(&mtu) = self.path_mtus.get(&address) {
                path_mtu::lower(&mut backend.record, service.vip.is_ipv6(), mtu);
            }
            backends.insert(id, backend);
        }
        backends
    }
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
    Policy(tracking | affinity | handover)
}

/// Key of a service in the data path.
pub fn key_of(service: &Service) -> ServiceKey {
    let protocol = match service.protocol {
        Protocol::Tcp => lb_common::parse::TCP,
        Protocol::Udp => lb_common::parse::UDP,
    };
    ServiceKey::exact(address_words(service.vip), service.port, protocol)
}

/// Key of an address, or of a prefix, in the map of VIPs; `prefix` counts 96 more for IPv4.
pub fn vip_key(address: IpAddr, prefix: u8) -> VipKey {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    (address.octets(), prefix)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["203.0.113.9", "2001:db8::7", "fd00:1:2:3:4:5:6:7"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of(address_words(address)), address);
        }
        assert_eq!(
            address_words("1.2.3.4".parse().unwrap())[1].to_ne_bytes(),
            [0, 0, 0xff, 0xff, 1, 2, 3, 4]
        );
    }
}
