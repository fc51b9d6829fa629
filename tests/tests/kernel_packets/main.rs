//! The balancer's program in the kernel, packet by packet: verdict, bytes, and every counter after each of them, and
//! after each the gauges and marks compared with what lies in the flow table. Needs root.

mod bench;
mod crowd;
mod deadline;
mod dry;
mod ending;
mod forward;
mod handover;
mod life;
mod listing;
mod malformed;
mod pass;
mod policy;
mod pressure;
mod records;
mod signs;
mod states;
mod timeouts;
mod victims;
