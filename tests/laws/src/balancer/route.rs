//! From a packet and its service to a host: slot, pin and decision.

use lb_common::decide::{Decision, Pin, PinAction, View, decide, stateless};
use lb_common::flow::Phase;
use lb_common::hash::FlowHash;
use lb_common::layout::{BackendStats, Control, HOST_NONE, HostId, HostState, Policy, Slot, VipFlags};
use lb_common::parse::{Packet, Segment, Signal};
use lb_common::reason::Reason;

use super::{Balancer, Books, Found, Kept, Settings};
use crate::site::Service;

/// A packet on its way to a host.
pub(super) struct Route<'a> {
    balancer: &'a mut Balancer,
    books: &'a mut Books,
    packet: &'a Packet,
    segment: Segment,
    number: u16,
    service: &'a Service,
    slot: Slot,
    /// Of the flow itself.
    hash: FlowHash,
}

impl<'a> Route<'a> {
    pub fn new(
        balancer: &'a mut Balancer,
        books: &'a mut Books,
        packet: &'a Packet,
        segment: Segment,
        (number, service, key): Found<'a>,
    ) -> Self {
        let Settings { key: hash_key, ring_size, .. } = balancer.settings;
        let hash = FlowHash::of(&packet.tuple, hash_key);
        let of_slot = if service.policy.has(Policy::CLIENT) {
            FlowHash::of_client(&packet.tuple, &key.place().0, hash_key)
        } else {
            hash
        };
        let slot = balancer.site.rings[&service.ring][of_slot.slot(ring_size) as usize];
        Route { balancer, books, packet, segment, number, service, slot, hash }
    }

    /// Where it goes, and why; `Err` is why it is dropped.
    pub fn go(mut self) -> Result<(HostId, Reason), Reason> {
        if self.is_untracked() { Ok((self.slot.owner(), Reason::ForwardOwner)) } else { self.decide() }
    }

    /// A service that tracks edges looks at no pin in a settled slot, but for packets that may begin a flow.
    fn is_untracked(&self) -> bool {
        self.service.policy.has(Policy::EDGES)
            && !matches!(self.packet.signal, Signal::Syn | Signal::Datagram)
            && !self.slot.is_open()
            && self.state(self.slot.owner()) == HostState::Up
    }

    /// Decides, and does to the pin what was decided.
    fn decide(&mut self) -> Result<(HostId, Reason), Reason> {
        let home = stateless(self.slot, |host| self.state(host));
        let kept = self.balancer.pins.get(&self.packet.tuple).copied();
        let live = kept.filter(|kept| self.is_live(kept, home));
        let pin = live.map_or(Pin::NONE, |kept| Pin { host: kept.host, phase: kept.phase });
        if live.is_none() && self.balancer.site.vip(&self.packet.tuple.source) & VipFlags::ALONE != 0 {
            return Err(Reason::DropVipSource);
        }
        let decision = decide(self.packet.signal, self.slot, pin, &Asked { route: self, kept: live });
        let state = self.state(decision.host);
        if state == HostState::Gone && decision.host != HOST_NONE {
            self.books.reasons.push(if pin.is_some() {
                Reason::ViolationPinNamesNobody
            } else {
                Reason::ViolationSlotNamesNobody
            });
            return Err(Reason::DropInternal);
        }
        self.apply(kept, &decision, state);
        if decision.host == HOST_NONE { Err(decision.reason) } else { Ok((decision.host, decision.reason)) }
    }

    /// A closing pin that alone keeps its flow at its host stays for as long as an established one.
    fn is_live(&self, kept: &Kept, home: HostId) -> bool {
        if self.state(kept.host) == HostState::Lost {
            return false;
        }
        let Settings { timeouts, .. } = self.balancer.settings;
        let phase =
            if kept.phase == Phase::Closing && kept.host != home { Phase::Established } else { kept.phase };
        let limit = |phase: Phase| timeouts[usize::from(kept.set) * 8 + phase as usize];
        self.balancer.now - kept.seen <= limit(phase).max(limit(kept.phase))
    }

