//! Frames for fixtures, whole and broken: TCP, UDP and ICMP over IPv4 and IPv6, with correct checksums.
//!
//! ```
//! use sluice_tests::packets::{Packet, check};
//!
//! let from = "10.0.0.1:40000".parse().unwrap();
//! let to = "198.51.100.1:80".parse().unwrap();
//! let frame = Packet::tcp(from, to).syn(1000).vlan(7).build();
//! assert_eq!(check(&frame), Ok(()));
//! ```

mod build;
mod change;
mod check;
mod frame;
mod icmp;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, TcpHeader};

pub use check::check;
pub use frame::{macs, network_offset, truncations, with_byte};
pub use icmp::{quote, too_big};

/// The client's side, unless [`Packet::macs`] says another.
pub const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The balancer's side, unless [`Packet::macs`] says another.
pub const DESTINATION_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// Length of an Ethernet header without tags.
const ETHERNET: usize = 14;

#[derive(Debug, Clone)]
enum Upper {
    Tcp(Box<TcpHeader>),
    Udp,
    Echo {
        id: u16,
        sequence: u16,
        reply: bool,
    },
    /// Any protocol number; the payload is all there is.
    Other(IpNumber),
}

/// A frame in the making. The methods take and return it, [`build`](Self::build) writes it.
#[derive(Debug, Clone)]
pub struct Packet {
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
    /// EtherType of the tag and its control information, outermost first.
    vlans: Vec<(u16, u16)>,
    source: SocketAddr,
    destination: SocketAddr,
    ttl: u8,
    /// DSCP and ECN.
    traffic_class: u8,
    flow_label: u32,
    identification: u16,
    dont_fragment: bool,
    options: Vec<u8>,
    /// Protocol number and content after the first two bytes.
    extensions: Vec<(IpNumber, Vec<u8>)>,
    upper: Upper,
    payload: Vec<u8>,
    /// Of UDP: whether it has one.
    checksum: bool,
}

impl Packet {
    fn new(source: SocketAddr, destination: SocketAddr, upper: Upper) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "both addresses of a packet are of one family");
        Self {
            source_mac: SOURCE_MAC,
            destination_mac: DESTINATION_MAC,
            vlans: Vec::new(),
            source,
            destination,
            ttl: 64,
            traffic_class: 0,
            flow_label: 0,
            identification: 0x1234,
            dont_fragment: true,
            options: Vec::new(),
            extensions: Vec::new(),
            upper,
            payload: Vec::new(),
            checksum: true,
        }
    }

    /// A segment without flags, window 64240. Panics when the addresses are of two families, as all makers do.
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Self {
        let header = TcpHeader::new(source.port(), destination.port(), 0, 64_240);
        Self::new(source, destination, Upper::Tcp(Box::new(header)))
    }

    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(source, destination, Upper::Udp)
    }

    /// An ICMP or ICMPv6 echo request.
    pub fn ping(source: IpAddr, destination: IpAddr, id: u16, sequence: u16) -> Self {
        let upper = Upper::Echo { id, sequence, reply: false };
        Self::new(SocketAddr::new(source, 0), SocketAddr::new(destination, 0), upper)
    }

    /// The answer to [`ping`](Self::ping).
    pub fn pong(source: IpAddr, destination: IpAddr, id: u16, sequence: u16) -> Self {
        let upper = Upper::Echo { id, sequence, reply: true };
        Self::new(SocketAddr::new(source, 0), SocketAddr::new(destination, 0), upper)
    }

    /// A packet of any other protocol, which has a payload only.
    pub fn other(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        let upper = Upper::Other(IpNumber(protocol));
        Self::new(SocketAddr::new(source, 0), SocketAddr::new(destination, 0), upper)
    }

    pub fn macs(mut self, source: [u8; 6], destination: [u8; 6]) -> Self {
        (self.source_mac, self.destination_mac) = (source, destination);
        self
    }

    /// Adds an 802.1Q tag inside those that are there; `id` is 0 to 4095.
    pub fn vlan(self, id: u16) -> Self {
        self.tag(0x8100, id)
    }

    /// Adds a tag with any EtherType (0x88a8 for a service tag, 802.1ad) and control information.
    pub fn tag(mut self, ether_type: u16, control: u16) -> Self {
        self.vlans.push((ether_type, control));
        self
    }

    /// Time to live or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// DSCP (upper six bits) and ECN.
    pub fn traffic_class(mut self, traffic_class: u8) -> Self {
        self.traffic_class = traffic_class;
        self
    }

    /// 20 bits; IPv6 only.
    pub fn flow_label(mut self, flow_label: u32) -> Self {
        self.flow_label = flow_label;
        self
    }

    /// Of the IPv4 header, and of fragments of either family.
    pub fn identification(mut self, identification: u16) -> Self {
        self.identification = identification;
        self
    }

    /// DF of the IPv4 header; set unless told otherwise.
    pub fn dont_fragment(mut self, wanted: bool) -> Self {
        self.dont_fragment = wanted;
        self
    }

    /// Options of the IPv4 header: at most 40 bytes, a multiple of four.
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// Adds an IPv6 extension header (0 hop by hop, 43 routing, 60 destination options …) after those that are there.
    /// `content` is what follows the first two bytes: 6 bytes more than a multiple of 8.
    pub fn extension(mut self, protocol: u8, content: &[u8]) -> Self {
        assert_eq!(content.len() % 8, 6, "an extension header is a multiple of 8 bytes");
        self.extensions.push((IpNumber(protocol), content.to_vec()));
        self
    }

    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// Changes the TCP header at will. Panics when the packet is not TCP, as do all that follow.
    pub fn tcp_header(mut self, change: impl FnOnce(&mut TcpHeader)) -> Self {
        let Upper::Tcp(header) = &mut self.upper else { panic!("{self:?} is not TCP") };
        change(header);
        self
    }

    pub fn seq(self, sequence: u32) -> Self {
        self.tcp_header(|header| header.sequence_number = sequence)
    }

    /// Sets the flag too.
    pub fn ack(self, acknowledgment: u32) -> Self {
        self.tcp_header(|header| (header.ack, header.acknowledgment_number) = (true, acknowledgment))
    }

    /// A connection request with this initial sequence number.
    pub fn syn(self, sequence: u32) -> Self {
        self.seq(sequence).tcp_header(|header| header.syn = true)
    }

    pub fn fin(self) -> Self {
        self.tcp_header(|header| header.fin = true)
    }

    pub fn rst(self) -> Self {
        self.tcp_header(|header| header.rst = true)
    }

    pub fn psh(self) -> Self {
        self.tcp_header(|header| header.psh = true)
    }

    /// Options of the TCP header: at most 40 bytes, filled up to a multiple of four with ends of list.
    pub fn tcp_options(self, options: &[u8]) -> Self {
        self.tcp_header(|header| header.set_options_raw(options).expect("TCP options have at most 40 bytes"))
    }
}
