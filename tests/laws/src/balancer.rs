//! The balancer's program on the host: the same parser, hash, decision and outer headers as in the kernel, and a plain
//! map in place of the flow table. It has room for everything, and its pins stay until their flow makes them anew: so it
//! is to be compared with a table that is far from full, and that nothing is swept out of.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::decide::{Decision, Pin, PinAction, View, decide, stateless};
use lb_common::encap::{IPV4_IN_IP, IPV6_IN_IP, outer_v4, outer_v6};
use lb_common::flow::{Phase, TIMEOUT_SETS, Timeouts};
use lb_common::hash::{DestinationHash, FlowHash, Key};
use lb_common::layout::{
    Backend, BackendFlags, BackendStats, Control, Egress, HOST_NONE, HostId, HostState, MODE_IPIP,
    PHASES_COUNTED, Policy, Slot, Tuple,
};
use lb_common::parse::{L3, Packet, Segment, Signal};
use lb_common::reason::Reason;

use crate::parse::read;
use crate::site::{BackendTable, Service, Site};

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To the kernel, untouched.
    Pass,
    Drop,
    /// Out by the interface that it came in by.
    Transmit,
}

/// What a packet changes in the counters of a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    pub packets: i64,
    pub bytes: i64,
    pub new_flows: i64,
    /// By [`BackendStats::gauge_of`].
    pub live: [i64; PHASES_COUNTED],
}

/// All that comes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// The frame as it leaves.
    pub bytes: Vec<u8>,
    /// Every reason that is counted; the verdict's own is the last.
    pub reasons: Vec<Reason>,
    /// By service and host; what did not change is left out.
    pub changes: BTreeMap<(u16, HostId), Change>,
}

/// What is fixed for one load of the program.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub key: Key,
    pub ring_size: u32,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// Seconds of silence after which a UDP flow may change its host, by timeout set.
    pub udp_gap: [u32; TIMEOUT_SETS],
}

/// The program with its maps.
#[derive(Debug, Clone)]
pub struct Balancer {
    pub settings: Settings,
    pub site: Arc<Site>,
    /// Seconds.
    pub now: u32,
    pins: BTreeMap<Tuple, Kept>,
}

/// A pin, live or not.
#[derive(Debug, Clone, Copy)]
struct Kept {
    host: HostId,
    phase: Phase,
    /// Timeout set of the service, as of the flow's last packet.
    set: u8,
    seen: u32,
    sequence: u32,
    /// Service whose counters it is booked in.
    service: u16,
}

/// A packet under way.
struct Way<'a> {
    balancer: &'a mut Balancer,
    packet: Packet,
    segment: Segment,
    number: u16,
    service: Service,
    slot: Slot,
    reasons: Vec<Reason>,
    changes: BTreeMap<(u16, HostId), Change>,
}

impl Balancer {
    pub fn new(settings: Settings, site: Arc<Site>, now: u32) -> Self {
        Balancer { settings, site, now, pins: BTreeMap::new() }
    }

    /// Flows that have a pin.
    pub fn flows(&self) -> usize {
        self.pins.len()
    }

    /// Every flow has ended, and the sweep has been here.
    pub fn forget(&mut self) {
        self.pins.clear();
    }

    /// The service that a frame is for.
    pub fn service_of(&self, frame: &[u8]) -> Option<u16> {
        let (Packet { tuple, .. }, _) = read(frame).ok()?;
        self.site.find(&tuple.destination, tuple.transport()).map(|(number, _)| number)
    }

    /// Runs the program on a frame.
    pub fn run(&mut self, frame: &[u8]) -> Outcome {
        let passed = |reason| Outcome {
            verdict: Verdict::Pass,
            bytes: frame.to_vec(),
            reasons: vec![reason],
            changes: BTreeMap::new(),
        };
        let (packet, segment) = match read(frame) {
            Ok(read) => read,
            Err(reason) => return passed(reason),
        };
        let Tuple { destination, .. } = &packet.tuple;
        let Some((number, service)) = self.site.find(destination, packet.tuple.transport()) else {
            return passed(Reason::PassNoService);
        };
        let service = service.clone();
        let slot = self.slot(&packet.tuple, &service);
        let (reasons, changes) = (Vec::new(), BTreeMap::new());
        Way { balancer: self, packet, segment, number, service, slot, reasons, changes }.go(frame)
    }

    fn slot(&self, tuple: &Tuple, service: &Service) -> Slot {
        let Settings { key, ring_size, .. } = self.settings;
        let destination = DestinationHash::of(&tuple.destination, tuple.transport(), key);
        let hash = if service.policy.has(Policy::CLIENT) {
            FlowHash::of_client(tuple, &service.key.place().0, key)
        } else {
            destination.flow(tuple, key)
        };
        self.site.rings[&service.ring][hash.slot(ring_size) as usize]
    }
}

