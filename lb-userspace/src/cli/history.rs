//! `sluice history`: what was changed, by whom and why.

use std::time::Duration;

use clap::Args;

use crate::api::client::target;
use crate::api::types::History;

use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, duration_arg, render};

/// List what was changed, by whom, why, and what came of it, the newest first
///
/// Each change of the config, of what operators want and of what came of it is a revision with a number. `sluice show REV`
/// shows one as a whole, `sluice diff A B` what lies between two, and `sluice rollback REV` brings its config back.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct HistoryArgs {
    /// Only revisions that name this host; it need not be in the config any more
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only revisions of this time until now
    #[arg(long, value_name = "DURATION", value_parser = duration_arg)]
    pub since: Option<Duration>,
    /// Only revisions with smaller numbers, for the next page
    #[arg(long, value_name = "REV")]
    pub before: Option<u64>,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice history
  sluice history --host web-3 --since 24h
  sluice history -n 100 --json | jq .revisions[].kind";

pub fn run(global: &Global, args: &HistoryArgs) -> Result<(), Failure> {
    super::block_on(async {
        let host = args.host.iter().map(|host| ("host", host.clone()));
        let since =
            args.since.map(|since| ("since", super::now().saturating_sub(since.as_secs()).to_string()));
        let before = args.before.map(|before| ("before", before.to_string()));
        let query = host.chain(since).chain(before).chain([("limit", args.limit.to_string())]);
        let body: History = global.client().get(&target("/v1/history", query)).await?;
        let mut out = Out::stdout();
        if args.json {
            out.json(&body, true)
        } else {
            out.print(&render::history::table(&body, Style::stdout()))
        }
    })
}
