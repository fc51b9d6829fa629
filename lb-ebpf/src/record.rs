//! The record of a decision, for those who explain it.

use lb_common::layout::DecisionRecord;

use crate::maps;

/// Writes to the record, in the program that keeps one (`ON`). A parameter and not a setting: what is kept for a record that
/// is never written would cost the other program registers.
#[inline(always)]
pub fn record<const ON: bool>(write: impl FnOnce(&mut DecisionRecord)) {
    if ON && let Some(record) = maps::DECISION.get_ptr_mut(0) {
        // SAFETY: the map's element. Where decisions are recorded, one packet is looked at at a time.
        write(unsafe { &mut *record });
    }
}
