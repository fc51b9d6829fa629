//! A service as the data path sees it.

use super::{HostId, layout};

/// What a record of a service is known by: where its packets are sent to, or come from.
///
/// A record of one port is found by that port. One of a range is found without a port, and its range is then asked. One of a prefix has the prefix for its address, with the first bit behind it set, which tells prefixes of
/// different lengths apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Address as in [`super::Tuple`]; of a prefix, all other bits are 0.
    pub address: [u64; 2],
    /// Bits of the address that count: [`ServiceKey::WHOLE`], or fewer. An IPv4 prefix has 96 more than it is written with.
    pub prefix: u8,
    /// First port, host byte order, at least 1.
    pub first: u16,
    /// Last port, host byte order.
    pub last: u16,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// Packets *from* this address and port are a backend's answers, to be sent on in the service's name (`nat`).
    pub is_reply: bool,
}

impl ServiceKey {
    /// Prefix of a single address.
    pub const WHOLE: u8 = 128;
    /// In the protocol's part of a transport: the record is of a prefix.
    pub const PREFIX: u32 = 0x80 << 16;
    /// In the protocol's part of a transport: the record is of a backend's answers.
    pub const REPLY: u32 = 0x40 << 16;
    /// In the protocol's part of a transport: the record is of a range of ports. So a packet to port 0 does not find it.
    pub const RANGE: u32 = 0x20 << 16;
    const PROTOCOL: u32 = 0x1f << 16;

    /// One port of one address.
    pub const fn exact(address: [u64; 2], port: u16, protocol: u8) -> Self {
        ServiceKey { address, prefix: Self::WHOLE, first: port, last: port, protocol, is_reply: false }
    }

    /// Whether it is a single port.
    pub const fn is_exact(&self) -> bool {
        self.first == self.last
    }

    /// The words that the record is found by: its address, and what packets look for as a transport, which is never 0.
    pub const fn place(&self) -> ([u64; 2], u32) {
        let port = if self.is_exact() { self.first.to_be() as u32 } else { Self::RANGE };
        let mut transport = port | (self.protocol as u32) << 16;
        let mut address = self.address;
        if self.prefix < Self::WHOLE {
            let mark = prefix_mark(self.prefix);
            address = [address[0] | mark[0], address[1] | mark[1]];
            transport |= Self::PREFIX;
        }
        if self.is_reply {
            transport |= Self::REPLY;
        }
        (address, transport)
    }

    /// The key of a record; `range` counts if it is one of a range.
    pub const fn of_record(service: &Service, range: PortRange) -> Self {
        let transport = service.transport;
        let port = (transport as u16).swap_bytes();
        let is_range = transport & Self::RANGE != 0;
        let (first, last) = if is_range { (range.first(), range.last()) } else { (port, port) };
        let mut address = service.address;
        let mut prefix = Self::WHOLE;
        if transport & Self::PREFIX != 0 {
            // The mark is the last bit that is set.
            let value = (u64::from_be(address[0]) as u128) << 64 | u64::from_be(address[1]) as u128;
            prefix = Self::WHOLE - 1 - value.trailing_zeros() as u8;
            let mark = prefix_mark(prefix);
            address = [address[0] & !mark[0], address[1] & !mark[1]];
        }
        let protocol = ((transport & Self::PROTOCOL) >> 16) as u8;
        ServiceKey { address, prefix, first, last, protocol, is_reply: transport & Self::REPLY != 0 }
    }
}

/// The first bit behind a prefix of fewer than 128 bits, as words of an address.
pub const fn prefix_mark(prefix: u8) -> [u64; 2] {
    words_of(1 << (127 - prefix))
}

/// The bits of a prefix of fewer than 128 bits, as words of an address.
pub const fn prefix_mask(prefix: u8) -> [u64; 2] {
    words_of(if prefix == 0 { 0 } else { u128::MAX << (128 - prefix) })
}

const fn words_of(bits: u128) -> [u64; 2] {
    [((bits >> 64) as u64).to_be(), (bits as u64).to_be()]
}

