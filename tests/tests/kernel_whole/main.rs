//! What takes the whole program: packets that are not plain, answers of the balancer's own, modes and services of every kind. Verdict,
//! bytes, and every counter, in the kernel. Needs root.

mod abilities;
mod alone;
mod answering;
mod answers;
mod bench;
mod compare;
mod errors;
mod forward;
mod fragments;
mod headers;
mod pieces;
mod replies;
mod segments;
mod services;
mod suspects;
mod tags;
