mod clock;
mod configs;
mod drains;
mod every_write;
mod ids;
mod kill;
mod open;
mod prune;
mod revisions;
mod runs;
mod timeouts;

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

const NOW: u64 = 1_790_000_000;

fn by(author: &str) -> Change<'_> {
    Change { at: NOW, author, reason: None }
}

fn boot(id: &str, at: u64) -> Boot {
    Boot { id: id.to_owned(), at }
}

/// A folder of its own with a journal that is not there yet.
fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("main.db");
    (dir, path)
}

fn open(path: &Path) -> Journal {
    Journal::open(path, None, NOW).expect("the journal opens")
}
