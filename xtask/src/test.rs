//! `cargo xtask test`: the steps of CI.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::bpf_toolchain::Toolchain;
use crate::build;
use crate::chaos;
use crate::command::Cmd;
use crate::commit::Commit;
use crate::last_test::LastTest;
use crate::leftovers::{Leftovers, RUN_VAR};
use crate::rustup;
use crate::setup::{self, Purpose};
use crate::steps::Steps;
use crate::suites::{self, Suite};
use crate::workspace::Workspace;

/// Packages with tests that need no rights.
const HOST_PACKAGES: [&str; 4] = ["lb-common", "lb-laws", "lb-userspace", "xtask"];
const INTEGRATION: &str = "sluice-tests";
/// How many suites that need root run at once: those in the kernel wait for grace periods, and those over veth for timeouts most of the
/// time. With one more of them two processors have nothing idle, and tests come late.
const SUITES_AS_ROOT: usize = 3;
/// Suites that take longest, the longest first: at the end none of them is what all wait for.
const LONG_SUITES: [&str; 16] = [
    "veth_programs",
    "kernel_whole",
    "veth_maintain",
    "veth_web",
    "kernel_model",
    "veth_trace",
    "veth_apply",
    "veth_hard",
    "veth_health",
    "veth_checks",
    "veth_upgrade",
    "veth_drain",
    "veth_timeouts",
    "veth_documents",
    "veth_reset",
    "kernel_fuzz",
];

#[derive(clap::Args)]
pub struct Options {
    /// Leave out what needs root (the kernel and veth suites, chaos), the virtual machine, and the docs
    #[arg(long)]
    quick: bool,
    /// Leave out the virtual machine with an older kernel
    #[arg(long)]
    skip_vm: bool,
    /// How many tests of a kernel or veth suite run at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    test_threads: u16,
    /// Run only tests whose name contains this, and no other steps
    filter: Option<String>,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if !options.quick && !setup::is_root() {
        bail!(
            "the kernel and veth tests load XDP programs: run as root, or leave them out with `cargo xtask test --quick`"
        );
    }
    let purpose = match options {
        Options { quick: true, .. } => Purpose::Check,
        Options { skip_vm: true, .. } | Options { filter: Some(_), .. } => Purpose::CheckAndRun,
        _ => Purpose::All,
    };
    let toolchain = setup::ensure(workspace, purpose)?;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let name = format!("{}-{started}", std::process::id());
    let leftovers = Leftovers::before(name.clone());
    let run = Run { workspace, options, toolchain, name };
    let mut steps = Steps::default();
    let result = run.steps(&mut steps);
    let left = leftovers.after();
    println!("\n{steps}");
    if options.filter.is_none() {
        let run = LastTest {
            commit: Commit::of(&workspace.root).map_or("unknown".to_owned(), |commit| commit.name),
            is_whole: !options.quick && !options.skip_vm && !steps.has_skipped(),
            has_passed: result.is_ok() && left.is_empty(),
            passed: steps.totals.passed,
        };
        LastTest::note(workspace, &run)?;
    }
    if !left.is_empty() {
        println!("left on the machine by this run:\n  {}", left.join("\n  "));
    }
    result?;
    if !left.is_empty() {
        bail!("the tests left something on the machine, listed above");
    }
    if options.filter.is_some() && steps.totals.passed == 0 {
        bail!("no test that ran has `{}` in its name", options.filter.as_deref().unwrap_or_default());
    }
    Ok(())
}

struct Run<'a> {
    workspace: &'a Workspace,
    options: &'a Options,
    toolchain: Toolchain,
    /// Marks the processes of this run.
    name: String,
}

