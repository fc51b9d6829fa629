//! `cargo xtask bench`: what the data path and the daemon's work cost on this machine.

use std::io::IsTerminal;

use anyhow::Result;
use clap::Parser;
use sluice_tests::bench::{Options, run, run_scale};

/// Measures the data path packet by packet in the kernel (no interface is touched), and the daemon's work.
///
/// Needs root. Figures are over an empty program in the same run; on shared or virtual machines they are for ratios.
#[derive(Parser)]
#[command(name = "sluice-bench", version)]
struct Arguments {
    /// Fewer rounds, fewer flows: a rough look within half a minute
    #[arg(long)]
    quick: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Rounds of which the median counts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Packets that are timed at once, at least
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    packets: Option<u32>,
    /// Numbers of flows
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    flows: Vec<u32>,
    /// Pins that the flow table is made for
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    pins: u32,
    /// How the figures depend on the numbers of services, hosts, rings, flows and pins; takes 3 GiB of memory
    #[arg(long, conflicts_with_all = ["flows", "only", "pins"])]
    scale: bool,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let usual: &[u32] = if arguments.quick { &[1000, 100_000] } else { &[1, 1000, 100_000, 1_000_000] };
    let options = Options {
        rounds: arguments.rounds.map_or(if arguments.quick { 3 } else { 9 }, usize::from),
        packets: arguments.packets.unwrap_or(if arguments.quick { 200_000 } else { 1_000_000 }),
        flows: if arguments.flows.is_empty() { usual.to_vec() } else { arguments.flows },
        pins: arguments.pins,
        only: arguments.only,
    };
    let shows = std::io::stderr().is_terminal();
    let say = |step: &str| {
        if shows {
            eprint!("\r\x1b[K{step}");
        }
    };
    let report = if arguments.scale { run_scale(&options, say)? } else { run(&options, say)? };
    if shows {
        eprint!("\r\x1b[K");
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}
