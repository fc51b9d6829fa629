//! The packets of a set: as many flows as one likes to one virtual address.

use std::net::SocketAddr;

use lb_common::layout::Tuple;
use lb_common::parse;
use lb_laws::wire::mend_checksum;

use crate::packets::Packet;

/// 8-byte words of a packet that the feeder restores.
pub const WORDS: usize = 10;

/// A short frame, as the feeder's map holds it.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub words: [u64; WORDS],
    len: usize,
}

impl Frame {
    /// Of 64 bytes, or 80 and more.
    pub fn new(bytes: &[u8]) -> Frame {
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_ne_bytes(whole);
        }
        Frame { words, len: bytes.len() }
    }

    /// The same packet from another client. IPv4 only; TCP's checksum stays, as nobody looks at it.
    pub fn from(self, address: u32, port: u16) -> Frame {
        let mut bytes = self.bytes();
        bytes[26..30].copy_from_slice(&address.to_be_bytes());
        bytes[34..36].copy_from_slice(&port.to_be_bytes());
        mend_checksum(&mut bytes[14..]);
        Frame::new(&bytes)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes[..self.len].to_vec()
    }

    /// The flow, if it is a packet that may be for a service.
    pub fn tuple(&self) -> Option<Tuple> {
        let bytes = self.bytes();
        let range = bytes.as_ptr_range();
        // SAFETY: the frame is only read while `bytes` lives.
        let frame = unsafe { parse::Frame::new(range.start as usize, range.end as usize) };
        parse::parse_plain(&frame, bytes.len()).ok().map(|packet| packet.tuple)
    }
}

/// What the packets of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    TcpAck,
    /// The same behind a VLAN tag.
    TaggedAck,
    /// The same from 127/8.
    MartianAck,
    TcpSyn,
    Udp,
    Arp,
}

/// Makes the packets of a set: they differ in the client's address and port.
#[derive(Debug, Clone)]
pub struct Flows {
    template: Vec<u8>,
    /// Where the last four bytes of the client's address, and its port, lie.
    varies: Option<(usize, usize)>,
    /// The first client's, or its last four bytes.
    first: u32,
    /// Where the IP header lies.
    ip: usize,
}

impl Flows {
    /// Packets of 64 bytes for IPv4 and of 80 for IPv6.
    pub fn new(kind: Kind, vip: SocketAddr) -> Flows {
        let client: SocketAddr =
            if vip.is_ipv4() { "10.0.0.0:1024" } else { "[2001:db8:c::]:1024" }.parse().expect("an address");
        let (tag, first) = match kind {
            Kind::TaggedAck => (4, 0x0a00_0000),
            Kind::MartianAck => (0, 0x7f00_0000),
            _ => (0, 0x0a00_0000),
        };
        let len = if vip.is_ipv4() && tag == 0 { 64 } else { 80 };
        let packet = match kind {
            Kind::TaggedAck => Packet::tcp(client, vip).seq(1000).ack(2000).vlan(7),
            Kind::TcpAck | Kind::MartianAck => Packet::tcp(client, vip).seq(1000).ack(2000),
            Kind::TcpSyn => Packet::tcp(client, vip).syn(999),
            Kind::Udp => Packet::udp(client, vip),
            Kind::Arp => {
                let mut template = vec![0xff; 6];
                template.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
                template.resize(64, 0);
                return Flows { template, varies: None, first, ip: 14 };
            }
        };
        let headers = packet.build().len();
        let template = packet.payload(&vec![0; len - headers]).build();
        let (address, port) = if vip.is_ipv4() { (26, 34) } else { (34, 54) };
        Flows { template, varies: Some((address + tag, port + tag)), first, ip: 14 + tag }
    }

    /// The packet of flow number `flow`. Checksums of TCP and UDP are those of the first flow: nobody looks at them.
    pub fn frame(&self, flow: u32) -> Frame {
        let mut bytes = self.template.clone();
        if let Some((address, port)) = self.varies {
            // 1000 flows a client.
            let (client, source) = (self.first + flow / 1000, 1024 + (flow % 1000) as u16 * 61);
            bytes[address..address + 4].copy_from_slice(&client.to_be_bytes());
            bytes[port..port + 2].copy_from_slice(&source.to_be_bytes());
            mend_checksum(&mut bytes[self.ip..]);
        }
        Frame::new(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn flows_are_distinct_and_parse() {
        for (kind, vip, len) in [
            (Kind::TcpAck, "203.0.113.1:80", 64),
            (Kind::TcpSyn, "[2001:db8::1]:80", 80),
            (Kind::Udp, "203.0.113.1:53", 64),
            (Kind::Udp, "[2001:db8::1]:53", 80),
        ] {
            let flows = Flows::new(kind, vip.parse().expect("an address"));
            let tuples: HashSet<Tuple> =
                (0..5000).map(|flow| flows.frame(flow).tuple().expect("it parses")).collect();
            assert_eq!(tuples.len(), 5000);
            assert_eq!(flows.frame(0).bytes().len(), len);
        }
        let arp = Flows::new(Kind::Arp, "203.0.113.1:0".parse().expect("an address"));
        assert_eq!(arp.frame(7).tuple(), None);
        assert_eq!(arp.frame(7).bytes().len(), 64);
    }
}
