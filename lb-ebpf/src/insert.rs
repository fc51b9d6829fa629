//! Making a pin where there was none: apart from the hot path, so that its size and its stack do not burden each packet.
//!
//! The two steps are global BPF functions, which the verifier walks once and not once for each way that leads to them.
//! They take numbers only; what else they need lies in records of this CPU.

use lb_common::hash::FlowHash;
use lb_common::layout::Overflow;
use lb_common::table::{self, Inserted};

use crate::maps;
use crate::memory::Memory;

/// This CPU's record of the pin that is being made.
#[inline(always)]
pub fn entry() -> Option<&'static mut Overflow> {
    // SAFETY: no other program run touches it meanwhile.
    maps::ENTRY.get_ptr_mut(0).map(|entry| unsafe { &mut *entry })
}

/// Makes the pin that [`entry`] holds, for the flow in hand, at the cost of a pin that matters less if the table is full.
/// An `Inserted` as a number.
#[inline(always)]
pub fn insert(hash: FlowHash, now: u32) -> u32 {
    match insert_or_evict(hash, now) {
        // Another CPU was faster, for this flow, which a second look tells, or for one that wanted the same place.
        RACE => insert_or_evict(hash, now),
        inserted => inserted,
    }
}

const RACE: u32 = Inserted::Race as u32;

#[inline(always)]
fn insert_or_evict(hash: FlowHash, now: u32) -> u32 {
    let inserted = insert_pin(hash.0, now);
    if inserted == Inserted::NoPlace as u32 { evict_pin(hash.0, now) } else { inserted }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn insert_pin(hash: u64, now: u32) -> u32 {
    let (Some(entry), Some(flow)) = (entry(), maps::WORK.get_ptr(0)) else { return Inserted::NoPlace as u32 };
    // SAFETY: this CPU's record, which no other program run touches meanwhile.
    let tuple = unsafe { &(*flow).packet.tuple };
    table::insert(&Memory, FlowHash(hash), tuple, entry, now) as u32
}

/// Whether [`insert`] would find a place, of which nothing is taken.
#[inline(always)]
pub fn would(hash: FlowHash, now: u32) -> bool {
    match would_place(hash.0, now) {
        NO_PLACE => would_evict(hash.0, now) != 0,
        inserted => inserted == Inserted::Placed as u32,
    }
}

const NO_PLACE: u32 = Inserted::NoPlace as u32;

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn would_place(hash: u64, now: u32) -> u32 {
    let Some(flow) = maps::WORK.get_ptr(0) else { return NO_PLACE };
    // SAFETY: this CPU's record, which no other program run touches meanwhile.
    let tuple = unsafe { &(*flow).packet.tuple };
    table::would_insert(&Memory, FlowHash(hash), tuple, now, maps::overflow_has_room()) as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn would_evict(hash: u64, now: u32) -> u32 {
    match entry() {
        Some(entry) => table::would_evict(&Memory, FlowHash(hash), entry, now) as u32,
        None => 0,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evict_pin(hash: u64, now: u32) -> u32 {
    match entry() {
        Some(entry) => table::evict(&Memory, FlowHash(hash), entry, now) as u32,
        None => Inserted::NoPlace as u32,
    }
}
