//! What lies in the maps, in a form that other versions can read: so that a version knows what a later one, of which it knows
//! nothing else, has left behind.
//!
//! Whoever makes maps pins a description of them beside them: for each map the fields of its values, by name and bit. Who finds maps
//! that differ from its own reads pins and counters out of them field by field. A field that it does not know it leaves; one that is
//! not there is 0. Where that would be wrong, as a field says something else now than it did, its map has another *meaning*, a number,
//! and is not read.

mod own;
mod past;
mod pinned;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use own::own;
pub use past::past;
pub use pinned::{Kept, identity, keep, read};

/// Integers of one size within a value: one, or several in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    /// First bit: bit 0 is the lowest of byte 0.
    pub at: u32,
    /// Bits of each, at most 64.
    pub bits: u32,
    pub count: u32,
}

/// The values of one map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Raised when a field says something else than before under the same name.
    pub meaning: u32,
    /// Bytes of a value.
    pub bytes: u32,
    pub fields: Vec<Field>,
}

impl Shape {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// What all maps of an instance hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shapes {
    /// [`lb_common::layout::LAYOUT_VERSION`]
    pub layout: u32,
    pub maps: BTreeMap<String, Shape>,
    /// What the counters of packets are about, in the order of their numbers.
    pub reasons: Vec<String>,
}

/// Reads one field out of values. What a version does not have is 0.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    at: u32,
    bits: u32,
    count: u32,
}

impl Reader {
    /// For a field that another version may not have.
    pub fn of(shape: &Shape, name: &str) -> Reader {
        match shape.field(name) {
            Some(field) => Reader { at: field.at, bits: field.bits, count: field.count },
            None => Reader { at: 0, bits: 0, count: 0 },
        }
    }

    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The first of the field's integers.
    pub fn get(&self, value: &[u8]) -> u64 {
        self.get_at(value, 0)
    }

    /// Number `index` of them. Little-endian, as all machines are that this runs on.
    pub fn get_at(&self, value: &[u8], index: u32) -> u64 {
        if index >= self.count {
            return 0;
        }
        let at = self.at + index * self.bits;
        let (byte, shift) = ((at / 8) as usize, at % 8);
        let mut word = [0; 16];
        let rest = value.get(byte..).unwrap_or_default();
        let len = rest.len().min(9);
        word[..len].copy_from_slice(&rest[..len]);
        (u128::from_le_bytes(word) >> shift) as u64 & (u64::MAX >> (64 - self.bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(at: u32, bits: u32, count: u32) -> Reader {
        Reader { at, bits, count }
    }

    #[test]
    fn integers_of_any_width_are_read_from_any_bit() {
        let value: Vec<u8> = (1..=16).collect();
        assert_eq!(reader(0, 64, 1).get(&value), 0x0807_0605_0403_0201);
        assert_eq!(reader(8, 64, 1).get(&value), 0x0908_0706_0504_0302);
        assert_eq!(reader(4, 64, 1).get(&value), 0x9080_7060_5040_3020, "over nine bytes");
        assert_eq!(reader(4, 12, 1).get(&value), 0x020);
        assert_eq!(reader(64, 16, 4).get_at(&value, 3), 0x100f);
        assert_eq!(reader(64, 16, 4).get_at(&value, 4), 0, "there is none");
        assert_eq!(reader(120, 32, 1).get(&value), 0x10, "a value that is shorter than it should be");
        assert_eq!(reader(128, 32, 1).get(&value), 0);
    }

    #[test]
    fn what_is_not_there_is_zero() {
        let shape = Shape { meaning: 1, bytes: 8, fields: Vec::new() };
        let reader = Reader::of(&shape, "kicked");
        assert_eq!(reader.get(&[0xff; 8]), 0);
    }
}
