//! What the fixtures share: four services on three hosts, flows, and the check of a packet.

use std::net::SocketAddr;

use lb_common::flow::Phase;
use lb_common::icmp::Problem;
use lb_common::layout::{HostId, Slot, Tuple};
use lb_common::table::LIMBO;
use lb_laws::wire::{error, hop, reset, tags, untagged};
use lb_userspace::dataplane::{BackendTable, Sizes};
use sluice_tests::packets::Packet;
pub use sluice_tests::rig::{BEGAN, BEGAN_UDP, NOTHING, phases};
use sluice_tests::rig::{Delta, PairDelta, Pin, Rig, Setup, XDP_DROP, XDP_PASS, XDP_TX, l2, timeout, tuple};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// A packet and all that is to come of it.
pub struct Fixture {
    pub description: String,
    pub input: Vec<u8>,
    /// `XDP_…`
    pub verdict: u32,
    pub output: Vec<u8>,
    /// All counters that change.
    pub counters: Delta,
}

impl Fixture {
    /// To the kernel, untouched.
    pub fn pass(description: impl Into<String>, input: Vec<u8>, reason: &'static str) -> Self {
        let output = input.clone();
        Fixture {
            description: description.into(),
            input,
            verdict: XDP_PASS,
            output,
            counters: Delta::of([reason]),
        }
    }

    /// Dropped, untouched.
    pub fn drop(description: impl Into<String>, input: Vec<u8>, counters: Delta) -> Self {
        let output = input.clone();
        Fixture { description: description.into(), input, verdict: XDP_DROP, output, counters }
    }

    /// Back to its sender, as an answer. `flow` is what else it changes at host 1 of the service.
    pub fn answer(
        description: impl Into<String>,
        input: Vec<u8>,
        output: Vec<u8>,
        reason: &'static str,
        service: u16,
        flow: PairDelta,
    ) -> Self {
        let counters = Delta::of([reason]).pair(service, 1, flow);
        Fixture { description: description.into(), input, verdict: XDP_TX, output, counters }
    }

    /// Back out with other bytes. What `flow` changes is beside the packet's own counts.
    pub fn transmit(
        description: impl Into<String>,
        input: Vec<u8>,
        output: Vec<u8>,
        (reason, service, host): (&'static str, u16, HostId),
        flow: PairDelta,
    ) -> Self {
        let counters =
            Delta::of([reason]).pair(service, host, PairDelta::packet(input.len())).pair(service, host, flow);
        Fixture { description: description.into(), input, verdict: XDP_TX, output, counters }
    }
}

/// Four services on hosts 1 to 3: 0 and 1 are TCP and UDP over IPv4, 2 and 3 over IPv6. All go by ring 0.
pub struct Bench {
    pub rig: Rig,
    pub setup: Setup,
}

impl Bench {
    /// All slots are settled on host 1; backends are next door.
    pub fn new() -> Self {
        Self::with(Rig::small(), l2)
    }

    pub fn with<B: Into<BackendTable>>(sizes: Sizes, backend: impl Fn(u8) -> B) -> Self {
        Self::on(Rig::borrow(Rig::options(sizes)), backend)
    }

    pub fn on<B: Into<BackendTable>>(rig: Rig, backend: impl Fn(u8) -> B) -> Self {
        let mut setup = Setup::new(&rig);
        for service in 0..4 {
            let flow = Flow::of(service, 0);
            setup.service(service, flow.to, flow.protocol, 0);
            for host in 1..=3 {
                setup.backend(service, host.into(), backend(host));
            }
        }
        setup.ring(0, Slot::settled(1));
        let mut bench = Bench { rig, setup };
        bench.publish();
        bench
    }

    /// Publishes the setup as it is now.
    pub fn publish(&mut self) {
        self.rig.publish(&self.setup);
    }

    /// Publishes another slot in all places.
    pub fn slots(&mut self, slot: Slot) {
        self.setup.ring(0, slot);
        self.publish();
    }

    /// Runs the fixture's packet; everything is compared.
    #[track_caller]
    pub fn check(&mut self, fixture: &Fixture) {
        let Fixture { description, input, verdict, output, counters } = fixture;
        let answer = self.rig.run(input);
        assert_eq!(answer.delta, *counters, "counters, {description}");
        assert_eq!(answer.verdict, *verdict, "verdict, {description}");
        assert_eq!(answer.bytes, *output, "bytes, {description}");
        self.rig.audit();
    }

    /// Checks that a packet goes to the next door backend on `host` for this reason, and what its flow changes there.
    #[track_caller]
    pub fn sent(&mut self, frame: Vec<u8>, reason: &'static str, host: HostId, flow: PairDelta) {
        self.sent_with(frame, reason, host, flow, Delta::default());
    }

    /// As [`Self::sent`], with changes elsewhere.
    #[track_caller]
    pub fn sent_with(
        &mut self,
        frame: Vec<u8>,
        reason: &'static str,
        host: HostId,
        flow: PairDelta,
        elsewhere: Delta,
    ) {
        let output = to_l2(&frame, host as u8);
        let service = service_of(&untagged(&frame));
        // Tags are not among the bytes that are counted.
        let flow = PairDelta { bytes: flow.bytes - tags(&frame) as i64, ..flow };
        let mut fixture = Fixture::transmit(reason, frame, output, (reason, service, host), flow);
        for ((service, host), change) in elsewhere.pairs {
            fixture.counters = fixture.counters.pair(service, host, change);
        }
        fixture.counters.reasons.extend(elsewhere.reasons);
        self.check(&fixture);
    }

