//! What the XDP program and user space share: the layouts of the maps, the packet parser, the flow hash, the flow
//! table's algorithm and the decision. No I/O; the same code is compiled for BPF and for the host, so that tests,
//! planners and the kernel cannot disagree.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch, core_intrinsics))]
#![cfg_attr(target_arch = "bpf", allow(internal_features))]

pub mod atomic;
pub mod bits;
pub mod checksum;
pub mod decap;
pub mod decide;
pub mod encap;
pub mod flow;
pub mod hash;
pub mod icmp;
pub mod layout;
pub mod mss;
pub mod nat;
pub mod parse;
pub mod reason;
pub mod rst;
pub mod services;
pub mod table;
pub mod trace;
pub mod ttl;
