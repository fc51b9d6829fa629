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

mod change;
mod icmp;

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header,
    Ipv6Header, LinkSlice, NetSlice, SlicedPacket, TcpHeader, TransportSlice, UdpHeader, icmpv4, ip_number,
};

pub use icmp::quote;

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

    /// Writes the frame. Panics when it is longer than IP allows.
    pub fn build(&self) -> Vec<u8> {
        let (protocol, body) = self.body();
        self.frame(protocol, &body, None)
    }

    /// Writes the packet in fragments that carry at most `most` bytes each, a multiple of 8.
    pub fn fragments(&self, most: usize) -> Vec<Vec<u8>> {
        assert!(most > 0 && most.is_multiple_of(8), "fragments but the last carry a multiple of 8 bytes");
        let (protocol, body) = self.body();
        let parts = body.chunks(most).enumerate();
        let frames = parts.map(|(number, part)| {
            let offset = number * most;
            self.frame(protocol, part, Some((offset, offset + part.len() < body.len())))
        });
        frames.collect()
    }

    /// Upper-layer header and payload.
    fn body(&self) -> (IpNumber, Vec<u8>) {
        let payload = &self.payload[..];
        let (protocol, mut body) = match (&self.upper, self.source.ip(), self.destination.ip()) {
            (Upper::Tcp(header), source, destination) => {
                let mut header = header.clone();
                header.checksum = match (source, destination) {
                    (IpAddr::V4(s), IpAddr::V4(d)) => {
                        header.calc_checksum_ipv4_raw(s.octets(), d.octets(), payload)
                    }
                    (IpAddr::V6(s), IpAddr::V6(d)) => {
                        header.calc_checksum_ipv6_raw(s.octets(), d.octets(), payload)
                    }
                    _ => unreachable!("both addresses are of one family"),
                }
                .expect("the payload fits");
                (ip_number::TCP, header.to_bytes().to_vec())
            }
            (Upper::Udp, source, destination) => {
                let length = u16::try_from(UdpHeader::LEN + payload.len()).expect("the payload fits");
                let (source_port, destination_port) = (self.source.port(), self.destination.port());
                let mut header = UdpHeader { source_port, destination_port, length, checksum: 0 };
                header.checksum = match (source, destination) {
                    (IpAddr::V4(s), IpAddr::V4(d)) => {
                        header.calc_checksum_ipv4_raw(s.octets(), d.octets(), payload)
                    }
                    (IpAddr::V6(s), IpAddr::V6(d)) => {
                        header.calc_checksum_ipv6_raw(s.octets(), d.octets(), payload)
                    }
                    _ => unreachable!("both addresses are of one family"),
                }
                .expect("the payload fits");
                if !self.checksum {
                    header.checksum = 0;
                }
                (ip_number::UDP, header.to_bytes().to_vec())
            }
            (&Upper::Echo { id, sequence, reply }, source, destination) => {
                let echo = IcmpEchoHeader { id, seq: sequence };
                match (source, destination) {
                    (IpAddr::V6(s), IpAddr::V6(d)) => {
                        let kind =
                            if reply { Icmpv6Type::EchoReply(echo) } else { Icmpv6Type::EchoRequest(echo) };
                        let header = Icmpv6Header::with_checksum(kind, s.octets(), d.octets(), payload);
                        (ip_number::IPV6_ICMP, header.expect("the payload fits").to_bytes().to_vec())
                    }
                    _ => {
                        let kind =
                            if reply { Icmpv4Type::EchoReply(echo) } else { Icmpv4Type::EchoRequest(echo) };
                        (ip_number::ICMP, Icmpv4Header::with_checksum(kind, payload).to_bytes().to_vec())
                    }
                }
            }
            (&Upper::Other(protocol), ..) => (protocol, Vec::new()),
        };
        body.extend_from_slice(payload);
        (protocol, body)
    }

    /// Everything below `body`; `fragment` is its offset in bytes and whether more follow.
    fn frame(&self, protocol: IpNumber, body: &[u8], fragment: Option<(usize, bool)>) -> Vec<u8> {
        let mut frame = [self.destination_mac, self.source_mac].concat();
        for (ether_type, control) in &self.vlans {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                assert!(self.extensions.is_empty(), "IPv4 has no extension headers");
                frame.extend(0x0800_u16.to_be_bytes());
                let mut header = Ipv4Header { protocol, time_to_live: self.ttl, ..Ipv4Header::default() };
                let options = self.options.as_slice().try_into();
                header.options = options.expect("IPv4 options are at most 40 bytes, a multiple of four");
                header.set_payload_len(body.len()).expect("the payload fits");
                (header.source, header.destination) = (source.octets(), destination.octets());
                header.dscp = (self.traffic_class >> 2).try_into().expect("six bits");
                header.ecn = (self.traffic_class & 3).try_into().expect("two bits");
                header.identification = self.identification;
                header.dont_fragment = self.dont_fragment && fragment.is_none();
                if let Some((offset, more)) = fragment {
                    header.fragment_offset = fragment_offset(offset);
                    header.more_fragments = more;
                }
                header.header_checksum = header.calc_header_checksum();
                frame.extend_from_slice(&header.to_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                assert!(self.options.is_empty(), "IPv6 has extension headers instead of options");
                frame.extend(0x86dd_u16.to_be_bytes());
                let (first, chain) = self.extension_chain(protocol, fragment);
                let mut header = Ipv6Header {
                    traffic_class: self.traffic_class,
                    flow_label: self.flow_label.try_into().expect("a flow label has 20 bits"),
                    next_header: first,
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                    payload_length: 0,
                };
                header.set_payload_length(chain.len() + body.len()).expect("the payload fits");
                frame.extend_from_slice(&header.to_bytes());
                frame.extend(chain);
            }
            _ => unreachable!("both addresses are of one family"),
        }
        frame.extend_from_slice(body);
        frame
    }

    /// The extension headers, with that of a fragment last, and the protocol number of the first.
    fn extension_chain(&self, protocol: IpNumber, fragment: Option<(usize, bool)>) -> (IpNumber, Vec<u8>) {
        let mut headers = self.extensions.clone();
        if let Some((offset, more)) = fragment {
            let field = fragment_offset(offset).value() << 3 | u16::from(more);
            let mut content = field.to_be_bytes().to_vec();
            content.extend(u32::from(self.identification).to_be_bytes());
            headers.push((ip_number::IPV6_FRAG, content));
        }
        let mut chain = Vec::new();
        for (index, (number, content)) in headers.iter().enumerate() {
            let next = headers.get(index + 1).map_or(protocol, |(next, _)| *next);
            // The length counts 8 bytes after the first 8; a fragment header has a reserved 0 in its place. That of an
            // authentication header counts 4 bytes after the first 8 (RFC 4302, 2.2).
            let len = content.len() + 2;
            let len = if *number == ip_number::AUTH { len / 4 - 2 } else { len / 8 - 1 };
            chain.extend([next.0, len as u8]);
            chain.extend(content);
        }
        (headers.first().map_or(protocol, |(number, _)| *number), chain)
    }
}

