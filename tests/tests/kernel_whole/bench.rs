//! What the fixtures share: services of every mode in one data path, flows, and what is to leave for a backend, made by the
//! packets' builder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::layout::{FEATURE_GUE, FEATURE_NAT, HostId, Policy, ServiceKey, Slot, Tuple, VipFlags};
use lb_userspace::dataplane::{Abilities, BackendTable, Options};
use sluice_tests::packets::Packet;
pub use sluice_tests::rig::{BEGAN, BEGAN_UDP, NOTHING, phases, wrapped};
use sluice_tests::rig::{
    Delta, INGRESS, PairDelta, Pin, Rig, Setup, XDP_DROP, XDP_PASS, XDP_TX, gue, ipip_v4, ipip_v6, l2, nat,
    tuple, words,
};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const L3: usize = 14;
/// Port that backends take GUE at.
pub const GUE_PORT: u16 = 6080;
/// Hosts of a bench: 1 to 3.
pub const HOSTS: std::ops::RangeInclusive<u8> = 1..=3;

/// How a service's packets reach its backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    L2,
    Ipip4,
    Ipip6,
    Gue4,
    Gue6,
    Nat,
}

impl Mode {
    pub const ALL: [Mode; 6] = [Mode::L2, Mode::Ipip4, Mode::Ipip6, Mode::Gue4, Mode::Gue6, Mode::Nat];

    /// Bytes that it puts before a packet.
    pub const fn added(self) -> usize {
        match self {
            Mode::L2 | Mode::Nat => 0,
            Mode::Ipip4 => 20,
            Mode::Ipip6 => 40,
            Mode::Gue4 => 32,
            Mode::Gue6 => 52,
        }
    }
}

/// A flow of the service of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub mode: Mode,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub protocol: u8,
}

impl Flow {
    /// The flow with this number, below 60 000; `kind` is 0 for TCP over IPv4, 1 for UDP over IPv4, 2 and 3 over IPv6.
    pub fn of(mode: Mode, kind: u16, number: u16) -> Self {
        let (protocol, port) = if kind.is_multiple_of(2) { (TCP, 80) } else { (UDP, 53) };
        let which = mode as u16 + 1;
        let (client, vip): (IpAddr, IpAddr) = if kind < 2 {
            (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(198, 51, 100, which as u8).into())
        } else {
            let at = |network, last| Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, last);
            (at(0xc, 1).into(), at(0xf, which).into())
        };
        let (from, to) = (SocketAddr::new(client, 1024 + number), SocketAddr::new(vip, port));
        Flow { mode, from, to, protocol }
    }

    pub fn is_v6(&self) -> bool {
        self.to.is_ipv6()
    }

    pub fn kind(&self) -> u16 {
        u16::from(self.protocol == UDP) + 2 * u16::from(self.is_v6())
    }

    pub fn service(&self) -> u16 {
        self.mode as u16 * 4 + self.kind()
    }

    pub fn tuple(&self) -> Tuple {
        tuple(self.from, self.to, self.protocol)
    }

    pub fn ip_header(&self) -> usize {
        if self.is_v6() { 40 } else { 20 }
    }

    /// A datagram, or a segment with the ACK; with a payload of so many bytes.
    pub fn packet(&self, payload: usize) -> Packet {
        let packet = match self.protocol {
            TCP => Packet::tcp(self.from, self.to).seq(9).ack(8),
            _ => Packet::udp(self.from, self.to),
        };
        packet.payload(&pattern(payload))
    }

    /// What a backend, or the VIP, sends the client.
    pub fn answer(&self, from: SocketAddr, payload: usize) -> Packet {
        self.packet(payload).from(from).to(self.from)
    }

    pub fn syn(&self, sequence: u32) -> Packet {
        assert_eq!(self.protocol, TCP);
        Packet::tcp(self.from, self.to).syn(sequence)
    }

    /// The packet that begins a flow of either protocol.
    pub fn first(&self) -> Packet {
        if self.protocol == TCP { self.syn(1000) } else { self.packet(8) }
    }

    /// Reason and changes of a packet of a flow without a pin, in a settled slot, by [`Self::packet`].
    pub fn found(&self) -> (&'static str, PairDelta) {
        if self.protocol == TCP { ("forward_owner", phases(0, 1, 0)) } else { ("forward_new", BEGAN_UDP) }
    }

    /// Reason and changes of [`Self::first`].
    pub fn begun(&self) -> (&'static str, PairDelta) {
        ("forward_new", if self.protocol == TCP { BEGAN } else { BEGAN_UDP })
    }

    /// Address and port of its backend on a host: where `nat` sends it.
    pub fn backend(&self, host: u8) -> SocketAddr {
        let port = if self.protocol == TCP { 8080 } else { 5353 };
        let address: IpAddr = if self.is_v6() {
            Ipv6Addr::new(0x2001, 0xdb8, 0xb, 2, 0, 0, 0, host.into()).into()
        } else {
            Ipv4Addr::new(203, 0, 113, 100 + host).into()
        };
        SocketAddr::new(address, port)
    }
}

