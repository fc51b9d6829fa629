//! `cargo xtask release-check`: the checklist of a release, as a command.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use crate::command::Cmd;
use crate::commit::Commit;
use crate::dist::{self, Release};
use crate::last_test::LastTest;
use crate::workspace::Workspace;

#[derive(clap::Args)]
#[command(after_help = "Example:
  cargo xtask test && cargo xtask release-check

Nothing is published by it. When all is well it says how to go on.")]
pub struct Options {
    /// Leave out the longest items, `cargo xtask dist --test` and what it makes, made once more; then the list is not complete
    #[arg(long)]
    skip_dist: bool,
}

/// Two items that take long.
const LIVES: &str = "the package lives on a Debian 12";
const SAME: &str = "made in another folder, it is the same";

/// An item: what must be so, and why it is not, with the mend.
struct Item {
    what: String,
    problem: Option<String>,
}

/// # Errors
/// When something on the list is not as it must be.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let commit = Commit::of(&workspace.root).context("this is no checkout: a release is made of a commit")?;
    let mut items = vec![clean(workspace)?];
    let release = Release::of(workspace);
    items.extend(versions(release.as_ref()));
    items.push(locked(workspace));
    items.push(documents(workspace));
    items.push(tested(LastTest::read(workspace), &commit));
    if options.skip_dist {
        let left_out = || Some("left out (--skip-dist)".to_owned());
        items.extend([item(LIVES, left_out()), item(SAME, left_out())]);
    } else {
        items.push(shipped(workspace));
        items.push(same(workspace, release.as_ref()));
    }
    println!("\n{}", table(&items));
    let open = items.iter().filter(|item| item.problem.is_some()).count();
    if open > 0 {
        bail!("{open} of {} items are open: this is no release yet", items.len());
    }
    let version = release?.version;
    println!(
        "All is well. Then: git tag -a v{version} -m 'Sluice {version}', cargo xtask dist, and publish what is in target/dist."
    );
    Ok(())
}

fn item(what: impl Into<String>, problem: Option<String>) -> Item {
    Item { what: what.into(), problem }
}

