//! `cargo xtask fuzz`: looks for input that breaks a law of `tests/laws`, and keeps the corpus that ordinary tests run over.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::{Cmd, which};
use crate::setup::{self, Purpose};
use crate::tools_folder::{self, ToolsFolder};
use crate::workspace::Workspace;

/// Release of cargo-fuzz.
pub const VERSION: &str = "0.13.2";
/// Files and bytes of all committed corpora at most: they are read with every run of the tests.
const MOST_FILES: usize = 400;
const MOST_BYTES: u64 = 500_000;

/// A target of `fuzz/Cargo.toml`, and what libFuzzer is told about its input.
struct Target {
    name: &'static str,
    arguments: &'static [&'static str],
    /// `sluice-seeds` makes frames for it.
    has_seeds: bool,
}

const TARGETS: [Target; 3] = [
    Target { name: "parse", arguments: &["-max_len=384", "-dict=fuzz/parse.dict"], has_seeds: true },
    // Long from the beginning: a table is full after many operations only.
    Target { name: "flow_table", arguments: &["-max_len=600", "-len_control=0"], has_seeds: false },
    // Has next to no branches: numbers that were compared count as well, but hundreds of those are not worth keeping.
    Target {
        name: "word",
        arguments: &["-max_len=80", "-len_control=0", "-use_value_profile=1"],
        has_seeds: false,
    },
];

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                         each target for a minute
  cargo xtask fuzz parse --seconds 600     one of them for longer
  cargo xtask fuzz --seconds 300 --minimize
                                           then make the committed corpus anew from all that was found

What is found lies in target/fuzz/corpus until then. Input that breaks a law lies in fuzz/artifacts: mend what it shows, and move
it to fuzz/kept/TARGET under a name that says what it is. `cargo xtask test` runs over the corpus and over what is kept.")]
pub struct Options {
    /// Run this target only
    #[arg(value_parser = ["parse", "flow_table", "word"])]
    target: Option<String>,
    /// For how long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Afterwards replace the committed corpus (fuzz/corpus) by the fewest inputs that reach as much
    #[arg(long)]
    minimize: bool,
}

pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(workspace, Purpose::Fuzz)?;
    let fuzz = Fuzz { workspace, program: find(workspace).context("cargo-fuzz has gone")? };
    let is_wanted = |target: &&Target| options.target.as_deref().is_none_or(|name| name == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(is_wanted).collect();
    for target in &targets {
        fuzz.seeds(target)?;
        fuzz.run(target, options.seconds).with_context(|| {
            format!("a law is broken, or {} does not run; the input is in fuzz/artifacts/{0}", target.name)
        })?;
    }
    if options.minimize {
        for target in targets {
            fuzz.minimize(target)?;
        }
        return check_size(workspace);
    }
    Ok(())
}

struct Fuzz<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
}

impl Fuzz<'_> {
    fn cargo_fuzz(&self, command: &str) -> Cmd {
        Cmd::new(&self.program)
            .arg(command)
            .args(["--fuzz-dir", "fuzz", "--target-dir"])
            .arg(self.built())
            // The options for instrumentation are unstable ones of the stable compiler.
            .env("RUSTC_BOOTSTRAP", "1")
            .in_dir(&self.workspace.root)
    }

    /// All that fuzzing makes, outside of the checkout's own files.
    fn built(&self) -> PathBuf {
        self.workspace.target.join("fuzz")
    }

    /// What was found and is not committed.
    fn found(&self, target: &Target) -> PathBuf {
        self.built().join("corpus").join(target.name)
    }

    /// Folders of input beside that, as far as they are there.
    fn sources(&self, target: &Target) -> Vec<PathBuf> {
        let fuzz = self.workspace.root.join("fuzz");
        let folders = [fuzz.join("corpus"), fuzz.join("kept"), self.built().join("seeds")];
        folders.into_iter().map(|folder| folder.join(target.name)).filter(|folder| folder.is_dir()).collect()
    }

    fn seeds(&self, target: &Target) -> Result<()> {
        if !target.has_seeds {
            return Ok(());
        }
        Cmd::cargo(&self.workspace.root)
            .args(["run", "--quiet", "-p", "sluice-tests", "--bin", "sluice-seeds", "--"])
            .arg(self.built().join("seeds").join(target.name))
            .run()
    }

    fn run(&self, target: &Target, seconds: u32) -> Result<()> {
        let found = self.found(target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        self.cargo_fuzz("run")
            .arg(target.name)
            .arg(&found)
            .args(self.sources(target))
            .arg("--")
            .args(target.arguments)
            .arg(format!("-max_total_time={seconds}"))
            .args(["-print_final_stats=1", "-verbosity=0"])
            .run()
    }

    /// Takes all input together, and leaves the fewest that reach each branch.
    fn minimize(&self, target: &Target) -> Result<()> {
        let all = self.built().join("minimized").join(target.name);
        empty(&all)?;
        for folder in self.sources(target).into_iter().chain([self.found(target)]) {
            copy(&folder, &all)?;
        }
        self.cargo_fuzz("cmin")
            .arg(target.name)
            .arg(&all)
            // By branches and not by how often they are taken: 10 times fewer inputs.
            .args(["--", "-set_cover_merge=1", "-use_counters=0"])
            .run()?;
        let corpus = self.workspace.root.join("fuzz/corpus").join(target.name);
        empty(&corpus)?;
        copy(&all, &corpus)
    }
}

