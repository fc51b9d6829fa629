//! `--down`: removes a demo that is kept, or what a dead one has left.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::LABEL;
use super::place::{Claim, Place};
use crate::topology;

/// How long the demo's process may take to remove everything by itself.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long a process may take to vanish that was killed, or a demo that is about to begin to say who it is.
const SHORT: Duration = Duration::from_secs(5);

/// Removes everything, and says what it was.
pub fn run() -> Result<()> {
    let mut asked = None;
    let mut killed = None;
    let begun = Instant::now();
    let place = loop {
        match Place::claim()? {
            Claim::Free(place) => break place,
            Claim::Taken(Some(state)) => {
                let pid = Pid::from_raw(state.pid as i32);
                match asked {
                    None => {
                        asked = Some(Instant::now());
                        let what = if state.kept.is_some() { "is kept by" } else { "runs in" };
                        println!("The demo {what} process {pid}; ending it.");
                        let _ = kill(pid, Signal::SIGTERM);
                    }
                    Some(at) if at.elapsed() > PATIENCE && killed.is_none() => {
                        killed = Some(Instant::now());
                        println!("Process {pid} does not end; killing it.");
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                    Some(_) if killed.is_some_and(|at| at.elapsed() > SHORT) => {
                        bail!("process {pid} cannot be killed");
                    }
                    Some(_) => {}
                }
            }
            Claim::Taken(None) if asked.is_none() && begun.elapsed() > SHORT => {
                bail!("somebody holds /run/sluice-demo/lock and does not say who");
            }
            Claim::Taken(None) => {}
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let left = topology::remove_labelled(LABEL);
    if !left.is_empty() {
        println!("Removed what a dead demo had left: {}.", summary(&left));
    }
    drop(place);
    if asked.is_none() && left.is_empty() {
        println!("There is no demo to remove.");
    } else {
        println!("The demo is gone.");
    }
    Ok(())
}

/// `6 namespaces, 10 files`, from descriptions that begin with such words.
pub fn summary(left: &[String]) -> String {
    let mut kinds = BTreeMap::<&str, usize>::new();
    for what in left {
        *kinds.entry(what.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    let kind = |(kind, count): (&&str, &usize)| match (*kind, *count) {
        (kind, 1) => format!("1 {kind}"),
        ("process", count) => format!("{count} processes"),
        (kind, count) => format!("{count} {kind}s"),
    };
    kinds.iter().map(kind).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_counted_by_kind() {
        let left = ["namespace a", "file /b", "process 1 of a", "namespace c", "process 2 of a"];
        assert_eq!(summary(&left.map(str::to_owned)), "1 file, 2 namespaces, 2 processes");
    }
}
