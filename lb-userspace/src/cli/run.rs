//! `sluice run`: the daemon's arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Failure, Global, after_help};
use crate::daemon;

/// Run the balancer's daemon in the foreground
///
/// Reads and checks the config, loads the XDP program or takes over the one that a daemon before has left,
/// replays the journal, and serves the API on the instance's socket until SIGTERM or SIGINT. When the daemon
/// ends, for whatever reason, packets go on being forwarded and drains go on; `sluice detach` ends that.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct RunArgs {
    /// The config file (TOML); `sluice check` tells whether it is sound
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Serve the page for browsers here, instead of where the config says
    ///
    /// Whoever can reach an address of the loopback may look; changes take a token, of the file that the daemon
    /// names in its log. Elsewhere than on the loopback it takes the certificate and key of [ui] in the config.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub ui: Option<SocketAddr>,
    /// The least important messages that are logged, on standard error
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub log_level: String,
}

const EXAMPLES: &str = "  \
  sluice run --config /etc/sluice/sluice.toml
  sluice run --config /etc/sluice/sluice.toml --ui 127.0.0.1:8080
  sluice run --instance lab --config lab.toml --log-level debug";

impl RunArgs {
    pub fn level(&self) -> log::LevelFilter {
        self.log_level.parse().unwrap_or(log::LevelFilter::Info)
    }
}

/// Runs until a signal ends it.
pub fn run(global: &Global, args: &RunArgs) -> Result<(), Failure> {
    Ok(daemon::run(&global.instance, &global.socket(), args)?)
}
