//! ICMP at the balancer (RFC 792, RFC 4443): errors on their way to the backend of the flow that they are about, pings of a
//! service's address, and errors of the balancer's own.
//!
//! Frames have no VLAN tags here: the IP header lies at [`L3`]. `l4` is where the ICMP header is, as the caller's parser found
//! it; `is_v6` says which ICMP it is.

mod answer;
mod echo;
mod quote;

pub use answer::{
    ADDED_V4, ADDED_V6, LONG, Problem, SHORT_V4, SHORT_V6, answer_v4, answer_v6, may_answer,
    may_answer_packet, quote_v4, quote_v6,
};
pub use echo::reply;
pub use quote::{NoFlow, Quoted, quoted};

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::bits::opaque;
use crate::parse::{Frame, Header, L3};
pub use crate::parse::{ICMP, ICMPV6};

/// Bytes of an ICMP header before what an error quotes, in both families.
pub const HEADER: usize = 8;

/// The farthest offset that a header is read at: behind options and extension headers it varies, and the verifier wants a
/// bound, as a mask.
const REACH: usize = 0x3ff;

const UNREACHABLE_V4: u8 = 3;
const ECHO_V4: u8 = 8;
const TIME_EXCEEDED_V4: u8 = 11;
const PARAMETER_V4: u8 = 12;

const UNREACHABLE_V6: u8 = 1;
const TOO_BIG_V6: u8 = 2;
const TIME_EXCEEDED_V6: u8 = 3;
const PARAMETER_V6: u8 = 4;
const ECHO_V6: u8 = 128;
const REDIRECT_V6: u8 = 137;

/// What an ICMP packet is to the balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An echo request that [`reply`] can answer: whole, and directly after an IP header without options.
    Echo,
    /// An error, with the packet that it is about: see [`quoted`].
    Error,
    /// Everything else. Source quench is (RFC 6633: ignore it), and redirects, which are for neighbours.
    Other,
    /// The frame ends before the ICMP header does, or the header lies too far into it.
    Truncated,
}

/// Tells what an ICMP packet is. Later fragments have no ICMP header: they must not come here.
#[inline(always)]
pub fn classify(frame: &Frame, l4: usize, is_v6: bool) -> Kind {
    let Some(icmp) = header::<HEADER>(frame, l4) else { return Kind::Truncated };
    let Some(ip) = frame.header::<{ Ipv4Hdr::LEN }>(L3) else { return Kind::Truncated };
    let kind = icmp.u8(0);
    if is_v6 {
        match kind {
            UNREACHABLE_V6..=PARAMETER_V6 => Kind::Error,
            ECHO_V6 if l4 == L3 + Ipv6Hdr::LEN => Kind::Echo,
            _ => Kind::Other,
        }
    } else {
        match kind {
            UNREACHABLE_V4 | TIME_EXCEEDED_V4 | PARAMETER_V4 => Kind::Error,
            ECHO_V4 if l4 == L3 + Ipv4Hdr::LEN && ip.u16(6) & 0x3fff == 0 => Kind::Echo,
            _ => Kind::Other,
        }
    }
}

/// `N` bytes of the frame from an offset that varies.
#[inline(always)]
fn header<const N: usize>(frame: &Frame, offset: usize) -> Option<Header<N>> {
    if offset > REACH {
        return None;
    }
    // The compiler knows that the mask changes nothing, and the verifier may have forgotten it.
    frame.header((opaque(offset as u64) & REACH as u64) as usize)
}

/// Writes the MAC addresses of the Ethernet header at `at` to the front, in each other's place.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub(crate) unsafe fn return_macs<const N: usize>(headers: &Header<N>, at: usize) {
    let (to, to_end): (u32, u16) = (headers.read(at), headers.read(at + 4));
    let (from, from_end): (u32, u16) = (headers.read(at + 6), headers.read(at + 10));
    // SAFETY: the caller's promise.
    unsafe {
        headers.write(0, from);
        headers.write(4, from_end);
        headers.write(6, to);
        headers.write(10, to_end);
    }
}
