//! The numbers by which the data path knows hosts, services and pairs of them.

use std::collections::BTreeMap;

use lb_common::layout::HostId;

use crate::journal::{SetNumber, TimeoutSets};
use crate::model::Service;

/// Names → numbers; the journal keeps them stable.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    pub hosts: BTreeMap<String, HostId>,
    /// Every host that ever had a number, also those that the config does not name any more.
    pub known_hosts: BTreeMap<String, HostId>,
    pub services: BTreeMap<String, u16>,
    /// (service, host) → number of the counters.
    pub stats: BTreeMap<(String, String), u32>,
    /// Numbers of the counters of each host, in every service.
    pub stats_by_host: BTreeMap<String, Vec<u32>>,
    /// Timeouts that pins may go by.
    pub timeouts: TimeoutSets,
}

impl Ids {
    pub fn host_name(&self, id: HostId) -> Option<&str> {
        self.known_hosts.iter().find(|&(_, &number)| number == id).map(|(name, _)| name.as_str())
    }

    pub fn service_name(&self, number: u16) -> Option<&str> {
        self.services.iter().find(|&(_, &id)| id == number).map(|(name, _)| name.as_str())
    }

    /// Number of the timeouts that a service's pins go by.
    pub fn timeout_set(&self, service: &Service) -> SetNumber {
        let mut sets = self.timeouts.iter();
        sets.find(|(_, set)| set.timeouts == service.timeouts).map_or(0, |(&number, _)| number)
    }

    /// Numbers of counters only.
    pub fn with_stats(stats: BTreeMap<(String, String), u32>) -> Self {
        let mut stats_by_host: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for ((_, host), &number) in &stats {
            stats_by_host.entry(host.clone()).or_default().push(number);
        }
        Ids { stats, stats_by_host, ..Ids::default() }
    }

    /// Numbers of the counters of a host, in every service.
    pub fn stats_of_host(&self, host: &str) -> impl Iterator<Item = u32> {
        self.stats_by_host.get(host).into_iter().flatten().copied()
    }
}
