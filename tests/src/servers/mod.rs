//! Real servers for a topology: nginx on the hosts, the balancer's daemon between.

mod daemon;
mod nginx;

pub use daemon::{SluiceDaemon, next_sluice_binary, sluice_binary};
pub use nginx::{BIG_FILE_BYTES, Nginx, SLOW_BYTES_PER_SECOND, pattern};
