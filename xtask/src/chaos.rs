//! The chaos run as a step of the tests; `cargo xtask chaos` is in `launch.rs`.

use anyhow::Result;

use crate::build;
use crate::command::Cmd;
use crate::leftovers::RUN_VAR;
use crate::workspace::Workspace;

/// How long it lasts in `cargo xtask test`, all in all.
const MINUTES: &str = "2";

/// What happens in it: the same each time, so that what fails is of the change that is tested. Seeds of chance are for
/// `cargo xtask chaos`.
const SEED: &str = "892341749";

/// Builds the run as the tests are built, and runs it. `run` marks its processes.
pub fn step(workspace: &Workspace, run: &str) -> Result<()> {
    build::for_tests(workspace, &["sluice-chaos"]).run_seeing(|_| ())?;
    Cmd::new(workspace.built("debug", "sluice-chaos")?)
        .args(["--minutes", MINUTES, "--seed", SEED])
        .env("SLUICE_BIN", workspace.built("debug", "sluice")?)
        .env(RUN_VAR, run)
        .run_seeing(|_| ())
}
