//! The table and the counters of the product against the rules.

use std::collections::BTreeMap;

use lb_userspace::api::types::LiveFlows;

use super::run::Run;
use super::setup::number;
use crate::agree;

impl Run<'_> {
    pub(super) fn compare(&mut self) -> Result<(), String> {
        let status = self.balancer.status();
        if !status.violations.is_empty() {
            return Err(format!("must be zero: {:?}", status.violations));
        }
        if !self.is_roomy {
            return Ok(());
        }
        let entries = self.balancer.entries();
        let Run { rules, clients, balancer, .. } = self;
        agree::on_pins(rules, clients, entries, |host| balancer.host(host))?;
        for host in &status.hosts {
            let live = agree::gauges(&self.rules, number(&host.name));
            let LiveFlows { half_open, established, closing, udp, .. } = host.live_flows;
            if [half_open, established, closing, udp] != live {
                return Err(format!("gauges of {}: {:?}, by the rules {live:?}", host.name, host.live_flows));
            }
        }
        let reasons: BTreeMap<String, u64> =
            self.reasons.iter().map(|(&reason, &count)| (reason.to_owned(), count)).collect();
        if status.reasons != reasons {
            return Err(format!("reasons: {:?}, by the rules {reasons:?}", status.reasons));
        }
        Ok(())
    }
}
