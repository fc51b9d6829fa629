//! The pin of the packet's flow: found before the decision, changed after it.

use lb_common::decide::{Decision, Pin, PinAction, View, stateless};
use lb_common::flow::{Phase, Word};
use lb_common::hash::FlowHash;
use lb_common::layout::{BackendStats, Cold, HostId, HostState, Overflow, Policy, Slot, Window};
use lb_common::parse::{Packet, Segment, Signal};
use lb_common::reason::Reason;
use lb_common::table::{self, Found, IN_OVERFLOW, Inserted};

use crate::backend::{Backends, stats};
use crate::memory::{Memory, mark_incomplete, mark_lost};
use crate::verdict::count;
use crate::{gate, insert, maps};

/// The flow's word in the table, if it has one.
pub struct Kept {
    found: Found,
    /// The word is a live pin. One that is not is still the place for the flow's next pin.
    is_live: bool,
}

impl Kept {
    /// Finds the pin of the flow, by its tag and then by its tuple, and notes the flow's stateless answer.
    #[inline(always)]
    pub fn find(flow: &mut Flow, backends: &Backends) -> Kept {
        let home = stateless(flow.slot, |host| backends.state(host));
        flow.made.home = home;
        let Flow { packet, hash, now, .. } = flow;
        let (hash, now) = (*hash, *now);
        let mut found = table::find(&Memory, hash, &packet.tuple);
        if found.is_some() && !table::is_of(&Memory, &found, &packet.tuple) {
            found = if table::has_overflow(&Memory, hash) {
                table::find_overflow(&Memory, &packet.tuple)
            } else {
                Found::NONE
            };
        }
        let word = found.word;
        // A closing pin that only its word keeps at its host stays for the long timeout: a FIN or RST that the
        // client never sent must not be able to move its flow.
        let waits = word.phase() as u8 == Phase::Closing as u8
            && word.host() != home
            && word.idle(now) <= maps::timeouts()[word.limit_as(Phase::Established)];
        let is_live = (waits || word.is_live(now, maps::timeouts()))
            && !matches!(backends.state(word.host()), HostState::Lost);
        // A dead one in overflow is the sweep's, which takes it out without asking.
        if !is_live && found.index >= IN_OVERFLOW {
            found = Found::NONE;
        }
        Kept { found, is_live }
    }

    /// The live pin.
    #[inline(always)]
    pub fn pin(&self) -> Pin {
        if self.is_live {
            Pin { host: self.found.word.host(), phase: self.found.word.phase() }
        } else {
            Pin::NONE
        }
    }

    /// The word that was found, and its index.
    #[inline(always)]
    pub fn found(&self) -> (u64, u32) {
        (self.found.word.0, self.found.index)
    }

    #[inline(always)]
    pub fn view<'a>(&'a self, flow: &'a Flow, backends: &'a Backends) -> impl View + 'a {
        FlowView { kept: self, flow, backends }
    }
}

/// What the decision may ask.
struct FlowView<'a> {
    kept: &'a Kept,
    flow: &'a Flow,
    backends: &'a Backends,
}

/// Half the number space away, where no packet of the flow is.
const NOWHERE: u32 = 1 << 31;

impl FlowView<'_> {
    /// The packet's sequence number without that of the pin's record.
    #[inline(always)]
    fn past_sequence(&self) -> u32 {
        table::cold_of(&Memory, &self.kept.found).map_or(NOWHERE, |cold| {
            // SAFETY: a record of the map; an aligned word.
            self.flow.segment.sequence.wrapping_sub(unsafe { (*cold).sequence })
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
        self.past_sequence() == 0
    }

    #[inline(always)]
    fn past_fin(&self) -> u32 {
        self.past_sequence()
    }

    #[inline(always)]
    fn is_recent(&self) -> bool {
        self.kept.found.word.idle(self.flow.now) <= 1
    }

    #[inline(always)]
    fn gives_way(&self) -> bool {
        let policy = self.flow.policy;
        policy.has(Policy::IMMEDIATE)
            || policy.has(Policy::GAP)
                && self.kept.found.word.idle(self.flow.now) > maps::udp_gap(policy.set())
    }
}

/// A packet with all that was found out about its flow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flow {
    pub packet: Packet,
    pub segment: Segment,
    pub hash: FlowHash,
    /// Of the service's backends.
    pub window: Window,
    pub policy: Policy,
    pub service: u16,
    pub slot: Slot,
    pub slot_number: u32,
    pub now: u32,
    pub decision: Decision,
    pub made: Made,
}

