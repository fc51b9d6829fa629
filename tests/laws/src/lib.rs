//! What must hold for any bytes and any order of operations: laws of the code that the XDP programs share with the host.
//!
//! The fuzz targets (`fuzz/fuzz_targets`) look for input that breaks one of them; what they found on their way lies in
//! `fuzz/corpus`, and ordinary tests run the laws over it. A broken law panics.

pub mod balancer;
pub mod corpus;
pub mod decap;
pub mod flow_table;
pub mod forwarding;
pub mod icmp;
pub mod memory;
pub mod parse;
pub mod site;
pub mod wire;
pub mod words;
