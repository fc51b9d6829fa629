//! `cargo xtask vm`: loads the XDP programs into an older kernel, in a virtual machine, and runs packets through them. Its
//! verifier knows less and walks further than the one of the machine that the program was written on. The daemon runs there,
//! too, over devices that the machine's own kernel may lack. `cargo xtask vm-test` does that, and more, on other kernels.
//!
//! Needs no root: the machine is emulated, and nothing is installed but files in the tools folder.

pub mod boot;
mod initramfs;
mod kernels;
mod machine;
mod modules;
mod systemd;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::build;
use crate::command::{Cmd, which};
use crate::setup::{self, Purpose};
use crate::steps::Totals;
use crate::suites::{self, Suite};
use crate::workspace::Workspace;
use initramfs::Initramfs;
use kernels::{KERNELS, Kernel};
use table::{Cell, Table};

pub use kernels::CI;
pub use machine::{KERNEL, Machine};

/// That of CI, for people.
pub const NAME: &str = "Linux 6.1 of Debian 12 in QEMU";
/// What there is to download, for people.
pub const SIZE: &str = "85 MB";

/// A run of the virtual machine.
struct Run {
    /// For people, and the name of its initramfs.
    name: &'static str,
    /// Test binaries, one after another, each with the names of tests that are left to another run, or out.
    suites: &'static [(&'static str, &'static [&'static str])],
}

impl Run {
    /// Whether it has a suite whose name begins so.
    fn has(&self, begin: &str) -> bool {
        self.suites.iter().any(|(suite, _)| suite.starts_with(begin))
    }
}

