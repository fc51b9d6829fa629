//! What clients send, and what they and the rules make of the answer.

use std::collections::BTreeSet;

use lb_common::layout::{HOST_NONE, HostId};
use sluice_tests::packets::Packet;

use super::run::Run;
use super::steps::Forged;
use super::world::{Moment, Stage, World};
use crate::client::{Client, Flags, Service};
use crate::rules::{Phase, Signal};

impl Run<'_> {
    fn send(&mut self, client: Client, packet: &Packet, signal: Signal) -> Result<HostId, String> {
        self.clients.insert(client.tuple(), client);
        self.rules.now = self.now;
        self.balancer.plane().set_clock(self.now);
        let slot = self.rules.slot(&client);
        let before = self.rules.pins.get(&client).copied();
        let answer = self.is_roomy.then(|| self.rules.packet(client, signal));
        let got = self.balancer.send(packet);
        if let Some(answer) = answer {
            // The daemon knows no way there, so the packet goes nowhere.
            let is_unreachable = self.handovers.unreachable.contains(&answer.host);
            let reason = if is_unreachable { "drop_no_next_hop" } else { answer.reason };
            *self.reasons.entry(reason).or_default() += 1;
            if got != if is_unreachable { HOST_NONE } else { answer.host } {
                return Err(format!(
                    "{signal:?} of {client:?} went to {got}, by the rules to {} ({}); pin before {before:?}, owner {}, \
                     previous {}",
                    answer.host,
                    answer.reason,
                    slot.owner(),
                    slot.previous(),
                ));
            }
        }
        Ok(got)
    }

    fn moment<'a>(
        &self,
        client: &Client,
        down: &'a BTreeSet<HostId>,
        out: &'a BTreeSet<HostId>,
    ) -> Moment<'a> {
        Moment {
            now: self.now,
            policy: self.rules.policy(client.service),
            slot: self.rules.slot(client),
            out,
            down,
            publication: self.publication,
        }
    }

    /// To a CPU whose clock is late, a flow of the client may live that has ended.
    fn is_from_the_past(&self, client: &Client) -> bool {
        self.now < self.latest && self.world.flow(client).is_none()
    }

    /// Shows the world a packet.
    fn show(
        &mut self,
        client: Client,
        what: impl FnOnce(&mut World, &Moment<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let (down, out) = (self.handovers.unreachable.clone(), self.handovers.out.clone());
        let moment = self.moment(&client, &down, &out);
        what(&mut self.world, &moment)
    }

    pub(super) fn begin(&mut self, client: Client) -> Result<(), String> {
        if self.is_from_the_past(&client)
            || self.world.flow(&client).is_some_and(|flow| flow.stage == Stage::Open)
        {
            return Ok(());
        }
        // Written down as what cannot be promised: the end of a flow that a handover has pinned was not tracked.
        let is_pinned = self.rules.live_pin(&client).is_some_and(|pin| pin.phase == Phase::Established);
        let is_old = self.rules.policy(client.service).edges && is_pinned;
        let syn = self.syns.get(&client).map_or(10_000, |syn| syn + 1000);
        self.syns.insert(client, syn);
        let host = self.send(client, &client.packet().syn(syn), Signal::Syn { sequence: syn })?;
        if is_old {
            self.world.flows.remove(&client);
            return Ok(());
        }
        let stage = Stage::Begun { is_again: self.is_roomy };
        self.show(client, |world, moment| world.began(client, stage, host, moment))?;
        // Where half-open pins make room for others, only a flow that is open is promised anything.
        if self.is_roomy { Ok(()) } else { self.speak(client) }
    }

    pub(super) fn again(&mut self, client: Client) -> Result<(), String> {
        let Some(stage @ Stage::Begun { is_again }) = self.world.flow(&client).map(|flow| flow.stage) else {
            return Ok(());
        };
        let syn = self.syns[&client];
        let host = self.send(client, &client.packet().syn(syn), Signal::Syn { sequence: syn })?;
        self.show(client, |world, moment| {
            if is_again {
                world.spoke(client, stage, host, moment)
            } else {
                world.began(client, Stage::Begun { is_again: true }, host, moment)
            }
        })
    }

    pub(super) fn speak(&mut self, client: Client) -> Result<(), String> {
        let Some(flow) = self.world.flow(&client) else { return Ok(()) };
        let is_ended = flow.stage == Stage::Ended;
        let sequence = self.syns[&client] + if is_ended { 2 } else { 1 };
        let host = self.send(client, &client.packet().seq(sequence).ack(1), Signal::Ack { sequence })?;
        let stage = if is_ended { Stage::Ended } else { Stage::Open };
        self.show(client, |world, moment| world.spoke(client, stage, host, moment))
    }

    pub(super) fn end_flow(&mut self, client: Client) -> Result<(), String> {
        if !self.world.flow(&client).is_some_and(|flow| flow.stage == Stage::Open) {
            return Ok(());
        }
        let syn = self.syns[&client];
        let packet = client.packet().seq(syn + 1).fin().ack(1);
        let host = self.send(client, &packet, Signal::Fin { after: syn + 2 })?;
        self.show(client, |world, moment| world.spoke(client, Stage::Ended, host, moment))?;
        if !self.is_roomy {
            // Its pin may go, and the last acknowledgement would look like a flow's that lives.
            self.world.flows.remove(&client);
        }
        Ok(())
    }

    pub(super) fn forge(&mut self, client: Client, forged: Forged) -> Result<(), String> {
        // One packet: against two blind ones nothing is promised.
        let is_open =
            self.world.flow(&client).is_some_and(|flow| flow.stage == Stage::Open && flow.forged.is_none());
        let has_pin = self.rules.live_pin(&client).is_some_and(|pin| pin.phase == Phase::Established);
        let is_tracked = !self.rules.policy(client.service).edges && has_pin;
        if !is_open || matches!(forged, Forged::Syn) && !is_tracked {
            return Ok(());
        }
        let (packet, signal) = match forged {
            Forged::Syn => (client.packet().syn(77), Signal::Syn { sequence: 77 }),
            Forged::Fin => (client.packet().seq(77).fin().ack(1), Signal::Fin { after: 78 }),
            Forged::Rst => (client.packet().seq(77).rst(), Signal::Rst),
        };
        let host = self.send(client, &packet, signal)?;
        let ends = !matches!(forged, Forged::Syn);
        self.show(client, |world, moment| world.forged(client, host, ends, moment))
    }

    pub(super) fn datagram(&mut self, client: Client) -> Result<(), String> {
        if self.is_from_the_past(&client) {
            return Ok(());
        }
        let host = self.send(client, &client.packet().payload(b"?"), Signal::Datagram)?;
        self.show(client, |world, moment| world.datagram(client, host, moment))?;
        if !self.is_roomy {
            // A flow that found no place is promised nothing.
            let tuple = client.tuple();
            if !self.balancer.entries().iter().any(|entry| entry.tuple == tuple) {
                self.world.flows.remove(&client);
            }
        }
        Ok(())
    }

    pub(super) fn wild(
        &mut self,
        client: Client,
        flags: Flags,
        sequence: u32,
        payload: bool,
    ) -> Result<(), String> {
        let (packet, signal) = client.segment(flags, sequence, payload);
        self.send(client, &packet, signal).map(drop)
    }

    pub(super) fn flood(&mut self, count: u32) {
        self.balancer.plane().set_clock(self.now);
        for _ in 0..count {
            self.flooded += 1;
            let client = Client { address: 0x6440_0000 + self.flooded, port: 4000, service: Service::Web };
            self.balancer.send(&client.packet().syn(self.flooded));
        }
    }
}
