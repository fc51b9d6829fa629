//! Taking IP in IP apart at the backend: 4in4, 6in4, 4in6 and 6in6 (RFC 2003, RFC 4213, RFC 2473).
//!
//! Only a whole packet for an accepted address is taken apart; all else reaches the kernel untouched. Not handled: VLAN
//! tags, fragments of the outer packet and outer IPv6 extension headers, which [`crate::encap`] never makes.
//!
//! Padding behind the inner packet stays where it is: the kernel cuts a packet to the length in its header.

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::bits::opaque;
use crate::checksum::{fold, update};
use crate::encap::{IPV4_IN_IP, IPV6_IN_IP};
use crate::layout::Tuple;
use crate::parse::{Frame, L3};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Mask of a header's length: IPv4 has 60 bytes at most.
const HEADER_LEN: u64 = 63;

/// What becomes of a frame at the decapsulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecapClass {
    /// To the kernel, untouched.
    Pass,
    /// To the kernel without its outer header.
    Decapsulate,
    /// Nowhere.
    Drop,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $class:ident $text:literal,)*) => {
        /// Why the decapsulator did what it did. The number is the index of its counter.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum DecapReason { $($(#[$doc])* $name,)* }

        impl DecapReason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [DecapReason] = &[$(DecapReason::$name),*];

            /// Name for metrics and status: lower case with underscores.
            pub const fn name(self) -> &'static str {
                match self { $(DecapReason::$name => $text,)* }
            }

            pub const fn class(self) -> DecapClass {
                match self { $(DecapReason::$name => DecapClass::$class,)* }
            }
        }
    };
}

reasons! {
    /// Neither IPv4 nor IPv6 directly after the Ethernet header.
    PassNotIp = Pass "pass_not_ip",
    /// Shorter than its outer headers say, or outer headers that contradict themselves.
    PassMalformed = Pass "pass_malformed",
    /// No IP packet directly after the outer IP header.
    PassOtherProtocol = Pass "pass_other_protocol",
    /// A fragment of an outer packet.
    PassFragment = Pass "pass_fragment",
    /// The outer IPv4 header's checksum is wrong.
    PassChecksum = Pass "pass_checksum",
    /// For an address that is not accepted.
    PassForeign = Pass "pass_foreign",
    /// The inner packet is not of the version that the outer header announces.
    PassInnerVersion = Pass "pass_inner_version",
    /// The inner packet does not fit the outer one, or is shorter than its own header.
    PassInnerLength = Pass "pass_inner_length",
    /// IPv4 out of IPv4.
    Decap4In4 = Decapsulate "decap_4in4",
    /// IPv6 out of IPv4.
    Decap6In4 = Decapsulate "decap_6in4",
    /// IPv4 out of IPv6.
    Decap4In6 = Decapsulate "decap_4in6",
    /// IPv6 out of IPv6.
    Decap6In6 = Decapsulate "decap_6in6",
    /// Congestion was met on the way, and the inner packet's transport does not understand the mark: a loss tells it
    /// (RFC 6040, 4.2).
    DropCongested = Drop "drop_congested",
    /// The kernel refused to cut the outer header off.
    DropInternal = Drop "drop_internal",
}

/// Number of reasons: entries of the map of counters.
pub const DECAP_REASONS: u32 = DecapReason::ALL.len() as u32;

/// The verdict on a frame.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decapsulated {
    pub reason: DecapReason,
    /// Bytes to cut off the front of the frame, where the new Ethernet header is already in place. 0: untouched.
    pub cut: usize,
}

/// An outer header.
struct Outer {
    destination: [u64; 2],
    /// Bytes, with options.
    header_len: usize,
    /// Bytes after the header.
    payload_len: usize,
    /// ECN field (RFC 3168): 2 bits.
    ecn: u8,
    is_v6: bool,
    holds_v6: bool,
}

