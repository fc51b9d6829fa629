//! Packets as `etherparse` builds them, with every length and checksum right: what goes in, and what has to come out.
#![allow(dead_code, reason = "each suite uses a part")]

use etherparse::{
    Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options,
    Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader, icmpv4, icmpv6,
};
use lb_common::layout::Tuple;
use lb_common::nat::{Endpoint, Headers, Transport};
use lb_common::parse::{Frame, L3};
use proptest::collection::vec;
use proptest::prelude::*;

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1];

/// One end of a flow; the first 4 bytes count for IPv4.
pub type End = ([u8; 16], u16);

/// A TCP or UDP packet.
#[derive(Debug, Clone)]
pub struct Packet {
    pub is_v6: bool,
    pub is_tcp: bool,
    pub source: End,
    pub destination: End,
    pub ttl: u8,
    /// Options of the IPv4 header in words of 4 bytes, or of a header for the destination in IPv6 of 8 bytes; none: without.
    pub options: Vec<[u8; 4]>,
    pub tcp_options: Vec<u8>,
    pub tcp_flags: u8,
    pub payload: Vec<u8>,
    /// UDP only.
    pub without_checksum: bool,
}

/// Which part of a datagram is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// The first bytes, and the rest: that number is the first part's length in 8 bytes.
    First(u16),
    Later(u16),
}

pub fn v4(address: [u8; 16]) -> [u8; 4] {
    address[..4].try_into().unwrap()
}

impl Packet {
    pub fn endpoint(&self, (address, port): End) -> Endpoint {
        let address =
            if self.is_v6 { Tuple::words(address) } else { Tuple::v4(u32::from_ne_bytes(v4(address))) };
        Endpoint { address, port: port.to_be() }
    }

    /// Whether it has an IPv6 extension header.
    fn is_extended(&self) -> bool {
        self.is_v6 && !self.options.is_empty()
    }

    pub fn headers(&self, part: Part) -> Headers {
        let transport = match (part, self.is_tcp) {
            (Part::Later(_), _) => Transport::None,
            (_, true) => Transport::Tcp,
            (_, false) => Transport::Udp,
        };
        let ip = if self.is_v6 {
            40 + if self.is_extended() { 8 } else { 0 } + if part == Part::Whole { 0 } else { 8 }
        } else {
            20 + 4 * self.options.len()
        };
        Headers { is_v6: self.is_v6, transport, offset: ip as u16 }
    }

    /// Bytes up to the end of the transport's checksum, from the Ethernet header on.
    pub fn needed(&self, part: Part) -> usize {
        let headers = self.headers(part);
        match headers.transport {
            Transport::None => L3 + if self.is_v6 { 40 } else { 20 },
            Transport::Tcp => L3 + headers.offset as usize + 18,
            Transport::Udp => L3 + headers.offset as usize + 8,
        }
    }

    fn protocol(&self) -> IpNumber {
        if self.is_tcp { IpNumber::TCP } else { IpNumber::UDP }
    }

    fn ipv4(&self, payload_len: usize) -> Ipv4Header {
        let mut ip =
            Ipv4Header::new(0, self.ttl, self.protocol(), v4(self.source.0), v4(self.destination.0)).unwrap();
        ip.options = Ipv4Options::try_from(self.options.as_flattened()).unwrap();
        ip.identification = 0x1234;
        ip.set_payload_len(payload_len).unwrap();
        ip
    }

    fn ipv6(&self) -> Ipv6Header {
        Ipv6Header {
            hop_limit: self.ttl,
            source: self.source.0,
            destination: self.destination.0,
            ..Ipv6Header::default()
        }
    }

    /// The transport header and what follows.
    fn segment(&self) -> Vec<u8> {
        let payload = &self.payload;
        let mut bytes = Vec::new();
        if self.is_tcp {
            let mut tcp = TcpHeader::new(self.source.1, self.destination.1, 0x0102_0304, 0x8000);
            tcp.set_options_raw(&self.tcp_options).unwrap();
            tcp.acknowledgment_number = 0x0506_0708;
            tcp.write(&mut bytes).unwrap();
            bytes[13] = self.tcp_flags;
            bytes.extend(payload);
            let (tcp, payload) = TcpHeader::from_slice(&bytes).unwrap();
            let checksum = if self.is_v6 {
                tcp.calc_checksum_ipv6(&self.ipv6(), payload)
            } else {
                tcp.calc_checksum_ipv4(&self.ipv4(0), payload)
            };
            bytes[16..18].copy_from_slice(&checksum.unwrap().to_be_bytes());
            return bytes;
        }
        let (source, destination) = (self.source.1, self.destination.1);
        let mut udp = if self.is_v6 {
            UdpHeader::with_ipv6_checksum(source, destination, &self.ipv6(), payload).unwrap()
        } else {
            UdpHeader::with_ipv4_checksum(source, destination, &self.ipv4(0), payload).unwrap()
        };
        if self.without_checksum {
            udp.checksum = 0;
        }
        udp.write(&mut bytes).unwrap();
        bytes.extend(payload);
        bytes
    }

