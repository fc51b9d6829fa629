//! Flows and rings for the API.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use lb_common::flow::Phase;
use serde::Serialize;

use super::drains::near;
use super::{Engine, Error};
use crate::api::types::{Flow, FlowPhase, FlowQuery, Flows, Ring, RingMember, Rings};
use crate::dataplane::{FlowFilter, FlowRecord};
use crate::drain;
use crate::plan::address_of;

/// Who has how much of a ring, for pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RingShares {
    pub id: u32,
    /// Slots.
    pub size: u32,
    /// Of its last publication.
    pub generation: u64,
    pub services: Vec<String>,
    pub members: Vec<MemberShare>,
    /// Slots with a handover under way.
    pub open_slots: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberShare {
    pub host: String,
    /// Slots owned now.
    pub slots: u32,
    /// Slots owned when every member is in use.
    pub base_slots: u32,
}

impl Engine {
    /// A page of live flows, `limit` of them at most.
    pub fn flows(&self, query: &FlowQuery, limit: usize) -> Result<Flows, Error> {
        let filter = self.filter(query)?;
        let page = self.dataplane.flows(&filter, query.cursor.unwrap_or(0), limit);
        Ok(Flows { flows: page.flows.iter().map(|record| self.flow(record)).collect(), next: page.next })
    }

    /// Which pins are meant.
    pub(super) fn filter(&self, query: &FlowQuery) -> Result<FlowFilter, Error> {
        let no_host =
            |name: &str| Error::NoHost { name: name.to_owned(), near: near(name, self.ids.hosts.keys()) };
        let no_service = |name: &str| Error::NoService {
            name: name.to_owned(),
            near: near(name, self.ids.services.keys()),
        };
        Ok(FlowFilter {
            host: query
                .host
                .as_deref()
                .map(|name| self.ids.hosts.get(name).copied().ok_or_else(|| no_host(name)))
                .transpose()?,
            service: query
                .service
                .as_deref()
                .map(|name| self.ids.services.get(name).copied().ok_or_else(|| no_service(name)))
                .transpose()?,
            client: query.client.as_deref().map(flow_clients).transpose()?,
            phase: query.phase.map(|phase| match phase {
                FlowPhase::HalfOpen => Phase::HalfOpen,
                FlowPhase::Established => Phase::Established,
                FlowPhase::Closing => Phase::Closing,
                FlowPhase::Udp => Phase::Udp,
            }),
            min_age: query.min_age.unwrap_or(0),
            min_idle: query.min_idle.unwrap_or(0),
        })
    }

    pub(super) fn flow(&self, record: &FlowRecord) -> Flow {
        let end = |address: IpAddr, port: u16| SocketAddr::new(address, port).to_string();
        let tuple = &record.tuple;
        Flow {
            protocol: if tuple.protocol == u32::from(lb_common::parse::TCP) { "tcp" } else { "udp" }
                .to_owned(),
            client: end(address_of(tuple.source), tuple.source_port()),
            vip: end(address_of(tuple.destination), tuple.destination_port()),
            service: self.ids.service_name(record.service).unwrap_or("?").to_owned(),
            host: self.ids.host_name(record.host).unwrap_or("?").to_owned(),
            phase: record.phase.name().to_owned(),
            age: u64::from(record.age),
            idle: u64::from(record.idle),
            slot: record.slot,
        }
    }

    /// All rings: slots by host, and what a drain would move.
    pub fn rings(&self) -> Rings {
        let name = |id| self.ids.host_name(id).unwrap_or("nobody").to_owned();
        let rings = self.rings.rings.iter().map(|(&id, ring)| {
            let (owned, base, previous) = (ring.owned(), ring.base_owned(), ring.previous());
            let member = |member: &crate::ring::Member| RingMember {
                host: member.name.clone(),
                weight: member.weight,
                slots: owned.get(&member.id).copied().unwrap_or(0),
                base_slots: base.get(&member.id).copied().unwrap_or(0),
                previous_of: previous.get(&member.id).copied().unwrap_or(0),
                drain_moves: ring.drain_moves(member.id).into_iter().map(|(to, n)| (name(to), n)).collect(),
            };
            Ring {
                id,
                size: ring.slots.size(),
                generation: ring.generation,
                services: ring.services.iter().cloned().collect(),
                members: ring.members.iter().map(member).collect(),
                open_slots: ring.slots.open().count(),
            }
        });
        Rings { rings: rings.collect() }
    }
}

impl Engine {
    /// All rings without what drains would move, which of a thousand hosts is a million figures.
    pub fn ring_shares(&self) -> Vec<RingShares> {
        let rings = self.rings.rings.iter().map(|(&id, ring)| {
            let (owned, base) = (ring.owned(), ring.base_owned());
            let member = |member: &crate::ring::Member| MemberShare {
                host: member.name.clone(),
                slots: owned.get(&member.id).copied().unwrap_or(0),
                base_slots: base.get(&member.id).copied().unwrap_or(0),
            };
            RingShares {
                id,
                size: ring.slots.size(),
                generation: ring.generation,
                services: ring.services.iter().cloned().collect(),
                members: ring.members.iter().map(member).collect(),
                open_slots: ring.slots.open().count(),
            }
        });
        rings.collect()
    }
}

/// An address, or a prefix. Of a listing all IPv6 clients can be meant: who they are is asked here.
fn flow_clients(text: &str) -> Result<IpNet, Error> {
    match drain::clients(text) {
        Err(drain::Unclear::BothFamilies(prefix)) => Ok(prefix.into()),
        clients => Ok(clients?),
    }
}
