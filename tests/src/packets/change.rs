//! The same packet, told to be another: what it looks like further on its way, or only a part of it.

use std::net::SocketAddr;

use super::Packet;

impl Packet {
    /// From another client.
    pub fn from(mut self, source: SocketAddr) -> Self {
        self.source = source;
        self.with_ports()
    }

    /// To another server.
    pub fn to(mut self, destination: SocketAddr) -> Self {
        self.destination = destination;
        self.with_ports()
    }

    fn with_ports(mut self) -> Self {
        if let super::Upper::Tcp(header) = &mut self.upper {
            (header.source_port, header.destination_port) = (self.source.port(), self.destination.port());
        }
        self
    }

    /// One hop further.
    pub fn hop(mut self) -> Self {
        self.ttl -= 1;
        self
    }

    /// Without VLAN tags.
    pub fn untagged(mut self) -> Self {
        self.vlans.clear();
        self
    }

    /// UDP without a checksum.
    pub fn without_checksum(mut self) -> Self {
        self.checksum = false;
        self
    }

    /// DSCP and ECN.
    pub fn class(&self) -> u8 {
        self.traffic_class
    }

    /// One fragment: the bytes of the IP packet's content from `offset`, a multiple of 8, up to `offset + len` or its end.
    pub fn part(&self, offset: usize, len: usize, more: bool) -> Vec<u8> {
        let (protocol, body) = self.body();
        let end = (offset + len).min(body.len());
        self.frame(protocol, &body[offset.min(end)..end], Some((offset, more)))
    }
}
