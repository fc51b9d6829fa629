//! `sluice maintain`: a change that is carried through many hosts, one after the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::api::client::{Client, ClientError};
use crate::api::types::{MaintainPlan, MaintainRequest, MaintainRun, MaintainRuns, RunRequest, RunState};
use crate::config::limits::MAX_FILE;

use super::apply::with_problems;
use super::asked::Asked;
use super::output::Out;
use super::render::number::plural;
use super::terminal::Style;
use super::{Exit, Failure, Global, after_help, render};

/// Carry a change through many hosts: drain, change, see that it is well, bring back, next
///
/// A plan says which hosts, what is done to each, and what must hold. The daemon carries it out: it needs no terminal, and goes on
/// where it was when it is started again. If something goes wrong with a host, no further one is begun with.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct MaintainArgs {
    #[command(subcommand)]
    pub command: MaintainCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum MaintainCommand {
    Plan(PlanFileArgs),
    Start(StartArgs),
    Status(StatusArgs),
    Pause(VerbArgs),
    Resume(VerbArgs),
    Abort(VerbArgs),
    Report(ReportArgs),
}

const EXAMPLES: &str = "  \
  sluice maintain start nginx.toml --wait --reason upgrade
  sluice maintain status --watch
  sluice maintain abort 7 --reason wrong";

/// Check a plan and show what it would do, without beginning it
///
/// It is held against the config in force: its hosts, its rules, and the runs under way. Exit status 9: it is refused.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(PLAN_EXAMPLES))]
pub struct PlanFileArgs {
    /// The plan (TOML)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const PLAN_EXAMPLES: &str = "  \
  sluice maintain plan nginx.toml
  sluice maintain plan nginx.toml --json";

/// Begin a run
///
/// With --wait this shows how far it is, and ends with it: exit status 0 if each host is done, 1 if something failed, also on its way
/// back, 7 if it was aborted. Ctrl-C ends the waiting, not the run.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(START_EXAMPLES))]
pub struct StartArgs {
    /// The plan (TOML)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Return when it is over
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub asked: Asked,
}

const START_EXAMPLES: &str = "  \
  sluice maintain start nginx.toml --reason upgrade
  sluice maintain start nginx.toml --wait";

/// Show how far runs are: hosts done and in work, what is waited for, the expected end
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(STATUS_EXAMPLES))]
pub struct StatusArgs {
    /// Number of the run. Default: those under way, or else the last
    #[arg(value_name = "RUN")]
    pub run: Option<u64>,
    /// Look again and again until it is over
    #[arg(long)]
    pub watch: bool,
    /// Print JSON for programs: the API's body
    #[arg(long, conflicts_with = "watch")]
    pub json: bool,
}

const STATUS_EXAMPLES: &str = "  \
  sluice maintain status
  sluice maintain status 7 --watch";

/// Say so to a run: pause (hosts in work go on, no other is begun with), resume, or abort (hosts in work are taken back)
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(VERB_EXAMPLES))]
pub struct VerbArgs {
    /// Number of the run. Default: the only one under way
    #[arg(value_name = "RUN")]
    pub run: Option<u64>,
    #[command(flatten)]
    pub asked: Asked,
}

const VERB_EXAMPLES: &str = "  \
  sluice maintain pause --reason lunch
  sluice maintain abort 7 --reason wrong";

