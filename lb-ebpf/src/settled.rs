//! The short way, for most packets: mid-flow in a settled slot, whose live pin names the owner.

use lb_common::atomic;
use lb_common::bits::opaque;
use lb_common::flow::Word;
use lb_common::hash::{FlowHash, preferred};
use lb_common::layout::Slot;
use lb_common::parse::Signal;
use lb_common::table::Home;

use crate::maps;

/// Whether the packet goes to the owner of its slot, which is up, and nothing else is to be done; its pin is then
/// refreshed. What is not that plain is decided by `exact`. `wanted` is the word of a flow of the owner that is in the phase
/// of the signal's number, and was seen now.
///
/// The pin is known by its tag alone. Should it be another flow's, by a chance of 2⁻²² a word, the answer is right all
/// the same: every live TCP flow of a settled slot is the owner's.
#[inline(always)]
pub fn refresh(signal: Signal, hash: FlowHash, wanted: Word, home: &Home, slot: Slot, now: u32) -> bool {
    if !matches!(signal, Signal::Ack | Signal::Datagram) || slot.is_open() {
        return false;
    }
    let preferred = preferred(hash.tag());
    let (mut at, mut word) = (home.at(preferred), home.word(preferred));
    if word == wanted {
        return true;
    }
    if !word.is_but_for_time(wanted) {
        let found = home.find(hash);
        if !found.is_some() || !found.word.is_but_for_time(wanted) {
            return false;
        }
        (at, word) = (found.at, found.word);
        if word == wanted {
            return true;
        }
    }
    // The compiler takes the phase from the signal, of which the verifier knows too little.
    let timeout = maps::timeouts()[Word(opaque(wanted.0)).limit()];
    // SAFETY: `at` points to a word of the table.
    word.idle(now) <= timeout && unsafe { atomic::swap(at, word.0, wanted.0) }
}
