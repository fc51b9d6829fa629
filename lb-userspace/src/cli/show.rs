//! `sluice show`: one revision as a whole.

use clap::Args;

use crate::api::types::RevisionDetail;

use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, render};

/// Show one revision: who changed what, when and why, how the config differs, and what came of it
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ShowArgs {
    /// Number of the revision, as in `sluice history`
    #[arg(value_name = "REV")]
    pub revision: u64,
    /// Show the config that was in force after it, too; the hash key is left out
    #[arg(long)]
    pub config: bool,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice show 17
  sluice show 17 --config
  sluice show 17 --json | jq -r .config";

pub fn run(global: &Global, args: &ShowArgs) -> Result<(), Failure> {
    super::block_on(async {
        let body: RevisionDetail = global.client().get(&format!("/v1/history/{}", args.revision)).await?;
        let mut out = Out::stdout();
        if args.json {
            out.json(&body, true)
        } else {
            out.print(&render::history::whole(&body, args.config, Style::stdout()))
        }
    })
}
