//! Arguments that several verbs have in common.

use std::time::Duration;

use clap::Args;

use super::duration_arg;

/// Of every verb that changes something.
#[derive(Debug, Clone, Default, Args)]
pub struct Asked {
    /// Why, for whoever looks at the journal, the status or the receipt
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who asks; default: the user that runs this command
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Print JSON for programs: the API's body; of a command that waits that of the end
    #[arg(long)]
    pub json: bool,
}

/// Of those that put a config in force.
#[derive(Debug, Clone, Args)]
pub struct Trial {
    /// Take it back unless it is confirmed within this time: 1s to 24h
    #[arg(long, value_name = "DURATION", value_parser = duration_arg)]
    pub confirm: Option<Duration>,
    /// Only show what it would do
    #[arg(long)]
    pub dry_run: bool,
}

impl Trial {
    /// Seconds in which it is to be confirmed.
    pub fn confirm(&self) -> Option<u64> {
        self.confirm.map(|confirm| confirm.as_secs())
    }
}
