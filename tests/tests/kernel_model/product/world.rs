//! What clients see: which host each flow began with, and what the contract promises of its next packet. Nothing here knows of pins.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{HOST_NONE, HostId, Slot};

use super::setup::TIMEOUTS;
use crate::client::{Client, Service};
use crate::rules::{Moves, Policy};

/// Where a flow is, as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The client has sent a SYN. `is_again`: the balancer must know it again when it comes again.
    Begun {
        is_again: bool,
    },
    Open,
    /// The client has sent its FIN and owes the last acknowledgement.
    Ended,
    Udp,
}

#[derive(Debug, Clone, Copy)]
pub struct Flow {
    pub host: HostId,
    pub stage: Stage,
    /// Counted over all flows.
    number: u64,
    /// Second of the client's last packet.
    spoke: u32,
    /// Second in which somebody else sent a FIN or RST in its name, if the client has not spoken since.
    pub forged: Option<u32>,
}

impl Flow {
    fn may_be_silent(&self) -> u32 {
        match self.stage {
            Stage::Begun { .. } => TIMEOUTS.half_open,
            Stage::Open => TIMEOUTS.established,
            Stage::Ended => TIMEOUTS.closing,
            Stage::Udp => TIMEOUTS.udp,
        }
    }

    fn is_alive(&self, now: u32) -> bool {
        let forged = self.forged.is_none_or(|forged| now.saturating_sub(forged) <= TIMEOUTS.closing);
        forged && now.saturating_sub(self.spoke) <= self.may_be_silent()
    }
}

/// The moment of a packet.
pub struct Moment<'a> {
    pub now: u32,
    pub policy: Policy,
    pub slot: Slot,
    pub out: &'a BTreeSet<HostId>,
    pub down: &'a BTreeSet<HostId>,
    /// The number of the last publication.
    pub publication: u64,
}

#[derive(Default)]
pub struct World {
    pub flows: BTreeMap<Client, Flow>,
    next: u64,
    /// Slots in handover, with the number of the first flow that began after its opening.
    opened: BTreeMap<(Service, u32), u64>,
    /// Where the last flow of an address began, and the publication it was under.
    begun: BTreeMap<(Service, u32), (HostId, u64)>,
    pub checked: Checked,
}

/// How much was checked.
#[derive(Debug, Default, Clone, Copy)]
pub struct Checked {
    pub packets: u64,
    pub begun: u64,
    pub begun_while_out: u64,
    pub moved_by_policy: u64,
    pub survived_losses: u64,
    pub drained: u64,
}

impl Checked {
    pub fn add(&mut self, other: &Checked) {
        self.packets += other.packets;
        self.begun += other.begun;
        self.begun_while_out += other.begun_while_out;
        self.moved_by_policy += other.moved_by_policy;
        self.survived_losses += other.survived_losses;
        self.drained += other.drained;
    }
}

impl World {
    pub fn flow(&self, client: &Client) -> Option<Flow> {
        self.flows.get(client).copied()
    }

    /// Flows that were silent for too long have ended.
    pub fn at(&mut self, now: u32) {
        self.flows.retain(|_, flow| flow.is_alive(now));
    }

    /// The machine was started anew, and its clock with it: it was as if all had just spoken.
    pub fn age_by_clock(&mut self, now: u32) {
        self.flows.retain(|_, flow| flow.forged.is_none());
        for flow in self.flows.values_mut() {
            flow.spoke = now;
        }
    }

    /// The first packet of a flow, which has gone to `host` (C2).
    pub fn began(
        &mut self,
        client: Client,
        stage: Stage,
        host: HostId,
        moment: &Moment<'_>,
    ) -> Result<(), String> {
        self.flows.remove(&client);
        if host == HOST_NONE {
            return Ok(());
        }
        if moment.out.contains(&host) {
            return Err(format!("C2: the new flow of {client:?} went to host {host}, which is out"));
        }
        self.checked.begun += 1;
        self.checked.begun_while_out += u64::from(!moment.out.is_empty());
        if moment.policy.client {
            let key = (client.service, client.address);
            let last = self.begun.insert(key, (host, moment.publication));
            if let Some((other, publication)) = last
                && publication == moment.publication
                && other != host
            {
                return Err(format!("affinity: {client:?} went to host {host}, its other flow to {other}"));
            }
        }
        let number = self.next;
        self.next += 1;
        self.flows.insert(client, Flow { host, stage, number, spoke: moment.now, forged: None });
        Ok(())
    }

