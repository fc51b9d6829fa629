//! Installs `bpf-linker` into a tools folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::bpf_toolchain::{self, LinkerRelease, Rustc};
use crate::command::Cmd;
use crate::tools_folder::ToolsFolder;
use crate::workspace::Workspace;

/// Compiles and installs a release.
///
/// # Errors
/// When cargo fails, or when what it built does not link what `rustc` emits.
pub fn install(workspace: &Workspace, rustc: &Rustc, release: &LinkerRelease) -> Result<()> {
    let tools = ToolsFolder::lock(workspace)?;
    if bpf_toolchain::find_linker(rustc, release, &workspace.target_tools()).is_some() {
        return Ok(());
    }
    tools.install(&release.folder(), |folder| {
        let target = folder.join("target");
        command(workspace, release, folder).arg("--target-dir").arg(&target).run()?;
        fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
        bpf_toolchain::links(rustc, &folder.join("bin/bpf-linker")).map_err(|reason| {
            anyhow!("bpf-linker {} does not fit {}: {reason}", release.version, rustc.release)
        })
    })
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
