//! The answer to a ping (RFC 792, RFC 4443, 4.2), made in place.

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::{HEADER, return_macs};
use crate::checksum::update;
use crate::parse::{Frame, Header, L3};

/// Time to live and hop limit of a reply.
pub(super) const TTL: u8 = 64;
const REPLY_V4: u8 = 0;
const REPLY_V6: u8 = 129;

const HEADERS_V4: usize = EthHdr::LEN + Ipv4Hdr::LEN + HEADER;
const HEADERS_V6: usize = EthHdr::LEN + Ipv6Hdr::LEN + HEADER;

/// Makes an echo request, which [`super::classify`] has taken for one, its reply: back to where it came from, with all that it
/// carries. Checksums are updated, so that one which was wrong stays wrong. False: the frame is too short, and untouched.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub unsafe fn reply(frame: &Frame, is_v6: bool) -> bool {
    // SAFETY: the caller's promise.
    unsafe { if is_v6 { reply_v6(frame) } else { reply_v4(frame) } }.is_some()
}

/// # Safety
/// As for [`reply`].
#[inline(always)]
unsafe fn reply_v4(frame: &Frame) -> Option<()> {
    const ICMP: usize = L3 + Ipv4Hdr::LEN;
    let headers = frame.header::<HEADERS_V4>(0)?;
    let (source, destination) = (headers.raw32(L3 + 12), headers.raw32(L3 + 16));
    let old: u16 = headers.read(L3 + 8);
    let new = u16::from_ne_bytes([TTL, headers.u8(L3 + 9)]);
    // SAFETY: the caller's promise.
    unsafe {
        return_macs(&headers, 0);
        headers.write(L3 + 8, new);
        headers.write(L3 + 10, update(headers.read(L3 + 10), old, new));
        headers.write(L3 + 12, destination);
        headers.write(L3 + 16, source);
        set_type(&headers, ICMP, REPLY_V4);
    }
    Some(())
}

/// # Safety
/// As for [`reply`].
#[inline(always)]
unsafe fn reply_v6(frame: &Frame) -> Option<()> {
    const ICMP: usize = L3 + Ipv6Hdr::LEN;
    let headers = frame.header::<HEADERS_V6>(0)?;
    let source = [headers.raw64(L3 + 8), headers.raw64(L3 + 16)];
    let destination = [headers.raw64(L3 + 24), headers.raw64(L3 + 32)];
    // The sum over the pseudo-header (RFC 8200, 8.1) stays the same: its addresses change places.
    // SAFETY: the caller's promise.
    unsafe {
        return_macs(&headers, 0);
        headers.write(L3 + 7, TTL);
        headers.write(L3 + 8, destination[0]);
        headers.write(L3 + 16, destination[1]);
        headers.write(L3 + 24, source[0]);
        headers.write(L3 + 32, source[1]);
        set_type(&headers, ICMP, REPLY_V6);
    }
    Some(())
}

/// Another type in the ICMP header at `at`, and the checksum that follows it there.
///
/// # Safety
/// As for [`reply`].
#[inline(always)]
unsafe fn set_type<const N: usize>(headers: &Header<N>, at: usize, kind: u8) {
    let old: u16 = headers.read(at);
    let new = u16::from_ne_bytes([kind, headers.u8(at + 1)]);
    // 0 and 0xffff are one number to a receiver, unless all else is 0, as in the reply to a ping of zeros: then only the latter is
    // right, and RFC 1624's equation gives the former.
    let checksum = match update(headers.read(at + 2), old, new) {
        0 => 0xffff,
        checksum => checksum,
    };
    // SAFETY: the caller's promise.
    unsafe {
        headers.write(at, new);
        headers.write(at + 2, checksum);
    }
}
