//! VLAN tags (IEEE 802.1Q): at most two, one behind the other.
//!
//! A tagged frame is handled as the frame that it is without its tags; who lets it pass puts them back.

use network_types::eth::EthHdr;

use super::{Frame, Header};
use crate::reason::Reason;

const TPID_CUSTOMER: u16 = 0x8100;
const TPID_SERVICE: u16 = 0x88a8;
/// Bytes of a tag.
pub const TAG: usize = 4;

/// Whether an Ethertype begins a tag.
#[inline(always)]
pub const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, TPID_CUSTOMER | TPID_SERVICE)
}

/// The tags of a frame, the outer one first, as they lie in it; 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tags(pub [u32; 2]);

impl Tags {
    pub const NONE: Tags = Tags([0; 2]);

    /// Bytes of them.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        if self.0[0] == 0 {
            0
        } else if self.0[1] == 0 {
            TAG
        } else {
            2 * TAG
        }
    }

    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.0[0] == 0
    }

    /// Those of a frame. A third one is left to the parser, which takes it for no IP.
    #[inline(always)]
    pub fn of(frame: &Frame) -> Result<Tags, Reason> {
        let ethernet = frame.header::<{ EthHdr::LEN }>(0).ok_or(Reason::PassMalformed)?;
        if !is_tag(ethernet.u16(12)) {
            return Ok(Tags::NONE);
        }
        let one = frame.header::<{ EthHdr::LEN + TAG }>(0).ok_or(Reason::PassMalformed)?;
        let outer = one.raw32(12);
        if !is_tag(one.u16(16)) {
            return Ok(Tags([outer, 0]));
        }
        let two = frame.header::<{ EthHdr::LEN + 2 * TAG }>(0).ok_or(Reason::PassMalformed)?;
        Ok(Tags([outer, two.raw32(16)]))
    }
}

/// Copies the MAC addresses over the tags, so that the frame without its first `tags` bytes is the untagged one: to be cut next.
///
/// # Safety
/// The frame is writable and nothing else reads or writes it meanwhile.
#[inline(always)]
pub unsafe fn strip(frame: &Frame, tags: &Tags) -> Result<(), Reason> {
    if tags.len() == TAG {
        let header = frame.header::<{ EthHdr::LEN + TAG }>(0).ok_or(Reason::PassMalformed)?;
        // SAFETY: the caller's promise.
        unsafe { move_macs(&header, 0, TAG) };
    } else {
        let header = frame.header::<{ EthHdr::LEN + 2 * TAG }>(0).ok_or(Reason::PassMalformed)?;
        // SAFETY: the caller's promise.
        unsafe { move_macs(&header, 0, 2 * TAG) };
    }
    Ok(())
}

/// Writes tags into a frame that has been made longer by [`Tags::len`] in front: the untagged frame begins behind that.
///
/// # Safety
/// As for [`strip`].
#[inline(always)]
pub unsafe fn put(frame: &Frame, tags: &Tags) -> Result<(), Reason> {
    if tags.len() == TAG {
        let header = frame.header::<{ EthHdr::LEN + TAG }>(0).ok_or(Reason::DropInternal)?;
        // SAFETY: the caller's promise.
        unsafe {
            move_macs(&header, TAG, 0);
            header.write(12, tags.0[0]);
        }
    } else {
        let header = frame.header::<{ EthHdr::LEN + 2 * TAG }>(0).ok_or(Reason::DropInternal)?;
        // SAFETY: the caller's promise.
        unsafe {
            move_macs(&header, 2 * TAG, 0);
            header.write(12, tags.0[0]);
            header.write(16, tags.0[1]);
        }
    }
    Ok(())
}

/// Moves the two MAC addresses; all is read before anything is written.
///
/// # Safety
/// As for [`strip`].
#[inline(always)]
unsafe fn move_macs<const N: usize>(header: &Header<N>, from: usize, to: usize) {
    let (first, second) = (header.raw64(from), header.raw32(from + 8));
    // SAFETY: the caller's promise.
    unsafe {
        header.write(to, first);
        header.write(to + 8, second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &mut [u8]) -> Frame {
        let start = bytes.as_mut_ptr() as usize;
        // SAFETY: the slice outlives what the tests do with the frame.
        unsafe { Frame::new(start, start + bytes.len()) }
    }

    fn tagged(tags: &[[u8; 4]]) -> Vec<u8> {
        let mut bytes: Vec<u8> = (1..=12).collect();
        bytes.extend(tags.iter().flatten());
        bytes.extend([0x08, 0x00, 0x45, 7, 7, 7]);
        bytes
    }

    #[test]
    fn tags_come_off_and_are_put_back() {
        let customer = [0x81, 0x00, 0x20, 0x0a];
        let service = [0x88, 0xa8, 0x00, 0x64];
        for all in [vec![customer], vec![service, customer], vec![customer, customer]] {
            let mut bytes = tagged(&all);
            let before = bytes.clone();
            let tags = Tags::of(&frame(&mut bytes)).unwrap();
            assert_eq!(tags.len(), 4 * all.len());
            // SAFETY: the test's own bytes.
            unsafe { strip(&frame(&mut bytes), &tags).unwrap() };
            assert_eq!(bytes[tags.len()..], tagged(&[]));
            // Whatever lies in front by now.
            bytes[..tags.len()].fill(0xee);
            // SAFETY: as above.
            unsafe { put(&frame(&mut bytes), &tags).unwrap() };
            assert_eq!(bytes, before);
        }
        assert_eq!(Tags::of(&frame(&mut tagged(&[]))), Ok(Tags::NONE));
    }

    #[test]
    fn a_third_tag_stays_and_cut_ones_are_malformed() {
        let customer = [0x81, 0x00, 0x20, 0x0a];
        let mut bytes = tagged(&[customer; 3]);
        assert_eq!(Tags::of(&frame(&mut bytes)).unwrap().len(), 8);
        for len in 0..EthHdr::LEN + 2 * TAG {
            assert_eq!(Tags::of(&frame(&mut bytes[..len])), Err(Reason::PassMalformed), "{len}");
        }
    }
}