/// One flow of each kind of a mode.
pub fn flows(mode: Mode, number: u16) -> [Flow; 4] {
    [0, 1, 2, 3].map(|kind| Flow::of(mode, kind, number))
}

/// One flow of each kind of every mode.
pub fn all_flows(number: u16) -> impl Iterator<Item = Flow> {
    Mode::ALL.into_iter().flat_map(move |mode| flows(mode, number))
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|byte| byte as u8).collect()
}

/// A packet and all that is to come of it.
#[derive(Debug)]
pub struct Fixture {
    pub description: String,
    pub input: Vec<u8>,
    /// `XDP_…`
    pub verdict: u32,
    pub output: Vec<u8>,
    /// All counters that change.
    pub counters: Delta,
}

pub struct Bench {
    pub rig: Rig,
    pub setup: Setup,
    /// The interface that frames come in by.
    pub ingress: u32,
}

impl Bench {
    /// All slots are settled on host 1; GUE and NAT are known.
    pub fn new() -> Self {
        Self::with(|_| {}, |backend| backend)
    }

    /// With features beside those.
    pub fn featured(features: u32) -> Self {
        Self::with(|abilities| abilities.features |= features, |backend| backend)
    }

    pub fn with(change: impl FnOnce(&mut Abilities), backend: impl Fn(BackendTable) -> BackendTable) -> Self {
        let mut options = Self::options();
        change(&mut options.abilities);
        Self::on(Rig::borrow(options), backend)
    }

    /// What a bench loads the program with if nobody wishes more.
    pub fn options() -> Options {
        let abilities = Abilities { features: FEATURE_GUE | FEATURE_NAT, ..Abilities::default() };
        Options { abilities, ..Rig::options(Rig::small()) }
    }

    /// On a rig that is loaded.
    pub fn on(rig: Rig, backend: impl Fn(BackendTable) -> BackendTable) -> Self {
        let mut setup = Setup::new(&rig);
        for flow in all_flows(0) {
            let service = flow.service();
            setup.service(service, flow.to, flow.protocol, 0);
            setup.vip(flow.to.ip(), if flow.is_v6() { 128 } else { 32 }, VipFlags::VIP | VipFlags::ALONE);
            for host in HOSTS {
                setup.backend(service, host.into(), backend(to_host(&flow, host)));
                if flow.mode == Mode::Nat {
                    let at = flow.backend(host);
                    let key = ServiceKey::exact(words(at.ip()), at.port(), flow.protocol);
                    setup.key(service, ServiceKey { is_reply: true, ..key });
                }
            }
            if flow.mode == Mode::Nat {
                setup.policy(service, Policy::PORT);
            }
        }
        setup.ring(0, Slot::settled(1));
        let mut bench = Bench { rig, setup, ingress: INGRESS };
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
        let answer = self.rig.run_from(input, self.ingress);
        assert_eq!(answer.delta, *counters, "counters, {description}");
        assert_eq!(answer.verdict, *verdict, "verdict, {description}");
        same_bytes(&answer.bytes, output, description);
        self.rig.audit();
    }

    /// To the kernel, untouched, and nothing else has changed.
    #[track_caller]
    pub fn passes(&mut self, description: &str, input: Vec<u8>, reason: &'static str) {
        let pins = self.rig.pins();
        let (output, counters) = (input.clone(), Delta::of([reason]));
        let description = description.to_owned();
        self.check(&Fixture { description, input, verdict: XDP_PASS, output, counters });
        assert_eq!(self.rig.pins(), pins);
    }

