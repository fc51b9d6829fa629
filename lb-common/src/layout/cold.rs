//! The part of a pin that packets of its flow do not need: read by inserts, listings and the sweep.

use super::{NEXT, layout};

/// A flow's addresses and ports as they are on the wire, client first. IPv4 as `::ffff:a.b.c.d`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    pub source: [u64; 2],
    pub destination: [u64; 2],
    /// Source port and destination port, each in network byte order.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u32,
}
layout!(Tuple, 40, 8);

impl Tuple {
    /// The two words of an IPv4 address in network byte order.
    #[inline(always)]
    pub const fn v4(address: u32) -> [u64; 2] {
        #[cfg(target_endian = "little")]
        return [0, (address as u64) << 32 | 0xffff_0000];
        #[cfg(target_endian = "big")]
        return [0, 0xffff_0000_0000 | address as u64];
    }

    /// Whether the two words are an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(address: &[u64; 2]) -> bool {
        address[0] == 0 && address[1] as u32 == Self::v4(0)[1] as u32
    }

    /// The two words of an address in network byte order.
    #[inline(always)]
    pub const fn words(address: [u8; 16]) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
        [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
    }

    /// Destination port, as it lies in the packet, and protocol: [`super::ServiceKey::place`].
    #[inline(always)]
    pub const fn transport(&self) -> u32 {
        #[cfg(target_endian = "little")]
        return self.ports >> 16 | self.protocol << 16;
        #[cfg(target_endian = "big")]
        return self.ports & 0xffff | self.protocol << 16;
    }

    /// The source port as it lies in the packet.
    #[inline(always)]
    pub const fn source_port_raw(&self) -> u16 {
        #[cfg(target_endian = "little")]
        return self.ports as u16;
        #[cfg(target_endian = "big")]
        return (self.ports >> 16) as u16;
    }

    /// The source port in host byte order.
    pub const fn source_port(&self) -> u16 {
        let [a, b, _, _] = self.ports.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }

    /// The destination port in host byte order.
    pub const fn destination_port(&self) -> u16 {
        let [_, _, a, b] = self.ports.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }
}

/// Cold record of a pin: same index as its word in the hot array, written before the word is published.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cold {
    /// What another version may have here: see [`NEXT`].
    #[cfg(feature = "layout-next")]
    pub more: u64,
    pub source: [u64; 2],
    pub destination: [u64; 2],
    pub ports: u32,
    /// IP protocol in bits 0–7; [`Cold::SECOND`] in bit 8; [`Cold::ANSWERED`] in bit 9; the service's number in bits 16–31.
    pub kind: u32,
    /// Half-open: the SYN's sequence number. Closing: the sequence number after the FIN's. Reset: the one after the packet that
    /// was answered with a RST. Host byte order.
    pub sequence: u32,
    /// Seconds of the monotonic clock when the pin was made.
    pub start: u32,
    /// Index of the counters of (service, host).
    pub stats: u32,
    /// Slot of the flow in its service's ring.
    pub slot: u32,
}
layout!(Cold, 56 + 8 * NEXT, 8);

impl Cold {
    /// The pin lies in the second bucket of its flow.
    pub const SECOND: u32 = 1 << 8;
    /// The client was answered with a RST, to a packet before [`Cold::sequence`]. Without it that number is of something else.
    pub const ANSWERED: u32 = 1 << 9;

    #[inline(always)]
    pub fn tuple(&self) -> Tuple {
        Tuple {
            source: self.source,
            destination: self.destination,
            ports: self.ports,
            protocol: self.kind & 0xff,
        }
    }

    #[inline(always)]
    pub fn is_of(&self, tuple: &Tuple) -> bool {
        self.differs(tuple) == 0
    }

    /// 0 if the pin is of this flow: a number, so that it can be looked at together with others.
    #[inline(always)]
    pub fn differs(&self, tuple: &Tuple) -> u64 {
        (self.source[0] ^ tuple.source[0])
            | (self.source[1] ^ tuple.source[1])
            | (self.destination[0] ^ tuple.destination[0])
            | (self.destination[1] ^ tuple.destination[1])
            | (self.ports ^ tuple.ports) as u64
            | ((self.kind & 0xff) ^ tuple.protocol) as u64
    }

    #[inline(always)]
    pub const fn service(&self) -> u16 {
        (self.kind >> 16) as u16
    }
}

/// A pin that found no place in its two buckets: value of the exact overflow map, whose key is the [`Tuple`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overflow {
    /// [`crate::flow::Word`]
    pub word: u64,
    pub cold: Cold,
}
layout!(Overflow, 64 + 8 * NEXT, 8);
