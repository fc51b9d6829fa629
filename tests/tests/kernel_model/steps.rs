//! Random steps, each done by the data path in the kernel and by the plain rules: after each both agree about where the packet went and
//! why, about every pin, and about all gauges.

use std::collections::{BTreeMap, HashMap};

use lb_common::flow;
use lb_common::layout::{self, AtDeadline, Deadline, HOST_NONE, HostId, Slot};
use lb_common::reason::Class;
use lb_userspace::dataplane::PairCounters;
use lb_userspace::ring::model::{Control, Datapath, Found, HostState, Packet, Pin, T, Tracking};
use lb_userspace::ring::{Member, SHARE_FULL};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::agree;
use crate::client::{Client, Flags, Service, any_flags};
use crate::rig::Rig;
use crate::rules::{Answer, Phase, Policy, Rules, Signal, Timeouts};

pub const RING: u32 = 11;
pub const HOSTS: u16 = 5;
const START: u32 = 1_000_000;
pub const TIMEOUTS: Timeouts =
    Timeouts { half_open: 12, established: T as u32, closing: 6, udp: 20, reset: 9 };

/// The same, by the number of the phase.
pub fn timeouts() -> [u32; 8] {
    let mut timeouts = [0; 8];
    timeouts[flow::Phase::HalfOpen as usize] = TIMEOUTS.half_open;
    timeouts[flow::Phase::Established as usize] = TIMEOUTS.established;
    timeouts[flow::Phase::Closing as usize] = TIMEOUTS.closing;
    timeouts[flow::Phase::Udp as usize] = TIMEOUTS.udp;
    timeouts[flow::Phase::Reset as usize] = TIMEOUTS.reset;
    timeouts
}

/// Hosts are numbered from 0 here; `client` and `sequence` are numbers in a short list, so that steps meet.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Tcp {
        client: usize,
        flags: Flags,
        sequence: usize,
        payload: bool,
    },
    Udp {
        client: usize,
    },
    Wait(u32),
    /// The clock goes back: a CPU may read it a moment later than another one.
    Back(u32),
    Drain(u16),
    /// A drain with a deadline, or another deadline for the drain that the host has: so many seconds from now.
    DrainUntil(u16, Deadline),
    Undrain(u16),
    /// The deadline of a drain has passed.
    EndDrain(u16),
    Down(u16),
    Up(u16),
    Share(u16, u16),
    Weight(u16, u16),
    Sweep,
    Lose,
    Reboot,
}

pub const TCP_CLIENTS: usize = 14;
pub const UDP_CLIENTS: usize = 5;
const SEQUENCES: [u32; 5] = [1000, 1001, 1002, 80_000, u32::MAX];

/// Any steps; or those in which hosts with flows are drained, and soon have to part with them.
pub fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let ends = (vec(any_packet(), 20..40), vec(any_deadline(), 2..5), vec(any_step(), 10..80));
    prop_oneof![
        vec(any_step(), 1..120),
        ends.prop_map(|(begin, drains, then)| [begin, drains, then].concat()),
    ]
}

fn any_packet() -> impl Strategy<Value = Step> {
    let tcp = (0..TCP_CLIENTS, any_flags(), 0..SEQUENCES.len(), any::<bool>())
        .prop_map(|(client, flags, sequence, payload)| Step::Tcp { client, flags, sequence, payload });
    prop_oneof![
        5 => tcp,
        1 => (0..UDP_CLIENTS).prop_map(|client| Step::Udp { client }),
    ]
}

fn any_deadline() -> impl Strategy<Value = Step> {
    let at = prop_oneof![Just(0u32), Just(1), Just(6), Just(20)];
    let action = prop_oneof![
        1 => Just(AtDeadline::Keep),
        2 => Just(AtDeadline::Move),
        3 => Just(AtDeadline::Reset),
    ];
    let spread = prop_oneof![Just(0u16), Just(7), Just(40)];
    (0..HOSTS, at, action, spread)
        .prop_map(|(host, at, action, spread)| Step::DrainUntil(host, Deadline { at, action, spread }))
}

fn any_step() -> impl Strategy<Value = Step> {
    let host = || 0..HOSTS;
    let seconds = prop_oneof![Just(1u32), Just(3), Just(6), Just(7), Just(12), Just(13), Just(20), Just(31)];
    let share = prop_oneof![Just(1u16), Just(64), Just(128), Just(SHARE_FULL)];
    prop_oneof![
        72 => any_packet(),
        14 => seconds.prop_map(Step::Wait),
        2 => (1u32..9).prop_map(Step::Back),
        4 => host().prop_map(Step::Drain),
        2 => any_deadline(),
        3 => host().prop_map(Step::Undrain),
        1 => host().prop_map(Step::EndDrain),
        3 => host().prop_map(Step::Down),
        3 => host().prop_map(Step::Up),
        2 => (host(), share).prop_map(|(host, share)| Step::Share(host, share)),
        1 => (host(), 1u16..4).prop_map(|(host, weight)| Step::Weight(host, weight)),
        6 => Just(Step::Sweep),
        1 => Just(Step::Lose),
        1 => Just(Step::Reboot),
    ]
}