fn fragment_offset(bytes: usize) -> IpFragOffset {
    u16::try_from(bytes / 8).ok().and_then(|units| units.try_into().ok()).expect("the offset fits 13 bits")
}

/// The ICMP error that `router` sends about `frame`, a whole frame, with its addresses turned round: "fragmentation
/// needed" with the next hop's `mtu`, or "packet too big". Quotes at most 128 bytes of the packet.
pub fn too_big(router: IpAddr, frame: &[u8], mtu: u16) -> Vec<u8> {
    let parsed = SlicedPacket::from_ethernet(frame).expect("the quoted frame is whole");
    let quoted = &frame[network_offset(frame)..];
    let quoted = &quoted[..quoted.len().min(128)];
    let (source, destination) = macs(frame);
    let (kind, to, body) = match (router, parsed.net) {
        (IpAddr::V4(_), Some(NetSlice::Ipv4(ip))) => {
            let reason = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
            let header = Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(reason), quoted);
            (ip_number::ICMP, IpAddr::V4(ip.header().source_addr()), header.to_bytes().to_vec())
        }
        (IpAddr::V6(from), Some(NetSlice::Ipv6(ip))) => {
            let kind = Icmpv6Type::PacketTooBig { mtu: mtu.into() };
            let to = ip.header().source_addr();
            let header = Icmpv6Header::with_checksum(kind, from.octets(), to.octets(), quoted);
            (ip_number::IPV6_ICMP, IpAddr::V6(to), header.expect("the quotation fits").to_bytes().to_vec())
        }
        _ => panic!("the router's address and the quoted packet are of one family"),
    };
    let packet = Packet::other(router, to, kind.0).macs(destination, source);
    packet.payload(&[&body[..], quoted].concat()).build()
}

