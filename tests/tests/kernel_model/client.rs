//! The services that clients speak to, and the clients.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lb_common::hash::{FlowHash, Key};
use lb_common::layout::{ServiceKey, Tuple};
use proptest::prelude::*;
use sluice_tests::packets::Packet;

use crate::rules::Signal;

pub const KEY: Key = [0x5eed_fa11_71e5_0001, 0x0ddb_a110_fcaf_e001];
const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// The services: their number is their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    Web = 0,
    Dns = 1,
    /// TCP, as the first one.
    Api = 2,
}

impl Service {
    pub const ALL: [Service; 3] = [Service::Web, Service::Dns, Service::Api];

    pub fn name(self) -> &'static str {
        match self {
            Service::Web => "web",
            Service::Dns => "dns",
            Service::Api => "api",
        }
    }

    pub fn is_udp(self) -> bool {
        self == Service::Dns
    }

    pub fn protocol(self) -> u8 {
        if self.is_udp() { lb_common::parse::UDP } else { lb_common::parse::TCP }
    }

    pub fn port(self) -> u16 {
        match self {
            Service::Web => 443,
            Service::Dns => 53,
            Service::Api => 8443,
        }
    }

    pub fn vip() -> IpAddr {
        VIP.into()
    }

    pub fn key(self) -> ServiceKey {
        let address = Tuple::v4(u32::from(VIP).to_be());
        ServiceKey::exact(address, self.port(), self.protocol())
    }
}

/// A client's address and port, and the service that it speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client {
    pub address: u32,
    pub port: u16,
    pub service: Service,
}

/// TCP flags that matter to a flow.
#[derive(Debug, Clone, Copy)]
pub enum Flags {
    Syn,
    Ack,
    FinAck,
    Rst,
    RstAck,
    SynAck,
    None,
}

/// Those that most packets have, mostly.
pub fn any_flags() -> impl Strategy<Value = Flags> {
    prop_oneof![
        4 => Just(Flags::Syn),
        6 => Just(Flags::Ack),
        3 => Just(Flags::FinAck),
        2 => Just(Flags::Rst),
        1 => Just(Flags::RstAck),
        1 => Just(Flags::SynAck),
        1 => Just(Flags::None),
    ]
}

impl Client {
    pub fn tuple(&self) -> Tuple {
        let [a, b] = self.port.to_be_bytes();
        let [c, d] = self.service.port().to_be_bytes();
        Tuple {
            source: Tuple::v4(self.address.to_be()),
            destination: Tuple::v4(u32::from(VIP).to_be()),
            ports: u32::from_ne_bytes([a, b, c, d]),
            protocol: u32::from(self.service.protocol()),
        }
    }

    pub fn hash(&self) -> FlowHash {
        FlowHash::of(&self.tuple(), KEY)
    }

    /// The slot of the client's address, whatever its port.
    pub fn slot_of_address(&self, ring_size: u32) -> u32 {
        let tuple = self.tuple();
        FlowHash::of_client(&tuple, &tuple.destination, KEY).slot(ring_size)
    }

    /// The first port of this address whose flow has the slot.
    pub fn in_slot(address: u32, service: Service, slot: u32, ring_size: u32) -> Client {
        (1024..=u16::MAX)
            .map(|port| Client { address, port, service })
            .find(|client| client.hash().slot(ring_size) == slot)
            .expect("64 512 ports reach every slot of a small ring")
    }

    /// A packet with these flags, and what it says about the flow.
    pub fn segment(&self, flags: Flags, sequence: u32, payload: bool) -> (Packet, Signal) {
        let plain = self.packet().seq(sequence);
        // No client sends data with its SYN here.
        let plain = if payload && !matches!(flags, Flags::Syn) { plain.payload(b"x") } else { plain };
        let after = sequence.wrapping_add(u32::from(payload)).wrapping_add(1);
        match flags {
            Flags::Syn => (plain.syn(sequence), Signal::Syn { sequence }),
            Flags::Ack => (plain.ack(1), Signal::Ack { sequence }),
            Flags::FinAck => (plain.fin().ack(1), Signal::Fin { after }),
            Flags::Rst => (plain.rst(), Signal::Rst),
            Flags::RstAck => (plain.rst().ack(1), Signal::Rst),
            Flags::SynAck => (plain.syn(sequence).ack(1), Signal::Stray),
            Flags::None => (plain, Signal::Stray),
        }
    }

    /// A packet of this client; [`Packet::tcp`] and [`Packet::udp`] make the rest of it.
    pub fn packet(&self) -> Packet {
        let source = SocketAddr::new(Ipv4Addr::from(self.address).into(), self.port);
        let destination = SocketAddr::new(VIP.into(), self.service.port());
        if self.service.is_udp() {
            Packet::udp(source, destination)
        } else {
            Packet::tcp(source, destination)
        }
    }
}
