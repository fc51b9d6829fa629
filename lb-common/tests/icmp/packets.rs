//! Packets and the errors about them, of both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6Header};
use lb_common::icmp::{ICMP, ICMPV6};
use lb_common::layout::Tuple;
use proptest::prelude::*;

pub const MACS: [u8; 12] = [2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 1];

/// An IP packet in the making.
#[derive(Debug, Clone)]
pub struct Ip {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IPv4, in 32-bit words.
    pub options: usize,
    /// IPv6: kinds, and 8 bytes each that they are longer than 8 bytes.
    pub extensions: Vec<(u8, u8)>,
    /// In 8 bytes.
    pub fragment_offset: u16,
    pub more_fragments: bool,
    pub protocol: u8,
    pub payload: Vec<u8>,
}

impl Ip {
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Ip {
        Ip {
            source,
            destination,
            options: 0,
            extensions: Vec::new(),
            fragment_offset: 0,
            more_fragments: false,
            protocol,
            payload: payload.to_vec(),
        }
    }

    pub fn header_len(&self) -> usize {
        if self.source.is_ipv4() { 20 + 4 * self.options } else { 40 + self.extensions().len() }
    }

    fn extensions(&self) -> Vec<u8> {
        let following = self.extensions.iter().skip(1).map(|(kind, _)| *kind).chain([self.protocol]);
        let mut bytes = Vec::new();
        for ((kind, more), next) in self.extensions.iter().zip(following) {
            if *kind == 44 {
                // The byte that is a length in others is reserved here.
                let field = self.fragment_offset << 3 | u16::from(self.more_fragments);
                bytes.extend([&[next, *more][..], &field.to_be_bytes(), &[1, 2, 3, 4]].concat());
            } else {
                bytes.extend([next, *more]);
                bytes.extend(vec![0; 6 + 8 * usize::from(*more)]);
            }
        }
        bytes
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header {
                    options: Ipv4Options::try_from(&vec![1; 4 * self.options][..]).unwrap(),
                    fragment_offset: IpFragOffset::try_new(self.fragment_offset).unwrap(),
                    more_fragments: self.more_fragments,
                    identification: 0x1234,
                    ..Ipv4Header::default()
                };
                header.source = source.octets();
                header.destination = destination.octets();
                header.protocol = IpNumber(self.protocol);
                header.time_to_live = 61;
                header.total_len = (self.header_len() + self.payload.len()) as u16;
                header.header_checksum = header.calc_header_checksum();
                header.write(&mut bytes).unwrap();
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let extensions = self.extensions();
                let header = Ipv6Header {
                    source: source.octets(),
                    destination: destination.octets(),
                    next_header: IpNumber(self.extensions.first().map_or(self.protocol, |first| first.0)),
                    hop_limit: 61,
                    payload_length: (extensions.len() + self.payload.len()) as u16,
                    ..Ipv6Header::default()
                };
                header.write(&mut bytes).unwrap();
                bytes.extend(extensions);
            }
            _ => panic!("two families"),
        }
        bytes.extend(&self.payload);
        bytes
    }

    pub fn frame(&self) -> Vec<u8> {
        let ethertype = if self.source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
        [&MACS[..], &ethertype, &self.bytes()].concat()
    }

    /// An error about a packet, of which `quote` are the first bytes, from a router to the packet's source.
    pub fn error(router: IpAddr, to: IpAddr, kind: u8, code: u8, quote: &[u8]) -> Ip {
        Ip::icmp(router, to, [kind, code], [0; 4], quote)
    }

    /// An ICMP message, its checksum right.
    pub fn icmp(source: IpAddr, to: IpAddr, kind: [u8; 2], rest: [u8; 4], data: &[u8]) -> Ip {
        let mut message = [&kind[..], &[0; 2], &rest, data].concat();
        let protocol = if to.is_ipv4() { ICMP } else { ICMPV6 };
        let pseudo = match (source, to) {
            (IpAddr::V6(source), IpAddr::V6(to)) => {
                let len = (message.len() as u32).to_be_bytes();
                [&source.octets()[..], &to.octets(), &len, &[0, 0, 0, ICMPV6]].concat()
            }
            _ => Vec::new(),
        };
        let checksum = checksum(&[&pseudo[..], &message].concat());
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        Ip::new(source, to, protocol, &message)
    }
}

/// RFC 1071, as plainly as can be.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A packet of a service to a client, and the client's tuple.
pub fn sent() -> impl Strategy<Value = (Ip, Tuple)> {
    let payload = prop::collection::vec(any::<u8>(), 20..200);
    let extension = (prop::sample::select(vec![0u8, 43, 44, 60]), 0u8..4);
    let extensions = prop::collection::vec(extension, 0..=4);
    let addresses = addresses();
    (addresses, 0usize..=10, extensions, any::<bool>(), prop::sample::select(vec![6u8, 17]), payload)
        .prop_map(|((vip, client), options, extensions, more_fragments, protocol, payload)| {
            let more_fragments =
                more_fragments && (vip.is_ipv4() || extensions.iter().any(|(kind, _)| *kind == 44));
            let [a, b, c, d] = [payload[2], payload[3], payload[0], payload[1]];
            let tuple = Tuple {
                source: words(client),
                destination: words(vip),
                ports: u32::from_ne_bytes([a, b, c, d]),
                protocol: protocol.into(),
            };
            let ip = Ip { options, extensions, more_fragments, ..Ip::new(vip, client, protocol, &payload) };
            (ip, tuple)
        })
}

/// Addresses of a service and of a client.
pub fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = || (1u8..224, any::<[u8; 3]>()).prop_filter("loopback", |(first, _)| *first != 127);
    let v4 = move || v4().prop_map(|(first, [b, c, d])| IpAddr::from(Ipv4Addr::new(first, b, c, d)));
    let v6 = || any::<[u8; 15]>().prop_map(|rest| [&[0x20][..], &rest].concat());
    let v6 =
        move || v6().prop_map(|octets| IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(octets).unwrap())));
    prop_oneof![(v4(), v4()), (v6(), v6())]
}

pub fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => Tuple::v4(u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => Tuple::words(address.octets()),
    }
}
