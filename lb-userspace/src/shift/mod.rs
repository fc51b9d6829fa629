//! Shifts: the new flows of a service go over from one group of its hosts to another, step by step, and back by themselves if the others
//! fare badly.
//!
//! A shift is a pure function, [`step`], as a maintenance run is: a state, an event, what was seen and the time go in, the next state comes out.
//! How the new flows are split is a function of the state alone ([`Shift::part`], [`Part::shares`]), so a daemon that was killed publishes the same
//! again. Flows that live stay where they are: each change of the split is a handover as any other.
//!
//! What a shift came to stays in force when it is over, until another shift of the service begins.

mod condition;
mod fates;
mod machine;
mod part;
mod read;
mod report;

#[cfg(test)]
mod tests;

pub use condition::{Condition, ENOUGH, Seen};
pub use fates::{Fared, Fates};
pub use machine::{Course, Event, Flows, Shift, Side, step, waits_for};
pub use part::Part;
pub use read::{Site, read};
pub use report::{report, words};