    /// A further packet of the client itself, which has gone to `host` (C1); the flow is in `stage` then.
    pub fn spoke(
        &mut self,
        client: Client,
        stage: Stage,
        host: HostId,
        moment: &Moment<'_>,
    ) -> Result<(), String> {
        self.must_be_at_home(&client, host, moment)?;
        if let Some(flow) = self.flows.get_mut(&client) {
            *flow = Flow { stage, spoke: moment.now, forged: None, ..*flow };
        }
        Ok(())
    }

    /// A packet that somebody else sent in the client's name; it must do no harm.
    pub fn forged(
        &mut self,
        client: Client,
        host: HostId,
        ends: bool,
        moment: &Moment<'_>,
    ) -> Result<(), String> {
        self.must_be_at_home(&client, host, moment)?;
        if let Some(flow) = self.flows.get_mut(&client).filter(|_| ends) {
            flow.forged = Some(moment.now);
        }
        Ok(())
    }

    fn must_be_at_home(&mut self, client: &Client, got: HostId, moment: &Moment<'_>) -> Result<(), String> {
        let Some(flow) = self.flows.get(client) else { return Ok(()) };
        if moment.down.contains(&flow.host) {
            return Ok(());
        }
        self.checked.packets += 1;
        if got == flow.host {
            return Ok(());
        }
        Err(format!("C1: {client:?} of host {} was sent to {got}: {flow:?}", flow.host))
    }

    /// A datagram, which has gone to `host`.
    pub fn datagram(&mut self, client: Client, host: HostId, moment: &Moment<'_>) -> Result<(), String> {
        let Some(flow) = self.flow(&client) else {
            return self.began(client, Stage::Udp, host, moment);
        };
        let owner = moment.slot.owner();
        let silent = moment.now.saturating_sub(flow.spoke);
        let may_move = match moment.policy.moves {
            Moves::Never => false,
            Moves::AfterSilenceOf(gap) => silent > gap,
            Moves::AtOnce => true,
        };
        if may_move && owner != HOST_NONE && owner != flow.host {
            if host != owner {
                return Err(format!("{client:?} was to move from host {} to {owner}, not {host}", flow.host));
            }
            self.checked.moved_by_policy += 1;
            return self.began(client, Stage::Udp, host, moment);
        }
        self.spoke(client, Stage::Udp, host, moment)
    }

    /// Handovers that have opened, and those that have ended.
    pub fn note_handovers(&mut self, slots: &BTreeMap<Service, Vec<Slot>>) {
        for (&service, slots) in slots {
            for (number, slot) in (0..).zip(slots) {
                if slot.is_open() {
                    self.opened.entry((service, number)).or_insert(self.next);
                } else {
                    self.opened.remove(&(service, number));
                }
            }
        }
    }

    /// All pins are lost: TCP flows that were there before their slot's handover opened live on (C3).
    pub fn lose(&mut self, slot_of: impl Fn(&Client) -> u32) {
        let opened = &self.opened;
        self.flows.retain(|client, flow| {
            let opened = opened.get(&(client.service, slot_of(client)));
            // The last acknowledgement of a flow whose FIN was forgotten looks like one of a flow that lives.
            let is_over = client.service.is_udp() || flow.stage == Stage::Ended;
            !is_over && opened.is_none_or(|&opened| flow.number < opened)
        });
        for flow in self.flows.values_mut() {
            flow.stage = match flow.stage {
                Stage::Begun { .. } => Stage::Begun { is_again: false },
                stage => stage,
            };
        }
        self.checked.survived_losses += self.flows.len() as u64;
    }

    /// The pin of one flow is lost.
    pub fn lose_one(&mut self, client: &Client) {
        match self.flow(client).map(|flow| flow.stage) {
            Some(Stage::Begun { .. }) => {
                self.flows.entry(*client).and_modify(|flow| flow.stage = Stage::Begun { is_again: false });
            }
            Some(Stage::Ended) => drop(self.flows.remove(client)),
            _ => {}
        }
    }

    /// Nobody knows the way to these hosts any more.
    pub fn forget_hosts(&mut self, hosts: &BTreeSet<HostId>) {
        self.flows.retain(|_, flow| !hosts.contains(&flow.host));
    }

    /// The drain of the host was reported as done (C7).
    pub fn drained(&mut self, host: HostId) -> Result<(), String> {
        self.checked.drained += 1;
        // A flow that has ended by its client's word may be missing its last acknowledgement.
        let mut flows = self.flows.iter().filter(|(_, flow)| flow.stage != Stage::Ended);
        match flows.find(|(_, flow)| flow.host == host) {
            None => Ok(()),
            Some((client, flow)) => {
                Err(format!("C7: host {host} is drained, but {client:?} lives: {flow:?}"))
            }
        }
    }
}
