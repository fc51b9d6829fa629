//! Counting flows that wait for their client's second packet.

use std::collections::BTreeMap;

use lb_common::atomic;
use lb_common::flow::{Phase, Word};
use lb_common::layout::{Cold, HostId};

use super::Dataplane;

impl Dataplane {
    /// Pins in phase half-open that were made after the second `after` of the data path's clock, up to and with `until`: by number of the
    /// service, and host.
    pub fn half_open(&self, after: u64, until: u64) -> BTreeMap<(u16, HostId), u64> {
        let mut found: BTreeMap<(u16, HostId), u64> = BTreeMap::new();
        let mut count = |word: Word, cold: &Cold| {
            if (after + 1..=until).contains(&u64::from(cold.start)) {
                *found.entry((cold.service(), word.host())).or_default() += 1;
            }
        };
        for index in 0..self.maps.sizes.words() {
            let place = self.maps.word(index);
            // SAFETY: a word of the mapped array.
            let word = Word(unsafe { atomic::load(place) });
            if word.phase() == Phase::HalfOpen {
                let cold = self.maps.cold.get(index);
                // SAFETY: as above. A word that changed meanwhile: the record may be another flow's.
                if Word(unsafe { atomic::load(place) }).tag() == word.tag() {
                    count(word, &cold);
                }
            }
        }
        for (_, entry) in self.maps.overflow.iter().flatten() {
            if Word(entry.word).phase() == Phase::HalfOpen {
                count(Word(entry.word), &entry.cold);
            }
        }
        found
    }
}
