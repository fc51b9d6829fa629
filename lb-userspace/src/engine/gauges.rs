//! Gauges and counters of hosts, summed over their services.

use std::net::IpAddr;

use lb_common::layout::{BackendStats, PHASES_COUNTED};
use lb_common::reason::{Class, Reason};

use super::{Engine, Error};
use crate::api::types::LiveFlows;
use crate::dataplane::PairCounters;
use crate::drain::{Gauges, Target};

/// The sum of the counters of several backends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    pub packets: u64,
    pub bytes: u64,
    pub new_flows: u64,
    pub evicted: u64,
    pub moved: u64,
    pub reset: u64,
    pub silent: u64,
    pub kicked: u64,
    live: [i64; PHASES_COUNTED],
}

impl Sum {
    pub fn of(counters: &PairCounters) -> Self {
        let mut sum = Sum::default();
        sum.add(counters);
        sum
    }

    pub fn add(&mut self, counters: &PairCounters) {
        self.packets += counters.packets;
        self.bytes += counters.bytes;
        self.new_flows += counters.new_flows;
        self.evicted += counters.evicted;
        self.moved += counters.moved;
        self.reset += counters.reset;
        self.silent += counters.silent;
        self.kicked += counters.kicked;
        for (sum, live) in self.live.iter_mut().zip(counters.live) {
            *sum += live;
        }
    }

    pub fn live(&self) -> LiveFlows {
        // Reading takes a moment, in which a flow may leave a gauge on one CPU that it entered on another.
        let [half_open, established, closing, udp] = self.live.map(|live| u64::try_from(live).unwrap_or(0));
        let total = u64::try_from(self.live.iter().sum::<i64>()).unwrap_or(0);
        LiveFlows { half_open, established, closing, udp, total, hidden: false }
    }
}

impl Engine {
    /// Counters of what is drained.
    pub(super) fn sum(&self, target: &Target) -> Result<Sum, Error> {
        self.sum_of(&self.stats_of(target))
    }

    pub(super) fn sum_of(&self, stats: &[u32]) -> Result<Sum, Error> {
        let mut sum = Sum::default();
        self.dataplane.pairs(stats.iter().copied())?.values().for_each(|counters| sum.add(counters));
        Ok(sum)
    }

    /// Numbers of those counters.
    pub(super) fn stats_of(&self, target: &Target) -> Vec<u32> {
        match target.pair() {
            _ if target.clients.is_some() => self.tallies.get(target).copied().into_iter().collect(),
            Some(pair) => self.ids.stats.get(&pair).copied().into_iter().collect(),
            None => self.ids.stats_of_host(&target.host).collect(),
        }
    }

    fn gauges(&self, target: &Target) -> Result<Gauges, Error> {
        self.gauges_of(target, &self.stats_of(target))
    }

    /// What the counters with these numbers say, which are those of what is drained.
    pub(super) fn gauges_of(&self, target: &Target, stats: &[u32]) -> Result<Gauges, Error> {
        let tally = self.tallies.get(target).copied().unwrap_or(0);
        let sum = self.sum_of(stats)?;
        let reasons = self.dataplane.counters([])?.reasons;
        let misrouted = reasons
            .iter()
            .filter(|(reason, _)| *reason == Reason::ViolationPinNamesNobody)
            .map(|(_, n)| n)
            .sum();
        Ok(Gauges {
            tally,
            live: if target.clients.is_some() { self.live_of_clients(target) } else { sum.live() },
            evicted_total: sum.evicted,
            new_flows_total: sum.new_flows,
            misrouted_total: misrouted,
            moved_total: sum.moved,
            reset_total: sum.reset,
            silent_total: sum.silent,
            kicked_total: sum.kicked,
            unconfirmed: self.unconfirmed(target),
            packets_total: sum.packets,
            bytes_total: sum.bytes,
            violations: Self::violations(&reasons).collect(),
            durations: self.durations_of(target),
        })
    }

    /// Flows that were ended, of what is drained, and whose end the host could not be told yet.
    fn unconfirmed(&self, target: &Target) -> u64 {
        let service = target.service.as_ref().map(|name| self.ids.services.get(name).copied());
        let is_meant = |of: u16, client: IpAddr| {
            service.is_none_or(|service| service == Some(of))
                && target.clients.is_none_or(|clients| clients.contains(&client))
        };
        self.ids.known_hosts.get(&target.host).map_or(0, |&id| self.resets.unconfirmed(id, is_meant))
    }

    /// What the drain machine wants to know of the flows that a drain is about: of a part of its slots those that the last sweep found in slots that it does
    /// not own. What ended them no counter tells.
    pub(super) fn drain_gauges(&self, target: &Target) -> Result<Gauges, Error> {
        let all = self.gauges(target)?;
        if !target.is_whole() || self.part(&target.host).is_none() {
            return Ok(all);
        }
        let Gauges { misrouted_total, packets_total, bytes_total, violations, .. } = all;
        let live = self.drain_live(&target.host, all.live);
        Ok(Gauges { live, misrouted_total, packets_total, bytes_total, violations, ..Gauges::default() })
    }

    /// Live flows that the host's drain is about, of `all` that it has.
    pub(super) fn drain_live(&self, host: &str, all: LiveFlows) -> LiveFlows {
        if self.part(host).is_none() {
            return all;
        }
        let [half_open, established, closing, udp] = self.foreign(&Target::host(host));
        let total = half_open + established + closing + udp;
        LiveFlows { half_open, established, closing, udp, total, hidden: false }
    }

    /// Live flows of a drain for some clients: as the last sweep has counted them, or counted now.
    pub(super) fn live_of_clients(&self, target: &Target) -> LiveFlows {
        let counted = self.of_clients.get(target).copied();
        let [half_open, established, closing, udp] = counted.unwrap_or_else(|| {
            let mut live = [0; PHASES_COUNTED];
            if let Some(watched) = self.watched_target(target, None) {
                self.dataplane.each_live(
                    |host| host == watched.host,
                    |flow| {
                        let is_meant = watched.is_of(flow.host, flow.service, flow.tuple.source);
                        if let Some(gauge) = BackendStats::gauge_of(flow.phase).filter(|_| is_meant) {
                            live[gauge] += 1;
                        }
                    },
                );
            }
            live
        });
        let total = half_open + established + closing + udp;
        LiveFlows { half_open, established, closing, udp, total, hidden: false }
    }

    /// Live pins in slots that their host does not own, as the last sweep has counted them.
    pub(super) fn foreign(&self, target: &Target) -> [u64; PHASES_COUNTED] {
        let swept = self.swept.as_ref().zip(self.ids.hosts.get(&target.host));
        let service = target.service.as_ref().and_then(|name| self.ids.services.get(name).copied());
        swept.map(|(swept, &id)| swept.foreign_of(service, id)).unwrap_or_default()
    }

    /// Must-be-zero counters that are not zero.
    pub(super) fn violations(reasons: &[(Reason, u64)]) -> impl Iterator<Item = (String, u64)> {
        reasons
            .iter()
            .filter(|(reason, count)| reason.class() == Class::Violation && *count != 0)
            .map(|(reason, count)| (reason.name().to_owned(), *count))
    }
}
