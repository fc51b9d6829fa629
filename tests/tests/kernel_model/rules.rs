//! The rules of a single flow, written down once more, for clarity alone: no table that can be full, no words, no code that the
//! data path runs.

use std::collections::{BTreeMap, HashMap};

use lb_common::layout::{AtDeadline, Deadline, HOST_NONE, HostId, HostState, Slot};

use crate::client::{Client, Service};

/// Seconds that a flow may be silent, by phase.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub half_open: u32,
    pub established: u32,
    pub closing: u32,
    pub udp: u32,
    pub reset: u32,
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
    /// The deadline of its host's drain has ended it; its client is told with each packet.
    Reset,
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

/// How a service treats its flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Only SYNs are tracked while no handover is open.
    pub edges: bool,
    /// The slot is that of the client's address.
    pub client: bool,
    pub moves: Moves,
}

/// When a UDP flow leaves a host that has lost its slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Moves {
    #[default]
    Never,
    /// With the first datagram after this many seconds of silence have passed.
    AfterSilenceOf(u32),
    AtOnce,
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
    /// A service that is not named has the default.
    pub policies: BTreeMap<Service, Policy>,
    /// Of each service.
    pub slots: BTreeMap<Service, Vec<Slot>>,
    /// Hosts that have backends.
    pub hosts: BTreeMap<HostId, HostState>,
    /// Of hosts that drain.
    pub deadlines: BTreeMap<HostId, Deadline>,
    pub pins: HashMap<Client, Pin>,
}

impl Rules {
    pub fn new(timeouts: Timeouts) -> Rules {
        Rules {
            timeouts,
            now: 0,
            policies: BTreeMap::new(),
            slots: BTreeMap::new(),
            hosts: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            pins: HashMap::new(),
        }
    }

    pub fn policy(&self, service: Service) -> Policy {
        self.policies.get(&service).copied().unwrap_or_default()
    }

    /// Number of the slot of a client's flow.
    pub fn slot_of(&self, client: &Client) -> u32 {
        let ring_size = self.slots[&client.service].len() as u32;
        if self.policy(client.service).client {
            client.slot_of_address(ring_size)
        } else {
            client.hash().slot(ring_size)
        }
    }

    pub fn slot(&self, client: &Client) -> Slot {
        self.slots[&client.service][self.slot_of(client) as usize]
    }

    /// What a host is to a flow. Past its deadline the spread says in which second the flow's turn is: the flows take turns
    /// evenly, by a number of 16 bits each.
    fn state(&self, client: &Client, host: HostId) -> HostState {
        let state = self.hosts.get(&host).copied().unwrap_or(HostState::Gone);
        let deadline = self.deadlines.get(&host).copied().unwrap_or_default();
        let turn = f64::from(client.hash().turn()) / 65_536.0;
        let end = f64::from(deadline.at) + (turn * f64::from(deadline.spread)).floor();
        let is_out = matches!(state, HostState::Draining | HostState::Down);
        match deadline.action {
            AtDeadline::Move if is_out && f64::from(self.now) >= end => HostState::Moves,
            AtDeadline::Reset if is_out && f64::from(self.now) >= end => HostState::Resets,
            _ => state,
        }
    }

    /// Whether the host's deadline has passed for the flow.
    fn is_over(&self, client: &Client, host: HostId) -> bool {
        matches!(self.state(client, host), HostState::Moves | HostState::Resets)
    }

    /// Where a packet goes of whose flow nothing is known, if hosts are in these states.
    fn home(slot: Slot, state: impl Fn(HostId) -> HostState) -> HostId {
        let serves = matches!(state(slot.previous()), HostState::Up | HostState::Draining | HostState::Down);
        if slot.is_open() && serves { slot.previous() } else { slot.owner() }
    }

    /// Whether the flow still lives. The client did not close a flow because someone sent a FIN or RST in its name; if only the pin
    /// knows where the flow is, it stays for as long as an open one.
    pub fn is_live(&self, client: &Client, pin: &Pin) -> bool {
        self.is_live_at(pin, Self::home(self.slot(client), |host| self.state(client, host)))
    }