impl Way<'_> {
    fn go(mut self, frame: &[u8]) -> Outcome {
        let host =
            if self.is_untracked() { (self.slot.owner(), Reason::ForwardOwner) } else { self.decide() };
        let (verdict, bytes, reason) = match host {
            (HOST_NONE, reason) => (Verdict::Drop, frame.to_vec(), reason),
            (host, reason) => match self.send(frame, host) {
                Ok(bytes) => {
                    let change = self.change(self.number, host);
                    change.packets += 1;
                    change.bytes += frame.len() as i64;
                    (Verdict::Transmit, bytes, reason)
                }
                Err(reason) => (Verdict::Drop, frame.to_vec(), reason),
            },
        };
        self.reasons.push(reason);
        self.changes.retain(|_, change| *change != Change::default());
        Outcome { verdict, bytes, reasons: self.reasons, changes: self.changes }
    }

    /// A service that tracks edges looks at no pin in a settled slot, but for packets that may begin a flow.
    fn is_untracked(&self) -> bool {
        self.service.policy.has(Policy::EDGES)
            && !matches!(self.packet.signal, Signal::Syn | Signal::Datagram)
            && !self.slot.is_open()
            && self.state(self.slot.owner()) == HostState::Up
    }

    /// Decides, and does to the pin what was decided. Host and reason; [`HOST_NONE`]: it is dropped.
    fn decide(&mut self) -> (HostId, Reason) {
        let home = stateless(self.slot, |host| self.state(host));
        let kept = self.balancer.pins.get(&self.packet.tuple).copied();
        let live = kept.filter(|kept| self.is_live(kept, home));
        let pin = live.map_or(Pin::NONE, |kept| Pin { host: kept.host, phase: kept.phase });
        let decision = decide(self.packet.signal, self.slot, pin, &Asked { way: self, kept: live });
        let state = self.state(decision.host);
        if state == HostState::Gone && decision.host != HOST_NONE {
            self.reasons.push(if pin.is_some() {
                Reason::ViolationPinNamesNobody
            } else {
                Reason::ViolationSlotNamesNobody
            });
            return (HOST_NONE, Reason::DropInternal);
        }
        self.apply(kept, &decision, state);
        (decision.host, decision.reason)
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
                }
                self.book(&made, None, Some(phase));
                self.balancer.pins.insert(self.packet.tuple, made);
                if matches!(phase, Phase::HalfOpen | Phase::Udp) {
                    self.change(self.number, host).new_flows += 1;
                    if state == HostState::Draining {
                        self.reasons.push(Reason::ViolationNewFlowOnDraining);
                    }
                }
            }
            (PinAction::Leave | PinAction::Refresh, _) => {}
        }
    }

    /// The frame as it goes to a host, or why it cannot.
    fn send(&self, frame: &[u8], host: HostId) -> Result<Vec<u8>, Reason> {
        let BackendTable { record: backend, egress } = &self.service.backends[&host];
        if backend.flags & BackendFlags::REACHABLE == 0 {
            return Err(Reason::DropNoNextHop);
        }
        let outer =
            if backend.mode == MODE_IPIP { outer_header(backend, egress, &self.packet)? } else { Vec::new() };
        if usize::from(self.packet.ip_len) + outer.len() > usize::from(backend.mtu) {
            return Err(Reason::DropTooBig);
        }
        let is_v6 = match backend.mode {
            MODE_IPIP => backend.flags & BackendFlags::OUTER_V6 != 0,
            _ => self.packet.is_v6,
        };
        let ether_type: [u8; 2] = if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        Ok([&backend.destination_mac[..], &backend.source_mac, &ether_type, &outer, &frame[L3..]].concat())
    }

    fn state(&self, host: HostId) -> HostState {
        self.service
            .backends
            .get(&host)
            .map_or(HostState::Gone, |backend| Control(backend.record.control).state())
    }

    fn change(&mut self, service: u16, host: HostId) -> &mut Change {
        self.changes.entry((service, host)).or_default()
    }

    /// Books a pin that left a phase and entered another.
    fn book(&mut self, kept: &Kept, from: Option<Phase>, to: Option<Phase>) {
        let change = self.change(kept.service, kept.host);
        for (phase, by) in [(from, -1), (to, 1)] {
            if let Some(gauge) = phase.and_then(BackendStats::gauge_of) {
                change.live[gauge] += by;
            }
        }
    }
}

/// The bytes of an outer IP header.
fn outer_header(backend: &Backend, egress: &Egress, packet: &Packet) -> Result<Vec<u8>, Reason> {
    let inner = if packet.is_v6 { IPV6_IN_IP } else { IPV4_IN_IP };
    if packet.ip_len > backend.mtu {
        // Also keeps the outer header's length from overflowing.
        return Err(Reason::DropTooBig);
    }
    Ok(if backend.flags & BackendFlags::OUTER_V6 != 0 {
        let first = outer_v6(inner, packet.traffic_class, packet.ip_len).to_ne_bytes();
        let [upper, lower] = egress.source.map(u64::to_ne_bytes);
        [&first[..], &upper, &lower, &backend.address].concat()
    } else {
        let [a, b, c, d, ..] = backend.address;
        let (source, destination) = (egress.source[0] as u32, u32::from_ne_bytes([a, b, c, d]));
        outer_v4(source, destination, inner, packet.traffic_class, packet.ip_len)
            .map(u32::to_ne_bytes)
            .concat()
    })
}

/// What the decision asks.
struct Asked<'a, 'b> {
    way: &'a Way<'b>,
    kept: Option<Kept>,
}

impl View for Asked<'_, '_> {
    fn state(&self, host: HostId) -> HostState {
        self.way.state(host)
    }

    fn is_same_syn(&self) -> bool {
        self.kept.is_some_and(|kept| kept.sequence == self.way.segment.sequence)
    }

    fn is_after_fin(&self) -> bool {
        self.is_same_syn()
    }

    fn gives_way(&self) -> bool {
        let Balancer { now, settings, .. } = &*self.way.balancer;
        let policy = self.way.service.policy;
        policy.has(Policy::IMMEDIATE)
            || policy.has(Policy::GAP)
                && self.kept.is_some_and(|kept| now - kept.seen > settings.udp_gap[usize::from(policy.set())])
    }
}
