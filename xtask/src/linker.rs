//! Installs `bpf-linker` into a tools folder, whole or not at all.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::bpf_toolchain::{self, LinkerRelease, Rustc};
use crate::command::Cmd;
use crate::workspace::Workspace;

/// Prefix of the folders of installations that are under way, or were when they were killed.
const UNFINISHED: &str = ".unfinished-";

/// Compiles and installs a release into the user's cache or, where that cannot be written, the target folder.
///
/// Two set-ups at once wait for each other; the second finds what the first installed. A killed one leaves a
/// folder that no one takes for a tool, and that the next one removes.
///
/// # Errors
/// When cargo fails, or when what it built does not link what `rustc` emits.
pub fn install(workspace: &Workspace, rustc: &Rustc, release: &LinkerRelease) -> Result<()> {
    let (tools, lock) = open_tools(workspace)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            println!("setup: waiting for another set-up that installs into {}", tools.display());
            lock.lock().context("cannot wait for another set-up")?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the tools folder"),
    }
    if bpf_toolchain::find_linker(rustc, release, &workspace.target_tools()).is_some() {
        return Ok(());
    }
    remove_unfinished(&tools)?;
    // The process ID keeps away a cargo whose set-up was killed and that still compiles.
    let unfinished = tools.join(format!("{UNFINISHED}{}-{}", release.folder(), std::process::id()));
    let target = unfinished.join("target");
    command(workspace, release, &unfinished).arg("--target-dir").arg(&target).run()?;
    fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    bpf_toolchain::links(rustc, &unfinished.join("bin/bpf-linker")).map_err(|reason| {
        anyhow!("bpf-linker {} does not fit {}: {reason}", release.version, rustc.release)
    })?;

    let finished = tools.join(release.folder());
    if finished.exists() {
        // It was not found by the search above, so it does not run.
        fs::remove_dir_all(&finished).with_context(|| format!("cannot remove {}", finished.display()))?;
    }
    fs::rename(&unfinished, &finished)
        .with_context(|| format!("cannot rename {} to {}", unfinished.display(), finished.display()))
}

fn command(workspace: &Workspace, release: &LinkerRelease, root: &Path) -> Cmd {
    let cmd = Cmd::cargo(&workspace.root)
        .args(["install", "bpf-linker", "--locked", "--version", release.version])
        .args(release.install_args)
        .arg("--root")
        .arg(root)
        .env_remove("CARGO_BUILD_TARGET");
    if release.llvm_of_rustc { cmd } else { cmd.env("LLVM_PREFIX", system_llvm(release.llvm)) }
}

/// Where Debian's `llvm-*-dev` puts LLVM of this major version.
pub fn system_llvm(major: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{major}"))
}

/// The first tools folder that can be written, and its lock file.
fn open_tools(workspace: &Workspace) -> Result<(PathBuf, File)> {
    let mut last = None;
    for tools in bpf_toolchain::cache_tools().into_iter().chain(workspace.target_tools()) {
        match fs::create_dir_all(&tools).and_then(|()| File::create(tools.join(".lock"))) {
            Ok(lock) => return Ok((tools, lock)),
            Err(error) => last = Some(anyhow!(error).context(format!("cannot write to {}", tools.display()))),
        }
    }
    Err(last.unwrap_or_else(|| anyhow!("there is no tools folder")))
}

/// The caller holds the lock, so nothing that is unfinished is still under way.
fn remove_unfinished(tools: &Path) -> Result<()> {
    for entry in fs::read_dir(tools)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}
