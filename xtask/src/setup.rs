//! Finds out what a task lacks on this machine, lists it, and installs it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::bpf_toolchain::{self, DEBIAN_RUSTC, LINKER_DIR_VAR, RUSTC_VAR, Rustc, Toolchain};
use crate::dist::debian;
use crate::vm::Machine;
use crate::workspace::Workspace;
use crate::{bpffs, fuzz, linker, packages, rustup, tools_folder, vm};

/// Debian's compiler, its library's source, and the LLVM that `bpf-linker` is linked against.
const DEBIAN_TOOLCHAIN: [&str; 3] = ["rustc-web", "rust-web-src", "llvm-22-dev"];
/// Cargo's subcommand and rustup's component, and what it is for.
const LINT_TOOLS: [(&str, &str, &str); 2] =
    [("fmt", "rustfmt", "checks the format of the source"), ("clippy", "clippy", "lints the source")];

/// What a task is going to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Compile.
    Build,
    /// Compile, format, lint and run tests that need no rights.
    Check,
    /// Compile, and run in network namespaces; needs root.
    Run,
    /// Compile, and run in a virtual machine.
    Vm,
    /// As [`Self::Check`] and [`Self::Run`].
    CheckAndRun,
    /// All of these.
    All,
    /// Compile, and run fuzz targets; nothing else needs what they need.
    Fuzz,
    /// Compile, and make packages; neither does anything else.
    Ship,
    /// As [`Self::Ship`], and try the package on a Debian.
    ShipAndTry,
}

impl Purpose {
    fn lints(self) -> bool {
        matches!(self, Purpose::Check | Purpose::CheckAndRun | Purpose::All)
    }

    fn runs(self) -> bool {
        matches!(self, Purpose::Run | Purpose::CheckAndRun | Purpose::All)
    }

    fn boots(self) -> bool {
        matches!(self, Purpose::Vm | Purpose::All)
    }

    fn ships(self) -> bool {
        matches!(self, Purpose::Ship | Purpose::ShipAndTry)
    }

    fn fuzzes(self) -> bool {
        self == Purpose::Fuzz
    }
}

/// Something that is not there, for the list.
struct Missing {
    what: String,
    why: String,
    /// The command that gets it.
    how: String,
}

