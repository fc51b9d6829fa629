//! The status that the API gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::edges::tracks_edges;
use super::gauges::Sum;
use super::whatif::explained;
use super::{Engine, Error};
use crate::api::types::{
    AdminState, BackendStatus, DrainStatus, FlowTableStatus, HostStatus, InterfaceStatus, LiveFlows,
    OperState, PathErrors, ServiceStatus, Status,
};
use crate::dataplane::Attached;
use crate::drain::{State, Target};
use crate::model::{Host, Service, VipMode};
use crate::relay::Counts;

impl Engine {
    pub fn status(&self) -> Result<Status, Error> {
        let counters = self.dataplane.counters([])?;
        let reasons = counters.reasons.iter().filter(|(_, count)| *count != 0);
        let violations: BTreeMap<String, u64> = Self::violations(&counters.reasons).collect();
        let ring_of = self.rings.by_service();
        let ring_of = |service: &Service| ring_of.get(service.name.as_str()).copied().unwrap_or(0);
        let mut splits = self.splits()?;
        let services = self.model.services.iter().map(|service| {
            let split = splits.remove(&service.name);
            Ok(ServiceStatus { split, ..self.service(service, ring_of(service))? })
        });
        let mut services: Vec<_> = services.collect::<Result<_, Error>>()?;
        let (shares, edges, serving_on) = (self.shares(), self.hosts_of_edges(), self.serving_on());
        let opers = self.opers();
        let hosts = self.model.hosts.values().map(|host| {
            let share = shares.get(host.name.as_str()).copied().unwrap_or_default();
            self.host(host, share, edges.contains(host.name.as_str()), opers.of(&host.name), &serving_on)
        });
        let mut hosts: Vec<_> = hosts.collect::<Result<_, _>>()?;
        let of_clients =
            self.drains.iter().filter(|(target, state)| target.clients.is_some() && state.is_out());
        let of_clients: Vec<_> =
            of_clients.map(|(target, _)| self.status_of(target)).collect::<Result<_, _>>()?;
        let mut drains_of_clients: Vec<DrainStatus> = of_clients.into_iter().flatten().collect();
        let backends = services.iter_mut().flat_map(|service| &mut service.backends);
        let drains = backends.filter_map(|backend| backend.drain.as_mut());
        let drains = drains.chain(hosts.iter_mut().filter_map(|host| host.drain.as_mut()));
        let drains = drains.chain(&mut drains_of_clients);
        self.add_progress(drains.collect(), None)?;
        Ok(Status {
            instance: self.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            generation: self.generation,
            // What cannot be read is among the problems.
            revision: self.journal.last_revision().unwrap_or_default(),
            config: self.config.display().to_string(),
            config_in_force: self.in_force.status.clone(),
            leaving: self.leaving_hosts()?,
            vip_mode: match self.model.vip_mode {
                VipMode::External => "external",
                VipMode::Local => "local",
            }
            .to_owned(),
            interfaces: self.attached.iter().map(InterfaceStatus::from).collect(),
            problems: self.problems(&violations),
            services,
            hosts,
            drains_of_clients,
            tracers: self.tracers.values().cloned().collect(),
            flow_table: self.flow_table(),
            path_errors: self.relay.as_ref().map(|relay| PathErrors::from(&*relay.counts)),
            reasons: reasons.map(|(reason, count)| (reason.name().to_owned(), *count)).collect(),
            violations,
        })
    }

    fn service(&self, service: &Service, ring: u32) -> Result<ServiceStatus, Error> {
        let mut backends = Vec::new();
        let mut all = Vec::new();
        for name in &service.hosts {
            let stats = self.ids.stats.get(&(service.name.clone(), name.clone())).copied();
            let (sum, traffic) = self.traffic(stats)?;
            all.extend(stats);
            let address = self.model.address(service, name);
            let hop = address.and_then(|address| self.published_hops.get(&address));
            backends.push(BackendStatus {
                host: name.clone(),
                address: address.map(|address| address.to_string()).unwrap_or_default(),
                live_flows: self.marked(sum.live(), name, tracks_edges(service)),
                traffic,
                next_hop: hop.map_or_else(|| "not known yet".to_owned(), ToString::to_string),
                drain: self.status_of(&Target::of(name, Some(&service.name)))?,
                path_mtu: address
                    .filter(|_| service.forward.is_tunnel())
                    .and_then(|address| self.path_mtus.get(&address).copied()),
            });
        }
        let (sum, traffic) = self.traffic(all)?;
        Ok(ServiceStatus {
            name: service.name.clone(),
            vip: service.vip.to_string(),
            protocols: service.protocols.clone(),
            ports: service.ports.clone(),
            forward: service.forward.to_string(),
            ring,
            live_flows: LiveFlows {
                hidden: backends.iter().any(|backend| backend.live_flows.hidden),
                ..sum.live()
            },
            traffic,
            backends,
            split: None,
        })
    }

