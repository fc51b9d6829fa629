//! `cargo xtask vm`: loads the XDP programs into an older kernel, in a virtual machine, and runs packets through them. Its
//! verifier knows less and walks further than the one of the machine that the program was written on. The daemon runs there,
//! too, over devices that the machine's own kernel may lack.
//!
//! Needs no root: the machine is emulated, and nothing is installed but files in the tools folder.

mod boot;
mod initramfs;
mod machine;
mod modules;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::{Cmd, which};
use crate::leftovers::RUN_VAR;
use crate::setup::{self, Purpose};
use crate::suites;
use crate::workspace::Workspace;
use initramfs::Initramfs;

pub use machine::{KERNEL, Machine, NAME, SIZE};

/// Runs of the virtual machine, each with a limit of its own: name, test binary, and the module of it that is left to another.
const RUNS: [(&str, &str, Option<&str>); 4] = [
    ("load", "kernel_load", None),
    ("decap", "kernel_decap", None),
    ("vlans", "vm_devices", Some("bond::")),
    ("bonds", "vm_devices", Some("vlan::")),
];
/// What they call to make networks.
const PROGRAMS: [&str; 2] = ["ip", "ethtool"];
const PACKAGE: &str = "sluice-tests";

#[derive(clap::Args)]
pub struct Options {
    /// Run only tests whose name contains this
    filter: Option<String>,
}

/// The task: set-up and all.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(workspace, Purpose::Vm)?;
    let mut passed = 0;
    run_suites(workspace, options.filter.as_deref(), None, &mut |line| {
        passed += u32::from(line.ends_with("... ok"));
    })?;
    if let (Some(filter), 0) = (&options.filter, passed) {
        bail!("no test that ran has `{filter}` in its name");
    }
    Ok(())
}

/// Builds the suites and runs them in the virtual machine, all of them whatever fails; `see` gets each line that they print. `run` marks the process
/// as one of a run of the tests.
///
/// # Errors
/// When a suite fails, and when the virtual machine does.
pub fn run_suites(
    workspace: &Workspace,
    filter: Option<&str>,
    run: Option<&str>,
    see: &mut dyn FnMut(&str),
) -> Result<()> {
    let machine = Machine::find(workspace).context("the virtual machine's files have gone")?;
    let build = RUNS
        .iter()
        .flat_map(|(_, suite, _)| ["--test", suite])
        .fold(Cmd::cargo(&workspace.root).args(["test", "--no-run", "-p", PACKAGE]), |cmd, argument| {
            cmd.arg(argument)
        });
    build.run_seeing(|_| ())?;
    let messages = build.arg("--message-format=json").output()?;
    Cmd::cargo(&workspace.root)
        .args(["build", "-p", "lb-userspace", "--bin", "sluice"])
        .run_seeing(|_| ())?;
    let folder = workspace.target.join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut failed = Vec::new();
    for (name, suite, others) in RUNS {
        let mut contents = Initramfs::new(&machine.busybox())?;
        let binary = suites::executable(&messages, suite)?;
        contents.add_suite(suite, binary.as_ref(), &folder)?;
        if suite.starts_with("vm_") {
            add_network(&mut contents, &machine, workspace, &folder)?;
        }
        let initramfs = folder.join(format!("{name}.cpio"));
        contents.write(filter, others, &initramfs)?;
        let mut qemu = machine.command(&initramfs);
        if let Some(run) = run {
            qemu = qemu.env(RUN_VAR, run);
        }
        match boot::run(&qemu, see) {
            Ok(0) => {}
            Ok(status) => failed.push(format!("{name} (status {status}: see above)")),
            Err(error) => failed.push(format!("{name} ({error:#})")),
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("not all is well on {}: {}", machine.release, failed.join(", "))
}

/// What suites named `vm_…` need: the daemon, programs to make networks with, and modules.
fn add_network(
    contents: &mut Initramfs,
    machine: &Machine,
    workspace: &Workspace,
    folder: &Path,
) -> Result<()> {
    contents.add_program(&workspace.built("debug", "sluice")?, folder)?;
    for program in PROGRAMS {
        let path = which(program).with_context(|| format!("there is no {program} here"))?;
        contents.add_program(&path, folder)?;
    }
    machine.modules()?.iter().try_for_each(|module| contents.add_module(module))
}