impl Flow {
    /// The same decision, out of the record. Field by field, as the verifier of Linux 5.15 refuses to read the bytes between them, which
    /// nobody has written.
    #[inline(always)]
    pub fn remember(&mut self, decision: Decision) -> Decision {
        let kept = &raw mut self.decision;
        // SAFETY: fields of this record.
        unsafe {
            (&raw mut (*kept).host).write_volatile(decision.host);
            (&raw mut (*kept).pin).write_volatile(decision.pin);
            (&raw mut (*kept).reason).write_volatile(decision.reason);
            kept.read_volatile()
        }
    }
}

/// The pin that is being made for the flow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Made {
    /// Number of its counters, and of further ones, see `Backend::tally`.
    stats: u32,
    tally: u32,
    host: HostId,
    /// The flow's stateless answer.
    home: HostId,
    /// Number of the counters of the host that the flow moves away from; [`NOBODY`]. And of further ones, 0 or that.
    moved_from: u32,
    moved_tally: u32,
    /// A new flow begins with it (0 or 1).
    begins: u8,
    /// The flow's host is draining (0 or 1).
    pub is_draining: u8,
    pad: [u8; 2],
}

/// In [`Made`]: the flow does not move.
const NOBODY: u32 = u32::MAX;

/// What became of the pin.
pub enum Applied {
    Done,
    /// The pin is prepared and is to be inserted.
    Insert,
    /// It was made anew in its place; an `Inserted` as a number.
    Remade(u32),
}

/// Outcome of [`conclude_made`]: a new flow of an open slot found no place. It must not begin, as its next packet would go
/// elsewhere.
pub const NO_PLACE: u32 = 1;

/// Carries out the decision about the pin.
#[inline(always)]
pub fn apply(flow: &mut Flow, kept: &Kept, decision: &Decision, backends: &Backends) -> Applied {
    let found = &kept.found;
    let phase = decision.pin.phase;
    match decision.pin.action {
        PinAction::Leave => Applied::Done,
        // Never without a pin; but the verifier of Linux 6.1 has lost the action where it was packed with the host.
        PinAction::Refresh if !found.is_some() => Applied::Done,
        PinAction::Refresh => {
            match phase {
                Phase::Closing => note_end(flow, found),
                // Nothing else leaves a pin half-open.
                Phase::HalfOpen => book_of(found, |stats| stats.syns_again += 1),
                Phase::Reset => note_answer(flow, found),
                _ => {}
            }
            let new = found.word.seen(flow.now, phase).with_set(flow.policy.set());
            if new == found.word {
                return Applied::Done;
            }
            if table::update(&Memory, found, new) {
                if phase as u8 == Phase::Reset as u8 && found.word.phase() as u8 != Phase::Reset as u8 {
                    tally(backends.get(found.word.host()).get().tally, |stats| stats.reset += 1);
                }
                return Applied::Done;
            }
            if is_kept(found) {
                return Applied::Done;
            }
            flow.made.moved_from = NOBODY;
            // The sweep, or a full table, took the pin in this very moment: the flow gets it back.
            make(flow, kept, found.word.host(), phase, false, backends)
        }
        PinAction::Make => {
            flow.made.moved_from = NOBODY;
            if let Reason::ForwardMoved = decision.reason {
                let from = backends.get(found.word.host());
                (flow.made.moved_from, flow.made.moved_tally) = (from.get().stats, from.get().tally);
            }
            make(flow, kept, decision.pin.host, phase, found.is_some(), backends)
        }
    }
}

/// Of a dry run, in place of [`apply`]: whether the packet goes on only if there is a place for its flow's pin, which is then prepared.
#[inline(always)]
pub fn hangs_on_a_place(flow: &mut Flow, kept: &Kept, decision: &Decision, backends: &Backends) -> bool {
    let needs = matches!(decision.pin.action, PinAction::Make)
        && !kept.found.is_some()
        && flow.slot.is_open()
        && matches!(flow.packet.signal, Signal::Syn);
    needs && prepare(flow, decision.pin.host, decision.pin.phase, backends).is_some()
}

