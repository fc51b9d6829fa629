//! The flood gate: how many pins a CPU may make in a second for TCP flows of settled slots.
//!
//! Such a flow needs no pin to find its host (C3), so a flood of SYNs or ACKs from random sources can be forwarded without
//! filling the table. Flows in a handover and UDP flows are never held back: their pins are what keeps them where they are.

use lb_common::reason::Reason;

use crate::maps;
use crate::verdict::count;

/// Whether the gate lets another pin through. Off (0) costs nothing: the limit is a constant to the verifier.
#[inline(always)]
pub fn is_open(now: u32) -> bool {
    let limit = maps::flood_gate();
    if limit == 0 {
        return true;
    }
    match maps::GATE.get_ptr(0) {
        // SAFETY: this CPU's word, which no other program run touches meanwhile.
        Some(made) => made_in(unsafe { *made }, now) < limit,
        None => true,
    }
}

/// One more pin was made.
#[inline(always)]
pub fn pass(now: u32) {
    if maps::flood_gate() != 0
        && let Some(made) = maps::GATE.get_ptr_mut(0)
    {
        // SAFETY: as above.
        unsafe { *made = (now as u64) << 32 | (made_in(*made, now) + 1) as u64 };
    }
}

/// A flow goes without a pin.
#[inline(always)]
pub fn hold() {
    count(Reason::NoteFloodGate);
}

/// Pins made this second; the word has the second in its upper half.
#[inline(always)]
fn made_in(made: u64, now: u32) -> u32 {
    if (made >> 32) as u32 == now { made as u32 } else { 0 }
}
