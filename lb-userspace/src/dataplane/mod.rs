//! The only part of user space that knows BPF: loads the program, keeps its maps pinned, attaches by link, writes the
//! tables, sweeps the flow table and reads the counters.

mod abilities;
mod alloc;
mod attach;
mod batch;
mod clients;
mod counters;
mod directory;
mod dry;
mod end;
mod error;
mod fared;
mod flows;
mod half_open;
mod live;
mod load;
mod mapped;
mod maps;
mod numbers;
mod own;
mod paths;
pub(crate) mod programs;
mod publish;
mod shapes;
mod sizes;
mod sweep;
mod sys;
mod tables;
mod tracing;
mod upgrade;
mod vips;
mod ways;

pub use abilities::Abilities;
pub use attach::{Attached, detach_all};
pub use counters::{Counters, PairCounters};
pub use directory::Services;
pub use dry::{Dry, DryRun, LEAST_BYTES, MOST_BYTES};
pub use end::{EndCause, Ended};
pub use error::Error;
pub use flows::{FlowFilter, FlowPage, FlowRecord};
pub use load::{Dataplane, Options, check_key};
pub use mapped::Mapped;
pub use maps::Maps;
pub use numbers::NumbersInUse;
pub use paths::Paths;
pub use sizes::Sizes;
pub use sweep::{ResetPin, SweepInput, Swept};
pub use sys::{grace_period, monotonic, monotonic_seconds, within_second};
pub use tables::{Audience, BackendTable, ClientTable, ServiceTable, Tables, Vip, VipKey};
pub use tracing::{Counts, Packets, Traced, Tracing, Untraced};
#[doc(hidden)]
pub use upgrade::Transition;
pub use upgrade::{Links, Rehearsal, Treatment, rehearse};