fn table(items: &[Item]) -> String {
    let width = items.iter().map(|item| item.what.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Item { what, problem } in items {
        let _ = match problem {
            None => writeln!(text, "  {what:width$}  yes"),
            Some(problem) => writeln!(text, "  {what:width$}  NO: {problem}"),
        };
    }
    text
}

fn clean(workspace: &Workspace) -> Result<Item> {
    let changed = Cmd::new("git").args(["status", "--porcelain"]).in_dir(&workspace.root).output()?;
    let problem = changed.lines().next().map(|first| {
        let more = changed.lines().count() - 1;
        format!(
            "`{}`{}: commit it, or take it back",
            first.trim(),
            if more > 0 { format!(" and {more} more") } else { String::new() }
        )
    });
    Ok(item("everything is committed", problem))
}

/// What the versions and the changelog must say.
fn versions(release: Result<&Release, &anyhow::Error>) -> Vec<Item> {
    let agree = "version and changelog agree";
    let release = match release {
        Ok(release) => release,
        Err(error) => return vec![item(agree, Some(format!("{error:#}")))],
    };
    let newest = &release.changelog[0];
    let undated = newest
        .date
        .is_none()
        .then(|| format!("CHANGELOG.md calls {} unreleased: write the day", newest.version));
    let tag = format!("v{}", release.version);
    // `v0.1.0-3-g380b7bf`: that version was released three commits ago.
    let since = release.commit.described.strip_prefix(&format!("{tag}-"));
    let is_released = since
        .and_then(|since| since.split_once("-g"))
        .is_some_and(|(commits, _)| commits.bytes().all(|byte| byte.is_ascii_digit()));
    let again = is_released.then(|| {
        format!("{tag} is the tag of another commit: raise the version in Cargo.toml, and begin an entry in CHANGELOG.md")
    });
    vec![
        item(agree, None),
        item("the changelog has the day", undated),
        item("the version is a new one", again),
    ]
}

fn locked(workspace: &Workspace) -> Item {
    let same = Cmd::cargo(&workspace.root).args(["metadata", "--locked", "--format-version=1"]).output();
    let problem = same.err().map(|_| "run `cargo metadata`, and commit Cargo.lock".to_owned());
    item("Cargo.lock is that of the manifests", problem)
}

/// Those that are made from the code, and the command lines in all of them.
fn documents(workspace: &Workspace) -> Item {
    let cargo = || Cmd::cargo(&workspace.root).args(["test", "--quiet", "-p", "lb-userspace"]);
    let made = cargo().args(["--lib", "in_docs"]);
    let lines = cargo().args(["--test", "documents"]);
    let failed = [made, lines].into_iter().find_map(|cmd| cmd.run().err().map(|_| cmd.line()));
    item("documents are those of the code", failed.map(|line| format!("see what `{line}` says")))
}

fn tested(last: Option<LastTest>, commit: &Commit) -> Item {
    let lacks = match &last {
        None => Some("there is none".to_owned()),
        Some(last) => last.lacks(commit),
    };
    let passed = last.map_or(0, |last| last.passed);
    let what =
        if lacks.is_none() { format!("all tests passed ({passed})") } else { "all tests passed".to_owned() };
    item(what, lacks.map(|why| format!("{why}: cargo xtask test")))
}

fn shipped(workspace: &Workspace) -> Item {
    let problem = dist::run(workspace, &dist::Options::tested()).err().map(|error| {
        println!("{error:#}");
        "see above: cargo xtask dist --test".to_owned()
    });
    item(LIVES, problem)
}

fn same(workspace: &Workspace, release: Result<&Release, &anyhow::Error>) -> Item {
    let again = release.map_err(|error| format!("{error:#}"));
    let again =
        again.and_then(|release| dist::again(workspace, release).map_err(|error| format!("{error:#}")));
    item(SAME, again.err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::changelog;

    fn release(described: &str, heading: &str) -> Release {
        let changelog = changelog::parse(&format!("## {heading}\n- x\n")).expect("it is well formed");
        let commit = Commit { name: "c".to_owned(), time: 0, described: described.to_owned() };
        Release { version: "0.1.0".to_owned(), debian: "0.1.0".to_owned(), commit, changelog }
    }

    fn open(release: &Release) -> Vec<String> {
        versions(Ok(release)).into_iter().filter_map(|item| item.problem).collect()
    }

    #[test]
    fn a_version_is_dated_and_new() {
        assert!(open(&release("", "0.1.0, 2026-11-27")).is_empty());
        assert!(open(&release("v0.1.0", "0.1.0, 2026-11-27")).is_empty(), "made once more");
        assert!(open(&release("v0.1.0-rc1-2-gabc", "0.1.0, 2026-11-27")).is_empty(), "a candidate is not it");
        assert!(open(&release("", "0.1.0, unreleased"))[0].contains("write the day"));
        assert!(open(&release("v0.1.0-3-gabc", "0.1.0, 2026-11-27"))[0].contains("raise the version"));
        assert!(open(&release("v0.0.9-30-gabc", "0.1.0, 2026-11-27")).is_empty());
    }

    #[test]
    fn what_is_open_stands_out() {
        let table = table(&[item("one", None), item("another", Some("mend it".to_owned()))]);
        assert_eq!(table, "  one      yes\n  another  NO: mend it\n");
    }

    #[test]
    fn a_release_needs_a_run_of_its_tests() {
        let commit = Commit { name: "c".to_owned(), time: 0, described: String::new() };
        let run = LastTest { commit: "c".to_owned(), is_whole: true, has_passed: true, passed: 3 };
        assert_eq!(tested(Some(run), &commit).problem, None);
        assert!(tested(None, &commit).problem.is_some_and(|problem| problem.contains("cargo xtask test")));
    }
}
