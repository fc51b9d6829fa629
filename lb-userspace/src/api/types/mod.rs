//! The bodies of the `/v1` API: what the daemon answers and what `--json` prints. Field names are stable.
//!
//! Times are Unix seconds, durations seconds, rates per second over the daemon's last sampling interval.

mod config;
mod drain;
mod error;
mod event;
mod flows;
mod history;
mod itself;
mod kick;
mod line;
mod plan;
mod progress;
mod ramp;
mod receipt;
mod rings;
mod status;

pub use config::*;
pub use drain::*;
pub use error::*;
pub use event::*;
pub use flows::*;
pub use history::*;
pub use itself::*;
pub use kick::*;
pub use plan::*;
pub use progress::*;
pub use ramp::*;
pub use receipt::*;
pub use rings::*;
pub use status::*;
