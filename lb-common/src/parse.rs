//! Headers from bytes: Ethernet, IPv4 with options, IPv6, TCP and UDP.
//!
//! What is not parsed yet (VLAN tags, fragments, IPv6 extension headers, ICMP) is told apart by its reason and passed
//! to the kernel untouched.

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::bits::opaque;
use crate::flow::Phase;
use crate::layout::Tuple;
use crate::reason::Reason;

/// Offset of the IP header in a frame without VLAN tags.
pub const L3: usize = EthHdr::LEN;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

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
    pub(crate) fn read<T: Copy>(&self, at: usize) -> T {
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
    pub(crate) unsafe fn write<T: Copy>(&self, at: usize, value: T) {
        debug_assert!(at + size_of::<T>() <= N);
        // SAFETY: `Frame::header` checked `N` bytes; writable by the caller's promise. Alignment as for `read`.
        #[cfg(target_arch = "bpf")]
        return unsafe { self.0.add(at).cast_mut().cast::<T>().write(value) };
        // SAFETY: as above.
        #[cfg(not(target_arch = "bpf"))]
        return unsafe { self.0.add(at).cast_mut().cast::<T>().write_unaligned(value) };
    }

    #[inline(always)]
    pub(crate) fn u8(&self, at: usize) -> u8 {
        self.read(at)
    }

    /// In host byte order.
    #[inline(always)]
    pub(crate) fn u16(&self, at: usize) -> u16 {
        u16::from_be(self.read(at))
    }

    /// As it lies in memory.
    #[inline(always)]
    pub(crate) fn raw32(&self, at: usize) -> u32 {
        self.read(at)
    }

    /// As it lies in memory. Two halves, for a header that starts 2 bytes off alignment.
    #[inline(always)]
    pub(crate) fn raw64(&self, at: usize) -> u64 {
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

/// A TCP or UDP packet that may be for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub tuple: Tuple,
    pub signal: Signal,
    pub is_v6: bool,
    /// DSCP and ECN of the IP header (RFC 2474, RFC 3168).
    pub traffic_class: u8,
    /// Length of the IP packet, bytes.
    pub ip_len: u16,
    /// Length of the IP header, bytes.
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
    /// Of a packet that [`parse`] has read.
    #[inline(always)]
    pub fn of(frame: &Frame, packet: &Packet) -> Segment {
        if packet.tuple.protocol as u8 != TCP {
            return Segment::default();
        }
        // The verifier forgets that the length was checked, if it was kept on the stack.
        let ip_header_len = opaque(packet.ip_header_len as u64) as usize & 0x3f;
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

/// Reads a frame's headers; `Err` is why it is none of ours. A packet shorter than its headers say is malformed.
#[inline(always)]
pub fn parse(frame: &Frame) -> Result<Packet, Reason> {
    let ethernet = frame.header::<{ EthHdr::LEN }>(0).ok_or(Reason::PassMalformed)?;
    match ethernet.u16(12) {
        ETHERTYPE_IPV4 => parse_v4(frame),
        ETHERTYPE_IPV6 => parse_v6(frame),
        _ => Err(Reason::PassNotIp),
    }
}

/// RFC 791.
#[inline(always)]
fn parse_v4(frame: &Frame) -> Result<Packet, Reason> {
    let ip = frame.header::<{ Ipv4Hdr::LEN }>(L3).ok_or(Reason::PassMalformed)?;
    let first = ip.u8(0);
    let header_len = ((first & 0x0f) << 2) as usize;
    if first >> 4 != 4 || header_len < Ipv4Hdr::LEN {
        return Err(Reason::PassMalformed);
    }
    // More-fragments flag or an offset: ports are missing, or the later fragments' are.
    if ip.u16(6) & 0x3fff != 0 {
        return Err(Reason::PassFragment);
    }
    let ip_len = ip.u16(2);
    let packet = Packet {
        tuple: Tuple {
            source: Tuple::v4(ip.raw32(12)),
            destination: Tuple::v4(ip.raw32(16)),
            ports: 0,
            protocol: ip.u8(9) as u32,
        },
        signal: Signal::Datagram,
        is_v6: false,
        traffic_class: ip.u8(1),
        ip_len,
        ip_header_len: header_len as u16,
    };
    // Without options, as nearly all are, what follows lies at offsets that are constants.
    if header_len == Ipv4Hdr::LEN {
        parse_l4(frame, packet, Ipv4Hdr::LEN)
    } else {
        parse_l4(frame, packet, header_len)
    }
}

/// RFC 8200, without extension headers.
#[inline(always)]
fn parse_v6(frame: &Frame) -> Result<Packet, Reason> {
    let ip = frame.header::<{ Ipv6Hdr::LEN }>(L3).ok_or(Reason::PassMalformed)?;
    let first = ip.u16(0);
    if first >> 12 != 6 {
        return Err(Reason::PassMalformed);
    }
    let ip_len = match ip.u16(4).checked_add(Ipv6Hdr::LEN as u16) {
        Some(len) => len,
        None => return Err(Reason::PassMalformed),
    };
    let destination = [ip.raw64(24), ip.raw64(32)];
    // An IPv4-mapped address means nothing on the wire, and must not pass for the IPv4 address of a service.
    if destination[0] == 0 && destination[1] as u32 == Tuple::v4(0)[1] as u32 {
        return Err(Reason::PassNoService);
    }
    let packet = Packet {
        tuple: Tuple {
            source: [ip.raw64(8), ip.raw64(16)],
            destination,
            ports: 0,
            protocol: ip.u8(6) as u32,
        },
        signal: Signal::Datagram,
        is_v6: true,
        traffic_class: (first >> 4) as u8,
        ip_len,
        ip_header_len: Ipv6Hdr::LEN as u16,
    };
    parse_l4(frame, packet, Ipv6Hdr::LEN)
}

#[inline(always)]
fn parse_l4(frame: &Frame, mut packet: Packet, ip_header_len: usize) -> Result<Packet, Reason> {
    let ip_len = packet.ip_len as usize;
    if L3 + ip_len > frame.len() {
        return Err(Reason::PassMalformed);
    }
    let offset = L3 + ip_header_len;
    match packet.tuple.protocol as u8 {
        TCP => {
            let tcp = frame.header::<{ TcpHdr::LEN }>(offset).ok_or(Reason::PassMalformed)?;
            let tcp_len = (tcp.u8(12) >> 4 << 2) as usize;
            if tcp_len < TcpHdr::LEN || ip_header_len + tcp_len > ip_len {
                return Err(Reason::PassMalformed);
            }
            packet.tuple.ports = tcp.raw32(0);
            packet.signal = tcp_signal(tcp.u8(13));
            Ok(packet)
        }
        UDP => {
            let udp = frame.header::<{ UdpHdr::LEN }>(offset).ok_or(Reason::PassMalformed)?;
            if ip_header_len + UdpHdr::LEN > ip_len {
                return Err(Reason::PassMalformed);
            }
            packet.tuple.ports = udp.raw32(0);
            Ok(packet)
        }
        _ => Err(Reason::PassOtherProtocol),
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
