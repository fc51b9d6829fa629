//! `sluice receipt`: what became of the flows of one drain.

use clap::Args;

use crate::api::types::Receipt;

use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, render};

/// Show the receipt of a drain that is over: who, why, when, and what became of its flows
///
/// The number of a drain is shown by `sluice drain`, `sluice status` and `sluice receipts`.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ReceiptArgs {
    /// Number of the drain
    #[arg(value_name = "ID")]
    pub id: u64,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice receipt 7
  sluice receipt 7 --json | jq .outcome";

pub fn run(global: &Global, args: &ReceiptArgs) -> Result<(), Failure> {
    super::block_on(async {
        let receipt: Receipt = global.client().get(&format!("/v1/receipts/{}", args.id)).await?;
        let mut out = Out::stdout();
        if args.json {
            out.json(&receipt, true)
        } else {
            out.print(&render::receipt::whole(&receipt, Style::stdout()))
        }
    })
}
