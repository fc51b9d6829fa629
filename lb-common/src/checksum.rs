//! The Internet checksum (RFC 1071).

/// Folds a sum of 16-bit words into the complement that a header carries, in the byte order of the words.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
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
}
