//! A look at every live pin of some hosts, in one pass.

use lb_common::atomic;
use lb_common::flow::Word;
use lb_common::layout::HostId;

use super::sweep::AHEAD;
use super::{Dataplane, FlowRecord};

impl Dataplane {
    /// Calls `each` with every live pin of the hosts that `wanted` names. Pins that come and go meanwhile may be missed; none is seen twice
    /// unless it moved.
    pub fn each_live(&self, wanted: impl Fn(HostId) -> bool, mut each: impl FnMut(FlowRecord)) {
        let now = self.now();
        let mut found = Vec::with_capacity(AHEAD);
        let mut look = |found: &mut Vec<(u32, Word)>| {
            for (index, word) in found.drain(..) {
                let cold = self.maps.cold.get(index);
                // SAFETY: a word of the mapped array. If it changed meanwhile, the record may be another flow's.
                let again = Word(unsafe { atomic::load(self.maps.word(index)) });
                if again.tag() == word.tag() {
                    each(FlowRecord::new(Some(index), word, &cold, now));
                }
            }
        };
        for index in 0..self.maps.sizes.words() {
            // SAFETY: as above.
            let word = Word(unsafe { atomic::load(self.maps.word(index)) });
            if word != Word::EMPTY && wanted(word.host()) && self.is_listed(word, now) {
                self.maps.cold.fetch(index);
                found.push((index, word));
                if found.len() == AHEAD {
                    look(&mut found);
                }
            }
        }
        look(&mut found);
        for (_, entry) in self.maps.overflow.iter().flatten() {
            let word = Word(entry.word);
            if wanted(word.host()) && self.is_listed(word, now) {
                each(FlowRecord::new(None, word, &entry.cold, now));
            }
        }
    }
}
