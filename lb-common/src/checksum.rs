//! The Internet checksum (RFC 1071), computed anew or mended for what changed (RFC 1624).

/// Folds a sum of 16-bit words into the complement that a header carries, in the byte order of the words.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// [`fold`] of a sum of 32-bit words, as many as there may be in a packet.
#[inline(always)]
pub const fn fold_words(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    fold((sum as u32 & 0xffff) + (sum as u32 >> 16))
}

/// Checksum after one 16-bit word changed (RFC 1624, equation 3), in the byte order of its arguments.
#[inline(always)]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Delta::NONE.word16(old, new).apply(checksum)
}

/// Sum of the 16-bit halves of a word.
#[inline(always)]
pub const fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// Checksum of an IPv4 header without options, given as it lies in memory with its checksum field 0.
#[inline(always)]
pub const fn ipv4(header: &[u32; 5]) -> u16 {
    let mut sum = 0;
    let mut i = 0;
    while i < 5 {
        sum += halves(header[i]);
        i += 1;
    }
    fold(sum)
}

/// What words under a checksum changed by (RFC 1624, equation 3): gathered once, applied to every checksum that covers
/// them. Words are as they lie in memory, and each begins an even number of bytes after the start of what is covered.
///
/// Holds some thousand changes before it overflows; headers have a few dozen words.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delta(u32);

impl Delta {
    /// Nothing.
    pub const NONE: Delta = Delta(0);

    #[inline(always)]
    pub const fn word16(self, old: u16, new: u16) -> Self {
        Delta(self.0 + !old as u32 + new as u32)
    }

    #[inline(always)]
    pub const fn word32(self, old: u32, new: u32) -> Self {
        self.sum(!old as u64 + new as u64)
    }

    /// An IPv6 address.
    #[inline(always)]
    pub const fn address(self, old: [u64; 2], new: [u64; 2]) -> Self {
        self.sum(words(!old[0]) + words(!old[1]) + words(new[0]) + words(new[1]))
    }

    /// Both changes.
    #[inline(always)]
    pub const fn and(self, other: Delta) -> Self {
        Delta(self.0 + other.0)
    }

    /// A sum of a few 32-bit words.
    #[inline(always)]
    const fn sum(self, words: u64) -> Self {
        Delta(self.0 + (words & 0xffff) as u32 + (words >> 16) as u32)
    }

    /// The checksum after the change. A right one comes out as it would be computed anew, a wrong one stays wrong.
    #[inline(always)]
    pub const fn apply(self, checksum: u16) -> u16 {
        fold(self.0 + !checksum as u32)
    }

    /// The same for UDP, where 0 means that there is none, and a sum that comes out as 0 is sent as its other form (RFC 768;
    /// RFC 8200, 8.1).
    #[inline(always)]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            mended => mended,
        }
    }
}

/// Sum of the 32-bit halves of a word.
#[inline(always)]
const fn words(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_from_rfc_1071_style_examples() {
        let bytes: [u8; 20] = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0x00, 0x01, 0xc0,
            0xa8, 0x00, 0xc7,
        ];
        let mut words = [0; 5];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes(chunk.try_into().unwrap());
        }
        assert_eq!(ipv4(&words).to_ne_bytes(), [0xb8, 0x61]);
    }

    #[test]
    fn a_checksum_follows_its_words() {
        // The example of RFC 1624, 4: the result is 0x0000, which equation 2 of RFC 1141 misses.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
        for (old, new) in [(0x4500, 0x4503), (0x4502, 0x4503), (0x45ff, 0x45fc), (0, 0xffff), (0xffff, 1)] {
            let rest = [0x1234u32, 0xfedc, 0x8001];
            let sum = |word: u16| fold(rest.iter().sum::<u32>() + word as u32);
            assert_eq!(update(sum(old), old, new), sum(new), "{old:04x} to {new:04x}");
        }
    }

    #[test]
    fn wide_sums_fold_as_narrow_ones() {
        for words in [&[0u32, 0][..], &[0xffff_ffff; 32], &[0xffff_ffff, 1], &[0x8000_0001, 0x7fff_fffe, 3]] {
            let wide = words.iter().map(|word| u64::from(*word)).sum();
            let narrow = words.iter().map(|word| (word & 0xffff) + (word >> 16)).sum();
            assert_eq!(fold_words(wide), fold(narrow), "{words:x?}");
        }
    }

    /// The checksum of bytes as they lie in memory, from the definition.
    fn checksum(bytes: &[u8]) -> u16 {
        fold(bytes.chunks_exact(2).map(|word| u16::from_ne_bytes([word[0], word[1]]) as u32).sum())
    }

    #[test]
    fn udp_without_a_checksum_gets_none_and_never_loses_one() {
        let delta = Delta::NONE.word16(0x5555, 0x3285);
        assert_eq!(delta.apply_udp(0), 0);
        assert_eq!(delta.apply_udp(0xdd2f), 0xffff);
        assert_eq!(delta.apply_udp(0xdd30), delta.apply(0xdd30));
    }

    proptest! {
        #[test]
        fn a_mended_checksum_is_what_would_be_computed_anew(
            before: [u8; 40],
            after: [u8; 40],
        ) {
            // The first word stays, and a sum of nothing but zeros is no header's.
            let (mut before, mut after) = (before, after);
            before[0] |= 1;
            after[..2].copy_from_slice(&before[..2]);
            let u16_at = |bytes: &[u8], at| u16::from_ne_bytes(bytes[at..][..2].try_into().unwrap());
            let u32_at = |bytes: &[u8], at| u32::from_ne_bytes(bytes[at..][..4].try_into().unwrap());
            let u64_at = |bytes: &[u8], at| u64::from_ne_bytes(bytes[at..][..8].try_into().unwrap());
            let mut delta = Delta::NONE;
            for at in [2, 4, 6] {
                delta = delta.word16(u16_at(&before, at), u16_at(&after, at));
            }
            let words = (8..24).step_by(4).fold(Delta::NONE, |delta, at| {
                delta.word32(u32_at(&before, at), u32_at(&after, at))
            });
            let address = |bytes: &[u8]| [u64_at(bytes, 24), u64_at(bytes, 32)];
            let delta = delta.and(words).address(address(&before), address(&after));
            prop_assert_eq!(delta.apply(checksum(&before)), checksum(&after));
            // One that is wrong stays so, by as much.
            let wrong = checksum(&before).wrapping_add(1);
            if wrong != 0 {
                prop_assert_ne!(delta.apply(wrong), checksum(&after));
            }
        }
    }
}
