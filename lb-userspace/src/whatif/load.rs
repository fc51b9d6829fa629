//! Whose slots go where, and the load with them.

use std::collections::BTreeMap;

use super::{Input, RingChange};
use crate::api::types::Load;
use crate::plan::audience;
use crate::ring::{HOST_NONE, HostId};

/// What would change hands, by name of the host.
#[derive(Debug, Default)]
pub struct Moves {
    /// Slots over all rings.
    pub slots_before: BTreeMap<String, u32>,
    pub slots_after: BTreeMap<String, u32>,
    /// From whom to whom, slots.
    pub slots: BTreeMap<String, BTreeMap<String, u32>>,
    /// Load that a host gets beside its own.
    pub gained: BTreeMap<String, Load>,
    /// Slots that nobody would own, of those that somebody owns now, and the load in them.
    pub unserved_slots: u32,
    pub unserved: Load,
}

impl Moves {
    pub fn of(input: &Input<'_>) -> Self {
        let mut moves = Moves::default();
        for ring in input.rings {
            moves.add(input, ring);
        }
        moves
    }

    fn add(&mut self, input: &Input<'_>, ring: &RingChange<'_>) {
        let name = |id: HostId| ring.members.iter().find(|member| member.id == id).map(|member| &member.name);
        let mut owned: BTreeMap<HostId, u32> = BTreeMap::new();
        let mut changed: BTreeMap<(HostId, HostId), u32> = BTreeMap::new();
        for (&before, &after) in ring.before.iter().zip(ring.after) {
            *owned.entry(before).or_default() += 1;
            *changed.entry((before, after)).or_default() += 1;
        }
        for ((from, to), slots) in changed {
            let (giver, taker) = (name(from), name(to));
            if let Some(giver) = giver {
                *self.slots_before.entry(giver.clone()).or_default() += slots;
            }
            if let Some(taker) = taker {
                *self.slots_after.entry(taker.clone()).or_default() += slots;
            }
            let Some(giver) = giver.filter(|_| from != to) else { continue };
            // The flow hash is even: each slot of a host has the same part of what the service sends to it.
            let part = f64::from(slots) / f64::from(owned[&from]);
            let services = input
                .services()
                .filter(|service| ring.services.iter().any(|name| audience::parse(name).0 == service.name));
            let load = services
                .fold(Load::default(), |load, service| sum(load, times((input.load)(service, giver), part)));
            match taker {
                Some(taker) => {
                    *self.slots.entry(giver.clone()).or_default().entry(taker.clone()).or_default() += slots;
                    let gained = self.gained.entry(taker.clone()).or_default();
                    *gained = sum(*gained, load);
                }
                None => {
                    debug_assert_eq!(to, HOST_NONE, "an owner is a member");
                    self.unserved_slots += slots;
                    self.unserved = sum(self.unserved, load);
                }
            }
        }
    }
}

pub fn sum(a: Load, b: Load) -> Load {
    Load {
        new_flows_per_second: a.new_flows_per_second + b.new_flows_per_second,
        packets_per_second: a.packets_per_second + b.packets_per_second,
        bytes_per_second: a.bytes_per_second + b.bytes_per_second,
    }
}

fn times(load: Load, factor: f64) -> Load {
    Load {
        new_flows_per_second: load.new_flows_per_second * factor,
        packets_per_second: load.packets_per_second * factor,
        bytes_per_second: load.bytes_per_second * factor,
    }
}