const fn run(name: &'static str, suites: &'static [(&'static str, &'static [&'static str])]) -> Run {
    Run { name, suites }
}

/// Those of CI, the longest first.
const RUNS: [Run; 5] = [
    run("service", &[(SERVICE, &[])]),
    // What lacks one ability of all is between what has one and what has all; that it loads, too, is for whoever tries kernels.
    run(LOADS, &[("kernel_load", &["with_all_abilities_but_one"])]),
    run("vlans", &[(DEVICES, &["bond::", "doctor::", "tunnels::"])]),
    // The doctor's traps are laid for the machine as a whole, so no daemon may run beside them, and none does here.
    run("decap-doctor", &[("kernel_decap", &[]), (DEVICES, &["bond::", "tunnels::", "vlan::"])]),
    run("bonds", &[(DEVICES, &["doctor::", "tunnels::", "vlan::"])]),
];
/// The run that tells whether the kernel takes the programs.
const LOADS: &str = "load";
/// Beginnings of the names of suites that make networks: some of single packets do, for redirects and routes.
const NETWORKS: [&str; 4] = ["vm_", "veth_", "kernel_packets", "kernel_whole"];
/// The suite whose first process is systemd.
const SERVICE: &str = "vm_service";
/// The suite of devices.
const DEVICES: &str = "vm_devices";
/// How long each may take: some fifteen times what it takes where it is alone, as the processor is emulated and the machine may have much
/// else to do. It ends what hangs, and tells nothing of speed.
const LIMIT: Duration = Duration::from_secs(1800);

/// What more a kernel is tried with.
const MORE: [Run; 7] = [
    run(
        "abilities",
        &[(
            "kernel_load",
            &[
                "as_a_",
                "with_one",
                "with_every",
                "with_the_",
                "with_frames",
                "with_records",
                "for_",
                "a_borrowed",
            ],
        )],
    ),
    run("tunnels", &[(DEVICES, &["bond::", "doctor::", "vlan::"])]),
    run("packets", &[("kernel_packets", &[])]),
    // Each set of abilities takes the verifier a minute there; which of them load is told by the runs above.
    run("whole", &[("kernel_whole", &["abilities::"])]),
    run("model", &[("kernel_model", &["product::"])]),
    run("drain", &[("veth_drain", &[])]),
    run("restart", &[("veth_restart", &[])]),
];
/// What they call to make networks, and to serve in them.
const PROGRAMS: [&str; 3] = ["ip", "ethtool", "tc"];
const SERVERS: [&str; 1] = ["nginx"];
const PACKAGE: &str = "sluice-tests";

#[derive(clap::Args)]
pub struct Options {
    /// Boot for this run only: service, load, vlans, decap-doctor, bonds
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Run only tests whose name contains this
    filter: Option<String>,
}

/// How many of CI's runs are booted at once: each keeps little more than one processor busy.
const AT_ONCE: usize = 2;

/// The task: set-up and all.
///
/// # Errors
/// When a suite fails, and when the virtual machine does.
pub fn run_task(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(workspace, Purpose::Vm)?;
    let only = |run: &&Run| options.only.as_ref().is_none_or(|only| only == run.name);
    let runs: Vec<&Run> = RUNS.iter().filter(only).collect();
    if runs.is_empty() {
        bail!("there is no run of this name");
    }
    let built = Built::build(workspace, &runs)?;
    if options.only.is_none() && options.filter.is_none() {
        let this = env::current_exe().context("this program cannot be found")?;
        let suite = |run: &&Run| Suite {
            name: format!("Linux {}, {}", CI.series, run.name),
            cmd: Cmd::new(&this).args(["vm", "--only", run.name]),
        };
        return suites::run(runs.iter().map(suite).collect(), AT_ONCE, &mut |_| ());
    }
    let machine = Machine::find(workspace, CI).context("the virtual machine's files have gone")?;
    let (mut failed, mut passed) = (Vec::new(), 0);
    for run in runs {
        let see = &mut |line: &str| passed += u32::from(line.ends_with("... ok"));
        match built.boot(&machine, run, options.filter.as_deref(), see) {
            Ok(0) => {}
            Ok(status) => failed.push(format!("{} (status {status}: see above)", run.name)),
            Err(error) => failed.push(format!("{} ({error:#})", run.name)),
        }
    }
    if !failed.is_empty() {
        bail!("not all is well on {}: {}", machine.release, failed.join(", "));
    }
    match &options.filter {
        Some(filter) if passed == 0 => bail!("no test that ran has `{filter}` in its name"),
        _ => Ok(()),
    }
}

#[derive(clap::Args)]
pub struct TestOptions {
    /// Series of Linux such as 6.12, several with commas, or `all`
    #[arg(long, value_name = "SERIES", value_delimiter = ',', default_value = "all")]
    kernel: Vec<String>,
    /// Run only tests whose name contains this
    filter: Option<String>,
    /// Run only these, several with commas: load, decap-doctor, vlans, bonds, service, abilities, tunnels, packets, whole, model, drain, restart
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
}

/// Boots kernels one after another, runs everything in each, and prints a table of what came out.
pub fn test_task(workspace: &Workspace, options: &TestOptions) -> Result<()> {
    let kernels = kernels(&options.kernel)?;
    setup::ensure(workspace, Purpose::Build)?;
    let runs: Vec<&Run> = RUNS
        .iter()
        .chain(&MORE)
        .filter(|run| options.only.is_empty() || options.only.iter().any(|name| name == run.name))
        .collect();
    if runs.is_empty() {
        bail!("there is no run of this name");
    }
    let built = Built::build(workspace, &runs)?;
    let mut table = Table::new(runs.iter().map(|run| run.name));
    for kernel in kernels {
        Machine::install(workspace, kernel)
            .with_context(|| format!("Linux {} cannot be had", kernel.series))?;
        let machine = Machine::find(workspace, kernel).context("the virtual machine's files have gone")?;
        let mut cells = Vec::new();
        for run in &runs {
            if kernel.is_too_old && run.name != LOADS {
                cells.push(Cell::Untried);
                continue;
            }
            println!("\n== Linux {}: {}", machine.release, run.name);
            let begun = Instant::now();
            let mut totals = Totals::default();
            let status = built.boot(&machine, run, options.filter.as_deref(), &mut |line| totals.add(line));
            let cell = Cell::of(&status.map_err(|error| println!("{error:#}")), totals, begun.elapsed());
            cells.push(if kernel.is_too_old { cell.of_too_old() } else { cell });
        }
        table.add(&machine.release, cells);
        println!("\n{table}");
    }
    if table.is_good() { Ok(()) } else { bail!("not all is well on all kernels: see the table") }
}

/// Of these series.
fn kernels(series: &[String]) -> Result<Vec<&'static Kernel>> {
    if series == ["all"] {
        return Ok(KERNELS.iter().collect());
    }
    let known = || KERNELS.iter().map(|kernel| kernel.series).collect::<Vec<_>>().join(", ");
    let find = |series: &String| {
        Kernel::of(series)
            .with_context(|| format!("Linux {series} is none of those that are tried: {}", known()))
    };
    series.iter().map(find).collect()
}

/// What is run, built.
struct Built<'a> {
    workspace: &'a Workspace,
    /// Of cargo.
    messages: String,
    folder: PathBuf,
}

impl Built<'_> {
    fn build<'a>(workspace: &'a Workspace, runs: &[&Run]) -> Result<Built<'a>> {
        let build = runs
            .iter()
            .flat_map(|run| run.suites.iter().flat_map(|(suite, _)| ["--test", suite]))
            .fold(Cmd::cargo(&workspace.root).args(["test", "--no-run", "-p", PACKAGE]), Cmd::arg);
        build.run_seeing(|_| ())?;
        let messages = build.arg("--message-format=json").output()?;
        build::for_tests(workspace, &["sluice"]).run_seeing(|_| ())?;
        Ok(Built { workspace, messages, folder: workspace.target.join("vm") })
    }

    /// Boots one run; the status of its suites.
    fn boot(
        &self,
        machine: &Machine,
        run: &Run,
        filter: Option<&str>,
        see: &mut dyn FnMut(&str),
    ) -> Result<i32> {
        let mut contents = Initramfs::new(&machine.busybox())?;
        // One for each kernel, so that several can be tried at once.
        let folder = self.folder.join(&machine.release).join(run.name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (suite, without) in run.suites {
            let binary = suites::executable(&self.messages, suite)?;
            contents.add_suite(suite, binary.as_ref(), without, &folder)?;
        }
        if NETWORKS.iter().any(|name| run.has(name)) {
            add_network(&mut contents, machine, self.workspace, &folder)?;
        }
        if run.has("veth_") {
            add_programs(&mut contents, &SERVERS, &folder)?;
        }
        if run.has(SERVICE) {
            contents.add_systemd(&folder)?;
        }
        let initramfs = folder.join("initramfs.cpio");
        contents.write(filter, LIMIT, &initramfs)?;
        let qemu = machine.command(&initramfs);
        boot::run(&qemu, LIMIT, see)
    }
}

/// What suites with networks need: the daemon, programs to make them with, and modules.
fn add_network(
    contents: &mut Initramfs,
    machine: &Machine,
    workspace: &Workspace,
    folder: &Path,
) -> Result<()> {
    contents.add_program(&workspace.built("debug", "sluice")?, folder)?;
    add_programs(contents, &PROGRAMS, folder)?;
    machine.modules()?.iter().try_for_each(|module| contents.add_module(module))
}

fn add_programs(contents: &mut Initramfs, names: &[&str], folder: &Path) -> Result<()> {
    for name in names {
        let path = which(name).with_context(|| format!("there is no {name} here"))?;
        contents.add_program(&path, folder)?;
    }
    Ok(())
}
