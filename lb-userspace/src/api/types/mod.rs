//! The bodies of the `/v1` API: what the daemon answers and what `--json` prints. Field names are stable.
//!
//! Times are Unix seconds, durations seconds, rates per second over the daemon's last sampling interval.

mod config;
mod drain;
mod error;
mod event;
mod explain;
mod flows;
mod health;
mod history;
mod itself;
mod kick;
mod line;
mod maintain;
mod plan;
mod progress;
mod ramp;
mod receipt;
mod rings;
mod shift;
mod status;
mod trace;

pub use config::*;
pub use drain::*;
pub use error::*;
pub use event::*;
pub use explain::*;
pub use flows::*;
pub use health::*;
pub use history::*;
pub use itself::*;
pub use kick::*;
pub use maintain::*;
pub use plan::*;
pub use progress::*;
pub use ramp::*;
pub use receipt::*;
pub use rings::*;
pub use shift::*;
pub use status::*;
pub use trace::*;
