//! Four hosts, one service, a table for 250 000 pins, and 100 000 connections from before the flood.

use std::collections::HashMap;
use std::net::SocketAddr;

use lb_common::flow::Phase;
use lb_common::layout::{HostId, HostState, Slot, Tuple};
use lb_userspace::dataplane::Sizes;
use sluice_tests::bench::feeder::{Called, Feeder};
use sluice_tests::bench::frames::Frame;
use sluice_tests::packets::Packet;
use sluice_tests::rig::{Rig, Runner, Setup, XDP_DROP, XDP_TX, l2, tuple};

const RING: u32 = 65_537;
/// Pins that the table is made for.
const PINS: u32 = 250_000;
/// Connections from before the flood.
pub const CONNECTIONS: u32 = 100_000;
/// The host that drains.
pub const DRAINING: HostId = 1;
pub const VIP: &str = "198.51.100.1:80";
/// SYNs that a feeder sends at once.
pub const SET: u32 = 250_000;

/// A client, by its number, in a network that the flood does not come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    address: u32,
    port: u16,
}

impl Client {
    pub fn new(number: u32) -> Self {
        Client { address: 0x0a00_0000 + number / 1000, port: 1024 + (number % 1000) as u16 * 61 }
    }

    pub fn tuple(&self) -> Tuple {
        let from = SocketAddr::new(std::net::Ipv4Addr::from(self.address).into(), self.port);
        tuple(from, VIP.parse().unwrap(), 6)
    }

    /// Whether the client's slot is in handover once the site is set up.
    pub fn is_open(&self) -> bool {
        owner(Rig::hash(&self.tuple()).slot(RING)) <= 2
    }
}

/// Any client's packets, to be addressed.
pub struct Frames {
    pub syn: Frame,
    pub ack: Frame,
}

impl Frames {
    pub fn new() -> Self {
        let packet =
            || Packet::tcp("10.0.0.0:1024".parse().unwrap(), VIP.parse().unwrap()).payload(b"10 bytes..");
        Frames {
            syn: Frame::new(&packet().syn(999).build()),
            ack: Frame::new(&packet().seq(1000).ack(2000).build()),
        }
    }

    pub fn syn(&self, client: Client) -> Frame {
        self.syn.from(client.address, client.port)
    }

    pub fn ack(&self, client: Client) -> Frame {
        self.ack.from(client.address, client.port)
    }
}

pub struct Site {
    pub rig: Rig,
    setup: Setup,
    pub frames: Frames,
    /// By number: the host of each connection, and whether its slot is in handover.
    pub connections: Vec<(HostId, bool)>,
}

/// Host that a packet goes to, if any.
pub fn send(runner: &Runner, frame: &Frame) -> Option<HostId> {
    let (verdict, out) = runner.run(&frame.bytes());
    assert!(verdict == XDP_TX || verdict == XDP_DROP, "verdict {verdict}");
    (verdict == XDP_TX).then(|| HostId::from(out[5]))
}

/// The first owner of a slot; those of hosts 1 and 2 lose theirs.
fn owner(slot: u32) -> HostId {
    (slot % 4 + 1) as HostId
}

impl Site {
    /// Half of the connections begin before hosts 1 and 2 lose their slots, half of them after it: host 1 drains, host 2
    /// does not. So half of the slots are in handover, and in these there are connections with the previous owner and
    /// connections with the new one.
    pub fn new() -> Self {
        let mut rig = Rig::open(Sizes { ring_copies: 4, ..Sizes::new(RING, PINS) });
        let mut setup = Setup::new(&rig);
        setup.service(0, VIP.parse().unwrap(), 6, 0);
        for host in 1..=4 {
            setup.backend(0, host, l2(host as u8));
        }
        setup.ring(0, Slot::settled(1));
        (0..RING).for_each(|slot| {
            setup.slot(0, slot, Slot::settled(owner(slot)));
        });
        rig.publish(&setup);
        let mut site = Site { rig, setup, frames: Frames::new(), connections: Vec::new() };
        site.establish(0..CONNECTIONS / 2);
        for slot in (0..RING).filter(|&slot| owner(slot) <= 2) {
            site.setup.slot(0, slot, Slot::open(owner(slot) + 2, owner(slot)));
        }
        site.setup.state(DRAINING, HostState::Draining);
        site.rig.publish(&site.setup);
        site.establish(CONNECTIONS / 2..CONNECTIONS);
        site.connections = (0..CONNECTIONS)
            .map(|number| {
                let first = owner(site.rig.slot(&Client::new(number).tuple()));
                let is_open = first <= 2;
                let host = if is_open && number >= CONNECTIONS / 2 { first + 2 } else { first };
                (host, is_open)
            })
            .collect();
        assert_eq!(site.gone(), [0, 0], "all connections have their pins");
        site
    }

    /// SYN and ACK of each.
    fn establish(&mut self, numbers: std::ops::Range<u32>) {
        let mut feeder = Feeder::load(self.rig.program_fd(), numbers.len() as u32).expect("the feeder loads");
        let clients: Vec<Client> = numbers.map(Client::new).collect();
        let count = clients.len() as u32;
        feeder.set(clients.iter().map(|&client| self.frames.syn(client))).expect("the frames are taken");
        feeder.run(Called::Tested, count).expect("the kernel runs the program");
        feeder.set(clients.iter().map(|&client| self.frames.ack(client))).expect("the frames are taken");
        feeder.run(Called::Tested, count).expect("the kernel runs the program");
    }

    /// Connections whose pins are gone: of settled slots, and of slots in handover.
    ///
    /// # Panics
    /// If a pin is not what it was.
    pub fn gone(&self) -> [u32; 2] {
        let now = self.rig.now();
        let pins: HashMap<Tuple, _> = self
            .rig
            .pins()
            .into_iter()
            .filter(|pin| {
                pin.word.phase() == Phase::Established
                    && pin.word.is_live(now, &self.rig.dataplane.options.timeouts)
            })
            .map(|pin| (pin.cold.tuple(), pin))
            .collect();
        let mut gone = [0, 0];
        for (number, &(host, is_open)) in (0..).zip(&self.connections) {
            match pins.get(&Client::new(number).tuple()) {
                Some(pin) => assert_eq!(pin.word.host(), host, "connection {number} was moved: {pin:?}"),
                None => gone[usize::from(is_open)] += 1,
            }
        }
        gone
    }

    /// The next packet of each connection goes to its host.
    pub fn check_connections(&self, runner: &Runner) {
        for (number, &(host, is_open)) in (0..).zip(&self.connections) {
            let came = send(runner, &self.frames.ack(Client::new(number)));
            assert_eq!(came, Some(host), "connection {number}, slot in handover: {is_open}");
        }
    }
}
