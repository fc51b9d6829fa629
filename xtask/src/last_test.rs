//! What the last run of `cargo xtask test` came to, noted in the target folder for the release checklist.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::commit::Commit;
use crate::workspace::Workspace;

/// A run of all tests, or of some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastTest {
    /// As in [`Commit::name`].
    pub commit: String,
    /// Nothing was left out.
    pub is_whole: bool,
    pub has_passed: bool,
    /// Tests that passed.
    pub passed: u64,
}

impl LastTest {
    /// Notes a run, in the place of the note of the run before.
    ///
    /// # Errors
    /// The target folder cannot be written.
    pub fn note(workspace: &Workspace, run: &LastTest) -> Result<()> {
        let text = json!({
            "commit": run.commit, "whole": run.is_whole, "ok": run.has_passed, "passed": run.passed,
        });
        let path = path(workspace);
        fs::write(&path, format!("{text:#}\n")).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The note; `None`: there is none that can be read.
    pub fn read(workspace: &Workspace) -> Option<LastTest> {
        let text = fs::read_to_string(path(workspace)).ok()?;
        parse(&serde_json::from_str(&text).ok()?)
    }

    /// Why this is not enough for a release of a commit.
    pub fn lacks(&self, commit: &Commit) -> Option<String> {
        if !self.has_passed {
            Some("the last run failed".to_owned())
        } else if !self.is_whole {
            Some("the last run left steps out".to_owned())
        } else if self.commit != commit.name {
            Some(format!("the last run was of {}, and this is {}", self.commit, commit.name))
        } else {
            None
        }
    }
}

fn parse(note: &Value) -> Option<LastTest> {
    Some(LastTest {
        commit: note["commit"].as_str()?.to_owned(),
        is_whole: note["whole"].as_bool()?,
        has_passed: note["ok"].as_bool()?,
        passed: note["passed"].as_u64()?,
    })
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.target.join("last-test.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> LastTest {
        LastTest { commit: "380b7bf9a2c1".to_owned(), is_whole: true, has_passed: true, passed: 900 }
    }

    #[test]
    fn only_a_whole_run_of_the_very_commit_is_enough() {
        let commit = |name: &str| Commit { name: name.to_owned(), time: 0, described: String::new() };
        let here = commit("380b7bf9a2c1");
        assert_eq!(run().lacks(&here), None);
        assert!(run().lacks(&commit("000000000000")).is_some_and(|why| why.contains("was of 380b7bf9a2c1")));
        assert!(LastTest { is_whole: false, ..run() }.lacks(&here).is_some());
        assert!(
            LastTest { has_passed: false, ..run() }.lacks(&here).is_some_and(|why| why.contains("failed"))
        );
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let note = json!({"commit": "380b7bf9a2c1", "whole": true, "ok": true, "passed": 900});
        assert_eq!(parse(&note), Some(run()));
        assert_eq!(parse(&json!({"commit": 1})), None);
    }
}
