//! `sluice rollback`: an earlier config again.

use std::time::Duration;

use clap::Args;

use crate::api::types::RollbackRequest;

use super::{Failure, Global, after_help, apply, duration_arg};

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
    /// Take it back unless it is confirmed within this time: 1s to 24h
    #[arg(long, value_name = "DURATION", value_parser = duration_arg)]
    pub confirm: Option<Duration>,
    /// Only show what it would do
    #[arg(long)]
    pub dry_run: bool,
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
  sluice rollback --dry-run
  sluice rollback 12 --reason outage
  sluice rollback 12 --confirm 60s";

pub fn run(global: &Global, args: &RollbackArgs) -> Result<(), Failure> {
    let request = RollbackRequest {
        revision: args.revision,
        confirm: args.confirm.map(|confirm| confirm.as_secs()),
        dry_run: args.dry_run,
        reason: args.reason.clone(),
        by: args.by.clone(),
    };
    super::block_on(async {
        let answer = apply::client(global).post("/v1/rollback", &request).await;
        apply::said(global, answer, args.dry_run, args.json)
    })
}
