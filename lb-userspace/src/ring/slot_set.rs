//! A set of slots, one bit each.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A set of the slots of one ring.
///
/// Serialised as text, `SIZE:HEX`: the ring's size and the set's 64-bit words in hexadecimal, slot 0 in the lowest bit of the first;
/// words of zero at the end are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSet {
    size: u32,
    /// Bits from `size` on are zero.
    words: Vec<u64>,
}

impl SlotSet {
    /// The empty set over a ring of `size` slots.
    pub fn new(size: u32) -> SlotSet {
        SlotSet { size, words: vec![0; size.div_ceil(64) as usize] }
    }

    /// Slots of the ring, in the set or not.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// # Panics
    /// When the ring has no such slot; so do [`remove`](Self::remove) and [`contains`](Self::contains).
    pub fn insert(&mut self, slot: u32) {
        let (word, bit) = self.place(slot);
        self.words[word] |= bit;
    }

    pub fn remove(&mut self, slot: u32) {
        let (word, bit) = self.place(slot);
        self.words[word] &= !bit;
    }

    pub fn contains(&self, slot: u32) -> bool {
        let (word, bit) = self.place(slot);
        self.words[word] & bit != 0
    }

    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Slots in the set.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Keeps the slots that `other` has too.
    ///
    /// # Panics
    /// When the sets are of rings of different sizes.
    pub fn intersect(&mut self, other: &SlotSet) {
        assert_eq!(self.size, other.size, "sets of slots of different rings");
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    /// The slots in the set, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().zip(0u32..).flat_map(|(&word, index)| {
            let next = |rest: &u64| Some(rest & (rest - 1)).filter(|&rest| rest != 0);
            std::iter::successors(Some(word).filter(|&word| word != 0), next)
                .map(move |rest| index * 64 + rest.trailing_zeros())
        })
    }

    fn place(&self, slot: u32) -> (usize, u64) {
        assert!(slot < self.size, "slot {slot} of a ring of {}", self.size);
        (slot as usize / 64, 1 << (slot % 64))
    }
}

impl Serialize for SlotSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let used = self.words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
        let hex: String = self.words[..used].iter().map(|word| format!("{word:016x}")).collect();
        serializer.serialize_str(&format!("{}:{hex}", self.size))
    }
}

impl<'de> Deserialize<'de> for SlotSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SlotSet, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            de::Error::invalid_value(
                de::Unexpected::Str(&text),
                &"a set of slots such as \"101:0000000000000005\"",
            )
        })
    }
}

fn parse(text: &str) -> Option<SlotSet> {
    let (size, hex) = text.split_once(':')?;
    let mut set = SlotSet::new(size.parse().ok()?);
    let chunks = hex.as_bytes().chunks(16);
    if chunks.len() > set.words.len() {
        return None;
    }
    for (word, chunk) in set.words.iter_mut().zip(chunks) {
        if chunk.len() != 16 || !chunk.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        *word = u64::from_str_radix(str::from_utf8(chunk).ok()?, 16).ok()?;
    }
    let beyond =
        !set.size.is_multiple_of(64) && set.words.last().is_some_and(|last| last >> (set.size % 64) != 0);
    (!beyond).then_some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(size: u32, slots: &[u32]) -> SlotSet {
        let mut set = SlotSet::new(size);
        slots.iter().for_each(|&slot| set.insert(slot));
        set
    }

    #[test]
    fn holds_what_was_put_in() {
        let mut some = set(131, &[0, 63, 64, 127, 130]);
        assert_eq!(some.iter().collect::<Vec<_>>(), [0, 63, 64, 127, 130]);
        assert_eq!(some.count(), 5);
        some.remove(64);
        assert!(!some.contains(64) && some.contains(63));
        some.intersect(&set(131, &[5, 64, 130]));
        assert_eq!(some, set(131, &[130]));
        some.clear();
        assert!(some.is_empty() && some.iter().next().is_none());
    }

    #[test]
    fn survives_as_text() {
        for set in [set(131, &[]), set(131, &[2, 70]), set(131, &[130]), set(64, &[63]), set(128, &[0, 127])]
        {
            let text = serde_json::to_string(&set).unwrap();
            assert_eq!(serde_json::from_str::<SlotSet>(&text).unwrap(), set, "{text}");
        }
        assert_eq!(serde_json::to_string(&set(131, &[0, 2])).unwrap(), r#""131:0000000000000005""#);
    }

    #[test]
    fn refuses_text_that_is_no_set() {
        for text in [
            "",
            "131",
            "131:5",
            "x:",
            "-1:",
            "131:000000000000000g",
            "131:+000000000000005",
            "3:0000000000000008",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("64:00000000000000010000000000000001"), None, "more words than slots");
        assert!(parse("3:0000000000000007").is_some());
    }
}