    fn apply(&mut self, kept: Option<Kept>, decision: &Decision, state: HostState) {
        let Segment { sequence, sequence_after } = self.segment;
        let (now, phase, set) = (self.balancer.now, decision.pin.phase, self.service.policy.set());
        match (decision.pin.action, kept) {
            (PinAction::Refresh, Some(kept)) => {
                let sequence = match self.packet.signal {
                    Signal::Fin if phase == Phase::Closing => sequence_after,
                    Signal::Rst if phase == Phase::Closing && kept.phase != Phase::Closing => {
                        sequence ^ 1 << 31
                    }
                    _ if phase == Phase::Reset => {
                        let is_new = kept.phase != Phase::Reset;
                        self.books.change(kept.service, kept.host).reset += i64::from(is_new);
                        sequence_after
                    }
                    _ => kept.sequence,
                };
                self.book(&kept, Some(kept.phase), Some(phase));
                self.balancer
                    .pins
                    .insert(self.packet.tuple, Kept { phase, set, seen: now, sequence, ..kept });
            }
            (PinAction::Make, kept) => {
                let host = decision.pin.host;
                // Nobody is there to be pinned to.
                if self.state(host) == HostState::Gone {
                    return;
                }
                let sequence = if self.packet.signal == Signal::Fin { sequence_after } else { sequence };
                let made = Kept { host, phase, set, seen: now, sequence, service: self.number };
                if let Some(kept) = kept {
                    self.book(&kept, Some(kept.phase), None);
                    if decision.reason == Reason::ForwardMoved {
                        self.books.change(kept.service, kept.host).moved += 1;
                    }
                }
                self.book(&made, None, Some(phase));
                self.balancer.pins.insert(self.packet.tuple, made);
                if matches!(phase, Phase::HalfOpen | Phase::Udp) {
                    self.books.change(self.number, host).new_flows += 1;
                    if state == HostState::Draining {
                        self.books.reasons.push(Reason::ViolationNewFlowOnDraining);
                    }
                }
            }
            (PinAction::Leave | PinAction::Refresh, _) => {}
        }
    }

    fn state(&self, host: HostId) -> HostState {
        self.service.backends.get(&host).map_or(HostState::Gone, |backend| {
            Control(backend.record.control).state_for(self.balancer.now, self.hash.turn())
        })
    }

    /// Books a pin that left a phase and entered another.
    fn book(&mut self, kept: &Kept, from: Option<Phase>, to: Option<Phase>) {
        let change = self.books.change(kept.service, kept.host);
        for (phase, by) in [(from, -1), (to, 1)] {
            if let Some(gauge) = phase.and_then(BackendStats::gauge_of) {
                change.live[gauge] += by;
            }
        }
    }
}

/// What the decision asks.
struct Asked<'a, 'b> {
    route: &'a Route<'b>,
    kept: Option<Kept>,
}

impl View for Asked<'_, '_> {
    fn state(&self, host: HostId) -> HostState {
        self.route.state(host)
    }

    fn is_same_syn(&self) -> bool {
        self.kept.is_some_and(|kept| kept.sequence == self.route.segment.sequence)
    }

    fn past_fin(&self) -> u32 {
        self.kept.map_or(1 << 31, |kept| self.route.segment.sequence.wrapping_sub(kept.sequence))
    }

    fn is_recent(&self) -> bool {
        self.kept.is_some_and(|kept| self.route.balancer.now - kept.seen <= 1)
    }

    fn gives_way(&self) -> bool {
        let Balancer { now, settings, .. } = &*self.route.balancer;
        let policy = self.route.service.policy;
        policy.has(Policy::IMMEDIATE)
            || policy.has(Policy::GAP)
                && self.kept.is_some_and(|kept| now - kept.seen > settings.udp_gap[usize::from(policy.set())])
    }
}
