//! A wall clock that a test sets for the daemon alone, by libfaketime: that of the machine is everybody's.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A wall clock that is right until it is set. Monotonic clocks and times of files stay what they are.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    folder: TempDir,
}

impl FakeClock {
    /// For a topology, by its prefix.
    ///
    /// # Errors
    /// libfaketime is not installed.
    pub fn new(owner: &str) -> Result<Self> {
        // Where Debian and Ubuntu have the one for processes with threads.
        let library = PathBuf::from(format!("/usr/lib/{ARCH}-linux-gnu/faketime/libfaketimeMT.so.1"));
        ensure!(library.exists(), "{} is not there: apt-get install faketime", library.display());
        let folder = tempfile::Builder::new().prefix(&format!("{owner}-clock.")).tempdir()?;
        let clock = FakeClock { library, folder };
        clock.set(0)?;
        Ok(clock)
    }

    /// From now on it is so many seconds ahead of the right time, for all that go by it.
    pub fn set(&self, ahead: i64) -> Result<()> {
        // Renamed, as it is read at any moment.
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{ahead:+}")).context("cannot write the time")?;
        std::fs::rename(&new, self.file()).context("cannot write the time")
    }

    /// Has the program go by it.
    pub fn show_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }

    /// Takes away what the library made for a process to share with its children, which one that is killed leaves behind. To be called
    /// when the process has begun to work, or has ended.
    pub fn tidy(&self, pid: u32) {
        for name in [format!("sem.faketime_sem_{pid}"), format!("faketime_shm_{pid}")] {
            // It may have been quicker.
            let _ = std::fs::remove_file(Path::new("/dev/shm").join(name));
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("time")
    }
}
