//! Sluice's demo: drains a host under traffic, or upgrades a fleet, in network namespaces, and counts what the clients notice.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use sluice_tests::demo::{self, Mode};

/// Takes one of three web servers out of service while its clients are connected.
///
/// Builds a network of namespaces, starts nginx and echo servers on three hosts and Sluice between them and a client,
/// sends traffic, drains a host, puts it back, and counts what the clients noticed. Takes about a minute and needs
/// root. Everything is removed at the end, also after Ctrl-C. The `sluice` to run is $SLUICE_BIN, or the one beside
/// this program.
///
/// With `rolling` it upgrades eight hosts one after the other by a maintenance run, and then once more by plain restarts, to compare.
///
/// Exit status: 0 every promise held, 1 not so, 2 wrong usage, 130 interrupted.
#[derive(Parser)]
#[command(name = "sluice-demo", version, max_term_width = 100)]
struct Arguments {
    /// What is shown.
    #[arg(value_enum, default_value_t = Show::Drain)]
    show: Show,
    /// Leave the network and the balancer up afterwards, and say how to play with them.
    #[arg(long)]
    keep: bool,
    /// Remove a demo that was kept, and do nothing else.
    #[arg(long, conflicts_with = "keep")]
    down: bool,
    /// The process that a demo that is to be kept runs in.
    #[arg(long, value_name = "PID", hide = true, conflicts_with_all = ["keep", "down"])]
    keeper: Option<i32>,
}

/// The demos that there are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Show {
    /// One host of three is drained and comes back.
    Drain,
    /// Eight hosts get a new version.
    Rolling,
}

fn main() -> ExitCode {
    let mode = match Arguments::parse() {
        Arguments { down: true, .. } => Mode::Down,
        Arguments { show: Show::Rolling, keep: false, keeper: None, .. } => Mode::Rolling,
        Arguments { show: Show::Rolling, .. } => {
            eprintln!("sluice-demo: what `rolling` makes cannot be kept; run it without --keep");
            return ExitCode::from(2);
        }
        Arguments { keep: true, .. } => Mode::Keep,
        Arguments { keeper: Some(front), .. } => Mode::Keeper(front),
        _ => Mode::Once,
    };
    ExitCode::from(demo::run(mode))
}
