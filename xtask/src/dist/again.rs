//! What is shipped, made a second time from a clone in another folder: the bytes must be the same, or nobody could tell whether what is
//! published was made from what is public.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Release, SUMS, Shipped};
use crate::command::Cmd;
use crate::workspace::Workspace;

/// Compares with what [`super::run`] has left.
///
/// # Errors
/// When it cannot be made there, or is not the same.
pub fn run(workspace: &Workspace, release: &Release) -> Result<()> {
    if release.commit.is_changed() {
        bail!("files differ from those of the commit, which is all that a clone has: commit them");
    }
    let first = sums(&workspace.target.join("dist"))?;
    let folder = workspace.target.join("dist-again");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Cmd::new("git").args(["clone", "--quiet"]).arg(&workspace.root).arg(&folder).output()?;
    let other = workspace.elsewhere(folder.clone());
    fs::create_dir(&other.target).with_context(|| format!("cannot make {}", other.target.display()))?;
    // Tools that are in no cache are in the target folder.
    for (from, to) in workspace.target_tools().into_iter().zip(other.target_tools()) {
        if from.is_dir() {
            symlink(&from, &to).with_context(|| format!("cannot link {}", to.display()))?;
        }
    }
    let second = Shipped::make(&other, release)?;
    let differ = differences(&first, &sums(&second.folder)?);
    if !differ.is_empty() {
        bail!(
            "made in another folder, {} is not the same; compare {} and {}",
            differ.join(", "),
            workspace.target.join("dist").display(),
            second.folder.display()
        );
    }
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Checksums by the names of the files.
fn sums(folder: &Path) -> Result<BTreeMap<String, String>> {
    let file = folder.join(SUMS);
    let text = fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}: cargo xtask dist", file.display()))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    lines.map(|(sum, name)| (name.to_owned(), sum.to_owned())).collect()
}

/// Names of files that one of both has alone, or that are others.
fn differences(first: &BTreeMap<String, String>, second: &BTreeMap<String, String>) -> Vec<String> {
    let mut names: Vec<String> = first.keys().chain(second.keys()).cloned().collect();
    names.sort();
    names.dedup();
    names.retain(|name| first.get(name) != second.get(name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let first = parse("aa  one.deb\nbb  two.tar.xz\n");
        assert_eq!(first["one.deb"], "aa");
        assert!(differences(&first, &first).is_empty());
        let second = parse("aa  one.deb\ncc  two.tar.xz\ndd  three.json\n");
        assert_eq!(differences(&first, &second), ["three.json", "two.tar.xz"]);
        assert_eq!(differences(&first, &parse("")), ["one.deb", "two.tar.xz"]);
    }
}
