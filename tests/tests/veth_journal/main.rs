//! A disk that is full or broken, a journal that is damaged, a clock that jumps: packets go on, nothing that was acknowledged is lost,
//! and the daemon says what is wrong and what to do.

mod disk;

use std::net::SocketAddr;
use std::process::Output;
use std::time::{Duration, Instant};

use disk::Disk;
use serde_json::Value;
use sluice_tests::servers::{EchoServers, SluiceDaemon};
use sluice_tests::site::{self, ECHO, Plan};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, EchoServer};

const LIMIT: Duration = Duration::from_secs(30);
