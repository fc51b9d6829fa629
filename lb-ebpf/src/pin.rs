//! The pin of the packet's flow: found before the decision, changed after it.

use lb_common::decide::{Decision, Pin, PinAction, View, stateless};
use lb_common::flow::{Phase, Word};
use lb_common::hash::FlowHash;
use lb_common::layout::{Cold, HostId, HostState, Overflow, Slot, Tuple};
use lb_common::parse::{Packet, Signal};
use lb_common::reason::Reason;
use lb_common::table::{self, Found, Inserted};

use crate::backend::{Backends, stats};
use crate::memory::{Memory, mark_incomplete, mark_lost};
use crate::verdict::count;
use crate::{begins, insert, maps};

/// The flow's word in the table, if it has one.
pub struct Kept {
    found: Found,
    /// The pin is live. One that is not keeps its place in the table until the flow begins anew or the sweep comes by.
    is_live: bool,
    /// The flow's stateless answer.
    home: HostId,
}

impl Kept {
    /// Finds the pin of the flow. The tag alone is believed where a mistake changes little: the slot is settled, the host
    /// is the stateless answer anyway, and neither phase nor gauge depends on the packet. Else the tuple is compared: in
    /// a handover each flow needs a pin of its own.
    #[inline(always)]
    pub fn find(packet: &Packet, hash: FlowHash, slot: Slot, backends: &Backends, now: u32) -> Kept {
        let home = stateless(slot, |host| backends.state(host));
        let mut found = table::find(&Memory, hash, &packet.tuple);
        let mut is_live = false;
        if found.is_some() {
            let word = found.word;
            is_live = lives(word, home, now);
            let plain = is_live
                && matches!(packet.signal, Signal::Ack | Signal::Datagram)
                && matches!(word.phase(), Phase::Established | Phase::Udp)
                && word.host() == home
                && !slot.is_open();
            if !plain && !is_of(&found, &packet.tuple) {
                found = if table::has_overflow(&Memory, hash) {
                    table::find_overflow(&Memory, &packet.tuple)
                } else {
                    Found::NONE
                };
                is_live = found.is_some() && lives(found.word, home, now);
            }
        }
        Kept { found, is_live, home }
    }

    #[inline(always)]
    pub fn pin(&self) -> Pin {
        if self.is_live {
            Pin { host: self.found.word.host(), phase: self.found.word.phase() }
        } else {
            Pin::NONE
        }
    }

    #[inline(always)]
    pub fn view<'a>(&'a self, packet: &'a Packet, backends: &'a Backends) -> impl View + 'a {
        FlowView { kept: self, packet, backends }
    }
}

/// Whether the pin is that of a live flow. A closing pin that only its word keeps at its host stays for the long timeout:
/// a FIN or RST that the client never sent must not be able to move its flow.
#[inline(always)]
fn lives(word: Word, home: HostId, now: u32) -> bool {
    let waits = word.phase() as u8 == Phase::Closing as u8
        && word.host() != home
        && word.idle(now) <= maps::timeouts()[Phase::Established as usize];
    waits || word.is_live(now, maps::timeouts())
}

#[inline(always)]
fn is_of(found: &Found, tuple: &Tuple) -> bool {
    match table::cold_of(&Memory, found) {
        // SAFETY: a record of the map. It may change under the reader only if the pin ends at this moment, and then
        // the swap of its word will fail.
        Some(cold) => unsafe { &*cold }.is_of(tuple),
        None => false,
    }
}

/// What the decision may ask.
struct FlowView<'a> {
    kept: &'a Kept,
    packet: &'a Packet,
    backends: &'a Backends,
}

impl FlowView<'_> {
    #[inline(always)]
    fn has_sequence(&self) -> bool {
        table::cold_of(&Memory, &self.kept.found).is_some_and(|cold| {
            // SAFETY: a record of the map; an aligned word.
            unsafe { (*cold).sequence == self.packet.sequence }
        })
    }
}

impl View for FlowView<'_> {
    #[inline(always)]
    fn state(&self, host: HostId) -> HostState {
        self.backends.state(host)
    }

    #[inline(always)]
    fn is_same_syn(&self) -> bool {
        self.has_sequence()
    }

    #[inline(always)]
    fn is_after_fin(&self) -> bool {
        self.has_sequence()
    }
}

/// A packet with all that was found out about its flow.
pub struct Flow<'a> {
    pub packet: &'a Packet,
    pub hash: FlowHash,
    pub service: u16,
    pub slot: Slot,
    pub slot_number: u32,
    pub now: u32,
}

