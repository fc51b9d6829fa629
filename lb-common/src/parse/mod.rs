//! Headers from bytes.
//!
//! Two parsers: [`parse_plain`] reads what nearly all packets are, at offsets that are constants, and leaves the rest to
//! [`parse_whole`], which knows everything that Sluice handles but VLAN tags: those are taken off before, see [`tags`]. A packet
//! that both can read is the same to both.

pub mod extension;
mod plain;
pub mod suspect;
pub mod tags;
mod whole;

pub use plain::parse_plain;
pub use whole::{Fragment, What, Whole, parse_whole, parse_whole_into};

use network_types::eth::EthHdr;
use network_types::tcp::TcpHdr;

use crate::bits::opaque;
use crate::flow::Phase;
use crate::layout::Tuple;

/// Offset of the IP header in a frame without VLAN tags.
pub const L3: usize = EthHdr::LEN;
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A frame in memory. Every access is checked against its end, in the form that the verifier follows.
#[derive(Clone, Copy)]
pub struct Frame {
    start: usize,
    end: usize,
}

impl Frame {
    /// # Safety
    /// `start..end` is readable for as long as the value lives.
    #[inline(always)]
    pub const unsafe fn new(start: usize, end: usize) -> Self {
        Frame { start, end }
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The frame without its first bytes, which a [`header`](Self::header) has shown to be there. The compiler is not to know
    /// where that is: it would calculate with the frame's end instead, which the verifier forbids.
    #[inline(always)]
    pub(crate) fn skip(&self, bytes: usize) -> Frame {
        Frame { start: opaque((self.start + bytes) as u64) as usize, end: self.end }
    }

    /// `N` bytes from `offset`, if the frame is that long.
    #[inline(always)]
    pub fn header<const N: usize>(&self, offset: usize) -> Option<Header<N>> {
        let at = self.start + offset;
        if at + N > self.end { None } else { Some(Header(at as *const u8)) }
    }
}

/// `N` bytes of a frame that are known to be there.
#[derive(Clone, Copy)]
pub struct Header<const N: usize>(*const u8);

impl<const N: usize> Header<N> {
    #[inline(always)]
    pub fn read<T: Copy>(&self, at: usize) -> T {
        debug_assert!(at + size_of::<T>() <= N);
        // SAFETY: `Frame::header` checked `N` bytes. BPF: a plain load, as packet loads need no alignment on the
        // machines whose JITs have efficient unaligned access, and the BPF back end would split an unaligned one.
        #[cfg(target_arch = "bpf")]
        return unsafe { self.0.add(at).cast::<T>().read() };
        // SAFETY: as above.
        #[cfg(not(target_arch = "bpf"))]
        return unsafe { self.0.add(at).cast::<T>().read_unaligned() };
    }

    /// # Safety
    /// The frame is writable and nothing else reads or writes it meanwhile.
    #[inline(always)]
    pub unsafe fn write<T: Copy>(&self, at: usize, value: T) {
        debug_assert!(at + size_of::<T>() <= N);
        // SAFETY: `Frame::header` checked `N` bytes; writable by the caller's promise. Alignment as for `read`.
        #[cfg(target_arch = "bpf")]
        return unsafe { self.0.add(at).cast_mut().cast::<T>().write(value) };
        // SAFETY: as above.
        #[cfg(not(target_arch = "bpf"))]
        return unsafe { self.0.add(at).cast_mut().cast::<T>().write_unaligned(value) };
    }

    #[inline(always)]
    pub fn u8(&self, at: usize) -> u8 {
        self.read(at)
    }

    /// In host byte order.
    #[inline(always)]
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_be(self.read(at))
    }

    /// As it lies in memory.
    #[inline(always)]
    pub fn raw32(&self, at: usize) -> u32 {
        self.read(at)
    }

    /// As it lies in memory. Two halves, for a header that starts 2 bytes off alignment.
    #[inline(always)]
    pub fn raw64(&self, at: usize) -> u64 {
        self.read(at)
    }
}

/// What a packet says about its flow. Those that most packets are have the number of the phase that their flow's pin is in
/// after them.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TCP FIN.
    Fin = 0,
    /// TCP RST.
    Rst = 1,
    /// TCP SYN without ACK: a wish to begin.
    Syn = Phase::HalfOpen as u8,
    /// TCP ACK without SYN, FIN and RST.
    Ack = Phase::Established as u8,
    /// TCP that begins, continues or ends nothing: SYN with ACK, or no flag at all. It makes no pin.
    Stray = 4,
    /// UDP.
    Datagram = Phase::Udp as u8,
}