/// What a host's counters say: packets sent there, flows begun there, moved away and reset; SYNs that came again, and flows that clients
/// have ended by a RST.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sent {
    packets: u64,
    new_flows: u64,
    moved: u64,
    reset: u64,
    syns_again: u64,
    client_resets: u64,
}

/// The data path and the rules side by side.
pub struct Both<'r> {
    rig: &'r mut Rig,
    rules: Rules,
    clients: HashMap<lb_common::layout::Tuple, Client>,
    sent: BTreeMap<HostId, Sent>,
    reasons: Reasons,
}

impl Both<'_> {
    fn at(&mut self, now: u32) {
        self.rules.now = now;
        self.rig.plane.set_clock(now);
    }

    fn send(
        &mut self,
        client: Client,
        packet: &sluice_tests::packets::Packet,
        signal: Signal,
    ) -> Result<(), String> {
        self.clients.insert(client.tuple(), client);
        let before = self.rules.pins.get(&client).copied();
        let live = self.rules.live_pin(&client);
        let answer = self.rules.packet(client, signal);
        let got = self.rig.send(packet);
        let Answer { host, reason, began } = answer;
        if host != HOST_NONE {
            let sent = self.sent.entry(host).or_default();
            sent.packets += 1;
            sent.new_flows += u64::from(began);
        }
        if let Some(pin) = before {
            let sent = self.sent.entry(pin.host).or_default();
            sent.moved += u64::from(reason == "forward_moved");
            // Once for a flow, however often its client is told.
            sent.reset += u64::from(reason == "answer_reset" && pin.phase != Phase::Reset);
        }
        if let Some(pin) = live {
            let sent = self.sent.entry(pin.host).or_default();
            // It is the pin's host that has not answered, or that the client has left, also while another stands in for it.
            let after = self.rules.pins.get(&client).map(|after| after.phase);
            let waits = matches!(pin.phase, Phase::HalfOpen { .. }) && after == Some(pin.phase);
            let asks = matches!(signal, Signal::Syn { .. });
            sent.syns_again += u64::from(asks && waits && !began && reason != "answer_reject");
            let was_open = matches!(pin.phase, Phase::HalfOpen { .. } | Phase::Established);
            let closes = after == Some(Phase::Closing { fin: None });
            sent.client_resets += u64::from(signal == Signal::Rst && was_open && closes);
        }
        *self.reasons.entry(reason).or_default() += 1;
        if got != host {
            let slot = self.rules.slot(&client);
            return Err(format!(
                "{signal:?} of {client:?} went to {got}, by the rules to {host} ({reason}); pin before {before:?}, \
                 owner {}, previous {}",
                slot.owner(),
                slot.previous(),
            ));
        }
        Ok(())
    }

    /// Everything that can be compared between packets.
    fn compare(&mut self) -> Result<(), String> {
        self.rig.check_gauges();
        agree::on_pins(&mut self.rules, &self.clients, self.rig.entries(), |host| host)?;
        for host in self.rig.hosts() {
            let live = agree::gauges(&self.rules, host);
            if self.rig.gauges(host).map(u64::try_from) != live.map(Ok) {
                return Err(format!(
                    "gauges of host {host}: {:?}, by the rules {live:?}",
                    self.rig.gauges(host)
                ));
            }
            let counted = self.rig.counters(host);
            let sent = self.sent.get(&host).copied().unwrap_or_default();
            let PairCounters { packets, new_flows, moved, reset, syns_again, client_resets, .. } = counted;
            if (Sent { packets, new_flows, moved, reset, syns_again, client_resets }) != sent {
                return Err(format!("counters of host {host}: {counted:?}, by the rules {sent:?}"));
            }
        }
        let counted =
            [Class::Pass, Class::Forward, Class::Answer, Class::Drop, Class::Note, Class::Violation];
        let counted: BTreeMap<&str, u64> = counted
            .into_iter()
            .flat_map(|class| self.rig.counted(class))
            .map(|(reason, count)| (reason.name(), count))
            .collect();
        if counted != self.reasons {
            return Err(format!("reasons: {counted:?}, by the rules {:?}", self.reasons));
        }
        Ok(())
    }
}