/// Decides about a frame and, where the reason is of class [`DecapClass::Decapsulate`], rewrites it up to the cut.
/// `len` is the whole frame's length, bytes, of which `frame` holds at least the headers. `accepts` tells whether an
/// outer destination, IPv4 as `::ffff:a.b.c.d`, is one of ours.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub unsafe fn decapsulate_frame(
    frame: &Frame,
    len: usize,
    accepts: impl FnOnce(&[u64; 2]) -> bool,
) -> Decapsulated {
    let outer = match parse_outer(frame, len) {
        Ok(outer) => outer,
        Err(reason) => return Decapsulated { reason, cut: 0 },
    };
    if !accepts(&outer.destination) {
        return Decapsulated { reason: DecapReason::PassForeign, cut: 0 };
    }
    // SAFETY: the caller's promise.
    let stripped =
        unsafe { if outer.holds_v6 { strip_to_v6(frame, &outer) } else { strip_to_v4(frame, &outer) } };
    match stripped {
        Ok(reason) => Decapsulated { reason, cut: outer.header_len },
        Err(reason) => Decapsulated { reason, cut: 0 },
    }
}

/// The same on bytes: what comes out is `bytes[cut..]`.
pub fn decapsulate(bytes: &mut [u8], accepts: impl FnOnce(&[u64; 2]) -> bool) -> Decapsulated {
    let start = bytes.as_mut_ptr() as usize;
    // SAFETY: the slice is borrowed for writing for as long as the frame lives.
    unsafe { decapsulate_frame(&Frame::new(start, start + bytes.len()), bytes.len(), accepts) }
}

#[inline(always)]
fn parse_outer(frame: &Frame, len: usize) -> Result<Outer, DecapReason> {
    let ethernet = frame.header::<{ EthHdr::LEN }>(0).ok_or(DecapReason::PassMalformed)?;
    match ethernet.u16(12) {
        ETHERTYPE_IPV4 => parse_outer_v4(frame, len),
        ETHERTYPE_IPV6 => parse_outer_v6(frame, len),
        _ => Err(DecapReason::PassNotIp),
    }
}

/// Whether the payload is IPv6; `Err`: it is no IP packet.
#[inline(always)]
const fn holds_v6(protocol: u8) -> Result<bool, DecapReason> {
    match protocol {
        IPV4_IN_IP => Ok(false),
        IPV6_IN_IP => Ok(true),
        _ => Err(DecapReason::PassOtherProtocol),
    }
}

/// RFC 791.
#[inline(always)]
fn parse_outer_v4(frame: &Frame, len: usize) -> Result<Outer, DecapReason> {
    let ip = frame.header::<{ Ipv4Hdr::LEN }>(L3).ok_or(DecapReason::PassMalformed)?;
    let first = ip.u8(0);
    let header_len = ((first & 0x0f) << 2) as usize;
    if first >> 4 != 4 || header_len < Ipv4Hdr::LEN {
        return Err(DecapReason::PassMalformed);
    }
    let holds_v6 = holds_v6(ip.u8(9))?;
    // More-fragments flag or an offset.
    if ip.u16(6) & 0x3fff != 0 {
        return Err(DecapReason::PassFragment);
    }
    let ip_len = ip.u16(2) as usize;
    if ip_len < header_len || L3 + ip_len > len {
        return Err(DecapReason::PassMalformed);
    }
    let words: [u32; 5] = [ip.raw32(0), ip.raw32(4), ip.raw32(8), ip.raw32(12), ip.raw32(16)];
    let mut sum = 0;
    for word in words {
        sum += halves(word);
    }
    if header_len > Ipv4Hdr::LEN {
        sum += sum_options(frame, header_len)?;
    }
    if fold(sum) != 0 {
        return Err(DecapReason::PassChecksum);
    }
    Ok(Outer {
        destination: Tuple::v4(words[4]),
        header_len,
        payload_len: ip_len - header_len,
        ecn: ip.u8(1) & ECN,
        is_v6: false,
        holds_v6,
    })
}

/// Sum of the 16-bit halves of a word.
#[inline(always)]
const fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// Sum of the 16-bit words of an IPv4 header's options.
#[inline(always)]
fn sum_options(frame: &Frame, header_len: usize) -> Result<u32, DecapReason> {
    let mut sum = 0;
    // At most 40 bytes: the header's length has 4 bits.
    for word in 0..10 {
        let offset = Ipv4Hdr::LEN + word * 4;
        if offset >= header_len {
            break;
        }
        let option = frame.header::<4>(L3 + offset).ok_or(DecapReason::PassMalformed)?;
        sum += halves(option.raw32(0));
    }
    Ok(sum)
}

