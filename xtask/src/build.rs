//! `cargo xtask build`.

use anyhow::Result;

use crate::command::Cmd;
use crate::commit::{self, Commit};
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub struct Options {
    /// Optimised, as it is shipped
    #[arg(long)]
    release: bool,
}

/// Builds programs as the tests' dependencies are built: an example has those of tests, so that cargo gives all packages the features that
/// they have there, and nothing is built twice.
pub fn for_tests(workspace: &Workspace, programs: &[&str]) -> Cmd {
    let cmd = Cmd::cargo(&workspace.root).args([
        "build",
        "-p",
        "lb-userspace",
        "-p",
        "sluice-tests",
        "--example",
        "drain",
    ]);
    programs.iter().fold(cmd, |cmd, program| cmd.args(["--bin", program]))
}

/// What is built to be used names its commit.
fn release(cmd: Cmd, workspace: &Workspace) -> Cmd {
    let commit = Commit::of(&workspace.root).map_or("unknown".to_owned(), |commit| commit.name);
    cmd.arg("--release").env(commit::VAR, commit)
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(workspace, Purpose::Build)?;
    let cmd = Cmd::cargo(&workspace.root).args(["build", "-p", "lb-userspace", "--bin", "sluice"]);
    let (cmd, profile) = if options.release { (release(cmd, workspace), "release") } else { (cmd, "debug") };
    cmd.run_seeing(|_| ())?;
    println!("built {}", workspace.built(profile, "sluice")?.display());
    Ok(())
}
