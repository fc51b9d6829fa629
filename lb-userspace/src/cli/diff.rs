//! `sluice diff`: what lies between two revisions.

use clap::Args;

use crate::api::client::target;
use crate::api::types::Diff;

use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, render};

/// Show what differs between two revisions: hosts, services, fields, and hosts that were drained
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct DiffArgs {
    /// Number of a revision: what was so after it
    #[arg(value_name = "A")]
    pub from: u64,
    /// Number of another one; default: what is so now
    #[arg(value_name = "B")]
    pub to: Option<u64>,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice diff 12 17
  sluice diff 12 --json";

pub fn run(global: &Global, args: &DiffArgs) -> Result<(), Failure> {
    super::block_on(async {
        let to = args.to.map(|to| ("to", to.to_string()));
        let query = [("from", args.from.to_string())].into_iter().chain(to);
        let body: Diff = global.client().get(&target("/v1/diff", query)).await?;
        let mut out = Out::stdout();
        if args.json {
            out.json(&body, true)
        } else {
            out.print(&render::config::diff(&body, Style::stdout()))
        }
    })
}