/// What became of the pin.
pub enum Applied {
    Done,
    /// A new flow began.
    Began,
    /// A new flow of an open slot found no place: it must not begin, as its next packet would go elsewhere.
    NoPlace,
}

/// Carries out the decision about the pin.
#[inline(always)]
pub fn apply(flow: &Flow, kept: &Kept, decision: &Decision, backends: &Backends) -> Applied {
    let found = &kept.found;
    let phase = decision.pin.phase;
    match decision.pin.action {
        PinAction::Leave => Applied::Done,
        PinAction::Refresh => {
            if phase as u8 == Phase::Closing as u8 {
                note_end(flow.packet, found);
            }
            let new = found.word.seen(flow.now, phase);
            if new == found.word {
                return Applied::Done;
            }
            if table::update(&Memory, found, new) || is_kept(found) {
                return Applied::Done;
            }
            // The sweep, or a full table, took the pin in this very moment: the flow gets it back.
            make(flow, kept, found.word.host(), phase, false, backends)
        }
        PinAction::Make => make(flow, kept, decision.pin.host, phase, found.is_some(), backends),
    }
}

/// Another CPU refreshed the pin meanwhile.
#[inline(always)]
fn is_kept(found: &Found) -> bool {
    // SAFETY: `found` points to a word of the table.
    let word = Word(unsafe { lb_common::atomic::load(found.at) });
    word.phase().is_pin() && word.tag() == found.word.tag() && word.host() == found.word.host()
}

/// Notes the sequence number that the client's last acknowledgement will have: the one after its FIN. After a RST comes
/// none; then it is one half of the number space away, where no acknowledgement of a live client is either (RFC 9293,
/// 3.4: windows are below 2³⁰).
#[inline(always)]
fn note_end(packet: &Packet, found: &Found) {
    let sequence = match packet.signal {
        Signal::Fin => packet.sequence_after,
        Signal::Rst if found.word.phase() as u8 != Phase::Closing as u8 => packet.sequence ^ 1 << 31,
        _ => return,
    };
    if let Some(cold) = table::cold_of(&Memory, found) {
        // SAFETY: a record of the map; an aligned word.
        unsafe { (*cold).sequence = sequence };
    }
}

#[inline(always)]
fn make(
    flow: &Flow,
    kept: &Kept,
    host: HostId,
    phase: Phase,
    replaces: bool,
    backends: &Backends,
) -> Applied {
    let Some(backend) = backends.get(host) else {
        return Applied::Done;
    };
    let tuple = flow.packet.tuple;
    let index = backend.get().stats;
    let sequence = match flow.packet.signal {
        Signal::Fin => flow.packet.sequence_after,
        _ => flow.packet.sequence,
    };
    let entry = Overflow {
        word: Word::new(flow.hash.tag(), host, phase, flow.now).0,
        cold: Cold {
            source: tuple.source,
            destination: tuple.destination,
            ports: tuple.ports,
            kind: tuple.protocol | (flow.service as u32) << 16,
            sequence,
            start: flow.now,
            stats: index,
            slot: flow.slot_number,
        },
    };
    let inserted = if replaces {
        table::remake(&Memory, &kept.found, &entry, flow.now) as u32
    } else {
        insert::insert(flow.hash, &tuple, &entry, flow.now)
    };
    if inserted == Inserted::Placed as u32 {
        if !begins(phase) {
            return Applied::Done;
        }
        if let Some(stats) = stats(index) {
            stats.new_flows += 1;
        }
        return Applied::Began;
    }
    without_place(flow, host, kept.home, begins(phase), inserted)
}

/// The flow has no pin. Harmless where its host is the stateless answer now and when the handover is closed; else a TCP
/// flow must not begin, a UDP flow, which cannot be told to try again, is counted, and handovers stay open.
#[inline(always)]
fn without_place(flow: &Flow, host: HostId, home: HostId, begins: bool, inserted: u32) -> Applied {
    if flow.slot.is_open() && matches!(flow.packet.signal, Signal::Syn) {
        return Applied::NoPlace;
    }
    if inserted == Inserted::NoPlace as u32 {
        count(Reason::NoteUnpinned);
        mark_incomplete(host);
        if host != home || host != flow.slot.owner() {
            mark_lost();
        }
    }
    if begins { Applied::Began } else { Applied::Done }
}
