//! The folder of tools in the user's cache, into which each tool comes whole or not at all.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::bpf_toolchain;
use crate::workspace::Workspace;

/// Prefix of the folders of installations that are under way, or were when they were killed.
const UNFINISHED: &str = ".unfinished-";

/// The tools folder, locked: two set-ups at once wait for each other. A killed one leaves a folder that no one takes for
/// a tool, and that the next one removes.
pub struct ToolsFolder {
    path: PathBuf,
    /// Unlocked when it is closed.
    _lock: File,
}

impl ToolsFolder {
    /// Locks the folder in the user's cache or, where that cannot be written, in the target folder. Who waited for the
    /// lock should look again whether the tool is there by now.
    ///
    /// # Errors
    /// Where neither can be written.
    pub fn lock(workspace: &Workspace) -> Result<ToolsFolder> {
        let (path, lock) = open(workspace)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                println!("setup: waiting for another set-up that installs into {}", path.display());
                lock.lock().context("cannot wait for another set-up")?;
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the tools folder"),
        }
        Ok(ToolsFolder { path, _lock: lock })
    }

    /// Lets `make` fill an empty folder, which becomes the tool of this name if that succeeds.
    pub fn install(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.remove_unfinished()?;
        // The process ID keeps away a cargo whose set-up was killed and that still compiles.
        let unfinished = self.path.join(format!("{UNFINISHED}{name}-{}", std::process::id()));
        fs::create_dir(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
        make(&unfinished)?;
        let finished = self.path.join(name);
        if finished.exists() {
            // It was not found by who calls this, so it is of no use.
            fs::remove_dir_all(&finished).with_context(|| format!("cannot remove {}", finished.display()))?;
        }
        fs::rename(&unfinished, &finished)
            .with_context(|| format!("cannot rename {} to {}", unfinished.display(), finished.display()))
    }

    /// The caller holds the lock, so nothing that is unfinished is still under way.
    fn remove_unfinished(&self) -> Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

/// Folders in which tools are looked for, the first one first.
pub fn all(workspace: &Workspace) -> impl Iterator<Item = PathBuf> {
    bpf_toolchain::cache_tools().into_iter().chain(workspace.target_tools())
}

/// Where a tool comes if that can be written.
pub fn preferred(workspace: &Workspace) -> PathBuf {
    all(workspace).next().unwrap_or_else(|| workspace.target.clone())
}

/// The first tools folder that can be written, and its lock file.
fn open(workspace: &Workspace) -> Result<(PathBuf, File)> {
    let mut last = None;
    for tools in all(workspace) {
        match fs::create_dir_all(&tools).and_then(|()| File::create(tools.join(".lock"))) {
            Ok(lock) => return Ok((tools, lock)),
            Err(error) => last = Some(anyhow!(error).context(format!("cannot write to {}", tools.display()))),
        }
    }
    Err(last.unwrap_or_else(|| anyhow!("there is no tools folder")))
}
