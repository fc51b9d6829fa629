//! What takes the whole program: packets that are not plain, answers of the balancer's own, modes and services of every kind. Verdict,
//! bytes, and every counter, in the kernel. Needs root.

mod answers;
mod bench;
mod forward;
mod headers;
mod tags;