/// Makes the folder, or removes all that is in it.
fn empty(folder: &Path) -> Result<()> {
    let cannot = || format!("cannot make {} anew", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(cannot)?;
    }
    fs::create_dir_all(folder).with_context(cannot)
}

/// Copies every file of a folder, which may be missing.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in files(from)? {
        let name = file.file_name().context("a file has a name")?;
        fs::copy(&file, to.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    if !folder.is_dir() {
        return Ok(BTreeSet::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).filter(|path| !matches!(path, Ok(path) if path.is_dir())).collect()
}

/// Says how large the committed corpora are.
///
/// # Errors
/// When they are larger than they should be.
fn check_size(workspace: &Workspace) -> Result<()> {
    let (mut count, mut bytes) = (0, 0);
    for target in &TARGETS {
        let files = files(&workspace.root.join("fuzz/corpus").join(target.name))?;
        let size: u64 = files.iter().map(|file| fs::metadata(file).map_or(0, |file| file.len())).sum();
        println!("fuzz/corpus/{}: {} files, {size} bytes", target.name, files.len());
        count += files.len();
        bytes += size;
    }
    if count > MOST_FILES || bytes > MOST_BYTES {
        bail!("{count} files of {bytes} bytes are more than {MOST_FILES} files of {MOST_BYTES} bytes");
    }
    Ok(())
}

/// cargo-fuzz of this release: in a tools folder, else on `PATH`.
pub fn find(workspace: &Workspace) -> Option<PathBuf> {
    let installed = tools_folder::all(workspace).map(|tools| tools.join(folder()).join("bin/cargo-fuzz"));
    let is_it = |program: &PathBuf| {
        let printed = Cmd::new(program).arg("--version").output();
        printed.is_ok_and(|printed| printed.trim() == format!("cargo-fuzz {VERSION}"))
    };
    installed.chain(which("cargo-fuzz")).find(is_it)
}

/// Compiles and installs cargo-fuzz into a tools folder.
///
/// # Errors
/// When cargo fails.
pub fn install(workspace: &Workspace) -> Result<()> {
    let tools = ToolsFolder::lock(workspace)?;
    if find(workspace).is_some() {
        return Ok(());
    }
    tools.install(&folder(), |folder| {
        let target = folder.join("target");
        Cmd::cargo(&workspace.root)
            .args(["install", "cargo-fuzz", "--locked", "--version", VERSION, "--root"])
            .arg(folder)
            .arg("--target-dir")
            .arg(&target)
            .env_remove("CARGO_BUILD_TARGET")
            .run()?;
        fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))
    })
}

/// Name of its folder under a tools folder.
fn folder() -> String {
    format!("cargo-fuzz-{VERSION}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three places that name the targets.
    #[test]
    fn the_targets_are_those_of_the_manifest_and_have_a_corpus() {
        let workspace = Workspace::find().expect("this is a workspace");
        let manifest =
            fs::read_to_string(workspace.root.join("fuzz/Cargo.toml")).expect("the manifest is there");
        let bins: Vec<&str> =
            manifest.split("[[bin]]").skip(1).filter_map(|bin| bin.split('"').nth(1)).collect();
        assert_eq!(bins, TARGETS.map(|target| target.name));
        check_size(&workspace).expect("the corpora are small");
        for target in TARGETS {
            let corpus = workspace.root.join("fuzz/corpus").join(target.name);
            assert!(!files(&corpus).expect("it can be read").is_empty(), "{}", target.name);
        }
    }
}
