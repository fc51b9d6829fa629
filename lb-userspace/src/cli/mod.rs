//! The command line: one verb a file, each with its arguments and what it does.
//!
//! Results go to standard output, progress and complaints to standard error. Verbs return [`Failure`] where
//! they did not do what was asked; `main` turns it into words and an exit code.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{LazyLock, OnceLock};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use lb_common::layout::LAYOUT_VERSION;

use crate::api::client::Client;

pub mod apply;
pub mod asked;
pub mod blockers;
pub mod capture;
pub mod check;
pub mod completions;
pub mod confirm;
pub mod decap;
pub mod detach;
pub mod diff;
pub mod doctor;
pub mod drain;
pub mod drains;
pub mod events;
pub mod exit;
pub mod explain;
pub mod flows;
pub mod health;
pub mod history;
pub mod itself;
pub mod kick;
pub mod maintain;
pub mod man;
pub mod names;
pub mod output;
pub mod plan;
pub mod receipt;
pub mod receipts;
pub mod render;
pub mod rings;
pub mod rollback;
pub mod run;
pub mod shift;
pub mod show;
pub mod states;
pub mod status;
pub mod terminal;
pub mod top;
pub mod trace;
pub mod traced;
pub mod undrain;
pub mod upgrade;
pub mod wait;
pub mod wait_for;

pub use exit::{EXIT_CODES, Exit, Failure};
use output::Out;
use terminal::Style;

/// The text below a verb's options: examples, then the exit codes.
fn after_help(examples: &str) -> String {
    format!("Examples:\n{examples}\n\n{EXIT_CODES}")
}

/// A layer-4 load balancer in XDP that takes hosts out of service without a connection noticing
///
/// `sluice run` is the daemon; the other verbs talk to it over its Unix socket. Packets are forwarded in the
/// kernel, whether the daemon runs or not.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, long_version = LONG_VERSION.as_str(), max_term_width = 100, after_help = after_help(EXAMPLES))]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The commit that the program was built from, as `main` knows it; see [`name_commit`].
static COMMIT: OnceLock<&str> = OnceLock::new();

/// What `--version` says; `-V` says the version alone.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let source = COMMIT.get().map_or("development build".to_owned(), |commit| format!("commit {commit}"));
    format!("{} ({source}, map layout {LAYOUT_VERSION})", env!("CARGO_PKG_VERSION"))
});

/// Tells what the program was built from, before anything is asked of it. Whoever calls this is compiled anew with each commit, so it is not this
/// library.
pub fn name_commit(commit: Option<&'static str>) {
    if let Some(commit) = commit.filter(|commit| !commit.is_empty()) {
        // A second call would say the same.
        let _ = COMMIT.set(commit);
    }
}

const EXAMPLES: &str = "  \
  sluice run --config /etc/sluice/sluice.toml   start the balancer
  sluice status --watch                         look at it
  sluice drain web-3 --wait --timeout 10m       take a host out of service";

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(run::RunArgs),
    Status(status::StatusArgs),
    Top(top::TopArgs),
    Drain(drain::DrainArgs),
    Undrain(undrain::UndrainArgs),
    Drains(drains::DrainsArgs),
    Wait(wait_for::WaitArgs),
    Receipts(receipts::ReceiptsArgs),
    Receipt(receipt::ReceiptArgs),
    Plan(plan::PlanArgs),
    Flows(flows::FlowsArgs),
    Explain(explain::ExplainArgs),
    Trace(trace::TraceArgs),
    Capture(capture::CaptureArgs),
    Kick(kick::KickArgs),
    Maintain(maintain::MaintainArgs),
    Shift(shift::ShiftArgs),
    Events(events::EventsArgs),
    Health(health::HealthArgs),
    Apply(apply::ApplyArgs),
    Confirm(confirm::ConfirmArgs),
    Rollback(rollback::RollbackArgs),
    History(history::HistoryArgs),
    Show(show::ShowArgs),
    Diff(diff::DiffArgs),
    Rings(rings::RingsArgs),
    Check(check::CheckArgs),
    Doctor(doctor::DoctorArgs),
    Upgrade(upgrade::UpgradeArgs),
    Detach(detach::DetachArgs),
    Decap(decap::DecapArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Which of the balancers on this machine is meant.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Name of the balancer instance; its socket is /run/sluice/NAME.sock
    #[arg(long, global = true, value_name = "NAME", default_value = DEFAULT_INSTANCE, value_parser = instance_name)]
    pub instance: String,
    /// The daemon's Unix socket, instead of the instance's
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

const DEFAULT_INSTANCE: &str = "default";

fn instance_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=32).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("an instance has a name of 1 to 32 letters, digits, '-' and '_'".to_owned())
    }
}

