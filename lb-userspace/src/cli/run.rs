//! `sluice run`: the daemon's arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Exit, Failure, Global, after_help};
use crate::config::{self, ConfigErrors};
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
    /// names in its log. Elsewhere than on the loopback it takes the certificate and key of `[ui]` in the config.
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
    daemon::run(&global.instance, &global.socket(), args).map_err(|error| failure(error, args))
}

/// A file that is wrong by itself will be so at the next start, too: a supervisor can tell by the exit code. What does not fit this machine,
/// such as an interface that has not come up yet, may well fit later.
fn failure(error: anyhow::Error, args: &RunArgs) -> Failure {
    let file = args.config.display();
    if !args.config.exists() {
        return Failure::new(Exit::NotFound, error)
            .hint(format!("write {file} (`sluice check {file}` looks at it), then start the daemon again"));
    }
    if error.is::<ConfigErrors>() && config::load(&args.config).is_err() {
        return Failure::new(Exit::Refused, error)
            .hint(format!("mend it, look with `sluice check {file}`, then start the daemon again"));
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_can_tell_what_another_start_does_not_mend() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sluice.toml");
        let args = RunArgs { config: path.clone(), log_level: "info".to_owned(), ui: None };
        let exit = || failure(config::load(&path).unwrap_err().into(), &args).exit;
        assert_eq!(exit(), Exit::NotFound);
        std::fs::write(&path, "interfaces = 7").unwrap();
        assert_eq!(exit(), Exit::Refused);
        let refused = anyhow::Error::from(config::load(&path).unwrap_err());
        std::fs::write(
            &path,
            "interfaces = [\"eth0\"]\n[hosts.a]\naddresses = [\"10.0.0.1\"]\n[[services]]\nname = \"w\"\n\
             vip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 80\n",
        )
        .unwrap();
        config::load(&path).unwrap();
        assert_eq!(failure(refused, &args).exit, Exit::Failed, "it does not fit this machine");
        assert_eq!(failure(anyhow::anyhow!("the socket is taken"), &args).exit, Exit::Failed);
    }
}
