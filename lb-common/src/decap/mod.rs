//! Taking packets out of packets at the backend: IP in IP, that is 4in4, 6in4, 4in6 and 6in6 (RFC 2003, RFC 4213, RFC 2473),
//! and the same pairs in GUE.
//!
//! Only a whole packet for an accepted address is taken apart; all else reaches the kernel untouched. VLAN tags, two at most,
//! stay where they are: before the inner packet, so that it arrives on the same VLAN. Not handled: fragments of the outer
//! packet and outer IPv6 extension headers, which [`crate::encap`] never makes.
//!
//! Padding behind the inner packet stays where it is: the kernel cuts a packet to the length in its header.

mod ecn;
mod gue;
mod outer;
mod reason;
mod strip;

pub use gue::GUE_PORT;
pub use reason::{DECAP_REASONS, DecapClass, DecapReason};

use crate::encap::IPV6_IN_IP;
use crate::parse::{Frame, UDP};
use outer::{parse_link, parse_outer};
use strip::{Inner, strip_to_v4, strip_to_v6};

/// The verdict on a frame.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decapsulated {
    pub reason: DecapReason,
    /// Bytes to cut off the front of the frame, where the new Ethernet header is already in place. 0: untouched.
    pub cut: usize,
}

/// Decides about a frame and, where the reason is of class [`DecapClass::Decapsulate`], rewrites it up to the cut.
/// `len` is the whole frame's length, bytes, of which `frame` holds at least the headers. `gue_port` is the UDP port that GUE
/// comes to; 0: none is taken apart. `accepts` tells whether an outer destination, IPv4 as `::ffff:a.b.c.d`, is one of ours.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub unsafe fn decapsulate_frame(
    frame: &Frame,
    len: usize,
    gue_port: u16,
    accepts: impl FnOnce(&[u64; 2]) -> bool,
) -> Decapsulated {
    // SAFETY: the caller's promise.
    match unsafe { take_apart(frame, len, gue_port, accepts) } {
        Ok(decapsulated) => decapsulated,
        Err(reason) => Decapsulated { reason, cut: 0 },
    }
}

/// The same on bytes: what comes out is `bytes[cut..]`.
pub fn decapsulate(bytes: &mut [u8], gue_port: u16, accepts: impl FnOnce(&[u64; 2]) -> bool) -> Decapsulated {
    let start = bytes.as_mut_ptr() as usize;
    // SAFETY: the slice is borrowed for writing for as long as the frame lives.
    unsafe { decapsulate_frame(&Frame::new(start, start + bytes.len()), bytes.len(), gue_port, accepts) }
}

/// # Safety
/// As for [`decapsulate_frame`].
#[inline(always)]
unsafe fn take_apart(
    frame: &Frame,
    len: usize,
    gue_port: u16,
    accepts: impl FnOnce(&[u64; 2]) -> bool,
) -> Result<Decapsulated, DecapReason> {
    let link = parse_link(frame)?;
    let outer = parse_outer(&link, len, gue_port)?;
    if !accepts(&outer.destination) {
        return Err(DecapReason::PassForeign);
    }
    let is_gue = outer.protocol == UDP;
    let inner = if is_gue {
        gue::parse_gue(&link.frame, &outer)?
    } else {
        let is_v6 = outer.protocol == IPV6_IN_IP;
        Inner { cut: outer.header_len, len: outer.payload_len, is_v6, sum: 0 }
    };
    // SAFETY: the caller's promise.
    unsafe {
        if inner.is_v6 {
            strip_to_v6(frame, &link, &inner, outer.ecn)?;
        } else {
            strip_to_v4(frame, &link, &inner, outer.ecn)?;
        }
    }
    Ok(Decapsulated { reason: DecapReason::decapsulated(is_gue, outer.is_v6, inner.is_v6), cut: inner.cut })
}

#[cfg(test)]
mod tests;
