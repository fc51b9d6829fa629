//! `sluice completions`: from the same definition as the help.

use clap::{Args, CommandFactory};

use super::output::Out;
use super::{Cli, Failure, after_help};

/// Print a completion script for a shell
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

const EXAMPLES: &str = "  \
  sluice completions bash > /etc/bash_completion.d/sluice
  sluice completions zsh > ~/.zfunc/_sluice";

pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sluice", &mut script);
    Out::stdout().print(&String::from_utf8_lossy(&script))
}
