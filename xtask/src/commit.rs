//! The commit that a source tree is of: of a checkout as git says it, of an unpacked archive as `git archive` has noted it.

use std::fs;
use std::path::Path;

use crate::command::Cmd;

/// What `sluice --version` says when the program is compiled with it (`lb-userspace/src/main.rs`).
pub const VAR: &str = "SLUICE_COMMIT";
/// In the root; `.gitattributes` has `git archive` fill it in.
pub const ARCHIVE_FILE: &str = "packaging/commit";
/// Digits of a commit's name that are shown.
const DIGITS: usize = 12;
/// Behind the name: files differ from those of the commit.
const CHANGED: &str = "-changed";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its first 12 digits, with `-changed` behind them where files differ from it.
    pub name: String,
    /// When it was made, in Unix seconds.
    pub time: u64,
    /// The nearest tag before it that names a version, as `git describe` has it: `v0.1.0` is the tagged commit itself.
    pub described: String,
}

impl Commit {
    /// That of the tree at `root`; `None` where neither an archive nor git tells.
    pub fn of(root: &Path) -> Option<Commit> {
        let noted = fs::read_to_string(root.join(ARCHIVE_FILE)).ok();
        noted.and_then(|noted| parse(noted.trim())).or_else(|| of_git(root))
    }

    pub fn is_changed(&self) -> bool {
        self.name.ends_with(CHANGED)
    }
}

/// A line of the name in full, the time, and the description if there is one.
fn parse(line: &str) -> Option<Commit> {
    let mut words = line.split_whitespace();
    let name = words.next().filter(|name| name.len() >= DIGITS)?;
    if !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        // `$Format:`: no archive.
        return None;
    }
    let time = words.next()?.parse().ok()?;
    Some(Commit {
        name: name[..DIGITS].to_owned(),
        time,
        described: words.next().unwrap_or_default().to_owned(),
    })
}

fn of_git(root: &Path) -> Option<Commit> {
    // A tree without git may lie in a checkout of something else.
    let top = git(root, &["rev-parse", "--show-toplevel"])?;
    if fs::canonicalize(top).ok()? != fs::canonicalize(root).ok()? {
        return None;
    }
    let mut commit = parse(&git(root, &["log", "-1", "--format=%H %ct"])?)?;
    commit.described = git(root, &["describe", "--tags", "--match", "v*"]).unwrap_or_default();
    if !git(root, &["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
        commit.name.push_str(CHANGED);
    }
    Some(commit)
}

/// What git says, without the last line break; `None` where it fails, or is not there.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let said = Cmd::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    Some(said.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "380b7bf9a2c1d0e5f6a7b8c9d0e1f2a3b4c5d6e7";

    #[test]
    fn what_an_archive_says_is_read() {
        let commit =
            Commit { name: "380b7bf9a2c1".to_owned(), time: 1_790_000_000, described: String::new() };
        assert_eq!(parse(&format!("{NAME} 1790000000")), Some(commit.clone()));
        let tagged = parse(&format!("{NAME} 1790000000 v0.1.0-3-g380b7bf"));
        assert_eq!(tagged, Some(Commit { described: "v0.1.0-3-g380b7bf".to_owned(), ..commit }));
        for no in ["$Format:%H %ct$", "", "380b 1", &format!("{NAME} today")] {
            assert_eq!(parse(no), None, "{no:?}");
        }
    }

    /// Away from any repository, and with a note as `git archive` leaves it.
    #[test]
    fn an_archive_needs_no_git_and_a_folder_that_is_none_has_no_commit() {
        let root = std::env::temp_dir().join(format!("sluice-commit-{}", std::process::id()));
        fs::create_dir_all(root.join("packaging")).expect("a folder can be made");
        assert_eq!(Commit::of(&root), None);
        fs::write(root.join(ARCHIVE_FILE), format!("{NAME} 7 v0.1.0\n")).expect("a file can be written");
        let found = Commit::of(&root).expect("it is noted");
        assert_eq!((found.name.as_str(), found.time, found.is_changed()), ("380b7bf9a2c1", 7, false));
        fs::remove_dir_all(&root).expect("the folder can be removed");
    }
}
