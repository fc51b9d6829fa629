//! The whole product against a reference: the daemon's engine with its journal and the program in the kernel do random steps, and
//! plain rules say after each what they may have done.
//!
//! - [`balancer`]: the product, driven by hand.
//! - [`rules`](crate::rules): what becomes of a packet and of its flow's pin, to the last counter.
//! - [`handovers`]: whose the slots are, when a handover ends, and when a drain may be done.
//! - [`world`]: what clients see, and what the contract (C1 to C4 and C7) promises them. It knows nothing of pins.
//! - [`steps`]: what can happen; [`run`] and [`traffic`]: it happens; [`compare`]: table and counters are as they should be.
//! - [`bounds`]: deadlines and leases of drains.
//! - [`parts`]: drains of a part of the slots.
//! - [`clients`], [`clients_random`]: drains for some clients alone.
//! - [`ramps`]: hosts that come back share by share.
//! - [`random`]: thousands of sequences; [`cases`]: those that once failed; [`two`]: two balancers; [`joined`]: a
//!   service that is new; [`configs`]: configs that come while the daemon runs; [`unwritable`]: a journal that does not take the rings.

mod balancer;
mod bounds;
mod cases;
mod clients;
mod clients_random;
mod compare;
mod configs;
mod handovers;
mod joined;
mod parts;
mod ramps;
mod random;
mod run;
mod setup;
mod steps;
mod traffic;
mod two;
mod unwritable;
mod world;

pub use steps::any_policies;
