//! `sluice doctor`: what on this machine would keep packets from arriving, and the mends.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::output::Out;
use super::render::text::clean;
use super::terminal::Style;
use super::{Exit, Failure, Global, after_help};
use crate::api::types::Status;
use crate::doctor::facts::Daemon;
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

const USUAL: &str = "/etc/sluice/sluice.toml";

pub fn run(global: &Global, args: &DoctorArgs) -> Result<(), Failure> {
    // The network is looked at by a task of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("cannot set up the event loop")?;
    let report = runtime.block_on(async {
        let client = global.client();
        let status = client.get::<Status>("/v1/status").await.ok();
        let behind = match &status {
            Some(status) => vips::ask(&client, status).await,
            None => Vec::new(),
        };
        let of_daemon = status.as_ref().map(|status| PathBuf::from(&status.config));
        let usual = Some(PathBuf::from(USUAL)).filter(|file| file.exists());
        let file = args.config.clone().or(of_daemon).or(usual);
        let daemon = Daemon {
            runs: status.is_some(),
            problems: status.map(|status| status.problems).unwrap_or_default(),
            behind,
        };
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
