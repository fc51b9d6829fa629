//! What is installed where: the same files for the package and for the tarball, under another prefix.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::third_party;
use super::tree::{self, FILE, PROGRAM, Tree};
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
    for path in documents(&here("docs"))? {
        tree.copy(&here("docs").join(&path), Path::new(&at("share/doc/sluice")).join(&path), FILE)?;
    }
    tree.put(at("share/doc/sluice/THIRD-PARTY"), third_party::make(workspace)?, FILE)?;
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

/// All documents, by their paths in the folder, sorted: what git knows of it, so that nothing that lies about is shipped. In an unpacked
/// archive, which git does not know, all there is.
fn documents(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = Cmd::new("git").args(["ls-files", "-z", "."]).in_dir(folder).output();
    let known = listed.ok().filter(|known| !known.is_empty());
    let mut files = match known {
        Some(known) => known.split_terminator('\0').map(PathBuf::from).collect(),
        None => tree::files_below(folder)?,
    };
    files.sort();
    Ok(files)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures lie in a folder of their own.
    #[test]
    fn all_documents_are_shipped_in_their_folders_and_what_lies_about_is_not() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let files = documents(&docs).expect("read");
        for file in ["first-hour.md", "sluice.example.toml", "pictures/page-hosts.png"] {
            assert!(files.contains(&PathBuf::from(file)), "{file} of {files:?}");
        }
        assert!(files.iter().all(|file| docs.join(file).is_file()), "{files:?}");

        let folder = std::env::temp_dir().join(format!("sluice-documents-{}", std::process::id()));
        fs::create_dir_all(folder.join("pictures")).expect("a folder can be made");
        for file in ["b.md", "a.md", "pictures/c.png"] {
            fs::write(folder.join(file), "x").expect("a file can be written");
        }
        let paths = ["a.md", "b.md", "pictures/c.png"].map(PathBuf::from);
        assert_eq!(documents(&folder).expect("read"), paths, "git does not know it");
        let git = |args: &[&str]| Cmd::new("git").args(args).in_dir(&folder).output().expect("git runs");
        git(&["init", "--quiet"]);
        git(&["add", "a.md", "pictures/c.png"]);
        let tracked = documents(&folder).expect("read");
        fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(tracked, [&paths[0], &paths[2]].map(PathBuf::clone));
    }
}