/// Books in further counters, if there are some: see `Backend::tally`.
#[inline(always)]
fn tally(index: u32, book: impl FnOnce(&mut BackendStats)) {
    if index != 0
        && let Some(stats) = stats(index)
    {
        book(stats);
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
fn note_end(flow: &Flow, found: &Found) {
    let sequence = match flow.packet.signal {
        Signal::Fin => flow.segment.sequence_after,
        Signal::Rst if found.word.phase() as u8 != Phase::Closing as u8 => {
            book_of(found, |stats| stats.client_resets += 1);
            flow.segment.sequence ^ 1 << 31
        }
        _ => return,
    };
    note(found, sequence);
}

/// Books in the counters of a pin that was found.
#[inline(always)]
fn book_of(found: &Found, book: impl FnOnce(&mut BackendStats)) {
    if let Some(cold) = table::cold_of(&Memory, found)
        // SAFETY: a record of the map; an aligned word. Of a pin that ends meanwhile it may be another flow's: a count off by one.
        && let Some(stats) = stats(unsafe { (&raw const (*cold).stats).read_volatile() })
    {
        book(stats);
    }
}

/// Notes where the client is in the sequence of what it sends: so the daemon can tell the host that the flow has ended.
#[inline(always)]
fn note_answer(flow: &Flow, found: &Found) {
    if let Some(cold) = table::cold_of(&Memory, found) {
        // SAFETY: a record of the map; aligned words. What the pin of a dead flow says besides is not changed by anybody.
        unsafe {
            (&raw mut (*cold).sequence).write_volatile(flow.segment.sequence_after);
            let kind = &raw mut (*cold).kind;
            kind.write_volatile(kind.read_volatile() | Cold::ANSWERED);
        }
    }
}

#[inline(always)]
fn note(found: &Found, sequence: u32) {
    if let Some(cold) = table::cold_of(&Memory, found) {
        // SAFETY: a record of the map; an aligned word.
        unsafe { (*cold).sequence = sequence };
    }
}

/// Prepares a new pin, and puts it in the place of the flow's old one if it has one.
#[inline(always)]
fn make(
    flow: &mut Flow,
    kept: &Kept,
    host: HostId,
    phase: Phase,
    replaces: bool,
    backends: &Backends,
) -> Applied {
    let Some(entry) = prepare(flow, host, phase, backends) else { return Applied::Done };
    if replaces {
        return Applied::Remade(table::remake(&Memory, &kept.found, entry, flow.now) as u32);
    }
    let needs_none = !flow.slot.is_open() && host == flow.slot.owner();
    if needs_none && !matches!(flow.packet.signal, Signal::Datagram) && !gate::is_open(flow.now) {
        gate::hold();
        return Applied::Remade(Inserted::NoPlace as u32);
    }
    gate::pass(flow.now);
    Applied::Insert
}

/// Writes the new pin into this CPU's record.
#[inline(always)]
fn prepare(
    flow: &mut Flow,
    host: HostId,
    phase: Phase,
    backends: &Backends,
) -> Option<&'static mut Overflow> {
    let backend = backends.get(host);
    if backend.state() == HostState::Gone {
        return None;
    }
    let entry = insert::entry()?;
    let tuple = &flow.packet.tuple;
    let stats = backend.get().stats;
    entry.word = Word::new(flow.hash.tag(), host, phase, flow.now).with_set(flow.policy.set()).0;
    entry.cold = Cold {
        source: tuple.source,
        destination: tuple.destination,
        ports: tuple.ports,
        kind: tuple.protocol | (flow.service as u32) << 16,
        sequence: match flow.packet.signal {
            Signal::Fin => flow.segment.sequence_after,
            _ => flow.segment.sequence,
        },
        start: flow.now,
        stats,
        slot: flow.slot_number,
        #[cfg(feature = "layout-next")]
        more: 0,
    };
    (flow.made.stats, flow.made.tally) = (stats, backend.get().tally);
    flow.made.host = host;
    flow.made.begins = matches!(phase, Phase::HalfOpen | Phase::Udp) as u8;
    Some(entry)
}

/// Books how the making of a pin ended. Without a place it is harmless where the flow's host is the stateless answer now and
/// when the handover is closed; else a TCP flow must not begin ([`NO_PLACE`]), a UDP flow, which cannot be told to try again,
/// is counted, and handovers stay open.
#[inline(always)]
pub fn conclude_made(flow: &Flow, inserted: u32) -> u32 {
    let made = &flow.made;
    let begins = made.begins != 0;
    if inserted == Inserted::Placed as u32 {
        if begins && let Some(stats) = stats(made.stats) {
            stats.new_flows += 1;
        }
        if begins {
            tally(made.tally, |stats| stats.new_flows += 1);
        }
        if made.moved_from != NOBODY
            && let Some(stats) = stats(made.moved_from)
        {
            stats.moved += 1;
        }
        if made.moved_from != NOBODY {
            tally(made.moved_tally, |stats| stats.moved += 1);
        }
    } else if flow.slot.is_open() && matches!(flow.packet.signal, Signal::Syn) {
        return NO_PLACE;
    } else if inserted != Inserted::Race as u32 {
        count(Reason::NoteUnpinned);
        mark_incomplete(made.host);
        if made.host != made.home || made.host != flow.slot.owner() {
            mark_lost();
        }
    }
    if begins && made.is_draining != 0 {
        count(Reason::ViolationNewFlowOnDraining);
    }
    0
}
