//! Destination NAT: a client's packet gets its backend's address and port, an answer gets the VIP's, and ICMP errors of
//! either direction get both the packet that they quote and their own addresses translated.
//!
//! Stateless: who the backend is, is decided elsewhere. Checksums are mended for what changed (RFC 1624), so what was right
//! stays right, and what was damaged on the way is still found out by the receiver.
//!
//! Frames have no VLAN tags. Headers were parsed by the caller; what is checked here is that they lie in the frame. Whatever is
//! refused is left as it came.

mod icmp;
mod ip;

pub use icmp::{error_from_backend, error_to_backend};

use crate::bits::opaque;
use crate::checksum::Delta;
use crate::nat::ip::{Ip, Side, V4, V6};
use crate::parse::{Frame, Header, L3, TCP};

/// Mask of an offset from an IP header to what follows it, extension headers included: the verifier needs a bound.
const OFFSET: u64 = 0x3ff;

/// An end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// As in a [`Tuple`](crate::layout::Tuple): in network byte order, IPv4 as `::ffff:a.b.c.d`.
    pub address: [u64; 2],
    /// In network byte order, as it lies in the packet; 0: stays as it is.
    pub port: u16,
}

/// What follows the IP headers.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Nothing that has ports or a checksum over addresses: a later fragment.
    None,
    Tcp,
    Udp,
}

impl Transport {
    /// Of a packet that is TCP or UDP and no later fragment, by its IP protocol number.
    #[inline(always)]
    pub const fn of(protocol: u8) -> Self {
        if protocol == TCP { Transport::Tcp } else { Transport::Udp }
    }
}

/// Where a packet's headers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    pub is_v6: bool,
    pub transport: Transport,
    /// Offset of the TCP or UDP header from the start of the IP header, bytes, below 1024; ignored for a later fragment.
    pub offset: u16,
}

/// Why a packet was not translated.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Shorter than its headers say, or an ICMP error that is not for the sender of what it quotes.
    Malformed,
    /// Its time to live or hop limit does not let it be sent on.
    Spent,
}

/// Translates a client's packet: destination address and port become the backend's. Takes a hop off.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub unsafe fn to_backend(frame: &Frame, headers: &Headers, backend: &Endpoint) -> Result<(), Refusal> {
    // SAFETY: the caller's promise.
    unsafe {
        if headers.is_v6 {
            translate::<V6>(frame, headers, Side::Destination, backend)
        } else {
            translate::<V4>(frame, headers, Side::Destination, backend)
        }
    }
}

/// Translates a backend's packet: source address and port become the VIP's. Takes a hop off.
///
/// # Safety
/// As for [`to_backend`].
#[inline(always)]
pub unsafe fn from_backend(frame: &Frame, headers: &Headers, vip: &Endpoint) -> Result<(), Refusal> {
    // SAFETY: the caller's promise.
    unsafe {
        if headers.is_v6 {
            translate::<V6>(frame, headers, Side::Source, vip)
        } else {
            translate::<V4>(frame, headers, Side::Source, vip)
        }
    }
}

/// # Safety
/// As for [`to_backend`].
#[inline(always)]
unsafe fn translate<I: Ip>(
    frame: &Frame,
    headers: &Headers,
    side: Side,
    to: &Endpoint,
) -> Result<(), Refusal> {
    let ip = I::read(frame, L3).ok_or(Refusal::Malformed)?;
    if ip.is_spent() {
        return Err(Refusal::Spent);
    }
    let delta = ip.delta(side, &to.address);
    // The last check is in there: before the first write.
    // SAFETY: the caller's promise.
    unsafe {
        match headers.transport {
            Transport::Tcp => {
                let tcp = transport::<TCP_SUMMED>(frame, headers)?;
                let delta = set_port(&tcp, side, to.port, delta);
                tcp.write(TCP_CHECKSUM, delta.apply(tcp.read(TCP_CHECKSUM)));
            }
            Transport::Udp => {
                let udp = transport::<UDP_SUMMED>(frame, headers)?;
                let delta = set_port(&udp, side, to.port, delta);
                udp.write(UDP_CHECKSUM, delta.apply_udp(udp.read(UDP_CHECKSUM)));
            }
            Transport::None => {}
        }
        ip.send_on(side, &to.address, delta);
    }
    Ok(())
}

/// Offsets of checksums in their headers, bytes, and what a header has up to its checksum's end.
const TCP_CHECKSUM: usize = 16;
const TCP_SUMMED: usize = TCP_CHECKSUM + 2;
const UDP_CHECKSUM: usize = 6;
const UDP_SUMMED: usize = UDP_CHECKSUM + 2;

#[inline(always)]
fn transport<const N: usize>(frame: &Frame, headers: &Headers) -> Result<Header<N>, Refusal> {
    // The compiler may know a bound that the verifier does not: both are to look.
    let offset = (opaque(headers.offset as u64) & OFFSET) as usize;
    frame.header(L3 + offset).ok_or(Refusal::Malformed)
}

/// Writes a port where there is one to write; what changed by it and by what changed before.
///
/// # Safety
/// As for [`to_backend`].
#[inline(always)]
unsafe fn set_port<const N: usize>(transport: &Header<N>, side: Side, port: u16, delta: Delta) -> Delta {
    if port == 0 {
        return delta;
    }
    let at = match side {
        Side::Source => 0,
        Side::Destination => 2,
    };
    let old = transport.read(at);
    // SAFETY: the caller's promise.
    unsafe { transport.write(at, port) };
    delta.word16(old, port)
}
