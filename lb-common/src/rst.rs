//! The RST that tells a client that its flow has ended, made out of a packet of the flow.
//!
//! It needs no stored state: a client accepts a RST with the very sequence number that it has acknowledged (RFC 9293, 3.10.7;
//! RFC 5961, 3), which its packet carries.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;

use crate::bits::opaque;
use crate::checksum::{self, fold_words};
use crate::icmp::return_macs;
use crate::parse::{Frame, Header, IP_HEADER_MOST, L3, Packet, Segment, TCP};

/// Bytes of the frame that answers IPv4, without VLAN tags.
pub const LEN_V4: usize = L3 + Ipv4Hdr::LEN + TcpHdr::LEN;
/// Bytes of the frame that answers IPv6, without VLAN tags.
pub const LEN_V6: usize = L3 + Ipv6Hdr::LEN + TcpHdr::LEN;

const TTL: u8 = 64;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What a client has said, as far as its RST needs it.
struct Said {
    /// As they lie in the packet.
    ports: u32,
    acknowledgement: u32,
    flags: u8,
    /// The sequence number after the segment, with its SYN and FIN.
    after: u32,
}

/// Makes the frame the RST to itself, and says how many bytes of it are that: the caller cuts the rest off. `None`: it is not a TCP
/// packet that may be answered (a RST never is), or too short, and untouched.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub unsafe fn reset(frame: &Frame, packet: &Packet) -> Option<usize> {
    let said = listen(frame, packet)?;
    let tcp = answer(&said);
    // SAFETY: the caller's promise.
    unsafe {
        if packet.is_v6 {
            write_v6(&frame.header(0)?, tcp);
            Some(LEN_V6)
        } else {
            write_v4(&frame.header(0)?, tcp);
            Some(LEN_V4)
        }
    }
}

#[inline(always)]
fn listen(frame: &Frame, packet: &Packet) -> Option<Said> {
    if packet.tuple.protocol as u8 != TCP {
        return None;
    }
    let ip_header_len = opaque(packet.ip_header_len as u64) as usize & IP_HEADER_MOST;
    let tcp = frame.header::<{ TcpHdr::LEN }>(L3 + ip_header_len)?;
    let flags = tcp.u8(13);
    if flags & RST != 0 {
        return None;
    }
    let after = Segment::of(frame, packet).sequence_after.wrapping_add((flags & SYN != 0) as u32);
    Some(Said { ports: tcp.raw32(0), acknowledgement: tcp.raw32(8), flags, after })
}

/// The TCP header as words, its checksum 0 (RFC 9293, 3.10.7.1).
#[inline(always)]
fn answer(said: &Said) -> [u32; 5] {
    const OFFSET: u8 = (TcpHdr::LEN as u8 / 4) << 4;
    let (sequence, acknowledgement, flags) = if said.flags & ACK != 0 {
        (said.acknowledgement, 0, RST)
    } else {
        (0, said.after.to_be(), RST | ACK)
    };
    [said.ports.rotate_left(16), sequence, acknowledgement, u32::from_ne_bytes([OFFSET, flags, 0, 0]), 0]
}

/// # Safety
/// As for [`reset`].
#[inline(always)]
unsafe fn write_v4(headers: &Header<LEN_V4>, tcp: [u32; 5]) {
    const LEN: [u8; 2] = ((LEN_V4 - L3) as u16).to_be_bytes();
    let (source, destination) = (headers.raw32(L3 + 12), headers.raw32(L3 + 16));
    // Never fragmented here: DF, and no identification (RFC 6864, 4.1).
    let mut ip = [
        u32::from_ne_bytes([0x45, 0, LEN[0], LEN[1]]),
        u32::from_ne_bytes([0, 0, 0x40, 0]),
        u32::from_ne_bytes([TTL, TCP, 0, 0]),
        destination,
        source,
    ];
    let [c0, c1] = checksum::ipv4(&ip).to_ne_bytes();
    ip[2] = u32::from_ne_bytes([TTL, TCP, c0, c1]);
    let addresses = source as u64 + destination as u64;
    // SAFETY: the caller's promise.
    unsafe {
        return_macs(headers, 0);
        let mut i = 0;
        while i < 5 {
            headers.write(L3 + i * 4, ip[i]);
            i += 1;
        }
        write_tcp(headers, L3 + Ipv4Hdr::LEN, tcp, addresses);
    }
}

/// # Safety
/// As for [`reset`].
#[inline(always)]
unsafe fn write_v6(headers: &Header<LEN_V6>, tcp: [u32; 5]) {
    const LEN: [u8; 2] = (TcpHdr::LEN as u16).to_be_bytes();
    let source = [headers.raw64(L3 + 8), headers.raw64(L3 + 16)];
    let destination = [headers.raw64(L3 + 24), headers.raw64(L3 + 32)];
    let mut addresses = 0;
    let mut at = 8;
    while at < Ipv6Hdr::LEN {
        addresses += headers.raw32(L3 + at) as u64;
        at += 4;
    }
    // SAFETY: the caller's promise.
    unsafe {
        return_macs(headers, 0);
        headers.write(L3, u64::from_ne_bytes([0x60, 0, 0, 0, LEN[0], LEN[1], TCP, TTL]));
        headers.write(L3 + 8, destination[0]);
        headers.write(L3 + 16, destination[1]);
        headers.write(L3 + 24, source[0]);
        headers.write(L3 + 32, source[1]);
        write_tcp(headers, L3 + Ipv6Hdr::LEN, tcp, addresses);
    }
}

/// The TCP header at `at`, with its checksum over it and the pseudo-header, of whose addresses the sum is given.
///
/// # Safety
/// As for [`reset`].
#[inline(always)]
unsafe fn write_tcp<const N: usize>(headers: &Header<N>, at: usize, tcp: [u32; 5], addresses: u64) {
    let mut sum = addresses + (TCP as u32).to_be() as u64 + (TcpHdr::LEN as u32).to_be() as u64;
    let mut i = 0;
    while i < 5 {
        sum += tcp[i] as u64;
        i += 1;
    }
    let [c0, c1] = fold_words(sum).to_ne_bytes();
    // SAFETY: the caller's promise.
    unsafe {
        let mut i = 0;
        while i < 4 {
            headers.write(at + i * 4, tcp[i]);
            i += 1;
        }
        headers.write(at + 16, u32::from_ne_bytes([c0, c1, 0, 0]));
    }
}
