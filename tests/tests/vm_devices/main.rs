//! The real daemon on devices that not every kernel has: VLAN devices, bonds, tunnels, emulated links; and the doctor with a NIC. `cargo xtask vm`
//! runs it on a kernel that has them, where one that cannot be made fails the test. Everywhere else the tests are ignored, which `cargo test` says.

mod bond;
mod doctor;
mod site;
mod tap;
mod tunnels;
mod vlan;
