//! Sluice's chaos run: kills, drains, failing links, floods and more under load, with a model that says what may break.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use sluice_tests::chaos::{self, Options};

/// Does everything to a balancer at once, and says whether anything broke that must not.
///
/// Builds a network of namespaces with four hosts, sends traffic through Sluice, and meanwhile kills and restarts the daemon, drains
/// hosts in all ways and brings them back, ends flows, kills and stops servers, takes links down, floods, fills the flow table, and sets the wall clock that the daemon sees.
/// A model tells what may break because an operator chose it or because its host died; all else must not. Needs root. Everything is
/// removed at the end, also after Ctrl-C. The `sluice` to run is $SLUICE_BIN, or the one beside this program.
///
/// Exit status: 0 all was well, 1 not so, 2 wrong usage, 130 interrupted.
#[derive(Parser)]
#[command(name = "sluice-chaos", version, max_term_width = 100)]
struct Arguments {
    /// How long it takes, all in all; one minute is the least that shows something.
    #[arg(long, default_value_t = 2.0, value_parser = minutes)]
    minutes: f64,
    /// The same seed makes the same actions [default: one of chance]
    #[arg(long)]
    seed: Option<u64>,
    /// Only show what would be done, and when
    #[arg(long)]
    plan: bool,
    /// The process of a host's servers: its name.
    #[arg(long, hide = true, requires = "at")]
    backend: Option<String>,
    /// Where they listen.
    #[arg(long, hide = true)]
    at: Vec<SocketAddr>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.75..=1440.0).contains(&minutes) => Ok(minutes),
        _ => Err("from 0.75 minutes to a day".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(name) = arguments.backend {
        return match chaos::serve(&name, &arguments.at) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("sluice-chaos: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let chance =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| u64::from(time.subsec_nanos()));
    ExitCode::from(chaos::run(&Options {
        time: Duration::from_secs_f64(arguments.minutes * 60.0),
        seed: arguments.seed.unwrap_or_else(chance),
        shows_plan: arguments.plan,
    }))
}