    fn is_live_at(&self, pin: &Pin, home: HostId) -> bool {
        if self.hosts.get(&pin.host) == Some(&HostState::Lost) {
            return false;
        }
        let may_be_silent = match pin.phase {
            Phase::HalfOpen { .. } => self.timeouts.half_open,
            Phase::Closing { .. } if pin.host == home => self.timeouts.closing,
            Phase::Established | Phase::Closing { .. } => self.timeouts.established,
            Phase::Udp => self.timeouts.udp,
            Phase::Reset => self.timeouts.reset,
        };
        self.now.saturating_sub(pin.seen) <= may_be_silent
    }

    pub fn live_pin(&self, client: &Client) -> Option<Pin> {
        self.pins.get(client).copied().filter(|pin| self.is_live(client, pin))
    }

    pub fn packet(&mut self, client: Client, signal: Signal) -> Answer {
        let slot = self.slot(&client);
        let is_up = self.hosts.get(&slot.owner()) == Some(&HostState::Up);
        let is_edge = matches!(signal, Signal::Syn { .. } | Signal::Datagram);
        if self.policy(client.service).edges && !is_edge && !slot.is_open() && is_up {
            return Answer { host: slot.owner(), reason: "forward_owner", began: false };
        }
        match self.live_pin(&client) {
            None => self.of_no_flow(client, slot, signal),
            Some(pin) if signal == Signal::Datagram && self.gives_way(&client, slot, &pin) => {
                self.begin(client, slot, Phase::Udp)
            }
            Some(pin) => self.of_flow(client, slot, pin, signal),
        }
    }

    /// Whether a UDP flow leaves its host now.
    fn gives_way(&self, client: &Client, slot: Slot, pin: &Pin) -> bool {
        let is_elsewhere = slot.owner() != HOST_NONE && slot.owner() != pin.host;
        is_elsewhere
            && match self.policy(client.service).moves {
                Moves::Never => false,
                Moves::AfterSilenceOf(gap) => self.now.saturating_sub(pin.seen) > gap,
                Moves::AtOnce => true,
            }
    }

    /// Whether the client's FIN, after which `fin` comes, has overtaken the packet, on the way or by the next processor.
    fn is_overtaken(&self, pin: &Pin, sequence: u32, fin: u32) -> bool {
        let before = i64::from(fin) - i64::from(sequence);
        (1..=65_536).contains(&before.rem_euclid(1 << 32)) && self.now.saturating_sub(pin.seen) <= 1
    }

    fn of_no_flow(&mut self, client: Client, slot: Slot, signal: Signal) -> Answer {
        let phase = match signal {
            Signal::Syn { sequence } => return self.begin(client, slot, Phase::HalfOpen { syn: sequence }),
            Signal::Datagram => return self.begin(client, slot, Phase::Udp),
            Signal::Ack { .. } => Some(Phase::Established),
            Signal::Fin { after } => Some(Phase::Closing { fin: Some(after) }),
            Signal::Rst | Signal::Stray => None,
        };
        let (home, owner) = (Self::home(slot, |host| self.state(&client, host)), slot.owner());
        if home == HOST_NONE {
            return Answer { host: HOST_NONE, reason: "drop_no_host", began: false };
        }
        if let Some(phase) = phase {
            self.pin(client, home, phase);
        }
        let reason = if home == owner { "forward_owner" } else { "forward_previous" };
        self.to(&client, home, slot, reason)
    }

