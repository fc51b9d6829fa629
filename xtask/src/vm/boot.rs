//! One run of the virtual machine, seen through its console: it begins within a minute or is started once more, it has a
//! limit, and no way leaves it running.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::Cmd;

/// What the init prints before the first suite.
pub const BEGUN: &str = "sluice-vm: the suites begin";
/// What the init prints after the last suite, before the status.
pub const ENDED: &str = "sluice-vm: the suites ended with status";
/// For how long nothing may come. A boot takes 3 s on a machine with nothing else to do, and about one in 70 hangs.
const SILENCE: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 2;

/// Boots, shows the console, and gives the suites' status; `see` gets each line. The suites may take as long as `limit`.
///
/// # Errors
/// When the machine does not boot, when it ends without a status, and when it does not end.
pub fn run(qemu: &Cmd, limit: Duration, see: &mut dyn FnMut(&str)) -> Result<i32> {
    println!("$ {}", qemu.line());
    for _ in 0..ATTEMPTS {
        if let Some(status) = attempt(qemu, SILENCE, limit + SILENCE, see)? {
            return Ok(status);
        }
        println!("vm: nothing came from it for {} s, so it was ended", SILENCE.as_secs());
    }
    bail!("the virtual machine did not boot in {ATTEMPTS} attempts; paste:\n  {}", qemu.line())
}

/// Ended when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// `None`: it did not begin within `silence`.
fn attempt(qemu: &Cmd, silence: Duration, limit: Duration, see: &mut dyn FnMut(&str)) -> Result<Option<i32>> {
    let start = Instant::now();
    let mut command = qemu.command();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().with_context(|| format!("cannot run `{}`", qemu.line()))?);
    let console = running.0.stdout.take().context("the virtual machine has no console")?;
    let lines = lines_of(console);
    let (mut begun, mut status) = (false, None);
    loop {
        let until = start + if begun { limit } else { silence };
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                begun |= line == BEGUN;
                if let Some(told) = line.strip_prefix(ENDED) {
                    status = told.trim().parse().ok();
                }
                let mut stdout = io::stdout();
                writeln!(stdout, "{line}")?;
                stdout.flush()?;
                see(&line);
            }
            Err(RecvTimeoutError::Timeout) if !begun => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the suites did not end within {} s, so the virtual machine was ended", limit.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let ended = running.0.wait()?;
    match status {
        Some(status) => Ok(Some(status)),
        None => bail!("the virtual machine ended ({ended}) before the suites did; paste:\n  {}", qemu.line()),
    }
}

/// Lines of a console, without the carriage returns of terminals.
fn lines_of(console: impl io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n') {
            let Ok(line) = line else { break };
            if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(500);

    fn machine(script: &str) -> (Result<Option<i32>>, Vec<String>) {
        let mut seen = Vec::new();
        let cmd = Cmd::new("sh").args(["-c", script]);
        let result = attempt(&cmd, SHORT, SHORT * 2, &mut |line| seen.push(line.to_owned()));
        (result, seen)
    }

    #[test]
    fn the_status_is_the_one_that_the_console_tells() {
        let (result, seen) = machine(&format!("printf '{BEGUN}\\r\\ntest a ... ok\\r\\n{ENDED} 101\\r\\n'"));
        assert_eq!(result.expect("it told a status"), Some(101));
        assert_eq!(seen[1], "test a ... ok");
    }

    #[test]
    fn a_machine_that_ends_early_has_no_status() {
        let (result, _) = machine(&format!("echo '{BEGUN}'; exit 3"));
        let text = result.expect_err("no status").to_string();
        assert!(text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn a_silent_machine_is_ended_and_may_be_started_again() {
        let start = Instant::now();
        let (result, _) = machine("echo noise; exec sleep 60");
        assert_eq!(result.expect("no failure"), None);
        assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
    }

    #[test]
    fn suites_that_do_not_end_are_ended() {
        let start = Instant::now();
        let (result, _) = machine(&format!("echo '{BEGUN}'; exec sleep 60"));
        assert!(result.expect_err("it has a limit").to_string().contains("did not end"));
        assert!(start.elapsed() < Duration::from_secs(30), "took {:?}", start.elapsed());
    }
}