impl Run<'_> {
    fn steps(&self, steps: &mut Steps) -> Result<()> {
        if self.options.filter.is_none() {
            self.format(steps)?;
        }
        steps.run("build", &build::for_tests(self.workspace, &["sluice", "sluice-chaos"]))?;
        if !self.options.quick {
            let next = build::for_tests(self.workspace, &["sluice-next"]);
            steps.run("build of another layout", &next.args(["--features", "lb-userspace/layout-next"]))?;
        }
        let all = self.workspace.targets(INTEGRATION, "test");
        // Those of the virtual machine are for its kernel; they need devices that this one may lack.
        let all = all.into_iter().filter(|name| !name.starts_with("vm_"));
        let needs_root = |name: &String| name.starts_with("kernel_") || name.starts_with("veth_");
        let (as_root, host): (Vec<String>, Vec<String>) = all.partition(needs_root);
        // Whoever waits for a run wants to know all that fails, not only what comes first.
        let results = [
            self.without_root(steps, &host),
            self.virtual_machine(steps),
            self.tests_as_root(steps, &as_root),
            self.chaos(steps),
        ];
        let failed: Vec<String> =
            results.into_iter().filter_map(|result| Some(format!("{:#}", result.err()?))).collect();
        if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
    }

    fn format(&self, steps: &mut Steps) -> Result<()> {
        if rustup::has_subcommand(&self.workspace.root, "fmt") {
            steps.run("format", &self.cargo().args(["fmt", "--all", "--check"]))
        } else {
            steps.skip("format", "rustfmt cannot be had for this toolchain");
            Ok(())
        }
    }

    /// What has no times to keep, two at once: cargo builds one of them while tests of another run.
    fn without_root(&self, steps: &mut Steps, host: &[String]) -> Result<()> {
        let mut all = Vec::new();
        if self.options.filter.is_none() {
            all.extend(self.lints(steps));
        }
        let packages = HOST_PACKAGES.iter().flat_map(|package| ["-p", package]);
        all.push(Suite { name: "tests on the host".to_owned(), cmd: self.test(packages)? });
        let tools = ["-p", INTEGRATION, "--lib", "--bins"].into_iter().chain(named(host));
        all.push(Suite { name: "tests of the test tools".to_owned(), cmd: self.test(tools)? });
        if self.options.filter.is_none() && !self.options.quick {
            let docs = self.cargo().args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
            all.push(Suite { name: "docs".to_owned(), cmd: docs });
        }
        steps.run_with("what needs no root", |see| suites::run(all, 2, see))
    }

    fn lints(&self, steps: &mut Steps) -> Vec<Suite> {
        if !rustup::has_subcommand(&self.workspace.root, "clippy") {
            steps.skip("lints", "clippy cannot be had for this toolchain");
            return Vec::new();
        }
        let cmd = self.cargo().args(["clippy", "--all-targets", "--", "-D", "warnings"]);
        let host = Suite { name: "lints".to_owned(), cmd };
        if self.toolchain.rustc.program != rustup::rustc() {
            steps.skip("lints for BPF", "clippy's compiler is not the one that builds the XDP programs");
            return vec![host];
        }
        let cmd = self
            .cargo()
            .args(["clippy", "--release", "-p", "lb-ebpf", "--bins", "-Zbuild-std=core"])
            .args(["--target", "bpfel-unknown-none", "--target-dir"])
            .arg(self.workspace.target.join("bpf-lints"))
            .args(["--", "-D", "warnings"])
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTFLAGS");
        vec![host, Suite { name: "lints for BPF".to_owned(), cmd }]
    }

    fn chaos(&self, steps: &mut Steps) -> Result<()> {
        let step = "chaos";
        if self.options.quick {
            steps.skip(step, "--quick");
        } else if self.options.filter.is_some() {
            steps.skip(step, "it is no test with a name; `cargo xtask chaos` runs it");
        } else {
            steps.run_with(step, |_| chaos::step(self.workspace, &self.name))?;
        }
        Ok(())
    }

    /// Suites in the kernel and over veth, some of them at once.
    fn tests_as_root(&self, steps: &mut Steps, suites: &[String]) -> Result<()> {
        let step = "tests in the kernel and over veth";
        if self.options.quick {
            steps.skip(step, "--quick");
            return Ok(());
        }
        let build = self.cargo().args(["test", "--no-run", "-p", INTEGRATION]).args(named(suites));
        steps.run_with(step, |see| {
            build.run_seeing(|_| ())?;
            let messages = build.clone().arg("--message-format=json").output()?;
            let mut all = Vec::new();
            let (long, short): (Vec<&String>, Vec<&String>) =
                suites.iter().partition(|name| LONG_SUITES.contains(&name.as_str()));
            for name in long.into_iter().chain(short) {
                all.push(self.suite(name, &suites::executable(&messages, name)?)?);
            }
            suites::run(all, SUITES_AS_ROOT, see)
        })
    }

    /// A test binary, run as cargo would.
    fn suite(&self, name: &str, binary: &str) -> Result<Suite> {
        let cmd = Cmd::new(binary)
            .in_dir(&self.workspace.root.join("tests"))
            .args(&self.options.filter)
            .arg(format!("--test-threads={}", self.options.test_threads))
            .env("SLUICE_BIN", self.workspace.built("debug", "sluice").context("the tests need it")?)
            .env(RUN_VAR, &self.name);
        Ok(Suite { name: name.to_owned(), cmd })
    }

    /// Alone, as it keeps all processors busy, and what it runs has times to keep.
    fn virtual_machine(&self, steps: &mut Steps) -> Result<()> {
        let name = "tests in an older kernel";
        if self.options.quick {
            steps.skip(name, "--quick");
        } else if self.options.skip_vm {
            steps.skip(name, "--skip-vm");
        } else if self.options.filter.is_some() {
            steps.skip(
                name,
                "of tests by name there are those on this kernel; `cargo xtask vm` takes a name, too",
            );
        } else {
            let this = env::current_exe().context("this program cannot be found")?;
            steps.run(name, &Cmd::new(this).arg("vm").env(RUN_VAR, &self.name))?;
        }
        Ok(())
    }

    fn cargo(&self) -> Cmd {
        Cmd::cargo(&self.workspace.root)
    }

    /// `cargo test` of some targets, with the filter, and what tests need in their environment.
    fn test<'s>(&self, targets: impl IntoIterator<Item = &'s str>) -> Result<Cmd> {
        let sluice = self.workspace.built("debug", "sluice").context("the tests need it")?;
        let mut cmd = self.cargo().arg("test").args(targets);
        if let Some(filter) = &self.options.filter {
            cmd = cmd.arg(filter);
        }
        Ok(cmd.env("SLUICE_BIN", sluice).env(RUN_VAR, &self.name))
    }
}

fn named(tests: &[String]) -> impl Iterator<Item = &str> {
    tests.iter().flat_map(|name| ["--test", name.as_str()])
}