/// Makes sure that all for `purpose` is there, and returns the tools for the XDP programs. Components for
/// formatting and linting are the exception: where they cannot be had, that is said, and the task goes on.
///
/// # Errors
/// When something cannot be installed; the message has the command to paste and what it said.
pub fn ensure(workspace: &Workspace, purpose: Purpose) -> Result<Toolchain> {
    let mut tools = if purpose.runs() { packages::missing(packages::RUNNING) } else { Vec::new() };
    if purpose.boots() {
        // Some are for both.
        let booting = packages::missing(packages::BOOTING);
        let others =
            booting.into_iter().filter(|tool| tools.iter().all(|other| other.program != tool.program));
        tools.extend(others.collect::<Vec<_>>());
    }
    if purpose.fuzzes() {
        tools.extend(packages::missing(packages::FUZZING));
    }
    if purpose.ships() {
        tools.extend(packages::missing(packages::SHIPPING));
    }
    if purpose == Purpose::ShipAndTry {
        tools.extend(packages::missing(packages::TRYING));
    }
    let no_debian = purpose == Purpose::ShipAndTry && debian::find(workspace).is_none();
    let no_fuzzer = purpose.fuzzes() && fuzz::find(workspace).is_none();
    let no_machine = purpose.boots() && Machine::find(workspace, vm::CI).is_none();
    let unmounted = purpose.runs() && !bpffs::is_mounted();
    let lints: Vec<_> = LINT_TOOLS
        .iter()
        .filter(|(subcommand, ..)| purpose.lints() && !rustup::has_subcommand(&workspace.root, subcommand))
        .collect();
    let rustc = rustup::rustc();
    let toolchain = bpf_toolchain::find(&rustc, &workspace.target_tools());
    if let Ok(toolchain) = toolchain
        && tools.is_empty()
        && !unmounted
        && !no_machine
        && !no_fuzzer
        && !no_debian
        && lints.is_empty()
    {
        return Ok(toolchain);
    }

    let mut packages: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let mut missing: Vec<Missing> = tools
        .iter()
        .map(|tool| Missing {
            what: tool.program.to_owned(),
            why: tool.why.to_owned(),
            how: format!("apt-get install {}", tool.package),
        })
        .collect();
    let mut as_root = Vec::new();
    if !packages.is_empty() {
        as_root.push("apt-get update".to_owned());
        as_root.push(packages::install_command(&packages).line());
    }
    if unmounted {
        as_root.push(bpffs::mount_command().line());
        missing.push(Missing {
            what: format!("bpffs at {}", bpffs::PATH),
            why: "pins of maps, programs and links".to_owned(),
            how: bpffs::mount_command().line(),
        });
    }
    if no_machine {
        missing.push(Missing {
            what: vm::NAME.to_owned(),
            why: "the XDP programs are loaded by the verifier of an older kernel, too".to_owned(),
            how: format!(
                "apt-get download of {} into {}, {}",
                vm::KERNEL,
                tools_folder::preferred(workspace).display(),
                vm::SIZE
            ),
        });
    }
    if no_fuzzer {
        missing.push(Missing {
            what: format!("cargo-fuzz {}", fuzz::VERSION),
            why: "builds the fuzz targets and runs them".to_owned(),
            how: format!(
                "cargo install cargo-fuzz --version {} into {} (some 30 s)",
                fuzz::VERSION,
                tools_folder::preferred(workspace).display()
            ),
        });
    }
    if no_debian {
        missing.push(Missing {
            what: debian::NAME.to_owned(),
            why: "the package is installed on it".to_owned(),
            how: format!("mmdebstrap into {}, some 200 MB", tools_folder::preferred(workspace).display()),
        });
    }
    missing.extend(lints.iter().map(|(_, component, why)| Missing {
        what: (*component).to_owned(),
        why: (*why).to_owned(),
        how: rustup::add_components(&[component]).line(),
    }));
    missing.extend(missing_for_bpf(workspace, &rustc)?);
    list(&missing);
    need_root(&as_root)?;

    if !packages.is_empty() {
        packages::install(&packages)?;
    }
    if unmounted {
        bpffs::mount()?;
    }
    if no_machine {
        Machine::install(workspace, vm::CI).with_context(|| {
            format!("{} cannot be had; `cargo xtask test --skip-vm` does without it", vm::NAME)
        })?;
    }
    if no_fuzzer {
        fuzz::install(workspace)?;
    }
    if no_debian {
        debian::install(workspace)?;
    }
    for (subcommand, component, why) in lints {
        if let Err(error) = rustup::add_components(&[component]).run() {
            println!("{error:#}\nsetup: {component} cannot be had, so that nothing {why}");
        } else if !rustup::has_subcommand(&workspace.root, subcommand) {
            println!("setup: rustup says that {component} is there, but `cargo {subcommand}` does not run");
        }
    }
    toolchain_for_bpf(workspace, &rustc)
}

