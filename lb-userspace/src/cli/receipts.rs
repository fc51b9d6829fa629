//! `sluice receipts`: the drains that are over, one a line.

use clap::Args;

use crate::api::client::target;
use crate::api::types::Receipts;

use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, render};

/// List the receipts of drains that are over, the newest first
///
/// FLOWS were live at the start; ENDED came to their end by themselves, MOVED, RESET and SILENT were ended by the
/// deadline, LEFT went on when the host was taken back. `sluice receipt ID` shows one as a whole.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ReceiptsArgs {
    /// Only drains of this host; it need not be in the config any more
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// At most this many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice receipts
  sluice receipts --host web-3 -n 5
  sluice receipts --json | jq .receipts[].outcome";

pub fn run(global: &Global, args: &ReceiptsArgs) -> Result<(), Failure> {
    super::block_on(async {
        let host = args.host.iter().map(|host| ("host", host.clone()));
        let query = host.chain([("limit", args.limit.to_string())]);
        let body: Receipts = global.client().get(&target("/v1/receipts", query)).await?;
        let mut out = Out::stdout();
        if args.json {
            out.json(&body, true)
        } else {
            out.print(&render::receipt::table(&body.receipts, super::now(), Style::stdout()))
        }
    })
}
