//! `sluice apply`: another config.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::api::client::{Client, ClientError};
use crate::api::types::{Applied, ApplyRequest};
use crate::config;

use super::asked::{Asked, Trial};
use super::output::Out;
use super::terminal::Style;
use super::{Failure, Global, after_help, render};

/// How long an answer is waited for: a start's neighbours, the verifier, and a grace period.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Put another config in force, as a whole or not at all
///
/// It is checked as by `sluice check`, held against this machine, planned, shown, and published atomically. Flows that live
/// go on: a host that the file does not name any more gets no new ones and leaves when its last one has ended. Drains,
/// ramps and kicks stay as they are. With --confirm the config before comes back unless `sluice confirm` is heard in time,
/// also if the daemon or the machine has died meanwhile. Sizes of the flow table and keys cannot be changed this way.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ApplyArgs {
    /// The config file (TOML)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub trial: Trial,
    #[command(flatten)]
    pub asked: Asked,
}

const EXAMPLES: &str = "  \
  sluice apply new.toml --dry-run
  sluice apply new.toml --confirm 60s --reason weights
  sluice apply /etc/sluice/sluice.toml --json";

pub fn run(global: &Global, args: &ApplyArgs) -> Result<(), Failure> {
    let text = config::read(&args.file).map_err(anyhow::Error::from)?;
    let request = ApplyRequest {
        config: text,
        file: Some(absolute(&args.file)),
        confirm: args.trial.confirm(),
        dry_run: args.trial.dry_run,
        reason: args.asked.reason.clone(),
        by: args.asked.by.clone(),
    };
    super::block_on(async {
        let answer = client(global).post("/v1/apply", &request).await;
        said(global, answer, args.trial.dry_run, args.asked.json)
    })
}

/// As the daemon calls its own.
fn absolute(file: &Path) -> String {
    file.canonicalize().unwrap_or_else(|_| file.to_owned()).display().to_string()
}

/// With patience for a config.
pub fn client(global: &Global) -> Client {
    global.client().with_timeout(PATIENCE)
}

/// The answer, or all problems of the config, as `sluice check` prints them.
pub fn said(
    global: &Global,
    answer: Result<Applied, ClientError>,
    dry_run: bool,
    json: bool,
) -> Result<(), Failure> {
    let (mut out, style) = (Out::stdout(), Style::stdout());
    match answer {
        Ok(answer) if json => out.json(&answer, true),
        Ok(answer) => {
            out.print(&render::config::applied(&answer, dry_run, &global.command(), super::now(), style))
        }
        Err(error) => Err(with_problems(error)?),
    }
}

/// Prints all problems that the daemon has told of.
pub fn with_problems(error: ClientError) -> Result<Failure, Failure> {
    if let ClientError::Api { error, .. } = &error {
        let style = Style::stderr();
        for problem in &error.problems {
            let lines: Vec<String> =
                problem.lines().map(|line| render::text::clean(line, style.ascii)).collect();
            Out::stderr().print(&(lines.join("\n") + "\n\n"))?;
        }
    }
    Ok(error.into())
}