/// What the compiler that builds the rest lacks for the XDP programs.
fn missing_for_bpf(workspace: &Workspace, program: &Path) -> Result<Vec<Missing>> {
    let Err(reasons) = bpf_toolchain::find(program, &workspace.target_tools()) else { return Ok(Vec::new()) };
    for name in [RUSTC_VAR, LINKER_DIR_VAR] {
        if let Ok(value) = std::env::var(name) {
            bail!(
                "{name}={value} names tools that do not work; unset it or mend them:\n  {}",
                reasons.join("\n  ")
            );
        }
    }
    let why = "the XDP programs are compiled with it".to_owned();
    let rustc = Rustc::query(program).ok();
    let Some((rustc, release)) = rustc.as_ref().and_then(|rustc| Some((rustc, rustc.linker_release()?)))
    else {
        return Ok(vec![missing_debian_toolchain()]);
    };
    let mut missing = Vec::new();
    if !rustc.has_library_source() {
        missing.push(Missing {
            what: format!("rust-src of {}", rustc.release),
            why,
            how: format!("{}, else Debian's rustc-web", rustup::add_components(&["rust-src"]).line()),
        });
    }
    if bpf_toolchain::find_linker(rustc, release, &workspace.target_tools()).is_none() {
        let folder = tools_folder::preferred(workspace);
        missing.push(Missing {
            what: format!("bpf-linker {}", release.version),
            why: "the XDP programs are linked with it".to_owned(),
            how: format!(
                "cargo install bpf-linker --version {} into {} (some 80 s)",
                release.version,
                folder.display()
            ),
        });
    }
    Ok(missing)
}

fn missing_debian_toolchain() -> Missing {
    Missing {
        what: DEBIAN_TOOLCHAIN.join(", "),
        why: "a compiler, its library's source and LLVM that fit together".to_owned(),
        how: packages::install_command(&DEBIAN_TOOLCHAIN).line(),
    }
}

/// Gets the tools: for the compiler that builds the rest if that can be done, else from Debian.
fn toolchain_for_bpf(workspace: &Workspace, rustc: &Path) -> Result<Toolchain> {
    let find = || bpf_toolchain::find(rustc, &workspace.target_tools());
    if let Ok(toolchain) = find() {
        return Ok(toolchain);
    }
    if let Err(error) = complete(workspace, rustc) {
        println!("{error:#}");
        println!(
            "setup: the XDP programs cannot be built with {}; taking Debian's compiler",
            rustc.display()
        );
        debian_toolchain(workspace)
            .context("Debian's compiler cannot be had either; the way with rustup failed as shown above")?;
    }
    find().map_err(|reasons| anyhow::anyhow!("the tools do not work together:\n  {}", reasons.join("\n  ")))
}

fn complete(workspace: &Workspace, program: &Path) -> Result<()> {
    let rustc = Rustc::query(program).map_err(anyhow::Error::msg)?;
    let release = rustc.linker_release().with_context(|| {
        format!("no known bpf-linker goes with LLVM {} of rustc {}", rustc.llvm, rustc.release)
    })?;
    if !rustc.has_library_source() {
        rustup::add_rust_src(|| rustc.has_library_source())?;
    }
    if bpf_toolchain::find_linker(&rustc, release, &workspace.target_tools()).is_none() {
        linker::install(workspace, &rustc, release)?;
    }
    Ok(())
}

fn debian_toolchain(workspace: &Workspace) -> Result<()> {
    let program = Path::new(DEBIAN_RUSTC);
    let fits = |rustc: &Rustc| {
        rustc.has_library_source()
            && rustc.linker_release().is_some()
            && linker::system_llvm(rustc.llvm).join("bin/llvm-config").is_file()
    };
    if !Rustc::query(program).is_ok_and(|rustc| fits(&rustc)) {
        list(&[missing_debian_toolchain()]);
        need_root(&["apt-get update".to_owned(), packages::install_command(&DEBIAN_TOOLCHAIN).line()])?;
        packages::install(&DEBIAN_TOOLCHAIN)?;
    }
    complete(workspace, program)
}

fn list(missing: &[Missing]) {
    println!("setup: this machine lacks");
    for item in missing {
        println!("  {}: {}", item.what, item.why);
        println!("      to be got by: {}", item.how);
    }
}

/// Refuses to go on where root has to run something first.
fn need_root(commands: &[String]) -> Result<()> {
    if commands.is_empty() || is_root() {
        return Ok(());
    }
    bail!("you are not root; let root run this, then come back:\n  {}", commands.join("\n  "))
}

/// Whether this process has user ID 0.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
