//! One hop less: time to live (RFC 791) and hop limit (RFC 8200) of a packet that is sent on.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::checksum::Delta;
use crate::parse::Header;

/// Time to live and protocol, the word of the IPv4 header that a checksum sees: one hop.
const HOP: u16 = u16::from_ne_bytes([1, 0]);

/// What one hop changes in an IPv4 header.
pub(crate) const HOP_DELTA: Delta = Delta::NONE.word16(HOP, 0);

/// Whether the packet's last hop was the one to here: it must not be sent on (RFC 1812, 5.3.1).
#[inline(always)]
pub fn is_spent_v4(ip: &Header<{ Ipv4Hdr::LEN }>) -> bool {
    ip.u8(8) <= 1
}

/// As [`is_spent_v4`].
#[inline(always)]
pub fn is_spent_v6(ip: &Header<{ Ipv6Hdr::LEN }>) -> bool {
    ip.u8(7) <= 1
}

/// Takes one hop off, without a branch, and mends the header's checksum as `ip_decrease_ttl` of Linux does. The packet is
/// not spent.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub unsafe fn decrement_v4(ip: &Header<{ Ipv4Hdr::LEN }>) {
    let sum = ip.read::<u16>(10) as u32 + HOP as u32;
    // One's complement: what is carried out comes in again, and 0xffff is written as 0.
    let checksum = (sum + ((sum + 1) >> 16)) as u16;
    // SAFETY: the caller's promise.
    unsafe {
        ip.write(8, ip.u8(8).wrapping_sub(1));
        ip.write(10, checksum);
    }
}

/// Takes one hop off; no checksum covers the hop limit. The packet is not spent.
///
/// # Safety
/// As for [`decrement_v4`].
#[inline(always)]
pub unsafe fn decrement_v6(ip: &Header<{ Ipv6Hdr::LEN }>) {
    // SAFETY: the caller's promise.
    unsafe { ip.write(7, ip.u8(7).wrapping_sub(1)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum;
    use crate::parse::Frame;

    fn frame(bytes: &mut [u8]) -> Frame {
        let start = bytes.as_mut_ptr() as usize;
        // SAFETY: borrowed by the test for as long as it uses the frame.
        unsafe { Frame::new(start, start + bytes.len()) }
    }

    fn with_checksum(mut header: [u8; 20]) -> [u8; 20] {
        header[10..12].fill(0);
        let words = core::array::from_fn(|i| u32::from_ne_bytes(header[i * 4..][..4].try_into().unwrap()));
        header[10..12].copy_from_slice(&checksum::ipv4(&words).to_ne_bytes());
        header
    }

    /// All times to live, and so many identifications that every checksum occurs with each of some times to live.
    #[test]
    fn every_checksum_is_mended_to_what_it_would_be_anew() {
        for ttl in [2u8, 3, 64, 127, 128, 255] {
            for identification in 0..=u16::MAX {
                let [i0, i1] = identification.to_be_bytes();
                let header = |ttl| {
                    with_checksum([0x45, 0, 0, 20, i0, i1, 0, 0, ttl, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
                };
                let mut bytes = header(ttl);
                let ip = frame(&mut bytes).header(0).unwrap();
                let by_delta = HOP_DELTA.apply(ip.read(10));
                assert!(!is_spent_v4(&ip));
                // SAFETY: the test's own bytes.
                unsafe { decrement_v4(&ip) };
                assert_eq!(bytes, header(ttl - 1), "{identification:04x}, {ttl}");
                assert_eq!(bytes[10..12], by_delta.to_ne_bytes());
            }
        }
    }

    #[test]
    fn ipv6_has_no_more_to_mend() {
        let mut bytes: [u8; 40] = core::array::from_fn(|i| i as u8);
        let mut expected = bytes;
        expected[7] = 6;
        // SAFETY: the test's own bytes.
        unsafe { decrement_v6(&frame(&mut bytes).header(0).unwrap()) };
        assert_eq!(bytes, expected);
    }

    #[test]
    fn packets_are_spent_at_one_hop() {
        for (ttl, spent) in [(0, true), (1, true), (2, false), (255, false)] {
            let mut bytes = [ttl; 40];
            assert_eq!(is_spent_v4(&frame(&mut bytes).header(0).unwrap()), spent);
            assert_eq!(is_spent_v6(&frame(&mut bytes).header(0).unwrap()), spent);
        }
    }
}
