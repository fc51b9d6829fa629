//! The tarball, for machines without dpkg: to be unpacked in `/usr/local`, where systemd, man and shells find what is theirs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::release::Release;
use super::stage;
use super::tree::{FILE, Tree};
use crate::command::Cmd;
use crate::workspace::Workspace;

/// What lies beside the program's documents.
const BESIDE: [(&str, &str); 6] = [
    ("packaging/example.toml", "share/doc/sluice/example.toml"),
    ("CHANGELOG.md", "share/doc/sluice/CHANGELOG.md"),
    ("packaging/debian/copyright", "share/doc/sluice/copyright"),
    ("LICENSE-APACHE", "share/doc/sluice/LICENSE-APACHE"),
    ("LICENSE-MIT", "share/doc/sluice/LICENSE-MIT"),
    ("LICENSE-GPL-2.0", "share/doc/sluice/LICENSE-GPL-2.0"),
];

/// Makes it in `folder`, from a tree at `root`, whose name its files are under.
pub fn make(
    workspace: &Workspace,
    release: &Release,
    program: &Path,
    root: &Path,
    folder: &Path,
) -> Result<PathBuf> {
    let tree = Tree::new(root.to_owned())?;
    stage::fill(&tree, &stage::LOCAL, workspace, program)?;
    for (from, to) in BESIDE {
        tree.copy(&workspace.root.join(from), to, FILE)?;
    }
    let name = root.file_name().context("the tree has no name")?;
    let file = folder.join(format!("{}.tar.xz", name.to_string_lossy()));
    Cmd::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu", "--xz"])
        .arg(format!("--mtime=@{}", release.commit.time))
        .arg("--directory")
        .arg(root.parent().unwrap_or(Path::new("/")))
        .arg("--create")
        .arg("--file")
        .arg(&file)
        .arg(name)
        // One block whatever the number of processors, so that bytes are equal.
        .env("XZ_OPT", "-T1")
        .output()?;
    fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))?;
    Ok(file)
}
