//! The table and the counters of the product against the rules.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::flow;
use lb_common::layout::PHASES_COUNTED;
use lb_userspace::api::types::LiveFlows;

use super::run::Run;
use super::setup::number;
use crate::client::Client;
use crate::rules::{Phase, Pin};
use crate::table::Entry;

impl Run<'_> {
    pub(super) fn compare(&mut self) -> Result<(), String> {
        let status = self.balancer.status();
        if !status.violations.is_empty() {
            return Err(format!("must be zero: {:?}", status.violations));
        }
        if !self.is_roomy {
            return Ok(());
        }
        self.rules.check();
        let mut seen = BTreeSet::new();
        for entry in self.balancer.entries() {
            let client = self.clients[&entry.tuple];
            let pin = self.rules.pins.get(&client).ok_or(format!("{entry:?} should not be there"))?;
            let host = self.balancer.host(entry.word.host());
            if !is_same(&entry, host, pin) {
                return Err(format!("{entry:?} should be {pin:?} of {client:?}"));
            }
            if !seen.insert(client) {
                return Err(format!("{client:?} has two pins"));
            }
        }
        let missing: Vec<Client> =
            self.rules.pins.keys().filter(|client| !seen.contains(client)).copied().collect();
        for client in missing {
            if let Some(pin) = self.rules.live_pin(&client) {
                return Err(format!("{client:?} has lost its {pin:?}"));
            }
            // A pin whose flow has ended may have made room.
            self.rules.pins.remove(&client);
        }
        for host in &status.hosts {
            let mut live = [0; PHASES_COUNTED];
            for pin in self.rules.pins.values().filter(|pin| pin.host == number(&host.name)) {
                live[gauge(pin.phase)] += 1;
            }
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

fn gauge(phase: Phase) -> usize {
    match phase {
        Phase::HalfOpen { .. } => 0,
        Phase::Established => 1,
        Phase::Closing { .. } => 2,
        Phase::Udp => 3,
    }
}

fn is_same(entry: &Entry, host: lb_common::layout::HostId, pin: &Pin) -> bool {
    let is_phase = match (entry.word.phase(), pin.phase) {
        (flow::Phase::HalfOpen, Phase::HalfOpen { syn }) => entry.cold.sequence == syn,
        (flow::Phase::Closing, Phase::Closing { fin }) => fin.is_none_or(|fin| entry.cold.sequence == fin),
        (flow::Phase::Established, Phase::Established) | (flow::Phase::Udp, Phase::Udp) => true,
        _ => false,
    };
    let seen = flow::Word::new(entry.word.tag(), entry.word.host(), entry.word.phase(), pin.seen);
    is_phase && host == pin.host && seen == entry.word && entry.cold.slot == pin.slot
}
