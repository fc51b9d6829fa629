//! The flow table under packets on two CPUs, sweeps and publications at once, in the kernel. Needs root and two CPUs.
//!
//! Every flow has four hosts that no other flow has, and all flows share two buckets: whoever is handed another flow's word
//! goes to a host that tells. The runs are random and last for some seconds; `SLUICE_TEST_SECONDS=60` lets each of them last
//! for a minute.

mod cast;
mod daemon;
mod kept;
mod killed;
mod storm;
