//! Hosts of services that track edges only: in a settled slot most flows have no pin, so what is counted is not all.

use std::collections::BTreeSet;

use lb_common::layout::{Control, HostId, HostState, Policy};

use super::Engine;
use crate::api::types::LiveFlows;
use crate::model::{Service, Tracking};

impl Engine {
    /// Notes that from now on, and for as long as a flow may be silent, the pins of these hosts do not tell all their flows.
    /// But for hosts that went out before: since then all their slots are in handover, where every packet makes a pin.
    pub(super) fn note_edges(&self, out_before: &BTreeSet<String>) {
        for service in self.model.services.iter().filter(|service| tracks_edges(service)) {
            for host in service.hosts.iter().filter(|host| !out_before.contains(*host)) {
                if let Some(&id) = self.ids.hosts.get(host) {
                    self.dataplane.mark_incomplete(id);
                }
            }
        }
    }

    /// Takes over from an earlier daemon: hosts of services that tracked edges until now, and hosts that it took out.
    pub(super) fn continue_edges(&mut self) {
        let backends = self.dataplane.published_backends();
        let out: BTreeSet<HostId> = backends
            .iter()
            .filter(|(_, backend)| {
                matches!(Control(backend.control).state(), HostState::Draining | HostState::Drained)
            })
            .map(|(&(_, host), _)| host)
            .collect();
        let services = self.dataplane.maps.services.all();
        let edges: BTreeSet<u16> = services
            .filter(|(_, _, service)| service.policy().has(Policy::EDGES))
            .map(|(_, number, _)| number)
            .collect();
        for &(service, host) in backends.keys().filter(|(_, host)| !out.contains(host)) {
            if edges.contains(&service) {
                self.dataplane.mark_incomplete(host);
            }
        }
        let is_out = |name: &&String| self.ids.hosts.get(*name).is_some_and(|id| out.contains(id));
        self.published_out = self.model.hosts.keys().filter(is_out).cloned().collect();
    }

    /// The live flows of a host in these services, or in all: marked if some may not be counted.
    pub(super) fn marked<'a>(
        &self,
        live: LiveFlows,
        host: &str,
        services: impl IntoIterator<Item = &'a Service>,
    ) -> LiveFlows {
        let is_member = |service: &&Service| service.hosts.iter().any(|name| name == host);
        let has_edges = services.into_iter().filter(is_member).any(tracks_edges);
        let complete_for = self
            .ids
            .hosts
            .get(host)
            .map_or(0, |&id| self.clock.monotonic().saturating_sub(self.dataplane.incomplete_since(id)));
        LiveFlows { hidden: has_edges && complete_for <= self.idle_timeout(), ..live }
    }
}

pub(super) fn tracks_edges(service: &Service) -> bool {
    service.flows.tracking == Tracking::Edges
}
