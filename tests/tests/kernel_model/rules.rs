//! The rules of a single flow, written down once more, for clarity alone: no table that can be full, no words, no code that the
//! data path runs.

use std::collections::{BTreeMap, HashMap};

use lb_common::layout::{HOST_NONE, HostId, HostState, Slot};

use crate::rig::{Client, Protocol};

/// Seconds that a flow may be silent, by phase.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub half_open: u32,
    pub established: u32,
    pub closing: u32,
    pub udp: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The sequence number of its SYN.
    HalfOpen {
        syn: u32,
    },
    Established,
    /// The sequence number after the client's FIN; `None` when a RST closed it.
    Closing {
        fin: Option<u32>,
    },
    Udp,
}

/// What a packet is to its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Syn {
        sequence: u32,
    },
    Ack {
        sequence: u32,
    },
    Fin {
        after: u32,
    },
    Rst,
    /// TCP that says nothing about its flow.
    Stray,
    Datagram,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    pub slot: u32,
    pub host: HostId,
    pub phase: Phase,
    pub seen: u32,
}

/// Where a packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// [`HOST_NONE`]: nowhere.
    pub host: HostId,
    pub reason: &'static str,
    /// A flow began.
    pub began: bool,
}

pub struct Rules {
    pub timeouts: Timeouts,
    pub now: u32,
    pub slots: Vec<Slot>,
    pub hosts: BTreeMap<HostId, HostState>,
    pub pins: HashMap<Client, Pin>,
}

impl Rules {
    pub fn new(timeouts: Timeouts) -> Rules {
        Rules { timeouts, now: 0, slots: Vec::new(), hosts: BTreeMap::new(), pins: HashMap::new() }
    }

    fn is_down(&self, host: HostId) -> bool {
        self.hosts.get(&host) == Some(&HostState::Down)
    }

    /// Where a packet goes of whose flow nothing is known.
    fn home(&self, slot: u32) -> HostId {
        let slot = self.slots[slot as usize];
        let has_ended = self.hosts.get(&slot.previous()) == Some(&HostState::Drained);
        if slot.is_open() && slot.previous() != HOST_NONE && !has_ended {
            slot.previous()
        } else {
            slot.owner()
        }
    }

    fn owner(&self, slot: u32) -> HostId {
        self.slots[slot as usize].owner()
    }

    /// Whether the flow still lives. The client did not close a flow because someone sent a FIN or RST in its name; if only the pin
    /// knows where the flow is, it stays for as long as an open one.
    pub fn is_live(&self, pin: &Pin) -> bool {
        let may_be_silent = match pin.phase {
            Phase::HalfOpen { .. } => self.timeouts.half_open,
            Phase::Closing { .. } if pin.host == self.home(pin.slot) => self.timeouts.closing,
            Phase::Established | Phase::Closing { .. } => self.timeouts.established,
            Phase::Udp => self.timeouts.udp,
        };
        self.now.saturating_sub(pin.seen) <= may_be_silent
    }

    pub fn packet(&mut self, client: Client, slot: u32, signal: Signal) -> Answer {
        match self.pins.get(&client).copied().filter(|pin| self.is_live(pin)) {
            None => self.of_no_flow(client, slot, signal),
            Some(pin) => self.of_flow(client, pin, signal),
        }
    }

    fn of_no_flow(&mut self, client: Client, slot: u32, signal: Signal) -> Answer {
        let phase = match signal {
            Signal::Syn { sequence } => return self.begin(client, slot, Phase::HalfOpen { syn: sequence }),
            Signal::Datagram => return self.begin(client, slot, Phase::Udp),
            Signal::Ack { .. } => Some(Phase::Established),
            Signal::Fin { after } => Some(Phase::Closing { fin: Some(after) }),
            Signal::Rst | Signal::Stray => None,
        };
        let (home, owner) = (self.home(slot), self.owner(slot));
        if home == HOST_NONE {
            return Answer { host: HOST_NONE, reason: "drop_no_host", began: false };
        }
        if let Some(phase) = phase {
            self.pins.insert(client, Pin { slot, host: home, phase, seen: self.now });
        }
        let reason = if home == owner { "forward_owner" } else { "forward_previous" };
        self.to(home, slot, reason)
    }

    fn of_flow(&mut self, client: Client, mut pin: Pin, signal: Signal) -> Answer {
        let mut reason = "forward_pin";
        let mut seen = self.now;
        match (signal, pin.phase) {
            (Signal::Syn { sequence }, Phase::HalfOpen { syn }) if sequence == syn => {
                reason = "forward_syn_again";
            }
            (Signal::Syn { .. }, Phase::Established) => {
                (seen, reason) = (pin.seen, "forward_syn_established");
            }
            (Signal::Syn { sequence }, _) => {
                return self.begin(client, pin.slot, Phase::HalfOpen { syn: sequence });
            }
            (Signal::Fin { after }, _) => pin.phase = Phase::Closing { fin: Some(after) },
            (Signal::Rst, Phase::Closing { .. }) => {}
            (Signal::Rst, _) => pin.phase = Phase::Closing { fin: None },
            (Signal::Ack { sequence }, Phase::Closing { fin }) if fin == Some(sequence) => {}
            (Signal::Ack { .. }, _) => pin.phase = Phase::Established,
            (Signal::Stray, _) => seen = pin.seen,
            (Signal::Datagram, _) => {}
        }
        pin.seen = seen;
        self.pins.insert(client, pin);
        self.to(pin.host, pin.slot, reason)
    }

    /// A new flow goes to the owner; without one nothing changes.
    fn begin(&mut self, client: Client, slot: u32, phase: Phase) -> Answer {
        let host = self.owner(slot);
        if host == HOST_NONE {
            return Answer { host, reason: "drop_no_host", began: false };
        }
        self.pins.insert(client, Pin { slot, host, phase, seen: self.now });
        Answer { host, reason: "forward_new", began: true }
    }

    /// To the host, or while that is down to the slot's owner.
    fn to(&self, host: HostId, slot: u32, reason: &'static str) -> Answer {
        let owner = self.owner(slot);
        match self.is_down(host) {
            false => Answer { host, reason, began: false },
            true if owner == HOST_NONE => Answer { host: owner, reason: "drop_no_host", began: false },
            true => Answer { host: owner, reason: "forward_around_down", began: false },
        }
    }

    pub fn sweep(&mut self) {
        let live: HashMap<Client, Pin> = self
            .pins
            .iter()
            .filter(|(_, pin)| self.is_live(pin))
            .map(|(&client, &pin)| (client, pin))
            .collect();
        self.pins = live;
    }

    /// The client's protocol decides what a pin of it may be.
    pub fn check(&self) {
        for (client, pin) in &self.pins {
            assert_eq!(client.protocol == Protocol::Udp, pin.phase == Phase::Udp, "{client:?} {pin:?}");
        }
    }
}
