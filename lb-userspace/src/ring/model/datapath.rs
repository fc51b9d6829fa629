//! The data path's half of the rules: it knows pins, slots as they are published, and the hosts' states, never where a flow really is.

use std::collections::BTreeMap;

use super::super::slots::{OPEN_BIT, PREVIOUS_SHIFT};
use super::super::{HOST_NONE, HostId, SlotSet};
use super::{Broken, T, Tracking};

/// A packet of a TCP flow.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub flow: u64,
    /// The flow's slot, which never changes.
    pub slot: u32,
    /// The first packet of the flow.
    pub syn: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    pub flow: u64,
    pub slot: u32,
    pub host: HostId,
    /// When a packet last refreshed it, in seconds.
    pub seen: u64,
}

/// What the data path knows of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// In use.
    Up,
    /// Its flows go on; no slot names it as its owner.
    Draining,
    /// It fails its checks for now; its flows stay its own.
    Down,
    /// Its drain has ended.
    Gone,
}

/// What a sweep over all pins found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Slots with a live pin on another host than the owner, hosts that are gone aside.
    pub foreign: SlotSet,
    /// Live pins by host; a host without any may be absent.
    pub live: BTreeMap<HostId, u64>,
}

/// Something that forwards packets by published slots.
pub trait Datapath {
    /// Takes over slots, [packed](super::super::Slots::packed), and the states of all hosts; later packets see them whole.
    fn publish(&mut self, words: &[u32], hosts: &BTreeMap<HostId, HostState>);
    /// The host that the packet goes to, [`HOST_NONE`] when it is dropped. A flow of which the first packet was dropped does not begin.
    fn packet(&mut self, packet: Packet, now: u64) -> HostId;
    fn pins(&self) -> Vec<Pin>;
    /// Removes the pin of a flow that has ended, if it has one.
    fn end(&mut self, flow: u64);
    /// Drops a live pin as if the table were full.
    fn evict(&mut self, flow: u64, now: u64);
    /// Loses all pins.
    fn lose(&mut self, now: u64);
    /// Removes the pins that were silent for longer than [`T`], and looks at the others.
    fn sweep(&mut self, now: u64) -> Found;
    /// When a live pin of `host` was last dropped; 0: never.
    fn incomplete_since(&self, host: HostId) -> u64;
    /// The last loss of state; 0: none.
    fn lost_at(&self) -> u64;
}

/// The rules, written down as plainly as can be.
pub struct Plain {
    tracking: Tracking,
    broken: Option<Broken>,
    words: Vec<u32>,
    hosts: BTreeMap<HostId, HostState>,
    pins: BTreeMap<u64, Pin>,
    incomplete: BTreeMap<HostId, u64>,
    lost: u64,
}

impl Plain {
    pub fn new(tracking: Tracking, broken: Option<Broken>) -> Plain {
        Plain {
            tracking,
            broken,
            words: Vec::new(),
            hosts: BTreeMap::new(),
            pins: BTreeMap::new(),
            incomplete: BTreeMap::new(),
            lost: 0,
        }
    }

    fn owner(&self, slot: u32) -> HostId {
        (self.words[slot as usize] & u32::from(HOST_NONE)) as HostId
    }

    fn state(&self, host: HostId) -> HostState {
        self.hosts.get(&host).copied().unwrap_or(HostState::Gone)
    }

    fn pin(&mut self, packet: Packet, host: HostId, now: u64) {
        self.pins.insert(packet.flow, Pin { flow: packet.flow, slot: packet.slot, host, seen: now });
    }
}

impl Datapath for Plain {
    fn publish(&mut self, words: &[u32], hosts: &BTreeMap<HostId, HostState>) {
        self.words = words.to_vec();
        self.hosts.clone_from(hosts);
    }

    fn packet(&mut self, packet: Packet, now: u64) -> HostId {
        let word = self.words[packet.slot as usize];
        let owner = self.owner(packet.slot);
        let previous = (word >> PREVIOUS_SHIFT & u32::from(HOST_NONE)) as HostId;
        let open = word & OPEN_BIT != 0;
        if packet.syn {
            if owner != HOST_NONE {
                self.pin(packet, owner, now);
            }
            return owner;
        }
        if !open && self.tracking == Tracking::Edges {
            return owner;
        }
        let pinned = self.pins.get(&packet.flow).map(|pin| pin.host);
        if let Some(host) = pinned.filter(|&host| self.state(host) != HostState::Gone) {
            self.pin(packet, host, now);
            return host;
        }
        let home = if open && self.state(previous) != HostState::Gone { previous } else { owner };
        if home == HOST_NONE {
            return HOST_NONE;
        }
        if self.state(home) == HostState::Down {
            // Its packets go elsewhere for now, but it stays pinned to its home.
            let home = if self.broken == Some(Broken::PinDown) { owner } else { home };
            self.pin(packet, home, now);
            return owner;
        }
        self.pin(packet, home, now);
        home
    }

    fn pins(&self) -> Vec<Pin> {
        self.pins.values().copied().collect()
    }

    fn end(&mut self, flow: u64) {
        self.pins.remove(&flow);
    }

    fn evict(&mut self, flow: u64, now: u64) {
        if let Some(pin) = self.pins.remove(&flow) {
            self.incomplete.insert(pin.host, now);
        }
    }

    fn lose(&mut self, now: u64) {
        self.pins.clear();
        self.lost = now;
        self.incomplete = self.hosts.keys().map(|&host| (host, now)).collect();
    }

    fn sweep(&mut self, now: u64) -> Found {
        self.pins.retain(|_, pin| now - pin.seen <= T);
        let mut found = Found { foreign: SlotSet::new(self.words.len() as u32), live: BTreeMap::new() };
        for pin in self.pins.values() {
            *found.live.entry(pin.host).or_default() += 1;
            if pin.host != self.owner(pin.slot) && self.state(pin.host) != HostState::Gone {
                found.foreign.insert(pin.slot);
            }
        }
        found
    }

    fn incomplete_since(&self, host: HostId) -> u64 {
        self.incomplete.get(&host).copied().unwrap_or(0)
    }

    fn lost_at(&self) -> u64 {
        self.lost
    }
}