    /// The IP packet.
    pub fn packet(&self, part: Part) -> Vec<u8> {
        let segment = self.segment();
        let (offset, more, payload) = match part {
            Part::Whole => (0, false, &segment[..]),
            Part::First(at) => (0, true, &segment[..8 * at as usize]),
            Part::Later(at) => (at, false, &segment[8 * at as usize..]),
        };
        let offset = IpFragOffset::try_new(offset).unwrap();
        let mut bytes = Vec::new();
        if !self.is_v6 {
            let mut ip = self.ipv4(payload.len());
            (ip.fragment_offset, ip.more_fragments) = (offset, more);
            ip.dont_fragment = part == Part::Whole;
            ip.header_checksum = ip.calc_header_checksum();
            ip.write(&mut bytes).unwrap();
            bytes.extend(payload);
            return bytes;
        }
        let mut next = self.protocol();
        let mut chain = payload.to_vec();
        if part != Part::Whole {
            let header = Ipv6FragmentHeader::new(next, offset, more, 0x0102_0304);
            chain = [&header.to_bytes()[..], &chain].concat();
            next = IpNumber::IPV6_FRAGMENTATION_HEADER;
        }
        if self.is_extended() {
            // PadN of 4 bytes.
            chain = [&[next.0, 0, 1, 4, 0, 0, 0, 0][..], &chain].concat();
            next = IpNumber::IPV6_DESTINATION_OPTIONS;
        }
        let ip = Ipv6Header { payload_length: chain.len() as u16, next_header: next, ..self.ipv6() };
        ip.write(&mut bytes).unwrap();
        bytes.extend(chain);
        bytes
    }

    pub fn frame(&self, part: Part) -> Vec<u8> {
        frame(self.is_v6, &self.packet(part))
    }
}

/// An ICMP error.
#[derive(Debug, Clone)]
pub struct IcmpError {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    pub ttl: u8,
    /// Options of the outer IPv4 header.
    pub options: Vec<[u8; 4]>,
    pub quoted: Packet,
    /// Bytes of the quoted packet's transport header and payload that are quoted at most.
    pub kept: usize,
}

impl IcmpError {
    /// Offset of the ICMP header from the IP header.
    pub fn icmp(&self) -> u16 {
        if self.quoted.is_v6 { 40 } else { 20 + 4 * self.options.len() as u16 }
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut quote = self.quoted.packet(Part::Whole);
        quote.truncate(self.quoted.headers(Part::Whole).offset as usize + self.kept);
        let mut bytes = Vec::new();
        if self.quoted.is_v6 {
            let kind = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
            let icmp = Icmpv6Header::with_checksum(kind, self.source, self.destination, &quote).unwrap();
            let ip = Ipv6Header {
                hop_limit: self.ttl,
                source: self.source,
                destination: self.destination,
                payload_length: (icmp.header_len() + quote.len()) as u16,
                next_header: IpNumber::IPV6_ICMP,
                ..Ipv6Header::default()
            };
            ip.write(&mut bytes).unwrap();
            icmp.write(&mut bytes).unwrap();
        } else {
            let kind = Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit);
            let icmp = Icmpv4Header::with_checksum(kind, &quote);
            let mut ip =
                Ipv4Header::new(0, self.ttl, IpNumber::ICMP, v4(self.source), v4(self.destination)).unwrap();
            ip.options = Ipv4Options::try_from(self.options.as_flattened()).unwrap();
            ip.set_payload_len(icmp.header_len() + quote.len()).unwrap();
            ip.header_checksum = ip.calc_header_checksum();
            ip.write(&mut bytes).unwrap();
            icmp.write(&mut bytes).unwrap();
        }
        bytes.extend(quote);
        frame(self.quoted.is_v6, &bytes)
    }
}

fn frame(is_v6: bool, packet: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    [&MACS[..], &ethertype, packet].concat()
}

/// Runs something on bytes as a frame.
pub fn on<T>(bytes: &mut [u8], run: impl FnOnce(&Frame) -> T) -> T {
    let start = bytes.as_mut_ptr() as usize;
    // SAFETY: the slice is borrowed for writing for as long as the frame lives.
    run(&unsafe { Frame::new(start, start + bytes.len()) })
}

/// Any end but port 0, which means that a port stays.
pub fn any_end() -> impl Strategy<Value = End> {
    (any::<[u8; 16]>(), 1..=u16::MAX)
}

pub fn any_packet() -> impl Strategy<Value = Packet> {
    let options = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<[u8; 4]>(), 1..=10)];
    // Zeros and ones are where sums carry.
    let payload = prop_oneof![vec(any::<u8>(), 0..64), vec(prop_oneof![Just(0u8), Just(0xff)], 0..9),];
    let tcp_options = (0usize..=10).prop_flat_map(|words| vec(any::<u8>(), words * 4));
    (
        (any::<bool>(), any::<bool>(), any_end(), any_end(), 2..=u8::MAX),
        (options, tcp_options, any::<u8>(), payload, any::<bool>()),
    )
        .prop_map(|((is_v6, is_tcp, source, destination, ttl), rest)| {
            let (options, tcp_options, tcp_flags, payload, without_checksum) = rest;
            Packet {
                is_v6,
                is_tcp,
                source,
                destination,
                ttl,
                options,
                tcp_options,
                tcp_flags,
                payload,
                without_checksum: without_checksum && !is_tcp,
            }
        })
}
