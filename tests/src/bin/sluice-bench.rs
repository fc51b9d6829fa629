//! `cargo xtask bench`: what the data path and the daemon's work cost on this machine.

use std::fmt::Display;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use sluice_tests::bench::drain::{self, DrainOptions};
use sluice_tests::bench::health::{self, HealthOptions};
use sluice_tests::bench::veth::{self, VethOptions};
use sluice_tests::bench::{Options, run, run_scale};

/// Measures the data path packet by packet in the kernel (no interface is touched), and the daemon's work.
///
/// Needs root. Figures are over an empty program in the same run; on shared or virtual machines they are for ratios.
#[derive(Parser)]
#[command(name = "sluice-bench", version)]
struct Arguments {
    /// Instead: drain the hosts of a site over veth in turns, under connections, and count what breaks; takes some minutes. Or make
    /// 10 000 TCP checks a second, and see what they cost
    #[arg(value_enum, conflicts_with_all = ["veth", "only", "scale", "flows"])]
    what: Option<What>,
    /// Of `drain`: short connections in all
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,
    /// Fewer rounds, fewer flows: a rough look within half a minute
    #[arg(long)]
    quick: bool,
    /// Measure over a veth pair in namespaces of its own, beside the kernel's forwarding and nftables; takes a minute at most
    #[arg(long, conflicts_with = "only")]
    veth: bool,
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

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    Drain,
    Health,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(What::Drain) = arguments.what {
        drains(&arguments)
    } else if let Some(What::Health) = arguments.what {
        let (interval, time) =
            (Duration::from_secs(1), Duration::from_secs(if arguments.quick { 5 } else { 20 }));
        print(&health::run(&HealthOptions { checks: 10_000, interval, time }, say)?, arguments.json)
    } else if arguments.veth {
        over_veth(&arguments)
    } else {
        by_test_runs(arguments)
    }
}

fn by_test_runs(arguments: Arguments) -> Result<ExitCode> {
    let usual: &[u32] = if arguments.quick { &[1000, 100_000] } else { &[1, 1000, 100_000, 1_000_000] };
    let options = Options {
        rounds: arguments.rounds.map_or(if arguments.quick { 3 } else { 9 }, usize::from),
        packets: arguments.packets.unwrap_or(if arguments.quick { 200_000 } else { 1_000_000 }),
        flows: if arguments.flows.is_empty() { usual.to_vec() } else { arguments.flows },
        pins: arguments.pins,
        only: arguments.only,
    };
    let report = if arguments.scale { run_scale(&options, say) } else { run(&options, say) };
    print(&report?, arguments.json)
}

fn drains(arguments: &Arguments) -> Result<ExitCode> {
    let connections = if arguments.quick { 20_000 } else { arguments.connections };
    let options = DrainOptions { connections, time: Duration::from_secs(1200) };
    match drain::run_to_its_end(&options, say)? {
        Some(report) => {
            print(&report, arguments.json)?;
            Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        None => Ok(interrupted()),
    }
}

fn interrupted() -> ExitCode {
    clear();
    eprintln!("Interrupted; everything is removed.");
    ExitCode::from(130)
}

fn over_veth(arguments: &Arguments) -> Result<ExitCode> {
    let options = VethOptions {
        rounds: arguments.rounds.map_or(if arguments.quick { 3 } else { 9 }, usize::from),
        time: Duration::from_secs(if arguments.quick { 20 } else { 55 }),
        frames: arguments.packets.unwrap_or(1_000_000),
        flows: if arguments.flows.is_empty() { vec![1000, 100_000] } else { arguments.flows.clone() },
        pins: arguments.pins,
    };
    match veth::run_to_its_end(&options, say)? {
        Some(report) => print(&report, arguments.json),
        None => Ok(interrupted()),
    }
}

/// Shows what is measured now, to people.
fn say(step: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{step}");
    }
}

fn clear() {
    say("");
}

fn print(report: &(impl Display + Serialize), json: bool) -> Result<ExitCode> {
    clear();
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