    /// Dropped, and nothing else has changed. What becomes of the bytes is nobody's concern.
    #[track_caller]
    pub fn drops(&mut self, description: &str, input: Vec<u8>, reason: &'static str) {
        let pins = self.rig.pins();
        self.drops_with(description, input, Delta::of([reason]));
        assert_eq!(self.rig.pins(), pins);
    }

    /// Dropped, with all these counts.
    #[track_caller]
    pub fn drops_with(&mut self, description: &str, input: Vec<u8>, counters: Delta) {
        let answer = self.rig.run_from(&input, self.ingress);
        assert_eq!((answer.verdict, answer.delta), (XDP_DROP, counters), "{description}");
        self.rig.audit();
    }

    /// Sent back as `output`, for the reason and with what else has changed.
    #[track_caller]
    pub fn answers(&mut self, description: &str, input: Vec<u8>, output: Vec<u8>, counters: Delta) {
        let description = description.to_owned();
        self.check(&Fixture { description, input, verdict: XDP_TX, output, counters });
    }

    /// Sent to the backend of the flow's service on `host`, for this reason, and what the flow changes there.
    #[track_caller]
    pub fn sent(
        &mut self,
        description: &str,
        flow: Flow,
        packet: &Packet,
        host: u8,
        (reason, change): (&'static str, PairDelta),
    ) {
        let output = self.leaving(flow, &packet.clone(), host);
        self.sent_as(description, flow, packet.build(), output, host, (reason, change));
    }

    /// As [`Self::sent`], with both frames given.
    #[track_caller]
    pub fn sent_as(
        &mut self,
        description: &str,
        flow: Flow,
        input: Vec<u8>,
        output: Vec<u8>,
        host: u8,
        (reason, change): (&'static str, PairDelta),
    ) {
        // Tags are not counted.
        let len = input.len() - (sluice_tests::packets::network_offset(&input) - L3);
        let (service, host) = (flow.service(), HostId::from(host));
        let counters =
            Delta::of([reason]).pair(service, host, PairDelta::packet(len)).pair(service, host, change);
        let description = format!("{description}, {flow:?}");
        self.check(&Fixture { description, input, verdict: XDP_TX, output, counters });
    }

    /// What a packet of a flow is to leave as.
    pub fn leaving(&self, flow: Flow, packet: &Packet, host: u8) -> Vec<u8> {
        let inner = on_its_way(flow, packet, host).build();
        let hash = Rig::hash(&flow.tuple()).0;
        wrapped(&inner, &self.backend(flow, host), packet.class(), hash)
    }

    /// The backend of a flow's service on a host.
    pub fn backend(&self, flow: Flow, host: u8) -> BackendTable {
        self.setup.tables.services[&flow.service()].backends[&host.into()]
    }

    /// Changes all backends.
    pub fn change(&mut self, change: impl Fn(&mut BackendTable)) {
        for service in self.setup.tables.services.values_mut() {
            service.backends.values_mut().for_each(&change);
        }
        self.publish();
    }

    pub fn pin(&self, flow: Flow) -> Option<Pin> {
        self.rig.pin(&flow.tuple())
    }

    #[track_caller]
    pub fn not_pinned(&self) {
        assert_eq!(self.rig.pins(), []);
    }
}

#[track_caller]
pub fn same_bytes(found: &[u8], right: &[u8], description: &str) {
    if found != right {
        let at = found.iter().zip(right).position(|(one, other)| one != other);
        let at = at.unwrap_or(found.len().min(right.len()));
        panic!("bytes differ from {at} on, {description}\n found {found:02x?}\n right {right:02x?}");
    }
}

/// A flow's backend on a host.
fn to_host(flow: &Flow, host: u8) -> BackendTable {
    match flow.mode {
        Mode::L2 => l2(host).into(),
        Mode::Ipip4 => ipip_v4(host),
        Mode::Ipip6 => ipip_v6(host),
        Mode::Gue4 => gue(ipip_v4(host), GUE_PORT),
        Mode::Gue6 => gue(ipip_v6(host), GUE_PORT),
        Mode::Nat => nat(host, flow.backend(host)),
    }
}

/// The packet itself after the balancer: a hop less, and for `nat` another destination.
pub fn on_its_way(flow: Flow, packet: &Packet, host: u8) -> Packet {
    let packet = packet.clone().untagged().hop();
    if flow.mode == Mode::Nat { packet.to(flow.backend(host)) } else { packet }
}