    /// Checks that a packet is dropped with these counts.
    #[track_caller]
    pub fn dropped(&mut self, frame: Vec<u8>, counters: Delta) {
        self.check(&Fixture::drop("drop", frame, counters));
    }

    /// Checks that the client of a new flow is told that nobody is there.
    #[track_caller]
    pub fn rejected(&mut self, frame: Vec<u8>) {
        let vip = if frame[12] == 0x86 { Flow::of(2, 0).to.ip() } else { Flow::of(0, 0).to.ip() };
        let output = match service_of(&frame) {
            0 => reset(&frame, 20),
            2 => reset(&frame, 40),
            _ => error(&frame, vip, Problem::PortUnreachable),
        };
        let description = "nobody is there".to_owned();
        let counters = Delta::of(["answer_reject"]);
        self.check(&Fixture { description, input: frame, verdict: XDP_TX, output, counters });
    }

    pub fn pin(&self, flow: Flow) -> Option<Pin> {
        self.rig.pin(&flow.tuple())
    }

    /// Checks host and phase of the flow's pin, and when it was seen last.
    #[track_caller]
    pub fn pinned(&self, flow: Flow, host: HostId, phase: Phase, idle: u32) {
        let pin = self.pin(flow).expect("the flow has a pin");
        let word = pin.word;
        assert_eq!((word.host(), word.phase(), word.idle(self.rig.now())), (host, phase, idle));
        assert_eq!(pin.cold.stats, Setup::stats(flow.service(), host));
        assert_eq!(pin.cold.service(), flow.service());
    }

    #[track_caller]
    pub fn not_pinned(&self, flow: Flow) {
        assert_eq!(self.pin(flow), None);
    }

    /// Lets every pin age past its timeout and sweeps: nothing is left then, in any book.
    #[track_caller]
    pub fn ends_empty(mut self) {
        // The longest of any timeout set.
        self.rig.pass(2 * timeout::ESTABLISHED + LIMBO + 1);
        let pins = self.rig.pins().len() as u64;
        let swept = self.rig.sweep();
        assert_eq!((swept.expired, swept.overflow, swept.total()), (pins, 0, 0));
        assert_eq!(self.rig.pins(), []);
        assert!(self.rig.marks().is_empty());
        assert!(self.rig.counts().pairs.values().all(|counters| counters.live == [0; 4]));
    }
}

/// A flow of one of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub protocol: u8,
}

impl Flow {
    /// The flow with this number of a service.
    pub fn of(service: u16, number: u32) -> Self {
        let (protocol, port) = if service.is_multiple_of(2) { (TCP, 80) } else { (UDP, 53) };
        let source_port = 1024 + (number % 50_000) as u16;
        let network = number / 50_000;
        let (from, to) = if service < 2 {
            (format!("10.0.{}.1:{source_port}", network), format!("198.51.100.1:{port}"))
        } else {
            (format!("[2001:db8:c::{network:x}]:{source_port}"), format!("[2001:db8:f::1]:{port}"))
        };
        Flow { from: from.parse().unwrap(), to: to.parse().unwrap(), protocol }
    }

    pub fn service(&self) -> u16 {
        u16::from(self.protocol == UDP) + 2 * u16::from(self.to.is_ipv6())
    }

    pub fn tuple(&self) -> Tuple {
        tuple(self.from, self.to, self.protocol)
    }

    pub fn tcp(&self) -> Packet {
        assert_eq!(self.protocol, TCP);
        Packet::tcp(self.from, self.to)
    }

    pub fn syn(&self, sequence: u32) -> Vec<u8> {
        self.tcp().syn(sequence).build()
    }

    pub fn ack(&self, sequence: u32) -> Vec<u8> {
        self.tcp().seq(sequence).ack(1).build()
    }

    /// A segment with a payload and the FIN.
    pub fn fin(&self, sequence: u32, payload: &[u8]) -> Vec<u8> {
        self.tcp().seq(sequence).ack(1).fin().payload(payload).build()
    }

    pub fn rst(&self, sequence: u32) -> Vec<u8> {
        self.tcp().seq(sequence).rst().build()
    }

    pub fn datagram(&self) -> Vec<u8> {
        assert_eq!(self.protocol, UDP);
        Packet::udp(self.from, self.to).payload(b"datagram").build()
    }

    /// The packet that begins a flow of either protocol.
    pub fn first(&self) -> Vec<u8> {
        if self.protocol == TCP { self.syn(1000) } else { self.datagram() }
    }
}

/// The service that a frame without VLAN tags is for.
fn service_of(frame: &[u8]) -> u16 {
    let (protocol, is_v6) = if frame[12] == 0x86 { (frame[20], true) } else { (frame[23], false) };
    u16::from(protocol == UDP) + 2 * u16::from(is_v6)
}

/// A frame as `l2` sends it to a host: without tags, under other MAC addresses, and a hop less.
pub fn to_l2(frame: &[u8], host: u8) -> Vec<u8> {
    let mut sent = untagged(frame);
    sent[..12].copy_from_slice(&[0x02, 0xbe, 0, 0, 0, host, 0x02, 0x1b, 0, 0, 0, host]);
    hop(&mut sent[14..]);
    sent
}
