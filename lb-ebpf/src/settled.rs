//! The short way, for most packets: mid-flow in a settled slot, whose live pin names the owner.

use lb_common::atomic;
use lb_common::bits::opaque;
use lb_common::flow::{Phase, Word};
use lb_common::hash::{FlowHash, preferred};
use lb_common::layout::{Policy, Slot};
use lb_common::parse::{Packet, Signal};
use lb_common::table::Home;

use crate::maps;

/// Whether the packet goes to the owner of its slot, which is up, and nothing else is to be done; its pin is then
/// refreshed. What is not that plain is decided by `exact`.
///
/// The pin is known by its tag alone. Should it be another flow's, by a chance of 2⁻²² a word, the answer is right all
/// the same: every live TCP flow of a settled slot is the owner's.
#[inline(always)]
pub fn refresh(packet: &Packet, hash: FlowHash, policy: Policy, home: &Home, slot: Slot, now: u32) -> bool {
    let phase = match packet.signal {
        Signal::Ack => Phase::Established,
        Signal::Datagram => Phase::Udp,
        _ => return false,
    };
    if slot.is_open() {
        return false;
    }
    let tag = hash.tag();
    let wanted = Word::new(tag, slot.owner(), phase, now).with_set(policy.set());
    let (mut at, mut word) = (home.at(preferred(tag)), home.word(preferred(tag)));
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
