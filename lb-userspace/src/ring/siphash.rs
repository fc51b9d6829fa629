//! SipHash-2-4 (Aumasson and Bernstein, 2012): the keyed hash of host names.
//!
//! The standard library's hasher promises no algorithm from one release to the next; rings of different builds must agree.

/// The 64-bit SipHash-2-4 of `data` under `key`.
pub fn siphash24(key: &[u8; 16], data: &[u8]) -> u64 {
    let (low, high) = key.split_at(8);
    let (k0, k1) = (word(low), word(high));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut chunks = data.chunks_exact(8);
    for chunk in chunks.by_ref() {
        absorb(&mut v, word(chunk));
    }
    let length = (data.len() as u64) << 56;
    absorb(&mut v, word(chunks.remainder()) | length);
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// Up to eight bytes, little-endian, missing ones as zero.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation's `vectors.h`: key 00..0f, message 00..n.
    #[test]
    fn agrees_with_the_published_vectors() {
        let key: [u8; 16] = std::array::from_fn(|byte| byte as u8);
        let message: [u8; 15] = std::array::from_fn(|byte| byte as u8);
        assert_eq!(siphash24(&key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash24(&key, &message[..1]), 0x74f8_39c5_93dc_67fd);
        assert_eq!(siphash24(&key, &message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    #[expect(deprecated, reason = "the one SipHash-2-4 in the standard library")]
    fn agrees_with_the_standard_library_at_every_length() {
        use std::hash::{Hasher, SipHasher};
        let key = *b"\x80sixteen bytes\xff\x00";
        let data: Vec<u8> = (0..70).map(|n: u8| n.wrapping_mul(151) ^ 0x5a).collect();
        for length in 0..data.len() {
            let mut reference = SipHasher::new_with_keys(word(&key[..8]), word(&key[8..]));
            reference.write(&data[..length]);
            assert_eq!(siphash24(&key, &data[..length]), reference.finish(), "{length} bytes");
        }
    }
}