/// RFC 8200, without extension headers.
#[inline(always)]
fn parse_outer_v6(frame: &Frame, len: usize) -> Result<Outer, DecapReason> {
    let ip = frame.header::<{ Ipv6Hdr::LEN }>(L3).ok_or(DecapReason::PassMalformed)?;
    let first = ip.u16(0);
    if first >> 12 != 6 {
        return Err(DecapReason::PassMalformed);
    }
    let holds_v6 = holds_v6(ip.u8(6))?;
    let payload_len = ip.u16(4) as usize;
    if L3 + Ipv6Hdr::LEN + payload_len > len {
        return Err(DecapReason::PassMalformed);
    }
    let destination = [ip.raw64(24), ip.raw64(32)];
    // An IPv4-mapped address means nothing on the wire, and must not pass for the IPv4 address with the same key.
    if destination[0] == 0 && destination[1] as u32 == Tuple::v4(0)[1] as u32 {
        return Err(DecapReason::PassForeign);
    }
    Ok(Outer {
        destination,
        header_len: Ipv6Hdr::LEN,
        payload_len,
        ecn: (first >> 4) as u8 & ECN,
        is_v6: true,
        holds_v6,
    })
}

/// # Safety
/// As for [`decapsulate_frame`].
#[inline(always)]
unsafe fn strip_to_v4(frame: &Frame, outer: &Outer) -> Result<DecapReason, DecapReason> {
    let ip = frame.header::<{ Ipv4Hdr::LEN }>(L3 + outer.header_len).ok_or(DecapReason::PassInnerLength)?;
    if outer.payload_len < Ipv4Hdr::LEN {
        return Err(DecapReason::PassInnerLength);
    }
    let first = ip.u8(0);
    if first >> 4 != 4 {
        return Err(DecapReason::PassInnerVersion);
    }
    let header_len = ((first & 0x0f) << 2) as usize;
    let ip_len = ip.u16(2) as usize;
    if header_len < Ipv4Hdr::LEN || ip_len < header_len || ip_len > outer.payload_len {
        return Err(DecapReason::PassInnerLength);
    }
    let class = ip.u8(1);
    let ecn = combine_ecn(outer.ecn, class & ECN).ok_or(DecapReason::DropCongested)?;
    if ecn != class & ECN {
        let old: u16 = ip.read(0);
        let new = u16::from_ne_bytes([first, class & !ECN | ecn]);
        // SAFETY: the caller's promise.
        unsafe {
            ip.write(0, new);
            ip.write(10, update(ip.read(10), old, new));
        }
    }
    // SAFETY: the caller's promise.
    unsafe { move_ethernet(frame, outer.header_len, ETHERTYPE_IPV4)? };
    Ok(if outer.is_v6 { DecapReason::Decap4In6 } else { DecapReason::Decap4In4 })
}

/// # Safety
/// As for [`decapsulate_frame`].
#[inline(always)]
unsafe fn strip_to_v6(frame: &Frame, outer: &Outer) -> Result<DecapReason, DecapReason> {
    let ip = frame.header::<{ Ipv6Hdr::LEN }>(L3 + outer.header_len).ok_or(DecapReason::PassInnerLength)?;
    if outer.payload_len < Ipv6Hdr::LEN {
        return Err(DecapReason::PassInnerLength);
    }
    let first = ip.u16(0);
    if first >> 12 != 6 {
        return Err(DecapReason::PassInnerVersion);
    }
    if Ipv6Hdr::LEN + ip.u16(4) as usize > outer.payload_len {
        return Err(DecapReason::PassInnerLength);
    }
    let inner_ecn = (first >> 4) as u8 & ECN;
    let ecn = combine_ecn(outer.ecn, inner_ecn).ok_or(DecapReason::DropCongested)?;
    if ecn != inner_ecn {
        let new = first & !((ECN as u16) << 4) | (ecn as u16) << 4;
        // SAFETY: the caller's promise.
        unsafe { ip.write(0, new.to_be()) };
    }
    // SAFETY: the caller's promise.
    unsafe { move_ethernet(frame, outer.header_len, ETHERTYPE_IPV6)? };
    Ok(if outer.is_v6 { DecapReason::Decap6In6 } else { DecapReason::Decap6In4 })
}

