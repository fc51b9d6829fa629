//! The drain machine: what becomes of one host between "drain it" and "no flow is left on it".
//!
//! It is a pure function, [`step`]: a state, an event and the time go in, the next state and a list of actions come
//! out. It reads no clock, no map and no file, so every history can be replayed and tested.
//!
//! ```text
//!            Drain            Published          Sweep: done         Sweep: done again
//!   Active ────────▶ Draining ────────▶ Draining ──────────▶ sealed ──────────────────▶ Drained
//!     ▲              (rings not          ▲   │ ▲               │                           │
//!     │               yet published)     │   │ └───────────────┘ Sweep: not done           │
//!     └──────────────────────────────────┴───┴─────────────────────────────────────────────┘
//!                                        Undrain, or the lease is over
//! ```
//!
//! **Done means done.** A sweep finds a drain done when the live-flow gauge reads 0, the sweep itself counted no live
//! pin of the host, and no flow can be alive without a pin: either no live pin of the host was dropped for longer
//! than the idle timeout, or its slots have been open for longer than that, so that every flow that still lives has
//! spoken and was pinned again. Then the host is sealed (the data path no longer names it in stateless answers, so
//! no new pin can appear) and one more full sweep must find the same. Only that second look ends the drain.
//!
//! **A drain may be bounded** by an [`Order`](crate::api::types::Order). Past a deadline that moves or resets flows the data
//! path, which enforces it by itself, names the host to no flow without a pin, so gauge and count alone tell the end; and
//! what says nothing for some seconds more is ended by the daemon. At the end of its lease a host is taken back, done or
//! not. Both are Unix times, so they hold over restarts. Another order takes a seal off, which may rest on the one before.
//!
//! **A part of a host** can be drained: it gives up some of its slots and stays in use for the others. Then all of this is said of the flows in
//! slots that it does not own, and there is no seal.
//!
//! **One service of a host** can be drained: a machine of its own, for the [`Target`], whose gauges are of the pair.
//!
//! **How to run it.** Carry the actions out in their order, and take the new state only when all of them worked:
//! where one fails, keep the old state and offer the event again. A sweep whose observation is offered must have begun after
//! the actions of the step before were carried out.

mod account;
mod clients;
mod itself;
mod machine;
mod order;
mod state;
mod status;
mod waiting;

#[cfg(test)]
mod tests;

pub use account::Tally;
pub use clients::{Unclear, clients};
pub use itself::{Quiet, SelfDrain};
pub use machine::{Action, Event, resume, step};
pub use order::{Refusal, Wish};
pub use state::{Drain, Draining, Finished, Gauges, Observation, Start, State, Target};
