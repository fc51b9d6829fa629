//! Which version is made: its numbers, and where they come from.

use std::fs;

use anyhow::{Context, Result, bail};
use time::OffsetDateTime;
use time::macros::format_description;

use super::changelog::{self, Entry};
use crate::commit::{self, Commit};
use crate::workspace::Workspace;

/// Names the time of a build from a tree that does not say of which commit it is (reproducible-builds.org).
const TIME_VAR: &str = "SOURCE_DATE_EPOCH";

#[derive(Debug)]
pub struct Release {
    /// Of `Cargo.toml`.
    pub version: String,
    /// As dpkg compares it.
    pub debian: String,
    pub commit: Commit,
    pub changelog: Vec<Entry>,
}

impl Release {
    /// # Errors
    /// The changelog's newest version is another than that of `Cargo.toml`, or nobody knows the commit.
    pub fn of(workspace: &Workspace) -> Result<Release> {
        let version = workspace.version()?;
        let path = workspace.root.join("CHANGELOG.md");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let changelog = changelog::parse(&text).context("CHANGELOG.md")?;
        if changelog[0].version != version {
            bail!(
                "Cargo.toml says version {version}, and CHANGELOG.md begins with {}: mend one of them",
                changelog[0].version
            );
        }
        let commit = commit_of(workspace)?;
        Ok(Release { debian: debian(&version, &commit)?, version, commit, changelog })
    }
}

fn commit_of(workspace: &Workspace) -> Result<Commit> {
    if let Some(commit) = Commit::of(&workspace.root) {
        return Ok(commit);
    }
    let told = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(name), Some(time)) = (told(commit::VAR), told(TIME_VAR)) else {
        bail!(
            "neither git nor {} says which commit this is: set {} to its name and {TIME_VAR} to its time in Unix seconds",
            commit::ARCHIVE_FILE,
            commit::VAR
        );
    };
    let time = time.parse().with_context(|| format!("{TIME_VAR}={time}"))?;
    Ok(Commit { name, time, described: String::new() })
}

/// A release has the version alone, and is what a tag `vVERSION` names. All else comes before it: `~` sorts before nothing, and then the
/// commit's time counts.
fn debian(version: &str, commit: &Commit) -> Result<String> {
    if commit.described == format!("v{version}") && !commit.is_changed() {
        return Ok(version.to_owned());
    }
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(commit.time)?)?;
    let time = time.format(format_description!("[year][month][day]T[hour][minute][second]"))?;
    // A hyphen would begin Debian's own revision.
    Ok(format!("{version}~git{time}.{}", commit.name.replace('-', ".")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Cmd;

    fn commit(name: &str, time: u64, described: &str) -> Commit {
        Commit { name: name.to_owned(), time, described: described.to_owned() }
    }

    #[test]
    fn only_the_tagged_commit_is_the_release() {
        let of =
            |name, described| debian("0.1.0", &commit(name, 1_790_000_000, described)).expect("a version");
        assert_eq!(of("380b7bf9a2c1", "v0.1.0"), "0.1.0");
        let before = "0.1.0~git20260921T141320.380b7bf9a2c1";
        for described in ["", "v0.0.9", "v0.1.0-3-g380b7bf"] {
            assert_eq!(of("380b7bf9a2c1", described), before);
        }
        assert_eq!(of("380b7bf9a2c1-changed", "v0.1.0"), format!("{before}.changed"));
    }

    #[test]
    fn dpkg_orders_them_as_they_were_made() {
        let made = |version, time| debian(version, &commit("c", time, "v9")).expect("a version");
        let order = [
            made("0.1.0", 1_790_000_000),
            made("0.1.0", 1_790_000_001),
            "0.1.0".to_owned(),
            made("0.2.0", 7),
        ];
        for pair in order.windows(2) {
            let args = ["--compare-versions", &pair[0], "lt", &pair[1]];
            assert!(Cmd::new("dpkg").args(args).succeeds(), "{pair:?}");
        }
    }
}
