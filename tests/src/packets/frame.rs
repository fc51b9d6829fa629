//! Frames as bytes: their parts, and what is left or made of them.

use super::ETHERNET;

/// Source and destination.
pub fn macs(frame: &[u8]) -> ([u8; 6], [u8; 6]) {
    let mac = |at: usize| frame[at..at + 6].try_into().expect("six bytes");
    (mac(6), mac(0))
}

/// Where the IP header begins: behind the Ethernet header and its tags.
pub fn network_offset(frame: &[u8]) -> usize {
    let mut offset = ETHERNET;
    while matches!(frame[offset - 2..offset], [0x81, 0x00] | [0x88, 0xa8]) {
        offset += 4;
    }
    offset
}

/// Every shorter beginning of `frame`, the longest first, down to nothing.
pub fn truncations(frame: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..frame.len()).rev().map(|length| frame[..length].to_vec())
}

/// `frame` with one byte set to another value: for fields that no builder would write.
pub fn with_byte(mut frame: Vec<u8>, offset: usize, value: u8) -> Vec<u8> {
    frame[offset] = value;
    frame
}
