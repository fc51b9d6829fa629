//! `sluice confirm`: the config in force is to stay.

use clap::Args;

use crate::api::types::{ConfirmRequest, Confirmed};

use super::asked::Asked;
use super::output::Out;
use super::{Failure, Global, after_help, render};

/// Keep the config that waits to be confirmed, see `sluice apply --confirm`
///
/// With a number only the config of that revision: if somebody has put another one in force meanwhile, nothing is confirmed.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ConfirmArgs {
    /// The number that `sluice apply --confirm` has told; without it whichever waits
    #[arg(value_name = "REVISION")]
    pub revision: Option<u64>,
    #[command(flatten)]
    pub asked: Asked,
}

const EXAMPLES: &str = "  \
  sluice confirm 41
  sluice confirm --reason fine --json";

pub fn run(global: &Global, args: &ConfirmArgs) -> Result<(), Failure> {
    super::block_on(async {
        let body = ConfirmRequest {
            revision: args.revision,
            reason: args.asked.reason.clone(),
            by: args.asked.by.clone(),
        };
        let answer: Confirmed = global.client().post("/v1/confirm", &body).await?;
        let mut out = Out::stdout();
        if args.asked.json { out.json(&answer, true) } else { out.print(&render::config::confirmed(&answer)) }
    })
}
