//! What a client may take of the server. None of it can be reached by `sluice` itself; all of it is in docs/operations.md.

use std::time::Duration;

/// Connections at once. The socket's queue holds those that come in faster than they are taken.
pub const CONNECTIONS: usize = 256;
/// Of these, so many are for root and the daemon's user alone: whoever else fills the rest, operators get in.
pub const RESERVED: usize = 64;
/// Connections of one other user.
pub const OF_A_USER: usize = 32;
/// Connections of all users together who may do nothing, and are only told so.
pub const OF_STRANGERS: usize = 16;

/// Requests a second of one other user, and how many may come at once after a pause.
pub const RATE: Rate = Rate { a_second: 50.0, at_once: 100.0 };
/// Files of the page, the same: each load asks for some thirty.
pub const FILES: Rate = Rate { a_second: 100.0, at_once: 600.0 };
/// Refusals of one user that are logged one by one; the others are counted.
pub const LOG: Rate = Rate { a_second: 1.0, at_once: 20.0 };

/// From a connection's beginning, or from the end of an answer, to the last byte of a request's head. So it also bounds how long a
/// connection may be idle.
pub const HEAD: Duration = Duration::from_secs(10);
/// From a request's head to the last byte of its body.
pub const BODY: Duration = Duration::from_secs(10);
/// For how long a client may take nothing of an answer, or of a stream of events.
pub const UNREAD: Duration = Duration::from_secs(30);

/// Wrong tokens that somebody may show the page, from one network.
pub const TRIES: Rate = Rate { a_second: 0.2, at_once: 5.0 };
/// Networks whose wrong tokens are remembered; of more, those that tried longest ago are forgotten.
pub const TRIERS: usize = 1024;

/// Bytes of a request's head.
pub const HEAD_BYTES: usize = 16 << 10;
/// Lines of it.
pub const HEADERS: usize = 32;
/// So much a second, and so much at once.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub a_second: f64,
    pub at_once: f64,
}
