//! `sluice rings`: who owns the slots.

use clap::Args;

use crate::api::types::Rings;

use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, render};

/// Show the slots of each host, and what a drain would move
///
/// SLOTS are owned now, BASE when every member is in use; PREVIOUS are those of a handover under way that the
/// host owned before. A drain moves the host's own slots and no other.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct RingsArgs {
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice rings
  sluice rings --json | jq .rings[].open_slots";

pub fn run(global: &Global, args: &RingsArgs) -> Result<(), Failure> {
    super::block_on(async {
        let body: Rings = global.client().get("/v1/rings").await?;
        let mut out = Out::stdout();
        if args.json {
            out.json(&body, true)
        } else {
            out.print(&render::rings::rings(&body, Style::stdout()))
        }
    })
}
