//! The short way, for most packets: mid-flow in a settled slot, whose live pin names the owner.

use lb_common::atomic;
use lb_common::flow::Phase;
use lb_common::hash::FlowHash;
use lb_common::layout::{HostState, Slot};
use lb_common::parse::{Packet, Signal};
use lb_common::table;

use crate::backend::Backends;
use crate::maps;
use crate::memory::Memory;

/// Whether the packet goes to the owner of its slot and nothing else is to be done; its pin is then refreshed. What is
/// not that plain is decided by `exact`.
///
/// The pin is known by its tag alone. Should it be another flow's, by a chance of 2⁻²³ a word, the answer is right all
/// the same: every live TCP flow of a settled slot is the owner's.
#[inline(always)]
pub fn refresh(
    packet: &Packet,
    hash: FlowHash,
    home: *mut u64,
    slot: Slot,
    backends: &Backends,
    now: u32,
) -> bool {
    if slot.is_open() || !matches!(packet.signal, Signal::Ack | Signal::Datagram) {
        return false;
    }
    let found = table::find_home(&Memory, hash, home);
    if !found.is_some() {
        return false;
    }
    let word = found.word;
    if word.host() != slot.owner()
        || !matches!(word.phase(), Phase::Established | Phase::Udp)
        || !word.is_live(now, maps::timeouts())
        || backends.state(word.host()) != HostState::Up
    {
        return false;
    }
    let new = word.seen(now, word.phase());
    // SAFETY: `found` points to a word of the table.
    new == word || unsafe { atomic::swap(found.at, word.0, new.0) }
}
