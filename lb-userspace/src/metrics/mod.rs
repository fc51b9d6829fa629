//! Metrics for Prometheus: what the engine has counted at the moment of a scrape, and the text that is made of it.
//!
//! Everything that is told is a row of one table, [`FAMILIES`]: the scrape, the reference in docs/metrics.md and the checks of
//! dashboards and alert rules are made from it.

mod families;
#[cfg(test)]
mod monitoring;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use lb_common::reason::Reason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::api::types::{
    AdminState, FlowTableStatus, HostStep, InterfaceStatus, LiveFlows, OperState, PathErrors, RunState,
};
use crate::health::Figures;
use crate::health::passive::Sign;
pub use families::FAMILIES;

/// What the text is, for the header of an answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What all names begin with.
pub const PREFIX: &str = "sluice";

/// What the balancer had counted at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub version: &'static str,
    /// Unix seconds.
    pub started_at: u64,
    pub generation: u64,
    pub revision: u64,
    pub is_ready: bool,
    pub is_drained: bool,
    pub is_unconfirmed: bool,
    /// The data path is not in line with the journal.
    pub is_stale: bool,
    pub problems: u64,
    pub backends: Vec<Backend>,
    pub hosts: Vec<Host>,
    pub drains: Vec<Drain>,
    /// Maintenance runs under way.
    pub runs: Vec<MaintenanceRun>,
    pub ended_runs: EndedRuns,
    /// Of the last shift of each service.
    pub splits: Vec<Split>,
    /// Services that have checks or standby hosts.
    pub services: Vec<Service>,
    /// Of services that are watched.
    pub suspected: Vec<Suspected>,
    pub checks: Vec<Figures>,
    /// No host at all can be reached.
    pub is_cut_off: bool,
    pub rings: Vec<Ring>,
    pub reasons: Vec<(Reason, u64)>,
    pub tables: Vec<Table>,
    /// `None`: it was not swept yet.
    pub flow_table: Option<FlowTableStatus>,
    pub path_errors: Option<PathErrors>,
    pub interfaces: Vec<InterfaceStatus>,
    /// `None`: the kernel does not measure it.
    pub program: Option<Program>,
    /// What it took the engine to read all this.
    pub took: Duration,
}

/// A host as a backend of a service.
#[derive(Debug, Clone, Default)]
pub struct Backend {
    pub service: String,
    pub host: String,
    pub packets: u64,
    pub bytes: u64,
    pub new_flows: u64,
    pub live: LiveFlows,
}

#[derive(Debug, Clone)]
pub struct Host {
    pub name: String,
    pub admin: AdminState,
    /// By next hop and checks.
    pub oper: OperState,
    /// It has a next hop.
    pub is_reachable: bool,
    pub weight: u16,
    /// 0 to 1.
    pub share: f64,
    pub is_ramping: bool,
    /// It may have live flows that no pin counts.
    pub is_incomplete: bool,
    pub moved: u64,
    pub reset: u64,
    pub silent: u64,
    pub kicked: u64,
    pub evicted: u64,
}

/// Who of a service's hosts is used, by its health.
#[derive(Debug, Clone, Default)]
pub struct Service {
    pub name: String,
    /// Hosts that get no new flows, as they are down.
    pub ejected: usize,
    /// Hosts that are down and used all the same.
    pub spared: usize,
    /// Hosts that stand by.
    pub waiting: usize,
    pub is_panic: bool,
    /// `None`: it has no standby hosts.
    pub has_joined: Option<bool>,
    pub ejections: Ejections,
}

/// Times that a host was taken out of use, since the daemon's start, by what was first to say so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ejections {
    pub checks: u64,
    /// By how clients fare alone.
    pub passive: u64,
    /// It had no next hop, and checks had not said anything.
    pub next_hop: u64,
}

/// Hosts of a service that a sign of passive checks speaks against, and that are in use all the same.
#[derive(Debug, Clone)]
pub struct Suspected {
    pub service: String,
    pub sign: Sign,
    pub hosts: usize,
}

/// A drain under way.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    pub host: String,
    /// Empty: all.
    pub service: String,
    /// A prefix; empty: all.
    pub clients: String,
    pub started_at: u64,
    pub deadline: Option<u64>,
    pub lease: Option<u64>,
    pub is_overdue: bool,
    pub flows_at_start: u64,
    pub live: u64,
}

