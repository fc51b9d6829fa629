//! The decapsulator on real interfaces, each test in network namespaces of its own. Each ends with nothing left in the BPF
//! file system. Needs root.

mod attach;
mod encapsulator;
mod rig;
mod traffic;
