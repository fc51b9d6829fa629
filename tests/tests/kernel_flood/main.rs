//! A SYN flood from random sources at a table that is too small for it, in the kernel: 10 million SYNs, or as many as two CPUs
//! send in 16 s, at 100 000 established connections; then new clients, while one of the CPUs goes on. Needs root and two CPUs.
//! `SLUICE_TEST_SECONDS` is the most that the flood lasts before the clients come.
//!
//! The feeder of the benchmark sends, as a system call a packet would be the bottleneck.

mod clients;
mod flood;
mod site;
