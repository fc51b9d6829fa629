//! The hard cases of a drain, over real sockets: what happens to handshakes, ends, silence, forgeries, datagrams and orders that
//! meet a drain at the worst moment. Needs root.

mod actors;
mod blind;
mod empty;
mod ends;
mod handshakes;
mod orders;
mod silence;
mod storm;
mod tools;
mod udp;