/// Copies the MAC addresses over the end of the outer IP header, `by` bytes on, with another Ethertype. An IP header
/// is longer than an Ethernet header, so that nothing else is overwritten.
///
/// # Safety
/// As for [`decapsulate_frame`].
#[inline(always)]
unsafe fn move_ethernet(frame: &Frame, by: usize, ethertype: u16) -> Result<(), DecapReason> {
    let from = frame.header::<{ EthHdr::LEN }>(0).ok_or(DecapReason::DropInternal)?;
    // The compiler knows that this is within the frame, and the verifier of Linux 6.1 does not: so both are to look.
    let by = (opaque(by as u64) & HEADER_LEN) as usize;
    let to = frame.header::<{ EthHdr::LEN }>(by).ok_or(DecapReason::DropInternal)?;
    // SAFETY: the caller's promise.
    unsafe {
        to.write(0, from.raw64(0));
        to.write(8, from.raw32(8));
        to.write(12, ethertype.to_be());
    }
    Ok(())
}

/// The bits of the ECN field in a traffic class (RFC 3168, 5).
const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// ECN field of the packet that comes out (RFC 6040, figure 4); `None`: drop it.
#[inline(always)]
const fn combine_ecn(outer: u8, inner: u8) -> Option<u8> {
    match (outer, inner) {
        (CE, NOT_ECT) => None,
        (CE, _) => Some(CE),
        (ECT_1, ECT_0) => Some(ECT_1),
        _ => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices_and_names_tell_the_class() {
        for (index, reason) in DecapReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            let class = match reason.class() {
                DecapClass::Pass => "pass_",
                DecapClass::Decapsulate => "decap_",
                DecapClass::Drop => "drop_",
            };
            assert!(reason.name().starts_with(class), "{}", reason.name());
        }
    }

    #[test]
    fn an_encapsulated_packet_comes_back() {
        // 4in4 with ECN: outer CE, inner ECT(0). The inner checksum is right for ECT(0).
        let inner: [u8; 20] =
            [0x45, 0x02, 0, 20, 0, 0, 0x40, 0, 64, 17, 0xb9, 0xd6, 198, 51, 100, 9, 203, 0, 113, 1];
        let mut bytes = [0u8; 54];
        bytes[..12].copy_from_slice(&[7, 7, 7, 7, 7, 7, 1, 1, 1, 1, 1, 1]);
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        bytes[14..34]
            .copy_from_slice(&[0x45, 0x03, 0, 40, 0, 0, 0x40, 0, 64, 4, 0, 0, 192, 0, 2, 1, 192, 0, 2, 7]);
        let words =
            core::array::from_fn(|i| u32::from_ne_bytes(bytes[14 + i * 4..18 + i * 4].try_into().unwrap()));
        bytes[24..26].copy_from_slice(&crate::checksum::ipv4(&words).to_ne_bytes());
        bytes[34..].copy_from_slice(&inner);
        let accepted = Tuple::v4(u32::from_ne_bytes([192, 0, 2, 7]));

        let mut foreign = bytes;
        let verdict = decapsulate(&mut foreign, |_| false);
        assert_eq!((verdict, foreign), (Decapsulated { reason: DecapReason::PassForeign, cut: 0 }, bytes));

        let verdict = decapsulate(&mut bytes, |destination| *destination == accepted);
        assert_eq!(verdict, Decapsulated { reason: DecapReason::Decap4In4, cut: 20 });
        assert_eq!(bytes[20..34], [7, 7, 7, 7, 7, 7, 1, 1, 1, 1, 1, 1, 0x08, 0x00]);
        assert_eq!(bytes[34..36], [0x45, 0x03]);
        assert_eq!(bytes[44..46], update(0xb9d6, 0x4502, 0x4503).to_be_bytes());
        assert_eq!(bytes[46..], inner[12..]);
    }

    /// Figure 4 of RFC 6040: rows by inner, columns by outer field, both Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn ecn_follows_rfc_6040() {
        let fields = [NOT_ECT, ECT_0, ECT_1, CE];
        let table = [
            [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
            [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)],
            [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
            [Some(CE); 4],
        ];
        for (inner, row) in fields.into_iter().zip(table) {
            for (outer, expected) in fields.into_iter().zip(row) {
                assert_eq!(combine_ecn(outer, inner), expected, "outer {outer:02b}, inner {inner:02b}");
            }
        }
    }
}
