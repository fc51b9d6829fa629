//! `cargo xtask`: the one entry to set-up, build, test, fuzzing, demo, chaos, benchmark and packages. Each task first sets up what it needs.

mod bpf_toolchain;
mod bpffs;
mod build;
mod chaos;
mod command;
mod commit;
mod dist;
mod fuzz;
mod last_test;
mod launch;
mod leftovers;
mod linker;
mod packages;
mod panics;
mod release_check;
mod rustup;
mod setup;
mod steps;
mod suites;
mod test;
mod tools_folder;
mod vm;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::launch::Launch;
use crate::setup::Purpose;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Set-up, build, test, fuzzing, demo, chaos, benchmark and packages of Sluice",
    version
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing on this machine; every other task does this for the part that it needs
    Setup,
    /// Build `sluice` and the XDP programs in it
    Build(build::Options),
    /// Run the steps of CI in order: format, lints, tests on the host, in the kernel, in an older one and over veth, docs
    Test(test::Options),
    /// Load and run the XDP programs in an older kernel, in a virtual machine
    Vm(vm::Options),
    /// Run suites on kernels of Debian and Ubuntu from 5.10 on, in virtual machines, and print which pass where
    VmTest(vm::TestOptions),
    /// Look for input that breaks a law of the code that kernel and host share: parser, flow table, flow words
    Fuzz(fuzz::Options),
    /// Make what is shipped: a Debian package, a tarball, a list of what is in the program, checksums (`--test` tries the package)
    Dist(dist::Options),
    /// The checklist of a release: what must be so before one is made, checked
    ReleaseCheck(release_check::Options),
    /// Drain a host under traffic, in network namespaces (`--keep` leaves them up, `--down` removes them), or upgrade a fleet (`rolling`)
    #[command(disable_help_flag = true)]
    Demo(Rest),
    /// Kill, drain, cut off and flood under load, and see that nothing breaks that must not (`--minutes`, `--seed`)
    #[command(disable_help_flag = true)]
    Chaos(Rest),
    /// Measure the data path, and the whole over veth
    #[command(disable_help_flag = true)]
    Bench(Rest),
}

#[derive(clap::Args)]
struct Rest {
    /// Handed to the program as they are; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Setup => {
            let toolchain = setup::ensure(&workspace, Purpose::All)?;
            println!("setup: nothing is missing; the XDP programs are built with");
            println!("  {} ({})", toolchain.rustc.program.display(), toolchain.rustc.release);
            println!("  {}", toolchain.linker.display());
            Ok(())
        }
        Task::Build(options) => build::run(&workspace, &options),
        Task::Test(options) => test::run(&workspace, &options),
        Task::Vm(options) => vm::run_task(&workspace, &options),
        Task::VmTest(options) => vm::test_task(&workspace, &options),
        Task::Fuzz(options) => fuzz::run(&workspace, &options),
        Task::Dist(options) => dist::run(&workspace, &options),
        Task::ReleaseCheck(options) => release_check::run(&workspace, &options),
        Task::Demo(rest) => launch::run(&workspace, Launch::Demo, rest.arguments),
        Task::Chaos(rest) => launch::run(&workspace, Launch::Chaos, rest.arguments),
        Task::Bench(rest) => launch::run(&workspace, Launch::Bench, rest.arguments),
    }
}
