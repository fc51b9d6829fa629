//! A wall clock that a test sets for the daemon alone, by libfaketime: that of the machine is everybody's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Where Debian and Ubuntu have the library, for processes with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A wall clock that is right until it is set. Monotonic clocks and times of files stay what they are.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    folder: TempDir,
}

impl FakeClock {
    /// # Errors
    /// libfaketime is not installed.
    pub fn new() -> Result<Self> {
        let library =
            library().context("there is no libfaketime on this machine: apt-get install faketime")?;
        let folder = tempfile::Builder::new().prefix("sluice-clock.").tempdir()?;
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
    /// when the process has begun to work.
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

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    folders.filter_map(|folder| Some(folder.ok()?.path().join(LIBRARY))).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_goes_by_it_and_by_what_it_is_set_to() {
        let clock = FakeClock::new().unwrap();
        let ahead = |of: &FakeClock| {
            let mut command = Command::new("date");
            of.show_to(command.arg("+%s"));
            let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            shown.trim().parse::<i64>().unwrap() - now as i64
        };
        assert!((-2..=0).contains(&ahead(&clock)));
        clock.set(86_400).unwrap();
        assert!((86_398..=86_400).contains(&ahead(&clock)));
        clock.set(-600).unwrap();
        assert!((-602..=-600).contains(&ahead(&clock)));
    }
}
