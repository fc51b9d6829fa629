//! `sluice doctor`: what on this machine would keep packets from arriving, and the mends.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::output::Out;
use super::render::text::clean;
use super::terminal::Style;
use super::{Exit, Failure, Global, after_help};
use crate::api::client::ClientError;
use crate::api::types::Status;
use crate::doctor::facts::{Answer, Daemon};
use crate::doctor::{Report, Severity, gather, judge, vips};

/// Look for what would keep packets from arriving: kernel, drivers, offloads, routes, neighbours
///
/// Looks and changes nothing, with a daemon or before there is one; a daemon that runs asks each host for a handshake through its VIPs. Each
/// finding comes with its mend. Exit status 1: something does not work; 0: it does, though there may be warnings and notes.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct DoctorArgs {
    /// The config to look for; left out: that of the daemon, else /etc/sluice/sluice.toml if it is there
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice doctor
  sluice doctor --config new.toml
  sluice doctor --json | jq '.findings[] | select(.severity == \"error\")'";

/// For the daemon's status, which it has at hand: one that is stuck is to be told soon.
const PATIENCE: Duration = Duration::from_secs(10);
const USUAL: &str = "/etc/sluice/sluice.toml";

pub fn run(global: &Global, args: &DoctorArgs) -> Result<(), Failure> {
    // The network is looked at by a task of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("cannot set up the event loop")?;
    let report = runtime.block_on(async {
        let client = global.client();
        let asked = client.clone().with_timeout(PATIENCE).get::<Status>("/v1/status").await;
        let mut daemon = Daemon::default();
        let mut of_daemon = None;
        match asked {
            Ok(status) => {
                daemon.answer = Answer::Status;
                daemon.behind = vips::ask(&client, &status).await;
                daemon.not_asked = vips::not_asked(&status, &daemon.behind);
                daemon.problems = status.problems;
                of_daemon = Some(PathBuf::from(status.config));
            }
            Err(error) => daemon.answer = answer(&error),
        }
        let usual = Some(PathBuf::from(USUAL)).filter(|file| file.exists());
        let file = args.config.clone().or(of_daemon).or(usual);
        let mut report = judge(&gather::gather(&global.instance, file.as_deref(), daemon).await);
        if file.is_none() {
            report.well.push("no config was looked at: name one by --config".to_owned());
        }
        report
    });
    let text = if args.json {
        serde_json::to_string_pretty(&report).context("cannot print the findings")? + "\n"
    } else {
        render(&report, Style::stdout())
    };
    Out::stdout().print(&text)?;
    if report.is_ill() {
        return Err(Failure::new(Exit::Failed, anyhow!("something here does not work")));
    }
    Ok(())
}

/// What it means that there is no status.
fn answer(error: &ClientError) -> Answer {
    let (why, mend) = (error.to_string(), error.hint());
    let mend = mend.unwrap_or_else(|| "read the daemon's log, then look with `sluice status`".to_owned());
    match error {
        ClientError::NoSocket { .. } | ClientError::Stale { .. } => Answer::Nobody,
        ClientError::Denied { .. } | ClientError::Mismatch { .. } => Answer::Barred { why, mend },
        _ => Answer::Wrong { why, mend },
    }
}

fn render(report: &Report, style: Style) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let (word, color) = match finding.severity {
            Severity::Error => ("error", "\x1b[1;31m"),
            Severity::Warning => ("warning", "\x1b[1;33m"),
            Severity::Note => ("note", "\x1b[36m"),
        };
        let (on, off) = if style.control { (color, "\x1b[0m") } else { ("", "") };
        let subject =
            if finding.subject.is_empty() { String::new() } else { format!("{}: ", finding.subject) };
        let what = clean(&format!("{subject}{}", finding.what), style.ascii);
        let _ = writeln!(text, "{on}{word}{off} [{}] {what}", finding.check.name());
        let _ = writeln!(text, "  mend: {}", clean(&finding.mend, style.ascii));
    }
    if !report.findings.is_empty() {
        text.push('\n');
    }
    for well in &report.well {
        let _ = writeln!(text, "ok: {}", clean(well, style.ascii));
    }
    text
}
