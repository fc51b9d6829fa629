//! The flow table in the kernel against the pins of the rules.

use std::collections::{BTreeSet, HashMap};

use lb_common::flow;
use lb_common::layout::{HostId, PHASES_COUNTED, Tuple};

use crate::client::Client;
use crate::rules::{Phase, Pin, Rules};
use crate::table::Entry;

/// Every entry is a pin of the rules, and every live pin is there, once. `host_of` gives the rules' number of a host.
pub fn on_pins(
    rules: &mut Rules,
    clients: &HashMap<Tuple, Client>,
    entries: Vec<Entry>,
    host_of: impl Fn(HostId) -> HostId,
) -> Result<(), String> {
    rules.check();
    let mut seen = BTreeSet::new();
    for entry in entries {
        let client = clients[&entry.tuple];
        let pin = rules.pins.get(&client).ok_or(format!("{entry:?} should not be there"))?;
        if !is_same(&entry, host_of(entry.word.host()), pin) {
            return Err(format!("{entry:?} should be {pin:?} of {client:?}"));
        }
        if !seen.insert(client) {
            return Err(format!("{client:?} has two pins"));
        }
    }
    let missing: Vec<Client> = rules.pins.keys().filter(|client| !seen.contains(client)).copied().collect();
    for client in missing {
        if let Some(pin) = rules.live_pin(&client) {
            return Err(format!("{client:?} has lost its {pin:?}"));
        }
        // A pin whose flow has ended may have made room.
        rules.pins.remove(&client);
    }
    Ok(())
}

/// Pins of a host by phase, as gauges count them.
pub fn gauges(rules: &Rules, host: HostId) -> [u64; PHASES_COUNTED] {
    let mut live = [0; PHASES_COUNTED];
    for pin in rules.pins.values().filter(|pin| pin.host == host) {
        if let Some(gauge) = gauge(pin.phase) {
            live[gauge] += 1;
        }
    }
    live
}

/// A flow that has been reset is in none.
fn gauge(phase: Phase) -> Option<usize> {
    match phase {
        Phase::HalfOpen { .. } => Some(0),
        Phase::Established => Some(1),
        Phase::Closing { .. } => Some(2),
        Phase::Udp => Some(3),
        Phase::Reset => None,
    }
}

fn is_same(entry: &Entry, host: HostId, pin: &Pin) -> bool {
    let is_phase = match (entry.word.phase(), pin.phase) {
        (flow::Phase::HalfOpen, Phase::HalfOpen { syn }) => entry.cold.sequence == syn,
        (flow::Phase::Closing, Phase::Closing { fin }) => fin.is_none_or(|fin| entry.cold.sequence == fin),
        (flow::Phase::Established, Phase::Established)
        | (flow::Phase::Udp, Phase::Udp)
        | (flow::Phase::Reset, Phase::Reset) => true,
        _ => false,
    };
    let seen = flow::Word::new(entry.word.tag(), entry.word.host(), entry.word.phase(), pin.seen);
    is_phase && host == pin.host && seen == entry.word && entry.cold.slot == pin.slot
}
