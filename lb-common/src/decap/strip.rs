//! The inner packet: whether it is whole, and the cut before it.

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::ecn::{ECN, combine_ecn};
use super::gue::{verify_v4, verify_v6};
use super::outer::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Link};
use super::reason::DecapReason;
use crate::bits::opaque;
use crate::checksum;
use crate::parse::tags::TAG;
use crate::parse::{Frame, L3};

/// Mask of an IP header's length: IPv4 has 60 bytes at most.
pub(super) const IP_HEADER_LEN: usize = 63;

/// A packet within the outer one.
pub(super) struct Inner {
    /// Bytes from the outer IP header to the inner one: even, and 20 at least.
    pub cut: usize,
    /// Bytes that there are for it.
    pub len: usize,
    pub is_v6: bool,
    /// Sum of what precedes it in the UDP checksum of GUE. 0: no checksum to verify.
    pub sum: u32,
}

impl Inner {
    /// Mask of the cut: 60 bytes of IPv4, 12 of UDP and GUE, and 124 that GUE may have besides.
    pub const CUT: usize = 255;
}

/// The same number, which has no bits outside the mask. The compiler knows that, and the verifier of Linux 6.1 does not, once
/// the number was on the stack: so both are to look.
#[inline(always)]
pub(super) fn bounded(number: usize, mask: usize) -> usize {
    (opaque(number as u64) & mask as u64) as usize
}

/// # Safety
/// As for [`super::decapsulate_frame`].
#[inline(always)]
pub(super) unsafe fn strip_to_v4(
    frame: &Frame,
    link: &Link,
    inner: &Inner,
    outer_ecn: u8,
) -> Result<(), DecapReason> {
    let at = L3 + bounded(inner.cut, Inner::CUT);
    let ip = link.frame.header::<{ Ipv4Hdr::LEN }>(at).ok_or(DecapReason::PassInnerLength)?;
    if inner.len < Ipv4Hdr::LEN {
        return Err(DecapReason::PassInnerLength);
    }
    let first = ip.u8(0);
    if first >> 4 != 4 {
        return Err(DecapReason::PassInnerVersion);
    }
    let header_len = ((first & 0x0f) << 2) as usize;
    let ip_len = ip.u16(2) as usize;
    if header_len < Ipv4Hdr::LEN || ip_len < header_len || ip_len > inner.len {
        return Err(DecapReason::PassInnerLength);
    }
    if inner.sum != 0 {
        verify_v4(&link.frame, inner, &ip, header_len)?;
    }
    let class = ip.u8(1);
    let ecn = combine_ecn(outer_ecn, class & ECN).ok_or(DecapReason::DropCongested)?;
    if ecn != class & ECN {
        let old: u16 = ip.read(0);
        let new = u16::from_ne_bytes([first, class & !ECN | ecn]);
        // SAFETY: the caller's promise.
        unsafe {
            ip.write(0, new);
            ip.write(10, checksum::update(ip.read(10), old, new));
        }
    }
    // SAFETY: the caller's promise.
    unsafe { move_ethernet(frame, link, inner.cut, ETHERTYPE_IPV4) }
}

/// # Safety
/// As for [`super::decapsulate_frame`].
#[inline(always)]
pub(super) unsafe fn strip_to_v6(
    frame: &Frame,
    link: &Link,
    inner: &Inner,
    outer_ecn: u8,
) -> Result<(), DecapReason> {
    let at = L3 + bounded(inner.cut, Inner::CUT);
    let ip = link.frame.header::<{ Ipv6Hdr::LEN }>(at).ok_or(DecapReason::PassInnerLength)?;
    if inner.len < Ipv6Hdr::LEN {
        return Err(DecapReason::PassInnerLength);
    }
    let first = ip.u16(0);
    if first >> 12 != 6 {
        return Err(DecapReason::PassInnerVersion);
    }
    if Ipv6Hdr::LEN + ip.u16(4) as usize > inner.len {
        return Err(DecapReason::PassInnerLength);
    }
    if inner.sum != 0 {
        verify_v6(&link.frame, inner, &ip)?;
    }
    let inner_ecn = (first >> 4) as u8 & ECN;
    let ecn = combine_ecn(outer_ecn, inner_ecn).ok_or(DecapReason::DropCongested)?;
    if ecn != inner_ecn {
        let new = first & !((ECN as u16) << 4) | (ecn as u16) << 4;
        // SAFETY: the caller's promise.
        unsafe { ip.write(0, new.to_be()) };
    }
    // SAFETY: the caller's promise.
    unsafe { move_ethernet(frame, link, inner.cut, ETHERTYPE_IPV6) }
}

/// Copies the Ethernet header with its VLAN tags over the end of the outer headers, `by` bytes on, with another Ethertype.
///
/// # Safety
/// As for [`super::decapsulate_frame`].
#[inline(always)]
unsafe fn move_ethernet(frame: &Frame, link: &Link, by: usize, ethertype: u16) -> Result<(), DecapReason> {
    let to = frame.skip(bounded(by, Inner::CUT));
    // SAFETY: the caller's promise.
    let moved = unsafe {
        match link.tags {
            0 => copy_ethernet::<{ EthHdr::LEN }>(frame, &to, ethertype),
            TAG => copy_ethernet::<{ EthHdr::LEN + TAG }>(frame, &to, ethertype),
            _ => copy_ethernet::<{ EthHdr::LEN + 2 * TAG }>(frame, &to, ethertype),
        }
    };
    moved.ok_or(DecapReason::DropInternal)
}

/// Copies `N` bytes but the last two, which are the Ethertype: 20 with two tags. An IP header has as many at least, and lies
/// between: so nothing is read after it was overwritten, and of what follows nothing is.
///
/// # Safety
/// As for [`super::decapsulate_frame`].
#[inline(always)]
unsafe fn copy_ethernet<const N: usize>(from: &Frame, to: &Frame, ethertype: u16) -> Option<()> {
    let (from, to) = (from.header::<N>(0)?, to.header::<N>(0)?);
    // SAFETY: the caller's promise.
    unsafe {
        to.write(0, from.raw64(0));
        to.write(8, from.raw32(8));
        for tag in 0..(N - EthHdr::LEN) / TAG {
            let at = 12 + tag * TAG;
            to.write(at, from.raw32(at));
        }
        to.write(N - 2, ethertype.to_be());
    }
    Some(())
}
