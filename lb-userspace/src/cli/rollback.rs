//! `sluice rollback`: an earlier config again.

use clap::Args;

use crate::api::types::RollbackRequest;

use super::asked::{Asked, Trial};
use super::{Failure, Global, after_help, apply};

/// Put an earlier config in force again
///
/// The config comes back, planned and published as by `sluice apply`; drains, ramps and kicks stay as they are. It is a
/// revision of its own, so it can be taken back in turn. A config that waits to be confirmed is settled by it.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct RollbackArgs {
    /// Number of a revision: the config that was in force after it comes back. Default: the config before that in force
    #[arg(value_name = "REV")]
    pub revision: Option<u64>,
    #[command(flatten)]
    pub trial: Trial,
    #[command(flatten)]
    pub asked: Asked,
}

const EXAMPLES: &str = "  \
  sluice rollback --dry-run
  sluice rollback 12 --reason outage
  sluice rollback 12 --confirm 60s";

pub fn run(global: &Global, args: &RollbackArgs) -> Result<(), Failure> {
    let request = RollbackRequest {
        revision: args.revision,
        confirm: args.trial.confirm(),
        dry_run: args.trial.dry_run,
        reason: args.asked.reason.clone(),
        by: args.asked.by.clone(),
    };
    super::block_on(async {
        let answer = apply::client(global).post("/v1/rollback", &request).await;
        apply::said(global, answer, args.trial.dry_run, args.asked.json)
    })
}
