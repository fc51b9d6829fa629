//! Hosts of services that track edges only: in a settled slot most flows have no pin, so what is counted is not all.

use std::collections::BTreeSet;

use lb_common::layout::{Control, HostId, HostState, Policy};

use super::Engine;
use crate::api::types::LiveFlows;
use crate::drain::State;
use crate::model::{Service, Tracking};

/// What the engine remembers of them.
#[derive(Default)]
pub(super) struct Edges {
    /// Hosts that a publication took out, or found out: since then all their slots are in handover, where every packet makes
    /// a pin.
    out: BTreeSet<String>,
    /// Hosts with flows that an earlier daemon's data path did not track; until the first publication.
    before: BTreeSet<HostId>,
    /// The data path may not be what the journal says: nothing has been published yet, or the last attempt failed.
    unsure: bool,
}

impl Engine {
    /// Notes that from now on, and for as long as a flow may be silent, the pins of these hosts do not tell all their flows.
    pub(super) fn note_edges(&self) {
        for &host in &self.edges.before {
            self.dataplane.mark_incomplete(host);
        }
        for service in self.model.services.iter().filter(|service| tracks_edges(service)) {
            for host in service.hosts.iter().filter(|host| !self.edges.out.contains(*host)) {
                if let Some(&id) = self.ids.hosts.get(host) {
                    self.dataplane.mark_incomplete(id);
                }
            }
        }
    }

    /// A publication failed.
    pub(super) fn publication_failed(&mut self) {
        self.edges.unsure = true;
    }

    /// A publication is in force. The journal tells when handovers were decided on, not when packets learnt of them; without
    /// pins only the latter counts, so after a failure or a restart handovers are as old as this publication.
    pub(super) fn publication_done(&mut self) {
        self.note_edges();
        let any = !self.edges.before.is_empty() || self.any_edges();
        if std::mem::take(&mut self.edges.unsure) && any {
            self.dataplane.mark_lost();
        }
        self.edges.before.clear();
        self.edges.out = self.out();
        for host in self.serving_on().into_values().flatten() {
            self.edges.out.remove(&host);
        }
    }

    /// Takes over from an earlier daemon, if there was one: hosts of services that tracked edges until now. After the drains of
    /// the journal are known: those whose rings were published are out.
    pub(super) fn continue_edges(&mut self) {
        let is_out = |state: &State| match state {
            State::Active { .. } => false,
            State::Draining(draining) => draining.tally.is_some() && state.is_out(),
            State::Drained(_) => state.is_out(),
        };
        let hosts = self.drains.iter().filter(|(target, _)| target.service.is_none());
        let out = hosts.filter(|(_, state)| self.dataplane.adopted && is_out(state));
        let out: BTreeSet<String> = out.map(|(target, _)| target.host.clone()).collect();
        let services = self.dataplane.maps.services.all();
        let edges: BTreeSet<u16> = services
            .filter(|(_, _, service)| service.policy().has(Policy::EDGES))
            .map(|(_, number, _)| number)
            .collect();
        let backends = self.dataplane.published_backends();
        let is_in_use =
            |control: u64| !matches!(Control(control).state(), HostState::Draining | HostState::Drained);
        self.edges = Edges {
            before: backends
                .iter()
                .filter(|((service, host), backend)| {
                    let name = self.ids.host_name(*host).unwrap_or_default();
                    edges.contains(service) && (is_in_use(backend.record.control) || !out.contains(name))
                })
                .map(|(&(_, host), _)| host)
                .collect(),
            out,
            unsure: true,
        };
        self.note_edges();
    }

    /// Whether any service tracks edges only.
    pub(super) fn any_edges(&self) -> bool {
        self.model.services.iter().any(tracks_edges)
    }

    /// Whether a service of the host tracks edges only.
    pub(super) fn has_edges(&self, host: &str) -> bool {
        let mut services = self.model.services.iter().filter(|service| tracks_edges(service));
        services.any(|service| service.hosts.iter().any(|name| name == host))
    }

    /// Whether the service tracks edges only.
    pub(super) fn is_of_edges(&self, service: &str) -> bool {
        self.model.services.iter().any(|of| of.name == service && tracks_edges(of))
    }

    /// Hosts of services that track edges only.
    pub(super) fn hosts_of_edges(&self) -> BTreeSet<&str> {
        let services = self.model.services.iter().filter(|service| tracks_edges(service));
        services.flat_map(|service| service.hosts.iter().map(String::as_str)).collect()
    }

    /// Live flows of a host: marked if some of them, of services that track edges only, may not be counted.
    pub(super) fn marked(&self, live: LiveFlows, host: &str, has_edges: bool) -> LiveFlows {
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
