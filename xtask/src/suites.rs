//! Test binaries that run side by side: those over veth wait more than they work. What each one prints is shown whole when it
//! has ended.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::ExitStatus;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use crate::command::Cmd;

/// One test binary, and how it is run.
pub struct Suite {
    pub name: String,
    pub cmd: Cmd,
}

struct Ended {
    name: String,
    line: String,
    printed: Vec<u8>,
    status: Result<ExitStatus>,
    took: Duration,
}

/// Runs all, so many at once, whatever fails; `see` gets each line that they print.
///
/// # Errors
/// When a suite fails: all that did, with the commands to paste.
pub fn run(suites: Vec<Suite>, at_once: usize, see: &mut dyn FnMut(&str)) -> Result<()> {
    let waiting = Mutex::new(VecDeque::from(suites));
    let (sender, ended) = mpsc::channel();
    let mut failed = Vec::new();
    thread::scope(|scope| {
        for _ in 0..at_once.max(1) {
            let (waiting, sender) = (&waiting, sender.clone());
            scope.spawn(move || {
                let next = || waiting.lock().expect("no holder of it panics").pop_front();
                while let Some(suite) = next() {
                    if sender.send(run_one(suite)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for suite in ended {
            show(&suite, see)?;
            if !suite.status.as_ref().is_ok_and(ExitStatus::success) {
                failed.push(suite.line);
            }
        }
        anyhow::Ok(())
    })?;
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} failed; paste:\n  {}", plural(failed.len()), failed.join("\n  "))
}

fn plural(count: usize) -> String {
    if count == 1 { "a suite".to_owned() } else { format!("{count} suites") }
}

fn run_one(suite: Suite) -> Ended {
    println!("-- {}: begins", suite.name);
    let start = Instant::now();
    let mut printed = Vec::new();
    let status = suite.cmd.run_reading(|line| printed.write_all(line));
    Ended { name: suite.name, line: suite.cmd.line(), printed, status, took: start.elapsed() }
}

fn show(suite: &Ended, see: &mut dyn FnMut(&str)) -> Result<()> {
    let status = match &suite.status {
        Ok(status) if status.success() => "passed".to_owned(),
        Ok(status) => format!("FAILED ({status})"),
        Err(error) => format!("FAILED ({error:#})"),
    };
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "\n-- {}: {status} in {:.1} s", suite.name, suite.took.as_secs_f64())?;
    stdout.write_all(&suite.printed)?;
    stdout.flush()?;
    String::from_utf8_lossy(&suite.printed).lines().for_each(see);
    Ok(())
}

/// Where cargo's messages say that a test target's binary is.
///
/// # Errors
/// When they name none.
pub fn executable(messages: &str, target: &str) -> Result<String> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .ok_or_else(|| anyhow!("cargo names no test binary for {target}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_that_of_the_target() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"kernel_load_more"},"executable":"/t/other"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"kernel_load"},"executable":"/t/kernel_load-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages, "kernel_load").ok().as_deref(), Some("/t/kernel_load-1"));
        assert!(executable(messages, "kernel").is_err());
    }

    #[test]
    fn all_are_run_and_each_that_fails_is_told() {
        let suite = |name: &str, script: &str| Suite {
            name: name.to_owned(),
            cmd: Cmd::new("sh").args(["-c", script]),
        };
        let suites = vec![
            suite("a", "echo one; echo two >&2; exit 3"),
            suite("b", "echo three"),
            suite("c", "kill -9 $$"),
        ];
        let mut seen = Vec::new();
        let error = run(suites, 2, &mut |line| seen.push(line.to_owned())).expect_err("two fail");
        seen.sort();
        assert_eq!(seen, ["one", "three", "two"]);
        let text = error.to_string();
        assert!(
            text.starts_with("2 suites failed") && text.contains("exit 3") && text.contains("kill"),
            "{text}"
        );
    }
}
