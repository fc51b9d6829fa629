//! What a scrape is told: every counter read once, from the maps.

use std::collections::BTreeMap;
use std::time::Instant;

use lb_common::layout::{HOST_NONE, PAIRS};

use super::gauges::Sum;
use super::{Engine, Error};
use crate::api::types::{AdminState, InterfaceStatus, LiveFlows, PathErrors, ShiftRun};
use crate::config::limits;
use crate::drain::State;
use crate::metrics::{Backend, Drain, Host, Ring, Service, Snapshot, Split, Table};

impl Engine {
    pub fn metrics(&mut self) -> Result<Snapshot, Error> {
        let began = Instant::now();
        let program = self.dataplane.program_time()?;
        let reasons = self.dataplane.counters([])?.reasons;
        let violations: BTreeMap<String, u64> = Self::violations(&reasons).collect();
        let (backends, by_host) = self.read_backends()?;
        let hosts = self.metrics_of_hosts(&by_host);
        let drains = self.metrics_of_drains()?;
        let services = self.model.services.iter().filter(|service| service.chooses());
        let mut snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.started_at,
            generation: self.generation,
            revision: self.journal.last_revision().unwrap_or_default(),
            is_ready: self.not_ready().is_none(),
            is_drained: self.self_status().drain.is_some(),
            is_unconfirmed: self.in_force.status.confirm_by.is_some(),
            is_stale: self.stale,
            problems: self.problems(&violations).len() as u64,
            tables: self.tables(&backends),
            backends,
            hosts,
            drains,
            runs: self.metrics_of_runs(),
            ended_runs: self.maintenance.ended,
            splits: self.metrics_of_shifts()?,
            services: services.map(|service| self.metrics_of_health(service)).collect(),
            suspected: self.metrics_of_suspicions(),
            is_cut_off: self.cut_off.is_on(),
            rings: self.metrics_of_rings(),
            reasons,
            flow_table: self.swept.is_some().then(|| self.flow_table()),
            path_errors: self.relay.as_ref().map(|relay| PathErrors::from(&*relay.counts)),
            interfaces: self.attached.iter().map(InterfaceStatus::from).collect(),
            program,
            ..Snapshot::default()
        };
        snapshot.took = began.elapsed();
        Ok(snapshot)
    }

    fn read_backends(&self) -> Result<(Vec<Backend>, BTreeMap<String, Sum>), Error> {
        let mut backends = Vec::new();
        let mut by_host: BTreeMap<String, Sum> = BTreeMap::new();
        let counters = self.dataplane.pairs(self.ids.stats.values().copied())?;
        for ((service, host), index) in &self.ids.stats {
            let sum = Sum::of(&counters[index]);
            by_host.entry(host.clone()).or_default().add(&counters[index]);
            backends.push(Backend {
                service: service.clone(),
                host: host.clone(),
                packets: sum.packets,
                bytes: sum.bytes,
                new_flows: sum.new_flows,
                live: sum.live(),
            });
        }
        Ok((backends, by_host))
    }

    fn metrics_of_hosts(&self, by_host: &BTreeMap<String, Sum>) -> Vec<Host> {
        let (shares, edges, opers) = (self.shares(), self.hosts_of_edges(), self.opers());
        let host = |(name, host): (&String, &crate::model::Host)| {
            let sum = by_host.get(name).copied().unwrap_or_default();
            Host {
                name: name.clone(),
                admin: match self.host_state(name).map(State::admin) {
                    None | Some(AdminState::Active) => self.admin(name),
                    Some(admin) => admin,
                },
                oper: opers.of(name).0,
                is_reachable: !self.down.contains(name),
                weight: host.weight,
                share: shares.get(name.as_str()).copied().unwrap_or_default(),
                is_ramping: self.ramp_status(name).is_some(),
                is_incomplete: self.marked(LiveFlows::default(), name, edges.contains(name.as_str())).hidden,
                moved: sum.moved,
                reset: sum.reset,
                silent: sum.silent,
                kicked: sum.kicked,
                evicted: sum.evicted,
            }
        };
        self.model.hosts.iter().map(host).collect()
    }

    fn metrics_of_health(&self, service: &crate::model::Service) -> Service {
        let choice = self.health.choices.get(&service.name).cloned().unwrap_or_default();
        Service {
            name: service.name.clone(),
            ejected: choice.ejected.len(),
            spared: choice.spared.len(),
            waiting: choice.waiting.len(),
            is_panic: choice.is_panic,
            has_joined: (!service.standby.is_empty()).then_some(choice.has_joined),
            ejections: self.health.ejections.get(&service.name).copied().unwrap_or_default(),
        }
    }

    fn metrics_of_drains(&self) -> Result<Vec<Drain>, Error> {
        let now = self.clock.now();
        let drain = |draining: &crate::drain::Draining| {
            let target = draining.drain.target();
            let live = self.live_of(&target)?;
            let tally = draining.tally.as_ref();
            Ok(Drain {
                host: target.host,
                service: target.service.unwrap_or_default(),
                clients: target.clients.map(|clients| clients.to_string()).unwrap_or_default(),
                started_at: draining.drain.started_at,
                deadline: draining.drain.order.deadline,
                lease: draining.drain.order.lease,
                is_overdue: draining.overdue_since(&live, now).is_some(),
                flows_at_start: tally.map_or(draining.flows_when_asked, crate::drain::Tally::flows_at_start),
                live: live.total,
            })
        };
        self.draining().map(drain).collect()
    }

    fn metrics_of_shifts(&self) -> Result<Vec<Split>, Error> {
        let shifts = self.shift_reports()?.shifts.into_iter();
        let split = |of: ShiftRun| Split { service: of.service, wanted: of.wanted, measured: of.measured };
        Ok(shifts.map(split).collect())
    }

    fn metrics_of_rings(&self) -> Vec<Ring> {
        let ring = |(&number, ring): (&u32, &super::rings::Ring)| Ring {
            number,
            services: ring.services.len(),
            slots: ring.slots.size(),
            open: ring.slots.open().count() as usize,
            empty: ring.slots.owners().iter().filter(|owner| **owner == HOST_NONE).count(),
        };
        self.rings.rings.iter().map(ring).collect()
    }

    /// What can become full.
    fn tables(&self, backends: &[Backend]) -> Vec<Table> {
        let flows = self.flow_table();
        let (records, pairs) = self.dataplane.in_use();
        let table = |name, used, size| Table { name, used, size };
        vec![
            table("pins", flows.live, flows.pins),
            table("overflow", flows.overflow_used, flows.overflow_size),
            table("rings", self.rings.rings.len() as u64, limits::MAX_MEMBER_SETS as u64),
            table("services", self.model.services.len() as u64, limits::MAX_SERVICES as u64),
            table("backends", backends.len() as u64, limits::MAX_BACKENDS as u64),
            table("hosts", self.model.hosts.len() as u64, limits::MAX_HOSTS as u64),
            table("records", records as u64, limits::MAX_RECORDS as u64),
            table("pairs", pairs as u64, PAIRS as u64),
        ]
    }
}
