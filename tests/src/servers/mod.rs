//! Real servers for a topology: nginx or PostgreSQL on the hosts, the balancer's daemon between.

mod clock;
mod daemon;
mod nginx;
mod postgres;

pub use clock::FakeClock;
pub use daemon::{SluiceDaemon, next_sluice_binary, sluice_binary};
pub use nginx::{BIG_FILE_BYTES, Nginx, SLOW_BYTES_PER_SECOND, pattern};
pub use postgres::{POSTGRES, Postgres};
