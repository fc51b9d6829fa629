//! The long way, for packets that begin or end something, and for all packets of a slot in handover: pin and tuple are
//! found, the decision is made, the pin is changed.
//!
//! Global BPF functions, which the verifier walks once, whatever led to them. What they work on lies in a record of this
//! CPU, and their outcomes are numbers, so that the verifier knows nothing of either.

use lb_common::decide::decide;
use lb_common::hash::FlowHash;
use lb_common::layout::{HOST_NONE, HostId, HostState, Slot};
use lb_common::parse::Signal;
use lb_common::reason::Reason;
use lb_common::table;

use crate::backend::Backends;
use crate::memory::Memory;
use crate::pin::{self, Applied, Flow, Kept, NO_PLACE, conclude_made};
use crate::record::record;
use crate::verdict::count;
use crate::{insert, maps};

/// Where the packet goes, and why.
pub struct Outcome {
    /// [`HOST_NONE`]: it is dropped.
    pub host: HostId,
    pub reason: Reason,
    /// Nothing was decided: the program before is to.
    pub is_predecessors: bool,
}

/// In the outcome of [`decide_flow`]: see [`Outcome::is_predecessors`].
const PREDECESSORS: u32 = 1 << 30;
/// In the outcome of [`decide_flow`]: the pin that it has prepared is to be inserted.
const INSERT: u32 = 1 << 31;

/// Brings near what [`decide_exactly`] will need of a flow whose slot is in handover, while the flow's bucket is on its way.
#[inline(always)]
pub fn expect(slot: Slot, hash: FlowHash) {
    if slot.is_open() {
        table::expect(&Memory, hash);
    }
}

/// Decides about the packet that `describe` writes into this CPU's record, and changes its flow's pin.
///
/// Each step is called from here and not from the one before: the stack of all functions of a chain together has 512
/// bytes.
#[inline(always)]
pub fn decide_exactly<const RECORDS: bool>(
    hash: FlowHash,
    now: u32,
    describe: impl FnOnce(&mut Flow),
) -> Outcome {
    let dropped = |reason| Outcome { host: HOST_NONE, reason, is_predecessors: false };
    let Some(work) = maps::WORK.get_ptr_mut(0) else { return dropped(Reason::DropInternal) };
    // SAFETY: this CPU's record, which no other program run touches meanwhile.
    describe(unsafe { &mut *work });
    let outcome = if RECORDS { decide_flow_recorded() } else { decide_flow() };
    if outcome & INSERT != 0 {
        let is_placed = if RECORDS && maps::is_dry() {
            insert::would(hash, now)
        } else {
            conclude(insert::insert(hash, now)) != NO_PLACE
        };
        if !is_placed {
            return dropped(Reason::DropNoPlace);
        }
    }
    Outcome {
        host: outcome as HostId,
        reason: Reason::from_number(outcome >> 16 & 0xff),
        is_predecessors: outcome & PREDECESSORS != 0,
    }
}

/// Host in bits 0–15, reason in bits 16–23, [`INSERT`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn decide_flow() -> u32 {
    decide_described::<false>()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn decide_flow_recorded() -> u32 {
    decide_described::<true>()
}

#[inline(always)]
fn decide_described<const RECORDS: bool>() -> u32 {
    let drop = |reason: Reason| HOST_NONE as u32 | (reason as u32) << 16;
    // SAFETY: as above.
    let Some(flow) = maps::WORK.get_ptr_mut(0).map(|work| unsafe { &mut *work }) else {
        return drop(Reason::DropInternal);
    };
    let Some(directory) = maps::DIRECTORY.get_ptr(0) else { return drop(Reason::DropInternal) };
    let backends = Backends::new(directory, flow.window, flow.now, flow.hash);
    let kept = Kept::find(flow, &backends);
    if !kept.pin().is_some() && maps::is_no_client(flow.packet.tuple.source) {
        return drop(Reason::DropVipSource);
    }
    // Its pin may have been made elsewhere a moment ago. In a settled slot, and for a first packet, the answer is the same without it.
    if !kept.pin().is_some()
        && flow.slot.is_open()
        && !matches!(flow.packet.signal, Signal::Syn | Signal::Datagram)
        && maps::has_predecessor()
    {
        return drop(Reason::DropInternal) | PREDECESSORS;
    }
    let decision = decide(flow.packet.signal, flow.slot, kept.pin(), &kept.view(flow, &backends));
    // A thousand ways lead here. In the record the verifier forgets which it was, so the rest is walked once.
    let decision = flow.remember(decision);
    let backends = Backends::new(directory, flow.window, flow.now, flow.hash);
    record::<RECORDS>(|record| {
        (record.word, record.index) = kept.found();
        record.is_live = kept.pin().is_some() as u8;
        (record.action, record.phase) = (decision.pin.action as u8, decision.pin.phase as u8);
    });
    let backend = backends.get(decision.host);
    let state = backend.state();
    if state == HostState::Gone && decision.host != HOST_NONE {
        if !(RECORDS && maps::is_dry()) {
            count(if kept.pin().is_some() {
                Reason::ViolationPinNamesNobody
            } else {
                Reason::ViolationSlotNamesNobody
            });
        }
        return drop(Reason::DropInternal);
    }
    flow.made.is_draining = (state == HostState::Draining) as u8;
    let answer = decision.host as u32 | (decision.reason as u32) << 16;
    if RECORDS && maps::is_dry() {
        return if pin::hangs_on_a_place(flow, &kept, &decision, &backends) {
            answer | INSERT
        } else {
            answer
        };
    }
    // Also for a packet that is dropped, as nobody can take it for its host, which is down: the flow lives on.
    match pin::apply(flow, &kept, &decision, &backends) {
        Applied::Done => answer,
        Applied::Insert => answer | INSERT,
        Applied::Remade(inserted) => {
            if conclude_made(flow, inserted) == NO_PLACE {
                drop(Reason::DropNoPlace)
            } else {
                answer
            }
        }
    }
}

/// The insert has come to this end; [`NO_PLACE`] if the packet must be dropped for it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn conclude(inserted: u32) -> u32 {
    match maps::WORK.get_ptr(0) {
        // SAFETY: as above.
        Some(flow) => conclude_made(unsafe { &*flow }, inserted),
        None => NO_PLACE,
    }
}
