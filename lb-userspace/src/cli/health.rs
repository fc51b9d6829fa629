//! `sluice health`: what checks found, and checks run at once.

use clap::{Args, Subcommand};

use crate::api::client::target;
use crate::api::types::{HealthReport, HealthTest, HealthTestRequest};

use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, render};

/// Show every check with its last results, why its host is up or down, and when it runs next
///
/// A host that is down for a service gets no new flows of it. `sluice drain` outranks what checks say.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES), args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct HealthArgs {
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Only the checks of this host, with all that is remembered of their results
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    Test(TestArgs),
}

/// Run the checks of a host now, beside their schedule and without consequence, and tell each step
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(TEST_EXAMPLES))]
pub struct TestArgs {
    /// Name of the host, as in the config
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Not its checks, but a TCP handshake through the VIP of each of its TCP services, and the UDP check of those of UDP alone: finds a host
    /// without the VIP, and a tunnel that it does not unpack
    #[arg(long)]
    pub vip: bool,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice health
  sluice health web-3 --json
  sluice health test web-3";

const TEST_EXAMPLES: &str = "  \
  sluice health test web-3
  sluice health test web-3 --vip
  sluice health test web-3 --json";

pub fn run(global: &Global, args: &HealthArgs) -> Result<(), Failure> {
    match &args.verb {
        Some(Verb::Test(test)) => run_test(global, test),
        None => show(global, args),
    }
}

fn show(global: &Global, args: &HealthArgs) -> Result<(), Failure> {
    super::block_on(async {
        let host = args.host.clone().map(|host| ("host", host));
        let report: HealthReport = global.client().get(&target("/v1/health", host)).await?;
        let mut out = Out::stdout();
        if args.json {
            out.json(&report, true)
        } else {
            out.print(&render::health::report(&report, args.host.is_some(), Style::stdout()))
        }
    })
}

fn run_test(global: &Global, args: &TestArgs) -> Result<(), Failure> {
    super::block_on(async {
        let request = HealthTestRequest { host: args.host.clone(), vip: args.vip };
        let test: HealthTest = global.client().post("/v1/health/test", &request).await?;
        let mut out = Out::stdout();
        if args.json {
            out.json(&test, true)
        } else {
            out.print(&render::health::test(&test, &args.host, args.vip, Style::stdout()))
        }
    })
}
