//! The decapsulator in the kernel, packet by packet through `BPF_PROG_TEST_RUN`: verdict, bytes and every counter.
//! Needs root.

mod any;
mod bench;
mod gue;
mod ipip;
mod load;
mod vlan;