/// A maintenance run under way.
#[derive(Debug, Clone)]
pub struct MaintenanceRun {
    pub number: u64,
    pub state: RunState,
    /// Of each of its hosts.
    pub steps: Vec<HostStep>,
}

/// Maintenance runs that have ended since the daemon's start, by how.
#[derive(Debug, Clone, Copy, Default)]
pub struct EndedRuns {
    pub done: u64,
    pub failed: u64,
    pub aborted: u64,
}

impl EndedRuns {
    pub fn add(&mut self, outcome: RunState) {
        match outcome {
            RunState::Done => self.done += 1,
            RunState::Failed => self.failed += 1,
            RunState::Aborted => self.aborted += 1,
            RunState::Running | RunState::Paused | RunState::Ending => {}
        }
    }
}

/// How a shift splits a service's new flows: parts of them that go to the second side, 0 to 1.
#[derive(Debug, Clone, Default)]
pub struct Split {
    pub service: String,
    pub wanted: f64,
    /// `None`: there was no new flow since its step began.
    pub measured: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Ring {
    pub number: u32,
    pub services: usize,
    pub slots: u32,
    /// Slots in handover.
    pub open: usize,
    /// Slots that have no owner.
    pub empty: usize,
}

/// Something that can become full.
#[derive(Debug, Clone, Copy, Default)]
pub struct Table {
    pub name: &'static str,
    pub used: u64,
    pub size: u64,
}

/// As the kernel measures it while kernel.bpf_stats_enabled is 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Program {
    pub runs: u64,
    pub took: Duration,
}

/// How a family's values are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for restarts of the data path. Its samples end in `_total`.
    Counter,
    Gauge,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Whole(u64),
    Real(f64),
}

/// Metrics of one name.
pub struct Family {
    /// Without prefix, unit and `_total`.
    name: &'static str,
    help: &'static str,
    kind: Kind,
    unit: Option<Unit>,
    labels: &'static [&'static str],
    /// Tells the samples of a moment.
    samples: fn(&Snapshot, &mut Tell<'_>),
}

/// Takes one sample: the values of the family's labels, and its own.
type Tell<'a> = dyn FnMut(&[&str], Value) + 'a;

impl Family {
    /// The name of its samples, as queries have it.
    pub fn sample_name(&self) -> String {
        let unit = self.unit.as_ref().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{PREFIX}_{}{unit}{total}", self.name)
    }

    pub fn help(&self) -> &'static str {
        self.help
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    fn encode(&self, snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)?;
        let mut done = Ok(());
        (self.samples)(snapshot, &mut |values, value| {
            debug_assert_eq!(values.len(), self.labels.len(), "labels of {}", self.name);
            if done.is_ok() {
                done = self.sample(&mut metric, values, value);
            }
        });
        done
    }

    fn sample(&self, metric: &mut MetricEncoder<'_>, values: &[&str], value: Value) -> fmt::Result {
        let labels: Vec<(&str, &str)> = self.labels.iter().copied().zip(values.iter().copied()).collect();
        if labels.is_empty() {
            return self.number(metric, value);
        }
        let mut sample = metric.encode_family(&labels)?;
        self.number(&mut sample, value)
    }

    fn number(&self, sample: &mut MetricEncoder<'_>, value: Value) -> fmt::Result {
        match (self.kind, value) {
            (Kind::Counter, Value::Whole(n)) => sample.encode_counter::<[(&str, &str); 0], _, f64>(&n, None),
            (Kind::Counter, Value::Real(n)) => sample.encode_counter::<[(&str, &str); 0], _, f64>(&n, None),
            (Kind::Gauge, Value::Whole(n)) => sample.encode_gauge(&n),
            (Kind::Gauge, Value::Real(n)) => sample.encode_gauge(&n),
        }
    }
}

#[derive(Debug)]
struct Scrape(Snapshot);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        FAMILIES.iter().try_for_each(|family| family.encode(&self.0, &mut encoder))
    }
}

/// The text of a scrape, in OpenMetrics 1.0.
///
/// # Errors
/// None that is known: a string takes whatever is written to it.
pub fn encode(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape(snapshot)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}
