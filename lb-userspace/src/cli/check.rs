//! `sluice check`: its arguments.

use std::path::PathBuf;

use clap::Args;

use super::after_help;

/// Check a config file, without a daemon and without touching anything
///
/// Says all that is wrong with it, with the place and the mend, or what it would set up.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct CheckArgs {
    /// The config file (TOML)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice check /etc/sluice/sluice.toml
  sluice check new.toml --json";
