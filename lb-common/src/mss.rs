//! MSS clamping: a SYN promises no larger segments than fit the path (RFC 9293, 3.2 and 3.7.1).

use network_types::tcp::TcpHdr;

use crate::bits::{is_zero, opaque};
use crate::checksum::Delta;
use crate::parse::{Frame, L3};

const SYN: u8 = 0x02;
/// Kinds of options without a length.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
/// Kind and length of the option that is looked for, as they lie in memory.
const MSS: u16 = u16::from_ne_bytes([2, MSS_LEN as u8]);
const MSS_LEN: usize = 4;
/// Options of the longest header, 60 bytes, if each is one byte.
const MOST: usize = 40;
/// Masks of the TCP header's offset from the IP header and of a length within the TCP header.
const OFFSET: u64 = 0x3ff;
const LEN: u64 = 63;

/// Lowers the MSS option of a SYN, with or without ACK, to at most `max`, bytes, and mends the TCP checksum. Never raises it and
/// adds none: a host that sent none gets 536 or 1220 bytes. Of several options each is lowered, as receivers differ in which
/// one they believe. The options end at the first malformed one. Other packets stay as they are.
///
/// `tcp` is the offset of the TCP header from the start of the IP header, bytes, below 1024. The header, options included, lies
/// within the IP packet.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub unsafe fn clamp(frame: &Frame, tcp: u16, max: u16) {
    let start = L3 + (opaque(tcp as u64) & OFFSET) as usize;
    let Some(header) = frame.header::<{ TcpHdr::LEN }>(start) else { return };
    let end = (header.u8(12) >> 4 << 2) as u64;
    if header.u8(13) & SYN == 0 || end < TcpHdr::LEN as u64 {
        return;
    }
    // Bytes of options to come, rather than a position, and nothing else that changes: so the verifier knows as little at the
    // first option as at any other, and need not walk on from each place where an option may end.
    let mut left = end - TcpHdr::LEN as u64;
    for _ in 0..MOST {
        left = opaque(left) & LEN;
        // A single last byte is no option with a value.
        if left < 2 {
            return;
        }
        let at = (opaque(end.wrapping_sub(left)) & LEN) as usize;
        let Some(option) = frame.header::<2>(start + at) else { return };
        let kind = option.u8(0);
        // Without a branch, so that one path leads to the next option.
        let is_single = is_zero((kind ^ NO_OPERATION) as u64);
        let len = option.u8(1) as u64 & is_single.wrapping_sub(1) | is_single;
        if kind == END || len + is_single < 2 || len > left {
            return;
        }
        if option.read::<u16>(0) == MSS
            && let Some(value) = frame.header::<MSS_LEN>(start + at)
            && value.u16(2) > max
        {
            // At an odd offset a value lies in two words, and the checksum sees its bytes swapped (RFC 1071, 2 (B)).
            let turn = (at as u32 & 1) * 8;
            let (old, new) = (value.read::<u16>(2), max.to_be());
            let delta = Delta::NONE.word16(old.rotate_left(turn), new.rotate_left(turn));
            // SAFETY: the caller's promise.
            unsafe {
                value.write(2, new);
                header.write(16, delta.apply(header.read(16)));
            }
        }
        left -= len;
    }
}
