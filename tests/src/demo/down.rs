//! `--down`: removes a demo that is kept, or what a dead one has left.

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
    for what in &left {
        println!("Removed {what}.");
    }
    drop(place);
    if asked.is_none() && left.is_empty() {
        println!("There is no demo to remove.");
    } else {
        println!("The demo is gone.");
    }
    Ok(())
}
