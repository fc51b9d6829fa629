//! How the flows fared that began at hosts of late, by the networks of their clients.

use lb_common::atomic;
use lb_common::flow::{Phase, Word};
use lb_common::layout::Cold;

use super::Dataplane;
use crate::health::passive::Walk;

impl Dataplane {
    /// Tells of all TCP flows of the hosts that are asked for which began within the seconds that are.
    pub fn fared(&self, walk: &mut Walk) {
        let now = self.now();
        let seconds = u32::try_from(walk.seconds()).unwrap_or(u32::MAX);
        let mut hosts = vec![false; 1 << 16];
        walk.hosts().for_each(|host| hosts[usize::from(host)] = true);
        let mut count = |word: Word, cold: &Cold| {
            let back = now.wrapping_sub(cold.start) as usize;
            let is_answered = word.phase() != Phase::HalfOpen;
            walk.note((cold.service(), word.host()), back, cold.source, is_answered);
        };
        // What began within these seconds was seen within them, which its word tells.
        let is_meant = |word: Word| {
            let phase = matches!(word.phase(), Phase::HalfOpen | Phase::Established | Phase::Closing);
            phase && hosts[usize::from(word.host())] && word.idle(now) < seconds
        };
        for index in 0..self.maps.sizes.words() {
            let place = self.maps.word(index);
            // SAFETY: a word of the mapped array.
            let word = Word(unsafe { atomic::load(place) });
            if is_meant(word) {
                let cold = self.maps.cold.get(index);
                // SAFETY: as above. A word that changed meanwhile: the record may be another flow's.
                if Word(unsafe { atomic::load(place) }).tag() == word.tag() {
                    count(word, &cold);
                }
            }
        }
        for (_, entry) in self.maps.overflow.iter().flatten() {
            if is_meant(Word(entry.word)) {
                count(Word(entry.word), &entry.cold);
            }
        }
    }
}
