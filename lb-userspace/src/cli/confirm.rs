//! `sluice confirm`: the config in force is to stay.

use clap::Args;

use crate::api::types::{ConfirmRequest, Confirmed};

use super::output::Out;
use super::{Failure, Global, after_help, render};

/// Keep the config that waits to be confirmed, see `sluice apply --confirm`
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ConfirmArgs {
    /// Why, for whoever looks at the journal
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who asks; default: the user that runs this command
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice confirm
  sluice confirm --reason fine --json";

pub fn run(global: &Global, args: &ConfirmArgs) -> Result<(), Failure> {
    super::block_on(async {
        let body = ConfirmRequest { reason: args.reason.clone(), by: args.by.clone() };
        let answer: Confirmed = global.client().post("/v1/confirm", &body).await?;
        let mut out = Out::stdout();
        if args.json { out.json(&answer, true) } else { out.print(&render::config::confirmed(&answer)) }
    })
}