    fn of_flow(&mut self, client: Client, slot: Slot, mut pin: Pin, signal: Signal) -> Answer {
        let mut reason = "forward_pin";
        let mut seen = self.now;
        let is_over = self.is_over(&client, pin.host);
        match (signal, pin.phase) {
            // A flow that is to end has no handshake that could be disturbed.
            (Signal::Syn { sequence }, _) if is_over => {
                return self.begin(client, slot, Phase::HalfOpen { syn: sequence });
            }
            (Signal::Rst | Signal::Stray, Phase::Reset) => {
                return self.to(&client, pin.host, slot, reason);
            }
            (Signal::Ack { .. } | Signal::Fin { .. }, Phase::Reset) => return self.reset(client, pin),
            (Signal::Syn { sequence }, Phase::HalfOpen { syn }) if sequence == syn => {
                reason = "forward_syn_again";
            }
            (Signal::Syn { .. }, Phase::Established) => {
                (seen, reason) = (pin.seen, "forward_syn_established");
            }
            (Signal::Syn { sequence }, _) => {
                return self.begin(client, slot, Phase::HalfOpen { syn: sequence });
            }
            (Signal::Fin { after }, _) => pin.phase = Phase::Closing { fin: Some(after) },
            (Signal::Rst, Phase::Closing { .. }) => {}
            (Signal::Rst, _) => pin.phase = Phase::Closing { fin: None },
            (Signal::Ack { sequence }, Phase::Closing { fin }) if fin == Some(sequence) => {}
            (Signal::Ack { sequence }, Phase::Closing { fin: Some(fin) })
                if self.is_overtaken(&pin, sequence, fin) =>
            {
                return self.to(&client, pin.host, slot, reason);
            }
            (Signal::Ack { .. }, _) => pin.phase = Phase::Established,
            (Signal::Stray, _) => seen = pin.seen,
            (Signal::Datagram, _) => {}
        }
        // The client's own end, and what says nothing, go where they would have gone.
        let may_end = !matches!(signal, Signal::Rst | Signal::Stray);
        let resets = self.state(&client, pin.host) == HostState::Resets && signal != Signal::Datagram;
        if may_end && resets {
            return self.reset(client, pin);
        }
        if may_end && is_over && slot.owner() != HOST_NONE && slot.owner() != pin.host {
            self.pin(client, slot.owner(), pin.phase);
            let began = signal == Signal::Datagram;
            return Answer { host: slot.owner(), reason: "forward_moved", began };
        }
        pin.seen = seen;
        self.pins.insert(client, pin);
        self.to(&client, pin.host, slot, reason)
    }

    /// The client is told that its flow has ended.
    fn reset(&mut self, client: Client, pin: Pin) -> Answer {
        self.pins.insert(client, Pin { phase: Phase::Reset, seen: self.now, ..pin });
        Answer { host: HOST_NONE, reason: "answer_reset", began: false }
    }

    /// A new flow goes to the owner; without one its client is told so, and nothing changes.
    fn begin(&mut self, client: Client, slot: Slot, phase: Phase) -> Answer {
        let host = slot.owner();
        if host == HOST_NONE {
            return Answer { host, reason: "answer_reject", began: false };
        }
        self.pin(client, host, phase);
        Answer { host, reason: "forward_new", began: true }
    }

    fn pin(&mut self, client: Client, host: HostId, phase: Phase) {
        let slot = self.slot_of(&client);
        self.pins.insert(client, Pin { slot, host, phase, seen: self.now });
    }

    /// To the host, or while that is down to the slot's owner.
    fn to(&self, client: &Client, host: HostId, slot: Slot, reason: &'static str) -> Answer {
        let owner = slot.owner();
        match self.state(client, host) == HostState::Down {
            false => Answer { host, reason, began: false },
            true if owner == HOST_NONE => Answer { host: owner, reason: "drop_no_host", began: false },
            true => Answer { host: owner, reason: "forward_around_down", began: false },
        }
    }

    /// Deadlines are the packets' to keep.
    pub fn sweep(&mut self) {
        let state = |host| self.hosts.get(&host).copied().unwrap_or(HostState::Gone);
        let live: HashMap<Client, Pin> = self
            .pins
            .iter()
            .filter(|(client, pin)| self.is_live_at(pin, Self::home(self.slot(client), state)))
            .map(|(&client, &pin)| (client, pin))
            .collect();
        self.pins = live;
    }

    /// The client's service decides what a pin of it may be.
    pub fn check(&self) {
        for (client, pin) in &self.pins {
            assert_eq!(client.service.is_udp(), pin.phase == Phase::Udp, "{client:?} {pin:?}");
        }
    }
}
