//! The Internet checksum (RFC 1071).

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
    fold(!checksum as u32 + !old as u32 + new as u32)
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

#[cfg(test)]
mod tests {
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
}
