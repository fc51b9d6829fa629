//! `cargo xtask build`.

use anyhow::Result;

use crate::command::Cmd;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub struct Options {
    /// Optimised, as it is shipped
    #[arg(long)]
    release: bool,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(workspace, Purpose::Build)?;
    let cmd = Cmd::cargo(&workspace.root).args(["build", "-p", "lb-userspace", "--bin", "sluice"]);
    let (cmd, profile) = if options.release { (cmd.arg("--release"), "release") } else { (cmd, "debug") };
    cmd.run_seeing(|_| ())?;
    println!("built {}", workspace.built(profile, "sluice")?.display());
    Ok(())
}