/// Show all that a run did: the steps of each host with their times, receipts, what commands wrote, what failed
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(REPORT_EXAMPLES))]
pub struct ReportArgs {
    /// Number of the run. Default: the last one
    #[arg(value_name = "RUN")]
    pub run: Option<u64>,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const REPORT_EXAMPLES: &str = "  \
  sluice maintain report
  sluice maintain report 7 --json";

/// Time between two looks.
pub const POLL: Duration = Duration::from_millis(500);
/// For so long nobody need answer: a daemon that is started again goes on with the run.
pub const AWAY: u32 = 60;

pub fn run(global: &Global, args: &MaintainArgs) -> Result<(), Failure> {
    super::block_on(async {
        match &args.command {
            MaintainCommand::Plan(args) => plan(global, args).await,
            MaintainCommand::Start(args) => start(global, args).await,
            MaintainCommand::Status(args) => status(global, args).await,
            MaintainCommand::Pause(args) => verb(global, args, "pause").await,
            MaintainCommand::Resume(args) => verb(global, args, "resume").await,
            MaintainCommand::Abort(args) => verb(global, args, "abort").await,
            MaintainCommand::Report(args) => report(global, args).await,
        }
    })
}

async fn plan(global: &Global, args: &PlanFileArgs) -> Result<(), Failure> {
    let request = request(&args.file, None, None)?;
    let plan: MaintainPlan = match global.client().post("/v1/maintain/plan", &request).await {
        Ok(plan) => plan,
        Err(error) => return Err(with_problems(error)?),
    };
    let mut out = Out::stdout();
    if args.json { out.json(&plan, true) } else { out.print(&render::maintain::plan(&plan, Style::stdout())) }
}

async fn start(global: &Global, args: &StartArgs) -> Result<(), Failure> {
    let request = request(&args.file, args.asked.reason.clone(), args.asked.by.clone())?;
    let client = global.client();
    let run: MaintainRun = match client.post("/v1/maintain/runs", &request).await {
        Ok(run) => run,
        Err(error) => return Err(with_problems(error)?),
    };
    let (mut out, style) = (Out::stdout(), Style::stdout());
    if !args.asked.json {
        out.print(&render::maintain::began(&run, &global.command(), style))?;
    }
    if !args.wait {
        return if args.asked.json { out.json(&run, true) } else { Ok(()) };
    }
    let run = follow(&client, run, !args.asked.json).await?;
    if args.asked.json {
        out.json(&run, true)?;
    } else {
        out.print(&render::maintain::status(&run, style))?;
    }
    ended(global, &run)
}

/// As an exit status.
fn ended(global: &Global, run: &MaintainRun) -> Result<(), Failure> {
    let why = run.why.clone().unwrap_or_default();
    let hint = format!("`{} maintain report {}` tells all", global.command(), run.run);
    match run.state {
        RunState::Failed => {
            Err(Failure::new(Exit::Failed, anyhow!("run {} failed: {why}", run.run)).hint(hint))
        }
        RunState::Aborted if run.failed > 0 => {
            let failed = plural(run.failed as u64, "host");
            let error = anyhow!("run {} was {why}, and {failed} could not be taken back", run.run);
            Err(Failure::new(Exit::Failed, error).hint(hint))
        }
        RunState::Aborted => {
            Err(Failure::new(Exit::TakenBack, anyhow!("run {} was {why}", run.run)).hint(hint))
        }
        _ => Ok(()),
    }
}

/// Shows how far the run is until it is over.
async fn follow(client: &Client, mut run: MaintainRun, shows: bool) -> Result<MaintainRun, Failure> {
    let mut interrupts = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    let (mut err, style) = (Out::stderr(), Style::stderr());
    let (mut away, mut last) = (0, String::new());
    while !run.state.is_over() {
        let line = render::maintain::line(&run, style);
        if shows && style.control {
            err.print(&format!("\r{line}\x1b[K"))?;
        } else if shows && line != last {
            err.print(&format!("{line}\n"))?;
        }
        last = line;
        tokio::select! {
            _ = interrupts.recv() => {
                if shows && style.control {
                    err.print("\n")?;
                }
                let failure = Failure::new(Exit::Interrupted, anyhow!("the waiting is over, run {} goes on", run.run));
                return Err(failure);
            }
            () = sleep(POLL) => {}
        }
        match client.get::<MaintainRun>(&format!("/v1/maintain/{}", run.run)).await {
            Ok(now) => (run, away) = (now, 0),
            Err(error) if error.is_unreachable() && away < AWAY => away += 1,
            Err(error) => return Err(error.into()),
        }
    }
    if shows && style.control {
        err.print("\r\x1b[K")?;
    }
    Ok(run)
}

async fn status(global: &Global, args: &StatusArgs) -> Result<(), Failure> {
    let (client, mut out, style) = (global.client(), Out::stdout(), Style::stdout());
    let runs = match args.run {
        Some(number) => vec![one(&client, number).await?],
        None => {
            let all: MaintainRuns = client.get("/v1/maintain").await?;
            let under_way = all.runs.iter().filter(|run| !run.state.is_over()).cloned().collect::<Vec<_>>();
            if under_way.is_empty() { all.runs.into_iter().take(1).collect() } else { under_way }
        }
    };
    if args.json {
        return out.json(&MaintainRuns { runs }, true);
    }
    if runs.is_empty() {
        return out.print("there was no run yet\n");
    }
    for run in runs {
        let run = if args.watch { follow(&client, run, true).await? } else { run };
        out.print(&render::maintain::status(&run, style))?;
    }
    Ok(())
}

async fn one(client: &Client, number: u64) -> Result<MaintainRun, ClientError> {
    client.get(&format!("/v1/maintain/{number}")).await
}

async fn verb(global: &Global, args: &VerbArgs, verb: &str) -> Result<(), Failure> {
    let client = global.client();
    let number = match args.run {
        Some(number) => number,
        None => only(&client).await?,
    };
    let body = RunRequest { reason: args.asked.reason.clone(), by: args.asked.by.clone() };
    let run: MaintainRun = client.post(&format!("/v1/maintain/{number}/{verb}"), &body).await?;
    let (mut out, style) = (Out::stdout(), Style::stdout());
    if args.asked.json { out.json(&run, true) } else { out.print(&render::maintain::status(&run, style)) }
}

/// The run that is meant where none is named.
async fn only(client: &Client) -> Result<u64, Failure> {
    let all: MaintainRuns = client.get("/v1/maintain").await?;
    let under_way: Vec<u64> = all.runs.iter().filter(|run| !run.state.is_over()).map(|run| run.run).collect();
    match under_way.as_slice() {
        [number] => Ok(*number),
        [] => Err(Failure::new(Exit::NotFound, anyhow!("no run is under way"))),
        several => {
            let names: Vec<String> = several.iter().map(u64::to_string).collect();
            let failure =
                Failure::new(Exit::Usage, anyhow!("several runs are under way: {}", names.join(", ")));
            Err(failure.hint("say which one is meant"))
        }
    }
}

async fn report(global: &Global, args: &ReportArgs) -> Result<(), Failure> {
    let client = global.client();
    let number = match args.run {
        Some(number) => number,
        None => {
            let all: MaintainRuns = client.get("/v1/maintain").await?;
            let last = all.runs.iter().map(|run| run.run).max();
            last.ok_or_else(|| Failure::new(Exit::NotFound, anyhow!("there was no run yet")))?
        }
    };
    let run = one(&client, number).await?;
    let mut out = Out::stdout();
    if args.json { out.json(&run, true) } else { out.print(&render::maintain::report(&run, Style::stdout())) }
}

fn request(file: &Path, reason: Option<String>, by: Option<String>) -> Result<MaintainRequest, Failure> {
    let refused = |error: std::io::Error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, anyhow::Error::new(error).context(format!("cannot read {}", file.display())))
    };
    let size = std::fs::metadata(file).map_err(refused)?.len();
    if size > MAX_FILE {
        return Err(Failure::new(
            Exit::Refused,
            anyhow!("{} is longer than {MAX_FILE} bytes", file.display()),
        ));
    }
    let plan = std::fs::read_to_string(file).map_err(refused)?;
    Ok(MaintainRequest { plan, file: Some(file.display().to_string()), reason, by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maintain::{Run, report};

    #[test]
    fn an_aborted_run_with_failed_hosts_has_failed() {
        let global = Global { instance: "default".to_owned(), socket: None };
        let exit = |failed| {
            let run: Run = serde_json::from_value(serde_json::json!({
                "id": 3, "by": "ann", "reason": null, "started_at": 0, "ended_at": 9, "hosts": [],
                "course": { "aborted": { "by": "bob", "reason": null } },
                "plan": {
                    "name": "x", "hosts": [], "at_once": 1, "by_zone": false, "min_healthy": 0, "on_failure": "stop",
                    "windows": { "spans": [], "offset": 0, "not_before": null, "not_after": null }, "deadline": null,
                    "at_deadline": "keep", "work": { "what": { "command": "true" }, "timeout": 1 },
                    "proof": { "hold": 1, "within": 2, "check": null }, "ramp": null, "watch": 0, "rollback": null,
                },
            }))
            .unwrap();
            ended(&global, &MaintainRun { failed, ..report(&run, 9) }).unwrap_err().exit
        };
        assert_eq!((exit(0), exit(1)), (Exit::TakenBack, Exit::Failed));
    }
}