/// Source and destination.
pub fn macs(frame: &[u8]) -> ([u8; 6], [u8; 6]) {
    let mac = |at: usize| frame[at..at + 6].try_into().expect("six bytes");
    (mac(6), mac(0))
}

/// Where the IP header begins: behind the Ethernet header and its tags.
pub fn network_offset(frame: &[u8]) -> usize {
    let mut offset = ETHERNET;
    while matches!(frame[offset - 2..offset], [0x81, 0x00] | [0x88, 0xa8]) {
        offset += 4;
    }
    offset
}

/// Every shorter beginning of `frame`, the longest first, down to nothing.
pub fn truncations(frame: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..frame.len()).rev().map(|length| frame[..length].to_vec())
}

/// `frame` with one byte set to another value: for fields that no builder would write.
pub fn with_byte(mut frame: Vec<u8>, offset: usize, value: u8) -> Vec<u8> {
    frame[offset] = value;
    frame
}

/// Checks the lengths and all checksums of a whole frame: IPv4 header, TCP, UDP, ICMP, ICMPv6. Says what is wrong.
/// A fragment's upper layer is not looked at; a UDP checksum of 0 is allowed over IPv4 only.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    if !matches!(packet.link, Some(LinkSlice::Ethernet2(_))) {
        return Err("no Ethernet header".into());
    }
    let same = |what: &str, found: u16, right: u16| {
        if found == right {
            Ok(())
        } else {
            Err(format!("{what} checksum is {found:#06x} instead of {right:#06x}"))
        }
    };
    let (source, destination, fragment) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            same("IPv4 header", header.header_checksum, header.calc_header_checksum())?;
            let addresses = (ip.header().source_addr().into(), ip.header().destination_addr().into());
            (addresses.0, addresses.1, ip.is_payload_fragmented())
        }
        Some(NetSlice::Ipv6(ip)) => {
            let addresses = (ip.header().source_addr().into(), ip.header().destination_addr().into());
            (addresses.0, addresses.1, ip.is_payload_fragmented())
        }
        _ => return Ok(()),
    };
    if fragment {
        return Ok(());
    }
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match (&packet.transport, source, destination) {
        (Some(TransportSlice::Tcp(tcp)), IpAddr::V4(s), IpAddr::V4(d)) => {
            let right = tcp.calc_checksum_ipv4(s.octets(), d.octets()).map_err(|error| text(&error))?;
            same("TCP", tcp.checksum(), right)
        }
        (Some(TransportSlice::Tcp(tcp)), IpAddr::V6(s), IpAddr::V6(d)) => {
            let right = tcp.calc_checksum_ipv6(s.octets(), d.octets()).map_err(|error| text(&error))?;
            same("TCP", tcp.checksum(), right)
        }
        (Some(TransportSlice::Udp(udp)), IpAddr::V4(_), _) if udp.checksum() == 0 => Ok(()),
        (Some(TransportSlice::Udp(udp)), s, d) => {
            let header = udp.to_header();
            let right = match (s, d) {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    header.calc_checksum_ipv4_raw(s.octets(), d.octets(), udp.payload())
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    header.calc_checksum_ipv6_raw(s.octets(), d.octets(), udp.payload())
                }
                _ => unreachable!("both addresses are of one family"),
            };
            same("UDP", udp.checksum(), right.map_err(|error| text(&error))?)
        }
        (Some(TransportSlice::Icmpv4(icmp)), ..) => {
            let mut header = icmp.header();
            header.update_checksum(icmp.payload());
            same("ICMP", icmp.checksum(), header.checksum)
        }
        (Some(TransportSlice::Icmpv6(icmp)), IpAddr::V6(s), IpAddr::V6(d)) => {
            if icmp.is_checksum_valid(s.octets(), d.octets()) {
                Ok(())
            } else {
                Err("ICMPv6 checksum is wrong".into())
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> [(SocketAddr, SocketAddr); 2] {
        [("10.0.0.1:40000", "198.51.100.1:80"), ("[fd77::1]:40000", "[2001:db8::1]:80")]
            .map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()))
    }

    #[test]
    fn what_is_built_is_right() {
        for (from, to) in pairs() {
            let tcp = Packet::tcp(from, to).seq(5).ack(9).psh().tcp_options(&[2, 4, 5, 0xb4]).payload(b"abc");
            let udp = Packet::udp(from, to).payload(b"odd").ttl(3).traffic_class(0xb9);
            let ping = Packet::ping(from.ip(), to.ip(), 7, 1).payload(&[1; 33]);
            for packet in [tcp, udp, ping] {
                for packet in [packet.clone(), packet.vlan(5).tag(0x8100, 0x2006)] {
                    let frame = packet.build();
                    assert_eq!(check(&frame), Ok(()), "{packet:?}");
                    // Each byte of the IP packet is covered by a checksum, or by a length, but in IPv6's first part.
                    let last = frame.len() - 1;
                    let broken = with_byte(frame.clone(), last, frame[last] ^ 1);
                    check(&broken).unwrap_err();
                }
            }
        }
    }

    /// RFC 1071 by itself: the sum over pseudo-header and segment, its checksum included, is all ones.
    #[test]
    fn sums_are_those_of_the_rfc() {
        let sum = |bytes: &[u8]| {
            let words =
                bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
            let sum = words.sum::<u32>();
            (sum & 0xffff) + (sum >> 16)
        };
        for (from, to) in pairs() {
            let tcp = Packet::tcp(from, to).syn(77).payload(b"odd").build();
            let udp = Packet::udp(from, to).payload(b"odd").build();
            for (frame, protocol) in [(tcp, 6), (udp, 17)] {
                let (addresses, upper) = if from.is_ipv4() { (12..20, 20) } else { (8..40, 40) };
                let packet = &frame[ETHERNET..];
                let pseudo = sum(&packet[addresses]) + protocol + (packet.len() - upper) as u32;
                let total = pseudo + sum(&packet[upper..]);
                assert_eq!((total & 0xffff) + (total >> 16), 0xffff);
                if from.is_ipv4() {
                    assert_eq!(sum(&packet[..20]), 0xffff);
                }
            }
        }
    }

    #[test]
    fn headers_have_their_options() {
        let [(from4, to4), (from6, to6)] = pairs();
        let frame = Packet::tcp(from4, to4).syn(1).options(&[1; 8]).build();
        assert_eq!(check(&frame), Ok(()));
        assert_eq!(frame[ETHERNET], 0x47);
        let frame = Packet::udp(from6, to6).extension(0, &[1, 4, 0, 0, 0, 0]).extension(60, &[0; 14]).build();
        assert_eq!(check(&frame), Ok(()));
        let at = ETHERNET + 40;
        assert_eq!((frame[ETHERNET + 6], frame[at], frame[at + 8], frame[at + 9]), (0, 60, 17, 1));
        assert_eq!(frame.len(), at + 8 + 16 + 8);
    }

    #[test]
    fn fragments_add_up() {
        for (from, to) in pairs() {
            let payload = (0..100).collect::<Vec<u8>>();
            let packet = Packet::udp(from, to).payload(&payload);
            let header = if from.is_ipv4() { 20 } else { 48 };
            let frames = packet.fragments(48);
            assert_eq!(frames.len(), 3);
            let whole =
                frames.iter().flat_map(|frame| frame[ETHERNET + header..].to_vec()).collect::<Vec<_>>();
            assert_eq!(whole[8..], payload[..]);
            for (number, frame) in frames.iter().enumerate() {
                assert_eq!(check(frame), Ok(()));
                let (offset, more) = if from.is_ipv4() {
                    let field = u16::from_be_bytes([frame[ETHERNET + 6], frame[ETHERNET + 7]]);
                    (field & 0x1fff, field & 0x2000 != 0)
                } else {
                    let field = u16::from_be_bytes([frame[ETHERNET + 42], frame[ETHERNET + 43]]);
                    (field >> 3, field & 1 != 0)
                };
                assert_eq!((usize::from(offset), more), (number * 6, number < 2));
            }
        }
    }

    #[test]
    fn errors_quote_the_packet() {
        for ((from, to), router) in pairs().into_iter().zip(["10.9.9.9", "fd77::9"]) {
            let frame = Packet::tcp(from, to).seq(1).payload(&[7; 300]).vlan(3).build();
            let error = too_big(router.parse().unwrap(), &frame, 1300);
            assert_eq!(check(&error), Ok(()));
            assert_eq!(macs(&error), (DESTINATION_MAC, SOURCE_MAC));
            let quoted = &frame[ETHERNET + 4..ETHERNET + 4 + 128];
            assert!(error.ends_with(quoted));
        }
    }

    #[test]
    fn truncations_are_all_beginnings() {
        let lengths = truncations(&[1, 2, 3]).map(|frame| frame.len()).collect::<Vec<_>>();
        assert_eq!(lengths, [2, 1, 0]);
    }
}
