//! A packet as bytes.

use std::net::IpAddr;

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header,
    Ipv6Header, UdpHeader, ip_number,
};

use super::{Packet, Upper};

impl Packet {
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
    pub(super) fn body(&self) -> (IpNumber, Vec<u8>) {
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
    pub(super) fn frame(&self, protocol: IpNumber, body: &[u8], fragment: Option<(usize, bool)>) -> Vec<u8> {
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
