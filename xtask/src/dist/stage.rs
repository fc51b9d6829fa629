//! What is installed where: the same files for the package and for the tarball, under another prefix.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::tree::{FILE, PROGRAM, Tree};
use crate::command::Cmd;
use crate::workspace::Workspace;

/// The program's place in the unit of the repository, which is for who installs by hand.
const BY_HAND: &str = "/usr/local/bin/sluice";

/// Where things go.
pub struct Place {
    /// What folders are relative to, in the tree.
    pub folder: &'static str,
    /// The same on the machine.
    pub prefix: &'static str,
    /// Where zsh and fish look for completions of this prefix.
    pub zsh: &'static str,
    pub fish: &'static str,
}

/// Of the package.
pub const PACKAGE: Place = Place {
    folder: "usr",
    prefix: "/usr",
    zsh: "share/zsh/vendor-completions",
    fish: "share/fish/vendor_completions.d",
};

/// Of the tarball, which is unpacked in `/usr/local`.
pub const LOCAL: Place = Place {
    folder: "",
    prefix: "/usr/local",
    zsh: "share/zsh/site-functions",
    fish: "share/fish/vendor_completions.d",
};

/// Puts all that is installed into a tree: `program`, which is stripped, and what it says of itself.
pub fn fill(tree: &Tree, place: &Place, workspace: &Workspace, program: &Path) -> Result<()> {
    let at = |path: &str| Path::new(place.folder).join(path).to_string_lossy().into_owned();
    tree.copy(program, at("bin/sluice"), PROGRAM)?;
    Cmd::new("strip").arg("--strip-all").arg(tree.root().join(at("bin/sluice"))).output()?;

    let here = |path: &str| workspace.root.join(path);
    let read = |path: &str| fs::read_to_string(here(path)).with_context(|| format!("cannot read {path}"));
    let unit = read("lb-userspace/systemd/sluice.service")?;
    let installed = format!("{}/bin/sluice", place.prefix);
    tree.put(at("lib/systemd/system/sluice.service"), unit.replace(BY_HAND, &installed), FILE)?;
    for (from, folder) in [("sysusers", "sysusers.d"), ("tmpfiles", "tmpfiles.d")] {
        let from = here(&format!("lb-userspace/systemd/{from}.conf"));
        tree.copy(&from, at(&format!("lib/{folder}/sluice.conf")), FILE)?;
    }
    for file in ["dashboard.json", "alerts.yml"] {
        tree.copy(&here("lb-userspace/monitoring").join(file), at(&format!("share/sluice/{file}")), FILE)?;
    }
    for entry in fs::read_dir(here("docs")).context("cannot read docs")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tree.copy(&path, at(&format!("share/doc/sluice/{name}")), FILE)?;
    }
    for (shell, path) in [
        ("bash", "share/bash-completion/completions/sluice".to_owned()),
        ("zsh", format!("{}/_sluice", place.zsh)),
        ("fish", format!("{}/sluice.fish", place.fish)),
    ] {
        let script = Cmd::new(program).args(["completions", shell]).output()?;
        tree.put(at(&path), script, FILE)?;
    }
    manual(tree, &at("share/man/man1"), program)
}

fn manual(tree: &Tree, folder: &str, program: &Path) -> Result<()> {
    let pages = tree.root().with_extension("man");
    Cmd::new(program).arg("man").arg(&pages).output()?;
    for entry in fs::read_dir(&pages).with_context(|| format!("cannot read {}", pages.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tree.put_gzipped(&format!("{folder}/{name}"), fs::read(&path)?)?;
    }
    fs::remove_dir_all(&pages).with_context(|| format!("cannot remove {}", pages.display()))
}
