//! Maintenance runs: a change that is carried through many hosts, one after the other.
//!
//! A run is a pure function, [`step`]: a state, an event, a look at the world and the time go in, the next state and a list of actions come
//! out. It reads no clock, no map and no file.
//!
//! ```text
//!   Waiting ─▶ Draining ─▶ Working ─▶ Proving ─▶ Returning ─▶ Watching ─▶ Done
//!                  │          │          │           │            │
//!                  ▼          ▼          ▼           ▼            ▼       what fails, or is aborted
//!              policy "stop": Failed; policy "rollback": on its way back
//!
//!   on its way back:  Draining ─▶ Working (the rollback) ─▶ Proving ─▶ Returning ─▶ Watching ─▶ Returned
//! ```
//!
//! **It goes by what is so, not by what it did.** In each step it looks whether what the step is for has come true, and asks for it if not. So a
//! daemon that was killed between journal and deed asks again, and one that was killed after the deed sees it done. Only commands can be
//! half done; they run on without the daemon, and have a name by which a second one is the first one again (see `jobs`).
//!
//! **How to run it.** Write the new state to the journal if it is another one, then carry the actions out in their order. One that cannot be
//! carried out is asked for again.

mod checks;
mod machine;
mod plan;
mod read;
mod report;
mod state;
mod waits;
mod window;

#[cfg(test)]
mod tests;

pub use machine::step;
pub use plan::{Plan, Planned, Proof, Task, What};
pub use read::{Refused, Site, read, stricter};
pub use report::report;
pub use state::{Action, Drained, Event, HostRun, Job, JobEnd, JobState, NotWell, Run, World, is_kept};
pub use waits::waits_for;
