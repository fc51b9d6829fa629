//! The record of a decision, for those who explain it.

use lb_common::layout::DecisionRecord;

use crate::{maps, trace};

/// Writes to the record, in the program that keeps one (`ON`). A parameter and not a setting: what is kept for a record that
/// is never written would cost the other program registers.
#[inline(always)]
pub fn record<const ON: bool>(write: impl FnOnce(&mut DecisionRecord)) {
    if !ON {
        return;
    }
    // A dry run, or a test, looks at one packet at a time; who traces has a record for each CPU.
    let record = if maps::is_tracing() { trace::decision() } else { maps::DECISION.get_ptr_mut(0) };
    if let Some(record) = record {
        // SAFETY: the map's element.
        write(unsafe { &mut *record });
    }
}