impl Datapath for Both<'_> {
    fn publish(&mut self, words: &[u32], hosts: &BTreeMap<HostId, HostState>) {
        let state = |state: &HostState| match state {
            HostState::Up => layout::HostState::Up,
            HostState::Draining => layout::HostState::Draining,
            HostState::Down => layout::HostState::Down,
            HostState::Gone => layout::HostState::Drained,
        };
        self.rules.hosts = hosts.iter().map(|(&host, of)| (host, state(of))).collect();
        let slots: Vec<Slot> = words.iter().map(|&word| Slot(word)).collect();
        self.rules.slots = Service::ALL.map(|service| (service, slots.clone())).into();
        self.rig.deadlines.clone_from(&self.rules.deadlines);
        self.rig.publish(words, &self.rules.hosts);
    }

    fn packet(&mut self, _: Packet, _: u64) -> HostId {
        unreachable!("steps send packets themselves")
    }

    fn pins(&self) -> Vec<Pin> {
        unreachable!("nothing is evicted here")
    }

    fn end(&mut self, _: u64) {}

    fn evict(&mut self, _: u64, _: u64) {}

    fn lose(&mut self, now: u64) {
        self.rig.lose(now);
        self.rules.pins.clear();
    }

    fn sweep(&mut self, _: u64) -> Found {
        self.rules.sweep();
        let (swept, foreign) = self.rig.sweep();
        let live = self.rig.hosts().into_iter().map(|host| (host, swept.counted(host))).collect();
        Found { foreign, live }
    }

    fn incomplete_since(&self, host: HostId) -> u64 {
        self.rig.plane.incomplete_since(host)
    }

    fn lost_at(&self) -> u64 {
        self.rig.plane.lost_at()
    }
}

/// The client with this number, the same in every run.
fn client(number: usize, service: Service) -> Client {
    Client { address: 0x0a01_0000 + number as u32, port: 40_000, service }
}

/// Packets by reason.
pub type Reasons = BTreeMap<&'static str, u64>;

/// Does the steps: why packets went where they went, or what the data path and the rules disagree about.
pub fn run(rig: &mut Rig, policies: &BTreeMap<Service, Policy>, steps: &[Step]) -> Result<Reasons, String> {
    rig.reset();
    rig.policies.clone_from(policies);
    let mut rules = Rules::new(TIMEOUTS);
    rules.policies.clone_from(policies);
    let mut both =
        Both { rig, rules, clients: HashMap::new(), sent: BTreeMap::new(), reasons: BTreeMap::new() };
    let member = |n| Member { id: n + 1, name: format!("host-{n}"), weight: 1 + n % 2, share: SHARE_FULL };
    let members = (0..HOSTS).map(member).collect();
    // The daemon's clock never goes back.
    let (mut now, mut latest) = (START, START);
    both.at(now);
    let mut control = Control::new([7; 16], RING, members, Tracking::Full, None, u64::from(now));
    control.publish(&mut both, u64::from(now));
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Wait(seconds) => now += seconds,
            Step::Back(seconds) => now -= seconds,
            _ => {}
        }
        both.at(now);
        latest = latest.max(now);
        let done = apply(&mut both, &mut control, *step, u64::from(latest)).and_then(|()| both.compare());
        done.map_err(|error| format!("step {number}, {step:?}: {error}"))?;
    }
    Ok(both.reasons)
}

fn apply(both: &mut Both<'_>, control: &mut Control, step: Step, now: u64) -> Result<(), String> {
    match step {
        Step::Wait(_) | Step::Back(_) => return Ok(()),
        Step::Tcp { client: number, flags, sequence, payload } => {
            let client = client(number, Service::Web);
            let (packet, signal) = client.segment(flags, SEQUENCES[sequence], payload);
            return both.send(client, &packet, signal);
        }
        Step::Udp { client: number } => {
            let client = client(TCP_CLIENTS + number, Service::Dns);
            return both.send(client, &client.packet().payload(b"?"), Signal::Datagram);
        }
        Step::Sweep => {
            control.sweep(both, now);
            return Ok(());
        }
        Step::Lose => {
            both.lose(now);
            return Ok(());
        }
        Step::Reboot => {
            both.lose(now);
            return match control.reboot(both, now) {
                Ok(true) => Ok(()),
                Ok(false) => Err("the replayed slots are others".to_owned()),
                Err(error) => Err(error.to_string()),
            };
        }
        Step::Drain(host) if !control.gone.contains(&(host + 1)) => {
            control.out.insert(host + 1);
        }
        Step::DrainUntil(host, deadline) if !control.gone.contains(&(host + 1)) => {
            control.out.insert(host + 1);
            let at = now as u32 + deadline.at;
            both.rules.deadlines.insert(host + 1, Deadline { at, ..deadline });
        }
        Step::Undrain(host) => {
            both.rules.deadlines.remove(&(host + 1));
            control.out.remove(&(host + 1));
            control.gone.remove(&(host + 1));
        }
        Step::EndDrain(host) if control.out.contains(&(host + 1)) => control.end_drain(host + 1),
        Step::Drain(_) | Step::DrainUntil(..) | Step::EndDrain(_) => return Ok(()),
        Step::Down(host) => {
            control.down.insert(host + 1);
        }
        Step::Up(host) => {
            control.down.remove(&(host + 1));
        }
        Step::Share(host, share) => control.members[usize::from(host)].share = share,
        Step::Weight(host, weight) => control.members[usize::from(host)].weight = weight,
    }
    control.publish(both, now);
    Ok(())
}
