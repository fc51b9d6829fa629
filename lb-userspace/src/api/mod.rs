//! The HTTP + JSON API on the daemon's Unix socket.

pub mod client;
pub mod openapi;
pub mod server;
pub mod types;