impl Signal {
    /// From its number, of which the lowest 3 bits count.
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> Signal {
        match bits & 7 {
            0 => Signal::Fin,
            1 => Signal::Rst,
            2 => Signal::Syn,
            3 => Signal::Ack,
            5 => Signal::Datagram,
            _ => Signal::Stray,
        }
    }
}

/// Bytes of an IP header, with options or extension headers, at most.
pub const IP_HEADER_MOST: usize = 255;

/// A TCP or UDP packet that may be for a service.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub tuple: Tuple,
    pub signal: Signal,
    pub is_v6: bool,
    /// DSCP and ECN of the IP header (RFC 2474, RFC 3168).
    pub traffic_class: u8,
    /// Length of the IP packet, bytes.
    pub ip_len: u16,
    /// Length of the IP header, with its options or extension headers, bytes: at most [`IP_HEADER_MOST`].
    pub ip_header_len: u16,
}

/// What only the packets that begin or end a flow are asked for; 0 for UDP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Segment {
    /// TCP sequence number, host byte order.
    pub sequence: u32,
    /// TCP sequence number after this segment.
    pub sequence_after: u32,
}

impl Segment {
    /// Of a packet that [`parse_plain`] or [`parse_whole`] has read.
    #[inline(always)]
    pub fn of(frame: &Frame, packet: &Packet) -> Segment {
        if packet.tuple.protocol as u8 != TCP {
            return Segment::default();
        }
        // The verifier forgets that the length was checked, if it was kept on the stack.
        let ip_header_len = opaque(packet.ip_header_len as u64) as usize & IP_HEADER_MOST;
        let Some(tcp) = frame.header::<{ TcpHdr::LEN }>(L3 + ip_header_len) else {
            return Segment::default();
        };
        let sequence = u32::from_be(tcp.raw32(4));
        let header_len = ip_header_len + (tcp.u8(12) >> 4 << 2) as usize;
        let payload = (packet.ip_len as u32).wrapping_sub(header_len as u32);
        let fin = (tcp.u8(13) & FIN) as u32;
        Segment { sequence, sequence_after: sequence.wrapping_add(payload).wrapping_add(fin) }
    }
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// RFC 9293, 3.10: RST counts before SYN, SYN before FIN, FIN before ACK.
const fn signal_of(flags: u8) -> Signal {
    if flags & RST != 0 {
        Signal::Rst
    } else if flags & SYN != 0 {
        if flags & (ACK | FIN) == 0 { Signal::Syn } else { Signal::Stray }
    } else if flags & FIN != 0 {
        Signal::Fin
    } else if flags & ACK != 0 {
        Signal::Ack
    } else {
        Signal::Stray
    }
}

/// The signals of all flags that matter, 4 bits each: FIN, SYN and RST are bits 0–2 of the index, ACK is bit 3.
const SIGNALS: u64 = {
    let (mut signals, mut index) = (0, 0);
    while index < 16 {
        let signal = signal_of((index & 7) as u8 | ((index & 8) << 1) as u8);
        signals |= (signal as u64) << (4 * index);
        index += 1;
    }
    signals
};

/// [`signal_of`] with one branch, for what most segments are: more of them random traffic would mispredict and the verifier
/// walk both ways.
#[inline(always)]
fn tcp_signal(flags: u8) -> Signal {
    if flags & (RST | SYN | FIN | ACK) == ACK {
        return Signal::Ack;
    }
    let index = flags & (RST | SYN | FIN) | (flags & ACK) >> 1;
    Signal::from_bits(opaque(SIGNALS >> (4 * index)) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_flags_has_its_signal() {
        for flags in 0..=u8::MAX {
            assert_eq!(tcp_signal(flags), signal_of(flags), "{flags:#04x}");
        }
        assert_eq!(signal_of(SYN | 0xc0), Signal::Syn);
        assert_eq!(signal_of(SYN | ACK), Signal::Stray);
        assert_eq!(signal_of(ACK | 0x08), Signal::Ack);
        assert_eq!(signal_of(RST | SYN | FIN | ACK), Signal::Rst);
        assert_eq!(signal_of(FIN | ACK), Signal::Fin);
        assert_eq!(signal_of(0), Signal::Stray);
    }

    #[test]
    fn signals_come_back() {
        for signal in [Signal::Syn, Signal::Ack, Signal::Fin, Signal::Rst, Signal::Stray, Signal::Datagram] {
            assert_eq!(Signal::from_bits(signal as u8), signal);
        }
    }
}
