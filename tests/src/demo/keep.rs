//! `--keep`: the demo runs in a process of its own, which stays when the command that was typed has ended.
//!
//! That process leads a session of its own, so that neither Ctrl-C nor the end of the terminal reaches it by itself;
//! until the demo is over the command passes signals on and takes it along when it dies.

use std::fs::File;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getppid, setsid};

use super::place::{self, Place};
use super::{interrupt, place::LOG};

/// Runs `sluice-demo --keeper PID` and waits until its demo is over; returns the exit status.
pub fn run_in_front() -> Result<u8> {
    interrupt::watch()?;
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let pid = std::process::id().to_string();
    let mut child =
        Command::new(program).args(["--keeper", &pid]).spawn().context("cannot start the demo's process")?;
    let mut passed_on = false;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the demo's process")? {
            return Ok(exit_code(status));
        }
        let state = place::read_state().filter(|state| state.pid == child.id());
        if let Some(status) = state.and_then(|state| state.kept) {
            return Ok(status);
        }
        if interrupt::asked() && !passed_on {
            passed_on = true;
            kill(Pid::from_raw(child.id() as i32), Signal::SIGINT)
                .context("cannot signal the demo's process")?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that was killed counts as a failure.
fn exit_code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The first thing that the keeper does: own session, and an end with `front`, which has started it.
pub fn begin(front: i32) -> Result<()> {
    setsid().context("cannot begin a session")?;
    prctl::set_pdeathsig(Signal::SIGTERM).context("cannot ask for a signal at the parent's end")?;
    // The parent may have died before the request took effect.
    ensure!(getppid().as_raw() == front, "the command that started this process is gone");
    Ok(())
}

/// Lets go of the standard streams, so that whoever reads the command's output sees its end; children inherit the log.
pub fn let_go_of_streams(_place: &Place) -> Result<()> {
    let path = place::path(LOG);
    let log = File::options().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot open {}", path.display()))?;
    let nothing = File::open("/dev/null").context("cannot open /dev/null")?;
    dup2_stdin(&nothing).context("cannot leave standard input")?;
    dup2_stdout(&log).context("cannot leave standard output")?;
    dup2_stderr(&log).context("cannot leave standard error")
}

/// The demo is over, and this process stays until it is asked to end.
pub fn stay(place: &mut Place, status: u8) -> Result<()> {
    prctl::set_pdeathsig(None).context("cannot outlive the parent")?;
    let _ = std::env::set_current_dir("/");
    place.set_kept(status)?;
    while !interrupt::asked() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
