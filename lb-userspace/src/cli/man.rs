//! `sluice man`: the help as pages of the manual, from the same definition.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};

use super::output::Out;
use super::{Cli, Failure, after_help};

/// Write the pages of the manual into a folder: sluice.1, and one for each verb
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ManArgs {
    /// The folder; it is made if it is not there
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

const EXAMPLES: &str = "  \
  sluice man /usr/local/share/man/man1
  sluice man pages";

pub fn run(args: &ManArgs) -> Result<(), Failure> {
    let folder = args.folder.display();
    std::fs::create_dir_all(&args.folder).with_context(|| format!("cannot make {folder}"))?;
    clap_mangen::generate_to(Cli::command(), &args.folder)
        .with_context(|| format!("cannot write into {folder}"))?;
    Out::stdout().print(&format!("{folder}: sluice.1 and a page for each verb\n"))
}