impl Global {
    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| format!("/run/sluice/{}.sock", self.instance).into())
    }

    pub fn client(&self) -> Client {
        Client::new(self.socket())
    }

    /// `sluice` with the options that lead to the same daemon, for hints that can be pasted.
    pub fn command(&self) -> String {
        let mut command = "sluice".to_owned();
        if self.instance != DEFAULT_INSTANCE {
            command += &format!(" --instance {}", self.instance);
        }
        if let Some(socket) = &self.socket {
            command += &format!(" --socket {}", quoted(&socket.to_string_lossy()));
        }
        command
    }
}

/// For a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Reads the command line. For `--help`, `--version` and usage errors everything is printed already, and the
/// exit code is the error.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        // Nobody reads it: nothing to be done.
        let _ = error.print();
        if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
    })
}

/// The last act of `main`: says what went wrong and gives the exit code.
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            // Without standard error the exit code has to do.
            let _ = Out::stderr().print(&failure.render(Style::stderr()));
            failure.exit.into()
        }
    }
}

/// Runs a verb that waits for the daemon.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot set up the event loop")?;
    runtime.block_on(work)
}

/// The wall clock in Unix seconds; 0 for a clock before 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A duration such as `5m`, `90s` or `1h 30m`; a bare number is refused, because its unit would be a guess.
fn duration_arg(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write it like 30s, 5m or 1h30m"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_help_examples_and_exit_codes() {
        let mut command = Cli::command();
        command.build();
        for verb in command.get_subcommands().filter(|v| v.get_name() != "help") {
            let help = verb.clone().render_long_help().to_string();
            let (name, usage) = (verb.get_name(), format!("sluice {}", verb.get_name()));
            assert!(verb.get_about().is_some(), "{name} says nothing of itself");
            let (_, examples) =
                help.split_once("Examples:\n").unwrap_or_else(|| panic!("{name} has no examples"));
            let (examples, codes) = examples.split_once("\n\n").unwrap();
            assert!((2..=3).contains(&examples.lines().count()), "{name}: {examples}");
            assert!(examples.lines().all(|l| l.contains(&usage)), "{name}: {examples}");
            assert!(codes.starts_with("Exit codes:"), "{name}: {codes}");
            for argument in verb.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {} says nothing of itself", argument.get_id());
            }
            assert!(help.lines().all(|l| l.len() <= 100), "{name} is too wide:\n{help}");
        }
    }

    /// Each example in the help is a command line that is accepted.
    #[test]
    fn examples_parse() {
        let mut command = Cli::command();
        command.build();
        let helps: Vec<String> =
            command.get_subcommands().map(|v| v.clone().render_long_help().to_string()).collect();
        let mut tried = 0;
        for line in helps.iter().flat_map(|h| h.lines()).filter_map(|l| l.strip_prefix("  sluice ")) {
            // The words end where the explanation or the shell's part begins.
            let words = line.split("   ").next().unwrap().split(['>', '|']).next().unwrap();
            let parsed = Cli::try_parse_from(["sluice"].into_iter().chain(words.split_whitespace()));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            tried += 1;
        }
        assert!(tried >= 20, "{tried}");
    }

    #[test]
    fn instances_lead_to_sockets() {
        let parse =
            |args: &[&str]| Cli::try_parse_from(["sluice", "detach"].iter().chain(args)).map(|c| c.global);
        assert_eq!(parse(&[]).unwrap().socket(), PathBuf::from("/run/sluice/default.sock"));
        let named = parse(&["--instance", "a_B-9"]).unwrap();
        assert_eq!(named.socket(), PathBuf::from("/run/sluice/a_B-9.sock"));
        assert_eq!(named.command(), "sluice --instance a_B-9");
        let by_path = parse(&["--socket", "/tmp/it's"]).unwrap();
        assert_eq!(by_path.socket(), PathBuf::from("/tmp/it's"));
        assert_eq!(by_path.command(), r"sluice --socket '/tmp/it'\''s'");
        for bad in ["", "a/b", "..", "ü", "123456789012345678901234567890123"] {
            assert!(parse(&["--instance", bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration_arg("1h30m"), Ok(std::time::Duration::from_secs(5400)));
        assert!(duration_arg("5").unwrap_err().contains("write it like"));
    }
}
