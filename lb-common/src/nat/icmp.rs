//! ICMP errors (RFC 792, RFC 4443) across the translation (RFC 5508, 4.2 and 4.3): the quoted packet must look as its sender sent
//! it, else the sender does not know it again.

use crate::bits::opaque;
use crate::checksum::Delta;
use crate::nat::ip::{Ip, Side, V4, V6};
use crate::nat::{
    Endpoint, Headers, OFFSET, Refusal, TCP_CHECKSUM, TCP_SUMMED, Transport, UDP_CHECKSUM, UDP_SUMMED,
    set_port,
};
use crate::parse::{Frame, Header, L3};

/// What all ICMP errors have before the packet that they quote.
const ICMP: usize = 8;
const ICMP_CHECKSUM: usize = 2;
/// What at least is quoted of a TCP or UDP header: the ports, and all of UDP.
const QUOTED: usize = UDP_SUMMED;

/// Translates an error that came for the VIP and quotes a packet from the VIP to a client: the quoted source becomes the
/// backend's address and port, and the error goes to the backend. Takes a hop off.
///
/// `icmp` is the offset of the ICMP header from the start of the IP header, bytes, below 1024; `quoted` says where the headers of
/// the quoted packet are, from the start of *its* IP header. It is of the same family and has a transport header.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub unsafe fn error_to_backend(
    frame: &Frame,
    icmp: u16,
    quoted: &Headers,
    backend: &Endpoint,
) -> Result<(), Refusal> {
    // SAFETY: the caller's promise.
    unsafe {
        if quoted.is_v6 {
            to_backend::<V6>(frame, icmp, quoted, backend)
        } else {
            to_backend::<V4>(frame, icmp, quoted, backend)
        }
    }
}

/// Translates an error from the backend's side that quotes a client's packet as the backend got it: the quoted destination
/// becomes the VIP's address and port. An error by the backend itself then comes from the VIP; one by a router on the way
/// keeps its source. Takes a hop off.
///
/// `icmp` and `quoted` are as for [`error_to_backend`].
///
/// # Safety
/// As for [`error_to_backend`].
#[inline(always)]
pub unsafe fn error_from_backend(
    frame: &Frame,
    icmp: u16,
    quoted: &Headers,
    vip: &Endpoint,
) -> Result<(), Refusal> {
    // SAFETY: the caller's promise.
    unsafe {
        if quoted.is_v6 {
            from_backend::<V6>(frame, icmp, quoted, vip)
        } else {
            from_backend::<V4>(frame, icmp, quoted, vip)
        }
    }
}

/// # Safety
/// As for [`error_to_backend`].
#[inline(always)]
unsafe fn to_backend<I: Ip>(
    frame: &Frame,
    icmp: u16,
    quoted: &Headers,
    backend: &Endpoint,
) -> Result<(), Refusal> {
    let error = Error::<I>::read(frame, icmp, quoted)?;
    // SAFETY: the caller's promise.
    unsafe {
        let quoted = error.translate_quote(Side::Source, backend);
        let delta = error.outer.delta(Side::Destination, &backend.address);
        error.outer.send_on(Side::Destination, &backend.address, delta);
        error.mend(quoted, delta);
    }
    Ok(())
}

/// # Safety
/// As for [`error_to_backend`].
#[inline(always)]
unsafe fn from_backend<I: Ip>(
    frame: &Frame,
    icmp: u16,
    quoted: &Headers,
    vip: &Endpoint,
) -> Result<(), Refusal> {
    let error = Error::<I>::read(frame, icmp, quoted)?;
    let is_by_backend = error.outer.address(Side::Source) == error.quoted.address(Side::Destination);
    // SAFETY: the caller's promise.
    unsafe {
        let quoted = error.translate_quote(Side::Destination, vip);
        let mut delta = Delta::NONE;
        if is_by_backend {
            delta = error.outer.delta(Side::Source, &vip.address);
            error.outer.send_on(Side::Source, &vip.address, delta);
        } else {
            error.outer.decrement();
        }
        error.mend(quoted, delta);
    }
    Ok(())
}

/// The headers of an ICMP error.
struct Error<I> {
    outer: I,
    icmp: Header<ICMP>,
    quoted: I,
    ports: Header<QUOTED>,
    /// The quoted TCP header, if the quote reaches to its checksum.
    tcp: Option<Header<TCP_SUMMED>>,
    is_udp: bool,
}

impl<I: Ip> Error<I> {
    /// All checks; nothing is written before.
    #[inline(always)]
    fn read(frame: &Frame, icmp: u16, quoted: &Headers) -> Result<Self, Refusal> {
        let outer = I::read(frame, L3).ok_or(Refusal::Malformed)?;
        if outer.is_spent() {
            return Err(Refusal::Spent);
        }
        // What lies behind the packet is padding, which no checksum covers.
        let end = L3 + outer.packet_len();
        let at = L3 + (opaque(icmp as u64) & OFFSET) as usize;
        let icmp = frame.header(at).ok_or(Refusal::Malformed)?;
        let quoted_ip = I::read(frame, at + ICMP).ok_or(Refusal::Malformed)?;
        let transport = at + ICMP + (opaque(quoted.offset as u64) & OFFSET) as usize;
        let ports = frame.header(transport).ok_or(Refusal::Malformed)?;
        if transport + QUOTED > end || outer.address(Side::Destination) != quoted_ip.address(Side::Source) {
            return Err(Refusal::Malformed);
        }
        let tcp = match quoted.transport {
            Transport::Tcp if transport + TCP_SUMMED <= end => {
                Some(frame.header(transport).ok_or(Refusal::Malformed)?)
            }
            _ => None,
        };
        let is_udp = quoted.transport as u8 == Transport::Udp as u8;
        Ok(Error { outer, icmp, quoted: quoted_ip, ports, tcp, is_udp })
    }

    /// Writes an end of the quoted flow; what changed in the ICMP message by it. As netfilter does, the quoted transport's
    /// checksum is mended where it is quoted.
    ///
    /// # Safety
    /// As for [`error_to_backend`].
    #[inline(always)]
    unsafe fn translate_quote(&self, side: Side, to: &Endpoint) -> Delta {
        let address = self.quoted.delta(side, &to.address);
        // SAFETY: the caller's promise.
        unsafe {
            let header = self.quoted.set_address(side, &to.address, address);
            let port = set_port(&self.ports, side, to.port, Delta::NONE);
            let changed = header.and(port);
            if let Some(tcp) = self.tcp {
                let old = tcp.read(TCP_CHECKSUM);
                let new = address.and(port).apply(old);
                tcp.write(TCP_CHECKSUM, new);
                changed.word16(old, new)
            } else if self.is_udp {
                let old = self.ports.read(UDP_CHECKSUM);
                let new = address.and(port).apply_udp(old);
                self.ports.write(UDP_CHECKSUM, new);
                changed.word16(old, new)
            } else {
                changed
            }
        }
    }

    /// Mends the ICMP checksum for what changed in the message and in the outer addresses.
    ///
    /// # Safety
    /// As for [`error_to_backend`].
    #[inline(always)]
    unsafe fn mend(&self, message: Delta, addresses: Delta) {
        let delta = if I::ICMP_COVERS_ADDRESSES { message.and(addresses) } else { message };
        // SAFETY: the caller's promise.
        unsafe { self.icmp.write(ICMP_CHECKSUM, delta.apply(self.icmp.read(ICMP_CHECKSUM))) };
    }
}
