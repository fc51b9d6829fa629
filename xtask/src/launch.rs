//! `cargo xtask demo`, `cargo xtask bench` and `cargo xtask chaos`: programs of the package `sluice-tests` that get the `sluice` to run.

use std::ffi::OsString;

use anyhow::{Result, bail};

use crate::command::Cmd;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

#[derive(Debug, Clone, Copy)]
pub enum Launch {
    Demo,
    Bench,
    Chaos,
}

/// Builds for release and becomes the program, so that Ctrl-C reaches it.
pub fn run(workspace: &Workspace, launch: Launch, arguments: Vec<OsString>) -> Result<()> {
    let bin = match launch {
        Launch::Demo => "sluice-demo",
        Launch::Bench => "sluice-bench",
        Launch::Chaos => "sluice-chaos",
    };
    let asks_for_help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    if !asks_for_help && !setup::is_root() {
        bail!("{bin} makes network namespaces and loads XDP programs: run it as root");
    }
    setup::ensure(workspace, if asks_for_help { Purpose::Build } else { Purpose::Run })?;
    Cmd::cargo(&workspace.root)
        .args(["build", "--release", "-p", "lb-userspace", "-p", "sluice-tests"])
        .args(["--bin", "sluice", "--bin", bin])
        .run_seeing(|_| ())?;
    let error = Cmd::new(workspace.built("release", bin)?)
        .args(arguments)
        .env("SLUICE_BIN", workspace.built("release", "sluice")?)
        .exec();
    Err(error)
}
