//! What the daemon says in the name of others, so that both ends of a flow learn that it has ended: to backends in their clients'
//! name, to clients in the VIP's.

mod forward;
mod segment;
mod socket;

pub use forward::frame_to;
pub use segment::{datagram, probe, rst, syn};
pub use socket::Speaker;
