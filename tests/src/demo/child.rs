//! A `sluice` command that runs while the demo looks on.

use std::io::{BufRead, BufReader, Read};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::servers::SluiceDaemon;
use crate::topology::Process;

/// Lines of standard output with the time at which they came.
type Lines = Arc<Mutex<Vec<(Instant, String)>>>;

/// The command; killed when dropped.
pub struct Child {
    process: Process,
    lines: Lines,
    /// Lines that have been taken.
    taken: usize,
    readers: Vec<JoinHandle<()>>,
    errors: Arc<Mutex<String>>,
}

impl Child {
    /// Starts `sluice ARGS` for the instance of `daemon`.
    pub fn start(daemon: &SluiceDaemon, args: &[&str]) -> Result<Self> {
        let process = daemon.cli_start(args)?;
        let (out, err) = process.take_output();
        let (lines, errors) = (Lines::default(), Arc::new(Mutex::default()));
        let mut readers = Vec::new();
        if let Some(out) = out {
            let lines = lines.clone();
            readers.push(std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(std::io::Result::ok) {
                    lock(&lines).push((Instant::now(), line));
                }
            }));
        }
        if let Some(mut err) = err {
            let errors = errors.clone();
            readers.push(std::thread::spawn(move || {
                let mut text = String::new();
                // What came until the pipe broke counts.
                let _ = err.read_to_string(&mut text);
                *lock(&errors) = text;
            }));
        }
        Ok(Self { process, lines, taken: 0, readers, errors })
    }

    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// When the first line of standard output came.
    pub fn first_line(&self) -> Option<Instant> {
        lock(&self.lines).first().map(|(time, _)| *time)
    }

    /// Lines of standard output that have come since the last call.
    pub fn take_lines(&mut self) -> Vec<String> {
        let lines = lock(&self.lines)[self.taken..].iter().map(|(_, line)| line.clone()).collect::<Vec<_>>();
        self.taken += lines.len();
        lines
    }

    /// Waits for the end, at most `limit`, and for all that was written; what was written to standard error comes back
    /// with the exit status. `None` when it still runs.
    pub fn end(&mut self, limit: Duration) -> Result<Option<(ExitStatus, String)>> {
        let Some(status) = self.process.wait(limit)? else { return Ok(None) };
        for reader in std::mem::take(&mut self.readers) {
            // A reader does not panic, and without it there is only less to show.
            let _ = reader.join();
        }
        Ok(Some((status, lock(&self.errors).clone())))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
