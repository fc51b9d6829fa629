//! The steps of a run, with their durations and what their tests amounted to.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command::Cmd;
use crate::panics::Panics;

/// Sums of the lines that end each test binary's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub suites: u32,
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Totals {
    /// Adds `test result: ok. 3 passed; 0 failed; 1 ignored; …`; any other line is none of its business.
    pub fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        let count = |name: &str| {
            counts.1.split(';').find_map(|part| part.trim().strip_suffix(name)?.trim().parse::<u64>().ok())
        };
        if let (Some(passed), Some(failed), Some(ignored)) =
            (count("passed"), count("failed"), count("ignored"))
        {
            self.suites += 1;
            self.passed += passed;
            self.failed += failed;
            self.ignored += ignored;
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { suites, passed, failed, ignored } = self;
        write!(f, "{passed} passed, {failed} failed, {ignored} ignored in {suites} test binaries")
    }
}

enum Outcome {
    Passed(Duration),
    Failed(Duration),
    Skipped(String),
}

/// Runs steps one after another and remembers how they went.
#[derive(Default)]
pub struct Steps {
    done: Vec<(String, Outcome)>,
    pub totals: Totals,
    panics: Panics,
}

impl Steps {
    /// Runs one step to its end; the output of cargo passes through.
    ///
    /// # Errors
    /// When the command fails: the step and the command to paste.
    pub fn run(&mut self, name: &str, cmd: &Cmd) -> Result<()> {
        self.run_with(name, |see| cmd.run_seeing(see))
    }

    /// As [`Self::run`], for what is more than one command. `work` is to hand on each line of its tests' output.
    ///
    /// # Errors
    /// Those of `work`, with the step.
    pub fn run_with(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut dyn FnMut(&str)) -> Result<()>,
    ) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        let (totals, panics) = (&mut self.totals, &mut self.panics);
        let result = work(&mut |line| {
            totals.add(line);
            panics.add(line);
        });
        let took = start.elapsed();
        let outcome = if result.is_ok() { Outcome::Passed(took) } else { Outcome::Failed(took) };
        println!(
            "== {name}: {} in {:.1} s",
            if result.is_ok() { "passed" } else { "failed" },
            took.as_secs_f64()
        );
        self.done.push((name.to_owned(), outcome));
        result.with_context(|| format!("step `{name}`"))
    }

    /// Whether any was left out.
    pub fn has_skipped(&self) -> bool {
        self.done.iter().any(|(_, outcome)| matches!(outcome, Outcome::Skipped(_)))
    }

    pub fn skip(&mut self, name: &str, why: impl Into<String>) {
        let why = why.into();
        println!("\n== {name}: skipped, {why}");
        self.done.push((name.to_owned(), Outcome::Skipped(why)));
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.done.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, outcome) in &self.done {
            match outcome {
                Outcome::Passed(took) => {
                    writeln!(f, "  {name:width$}  passed  {:6.1} s", took.as_secs_f64())?
                }
                Outcome::Failed(took) => {
                    writeln!(f, "  {name:width$}  FAILED  {:6.1} s", took.as_secs_f64())?
                }
                Outcome::Skipped(why) => writeln!(f, "  {name:width$}  skipped: {why}")?,
            }
        }
        write!(f, "  {}{}", self.totals, self.panics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_sums_over_the_result_lines() {
        let mut totals = Totals::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s",
            "test parse::a ... ok",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
            "test result: garbled",
        ] {
            totals.add(line);
        }
        assert_eq!(totals, Totals { suites: 2, passed: 13, failed: 2, ignored: 1 });
    }

    #[test]
    fn a_failing_step_is_told_with_its_command() {
        let mut steps = Steps::default();
        let error = steps.run("odd", &Cmd::new("sh").args(["-c", "exit 7"])).expect_err("it exits 7");
        let text = format!("{error:#}");
        assert!(text.contains("step `odd`") && text.contains("sh -c 'exit 7'"), "{text}");
        assert!(steps.to_string().contains("FAILED"), "{steps}");
    }
}
