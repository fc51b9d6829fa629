//! Ctrl-C, SIGTERM and SIGHUP: whatever the demo is at, it ends in an orderly way and leaves nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::topology;

/// How long the orderly end may take before everything is removed by force.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a wait is deaf at most.
const TICK: Duration = Duration::from_millis(20);

static ASKED: AtomicBool = AtomicBool::new(false);
/// Prefix of the topology to remove by force.
static PREFIX: Mutex<Option<String>> = Mutex::new(None);

/// The demo was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Takes the signals from now on.
pub fn watch() -> Result<()> {
    let handler = || {
        if !ASKED.swap(true, Ordering::SeqCst) {
            // Without this thread only the force is missing.
            let _ = std::thread::Builder::new().name("impatience".into()).spawn(force);
        }
    };
    ctrlc::set_handler(handler).context("cannot handle signals")
}

/// What to remove by force if the orderly end fails.
pub fn guard(prefix: &str) {
    *prefix_lock() = Some(prefix.to_owned());
}

pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Fails with [`Interrupted`] when the demo was asked to end.
pub fn check() -> Result<()> {
    if asked() { Err(Interrupted.into()) } else { Ok(()) }
}

/// Sleeps, and fails at once when the demo is asked to end.
pub fn sleep(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
    }
}

fn prefix_lock() -> MutexGuard<'static, Option<String>> {
    PREFIX.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Removes what is guarded, and after a while once more: what waited for a process goes on when that is gone.
pub fn remove_by_force() {
    let prefix = prefix_lock().clone();
    if let Some(prefix) = prefix {
        topology::remove_all(&prefix);
        std::thread::sleep(PATIENCE);
        topology::remove_all(&prefix);
    }
}

/// Waits for the orderly end, then kills what it may be waiting for, and at last the demo itself.
fn force() {
    std::thread::sleep(PATIENCE);
    remove_by_force();
    std::process::exit(super::INTERRUPTED.into());
}
