//! Making a pin where there was none: apart from the hot path, so that its size and its stack do not burden each packet.
//!
//! The two steps are global BPF functions, which the verifier walks once and not once for each way that leads to them.
//! They take numbers only; what else they need lies in a scratch record of this CPU.

use lb_common::hash::FlowHash;
use lb_common::layout::{Overflow, Tuple};
use lb_common::table::{self, Inserted};

use crate::maps;
use crate::memory::Memory;

/// What an insert works on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scratch {
    entry: Overflow,
    tuple: Tuple,
}

/// Makes the pin, at the cost of a pin that matters less if the table is full. An `Inserted` as a number.
#[inline(always)]
pub fn insert(hash: FlowHash, tuple: &Tuple, entry: &Overflow, now: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return Inserted::NoPlace as u32 };
    // SAFETY: this CPU's record, which no other program run touches meanwhile.
    unsafe { *scratch = Scratch { entry: *entry, tuple: *tuple } };
    let inserted = insert_pin(hash.0, now);
    if inserted == Inserted::NoPlace as u32 { evict_pin(hash.0, now) } else { inserted }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn insert_pin(hash: u64, now: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return Inserted::NoPlace as u32 };
    // SAFETY: as above.
    let Scratch { entry, tuple } = unsafe { &mut *scratch };
    table::insert(&Memory, FlowHash(hash), tuple, entry, now) as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn evict_pin(hash: u64, now: u32) -> u32 {
    let Some(scratch) = maps::SCRATCH.get_ptr_mut(0) else { return Inserted::NoPlace as u32 };
    // SAFETY: as above.
    table::evict(&Memory, FlowHash(hash), unsafe { &mut (*scratch).entry }, now) as u32
}
