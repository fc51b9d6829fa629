//! `sluice completions`: from the same definition as the help, with names of hosts and services from the daemon.
//!
//! The script asks this program what could come next, so it knows the version that is there, and the hosts of this moment.

use anyhow::{Context, anyhow};
use clap::Args;
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use super::output::Out;
use super::{Failure, after_help, names};

/// How the script asks.
const VARIABLE: &str = "SLUICE_COMPLETE";

/// Print a completion script for a shell
///
/// Completes verbs, options and their values, and names of hosts and services, which it asks the daemon for.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

const EXAMPLES: &str = "  \
  sluice completions bash > /etc/bash_completion.d/sluice
  sluice completions zsh > ~/.zfunc/_sluice
  sluice completions fish > ~/.config/fish/completions/sluice.fish";

pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let name = args.shell.to_string();
    let shell = shells.completer(&name).ok_or_else(|| anyhow!("there is no script for {name}"))?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "sluice", "sluice", "sluice", &mut script)
        .context("the script cannot be made")?;
    if args.shell == clap_complete::Shell::Zsh {
        script.extend_from_slice(AUTOLOADED.as_bytes());
    }
    Out::stdout().print(&String::from_utf8_lossy(&script))
}

/// As a file in `fpath` the script is loaded as the function `_sluice` when a user first asks, and is to answer at once; by itself it only
/// makes the function for the next time.
const AUTOLOADED: &str =
    "\nif [[ $funcstack[1] == _sluice ]]; then _clap_dynamic_completer_sluice \"$@\"; fi\n";

/// Answers a script and ends the process, if that is who has started it.
pub fn answer() {
    CompleteEnv::with_factory(names::command).var(VARIABLE).complete();
}