    fn host(
        &self,
        host: &Host,
        share: f64,
        has_edges: bool,
        (oper, down_for): (OperState, Vec<String>),
        serving_on: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<HostStatus, Error> {
        let (sum, traffic): (Sum, _) = self.traffic(self.ids.stats_of_host(&host.name))?;
        let state = self.host_state(&host.name);
        let live = self.marked(sum.live(), &host.name, has_edges);
        Ok(HostStatus {
            name: host.name.clone(),
            // One that gives up a part of its slots drains, too.
            admin: match state.map(State::admin) {
                None | Some(AdminState::Active) => self.admin(&host.name),
                Some(admin) => admin,
            },
            oper,
            down_for,
            weight: host.weight,
            share,
            live_flows: live,
            traffic,
            ramp: self.ramp_status(&host.name),
            drain: state
                .and_then(|state| state.status(self.drain_live(&host.name, live), self.clock.now()))
                .map(|status| explained(status, serving_on)),
        })
    }

    /// Part of the slots that each host owns in the rings that it is a member of.
    pub(super) fn shares(&self) -> BTreeMap<&str, f64> {
        let mut slots: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for ring in self.rings.rings.values() {
            let owned = ring.owned();
            for name in &ring.hosts {
                let of = self.ids.hosts.get(name).and_then(|id| owned.get(id));
                let (own, all) = slots.entry(name).or_default();
                *own += f64::from(of.copied().unwrap_or(0));
                *all += f64::from(ring.slots.size());
            }
        }
        slots.into_iter().map(|(name, (own, all))| (name, own / all)).collect()
    }

    pub(super) fn flow_table(&self) -> FlowTableStatus {
        let sizes = &self.dataplane.options.sizes;
        let swept = self.swept.as_ref();
        FlowTableStatus {
            pins: u64::from(self.model.flow_table.pins),
            words: u64::from(sizes.words()),
            live: swept.map_or(0, crate::dataplane::Swept::total),
            overflow_used: swept.map_or(0, |swept| swept.overflow),
            overflow_size: u64::from(sizes.overflow),
            memory: sizes.flow_table_bytes(),
            sweep_us: swept.map_or(0, |swept| swept.took.as_micros() as u64),
        }
    }

    pub(super) fn problems(&self, violations: &BTreeMap<String, u64>) -> Vec<String> {
        let mut problems: Vec<String> = violations
            .iter()
            .map(|(name, count)| {
                format!("{name} is {count} and must be 0: please report this with `sluice status --json`")
            })
            .collect();
        for service in &self.model.services {
            for name in &service.hosts {
                let Some(address) = self.model.address(service, name) else { continue };
                match self.published_hops.get(&address) {
                    Some(hop) if hop.next_hop().is_some() => {}
                    Some(hop) => problems.push(format!("{name} ({address}) gets no packet: {hop}")),
                    None => problems
                        .push(format!("{name} ({address}) gets no packet: its next hop is not known yet")),
                }
            }
        }
        problems.extend(self.config_problems());
        problems.extend(self.problems_of_interfaces());
        problems.extend(self.health_problems());
        problems.extend(self.problems_of_self());
        problems.extend(self.problems_of_ways_out());
        if self.stale {
            problems.push("the last change is not published yet: see the daemon's log".to_owned());
        }
        problems.sort();
        problems.dedup();
        problems
    }
}

impl From<&Attached> for InterfaceStatus {
    fn from(attached: &Attached) -> Self {
        InterfaceStatus {
            name: attached.interface.clone(),
            ifindex: attached.ifindex,
            mode: attached.mode.to_owned(),
            note: attached.note.clone(),
        }
    }
}

impl From<&Counts> for PathErrors {
    fn from(counts: &Counts) -> Self {
        let [heard, told, suppressed, failed] =
            [&counts.heard, &counts.told, &counts.suppressed, &counts.failed]
                .map(|count| count.load(Ordering::Relaxed));
        PathErrors { heard, told, suppressed, failed }
    }
}
