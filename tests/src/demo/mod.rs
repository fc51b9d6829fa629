//! The demo: takes one of three web servers out of service while its clients are connected, or upgrades eight of them host by host, and counts
//! what clients notice.
//!
//! What it measures it asks clients and servers, and not the balancer.

mod child;
mod config;
mod down;
pub(crate) mod interrupt;
mod keep;
mod load;
mod place;
mod rolling;
mod screen;
mod script;
mod verdict;

use anyhow::{Result, ensure};

use place::{Claim, Place, State};
use screen::Screen;

/// What the names of the demo's topology have in them.
const LABEL: &str = "demo";
/// Exit status after Ctrl-C, as shells count it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;
const FAILED: u8 = 1;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Run the demo and remove everything.
    Once,
    /// Upgrade a fleet by a maintenance run, and once more without drains.
    Rolling,
    /// Run the demo, and leave everything up but the traffic.
    Keep,
    /// The process that runs a demo that is to be kept, started by the process with this number.
    Keeper(i32),
    /// Remove a demo that is kept.
    Down,
}

/// Does it and returns the exit status: 0 if every promise held, 1 if not or if the demo could not be shown, 130 after
/// Ctrl-C.
pub fn run(mode: Mode) -> u8 {
    let result = match mode {
        Mode::Once | Mode::Rolling | Mode::Keeper(_) => perform(mode),
        Mode::Keep => as_root().and_then(|()| keep::run_in_front()),
        Mode::Down => as_root().and_then(|()| down::run()).map(|()| 0),
    };
    result.unwrap_or_else(|error| {
        eprintln!("sluice-demo: {error:#}");
        FAILED
    })
}

fn as_root() -> Result<()> {
    let root = nix::unistd::geteuid().is_root();
    ensure!(root, "the demo makes network namespaces and loads XDP programs: run it as root");
    Ok(())
}

/// Runs the demo in this process.
fn perform(mode: Mode) -> Result<u8> {
    as_root()?;
    if let Mode::Keeper(front) = mode {
        keep::begin(front)?;
    }
    interrupt::watch()?;
    let stages = if mode == Mode::Rolling { rolling::STAGES } else { script::STAGES };
    let mut screen = Screen::new(stages)?;
    let mut place = match Place::claim()? {
        Claim::Free(place) => place,
        Claim::Taken(state) => {
            screen.error(&taken(state));
            return Ok(FAILED);
        }
    };
    let is_keeper = matches!(mode, Mode::Keeper(_));
    if is_keeper {
        keep::let_go_of_streams(&place)?;
    }
    let result = match mode {
        Mode::Rolling => rolling::run(&mut screen, &mut place),
        _ => script::run(&mut screen, &mut place, is_keeper),
    };
    // Ctrl-C makes commands of the same process group fail, each in its own words.
    if interrupt::asked() && !matches!(result, Ok(script::End::Kept)) {
        screen.line("Interrupted; everything is removed.");
        return Ok(INTERRUPTED);
    }
    match result {
        Ok(script::End::Removed(true) | script::End::Kept) => Ok(0),
        Ok(script::End::Removed(false)) => Ok(FAILED),
        Err(error) => {
            screen.error(&format!("{error:#}"));
            screen.error("the demo could not be shown; everything is removed");
            Ok(FAILED)
        }
    }
}

/// Why there cannot be another demo, and what to do.
fn taken(state: Option<State>) -> String {
    let mend = "remove it with: cargo xtask demo --down";
    match state {
        Some(State { pid, kept: Some(_), instance, .. }) => {
            let instance = instance.unwrap_or_default();
            format!("a demo is kept already, by process {pid} as the instance {instance};\n  {mend}")
        }
        Some(State { pid, .. }) => format!("a demo is running already, in process {pid};\n  wait, or {mend}"),
        None => format!("a demo is about to begin or to end; wait, or {mend}"),
    }
}