/// First port in bits 0–15 and last port in bits 16–31, host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange(pub u32);

impl PortRange {
    pub const fn new(first: u16, last: u16) -> Self {
        PortRange(first as u32 | (last as u32) << 16)
    }

    #[inline(always)]
    pub const fn first(self) -> u16 {
        self.0 as u16
    }

    #[inline(always)]
    pub const fn last(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Whether a port, host byte order, is in it.
    #[inline(always)]
    pub const fn has(self, port: u16) -> bool {
        self.first() <= port && port <= self.last()
    }
}

/// Record of a service. Each field is written on its own, atomically; the address only while no packet may read it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Service {
    /// By [`ServiceKey::place`].
    pub address: [u64; 2],
    /// Transport by [`ServiceKey::place`] in bits 0–23, which makes the record valid, and [`Policy`] in bits 24–31; else
    /// [`Service::FREE`] or [`Service::GONE`].
    pub transport: u32,
    /// First block of the valid copy of the service's ring, in the array of rings. One store flips it, so a packet, which
    /// reads it once, sees one generation (C5). With [`Service::SPLIT`].
    pub block: u32,
    /// [`Window`]: where the backends of this service are.
    pub window: u64,
}
layout!(Service, 32, 8);

impl Service {
    /// No record, and none further on that belongs here: the end of a search.
    pub const FREE: u32 = 0;
    /// No record any more; a search goes on.
    pub const GONE: u32 = u32::MAX;
    /// In `block`: some clients go by a ring of their own, see [`super::ClientKey`]. In this word, so that it changes together with the
    /// ring of all others.
    pub const SPLIT: u32 = 1 << 31;
    /// The part of `transport` that is compared.
    pub const TRANSPORT: u32 = 0x00ff_ffff;

    pub const fn policy(&self) -> Policy {
        Policy((self.transport >> 24) as u8)
    }
}

/// How flows of a service are treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy(pub u8);

impl Policy {
    /// In a settled slot only a SYN touches the flow table (TCP).
    pub const EDGES: u8 = 1;
    /// The slot comes from the client's address and the service, so that all flows of a client to the service go to one host.
    pub const CLIENT: u8 = 2;
    /// UDP in a slot in handover: a flow goes to the owner when it has been silent for a gap.
    pub const GAP: u8 = 4;
    /// UDP in a slot in handover: a flow goes to the owner at once.
    pub const IMMEDIATE: u8 = 8;
    /// Backends have another port than the service, which answers from them get (`nat`).
    pub const PORT: u8 = 64;
    /// New flows go to the kernel while no member of the ring is in use; else their clients are told at once that nobody is
    /// there.
    pub const PASS: u8 = 128;
    /// Bits 4–5: the timeout set of the service's pins, see [`crate::flow::Timeouts`].
    const SET_SHIFT: u8 = 4;

    /// The same policy with a timeout set.
    pub const fn with_set(self, set: u8) -> Policy {
        Policy(self.0 & !(3 << Self::SET_SHIFT) | (set & 3) << Self::SET_SHIFT)
    }

    /// The timeout set of the service's pins.
    #[inline(always)]
    pub const fn set(self) -> u8 {
        self.0 >> Self::SET_SHIFT & 3
    }

    #[inline(always)]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// Where the backends of a service lie in the array of (service, host) pairs: the pair of host `h` has the index
/// `base + (h - first)` if `h - first < count`. One word, so that all of it changes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub base: u32,
    pub first: HostId,
    pub count: u16,
}

impl Window {
    pub const fn pack(self) -> u64 {
        (self.base as u64) << 32 | (self.first as u64) << 16 | self.count as u64
    }

    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Window { base: (word >> 32) as u32, first: (word >> 16) as u16, count: word as u16 }
    }

    /// Index of the pair of `host`, if the window covers it. Readers mask it: a stray word may give any number.
    #[inline(always)]
    pub const fn pair(self, host: HostId) -> Option<u32> {
        let offset = host.wrapping_sub(self.first);
        if offset < self.count { Some(self.base.wrapping_add(offset as u32)) } else { None }
    }
}
