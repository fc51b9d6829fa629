//! `sluice shift`: the new flows of a service go over from one group of hosts to another, step by step.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::api::client::Client;
use crate::api::types::{RunRequest, ShiftRequest, ShiftRun, ShiftState, Shifts};

use super::apply::with_problems;
use super::asked::Asked;
use super::maintain::{AWAY, POLL};
use super::output::Out;
use super::terminal::Style;
use super::{Exit, Failure, Global, after_help, duration_arg, render};

/// Shift a service's new flows from one group of hosts to another, step by step, with a way back
///
/// Flows that live stay where they are. A step is over when its time is and all hosts of --to are well; what comes true of --abort-if takes
/// the whole shift back at once. The daemon carries it out: it needs no terminal, and goes on where it was when it is started again. The
/// last step stays in force until the next shift of the service.
///
/// With --wait this shows how far it is, and ends with it: exit status 0 if the last step is in force, 1 if it was taken back, 7 if it was
/// aborted. Ctrl-C ends the waiting, not the shift.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, after_help = after_help(EXAMPLES))]
pub struct ShiftArgs {
    #[command(subcommand)]
    pub verb: Option<ShiftVerb>,
    /// The service
    #[arg(value_name = "SERVICE", required = true, value_parser = NonEmptyStringValueParser::new())]
    pub service: Option<String>,
    /// Groups of hosts, or hosts, whose new flows go over
    #[arg(long, value_name = "GROUP", required = true, value_delimiter = ',')]
    pub from: Vec<String>,
    /// Groups of hosts, or hosts, where they go to
    #[arg(long, value_name = "GROUP", required = true, value_delimiter = ',')]
    pub to: Vec<String>,
    /// Parts of the new flows that go over
    #[arg(long, value_name = "PARTS", default_value = "1%,10%,50%,100%", value_delimiter = ',')]
    pub steps: Vec<String>,
    /// Time of a step
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration_arg)]
    pub every: Duration,
    /// Takes the shift back when it comes true: "errors > 1%" of the new flows to the second group, "unhealthy > 0" of its hosts, or
    /// "fails: COMMAND", which is run every 2 s; can be repeated
    #[arg(long, value_name = "CONDITION")]
    pub abort_if: Vec<String>,
    /// Return when it is over
    #[arg(long)]
    pub wait: bool,
    #[command(flatten)]
    pub asked: Asked,
}

#[derive(Debug, Clone, Subcommand)]
pub enum ShiftVerb {
    Status(StatusArgs),
    Pause(VerbArgs),
    Resume(VerbArgs),
    Abort(VerbArgs),
}

const EXAMPLES: &str = "  \
  sluice shift web --from blue --to green --abort-if \"errors > 1%\"
  sluice shift status
  sluice shift abort --reason wrong";

/// Show the last shift of each service: the split wanted, that of the slots, and that which was measured
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(STATUS_EXAMPLES))]
pub struct StatusArgs {
    /// Number of the shift. Default: the last one of each service
    #[arg(value_name = "SHIFT")]
    pub shift: Option<u64>,
    /// Print JSON for programs: the API's body
    #[arg(long)]
    pub json: bool,
}

const STATUS_EXAMPLES: &str = "  \
  sluice shift status
  sluice shift status 7 --json";

/// Say so to a shift: pause (the step in force stays), resume, or abort (the split before it comes back)
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(VERB_EXAMPLES))]
pub struct VerbArgs {
    /// Number of the shift. Default: the only one under way
    #[arg(value_name = "SHIFT")]
    pub shift: Option<u64>,
    #[command(flatten)]
    pub asked: Asked,
}

const VERB_EXAMPLES: &str = "  \
  sluice shift pause --reason lunch
  sluice shift abort 7 --reason wrong";

pub fn run(global: &Global, args: &ShiftArgs) -> Result<(), Failure> {
    super::block_on(async {
        match &args.verb {
            None => start(global, args).await,
            Some(ShiftVerb::Status(args)) => status(global, args).await,
            Some(ShiftVerb::Pause(args)) => verb(global, args, "pause").await,
            Some(ShiftVerb::Resume(args)) => verb(global, args, "resume").await,
            Some(ShiftVerb::Abort(args)) => verb(global, args, "abort").await,
        }
    })
}

async fn start(global: &Global, args: &ShiftArgs) -> Result<(), Failure> {
    let request = ShiftRequest {
        service: args.service.clone().unwrap_or_default(),
        from: args.from.clone(),
        to: args.to.clone(),
        steps: args.steps.clone(),
        every: args.every.as_secs(),
        abort_if: args.abort_if.clone(),
        reason: args.asked.reason.clone(),
        by: args.asked.by.clone(),
    };
    let client = global.client();
    let shift: ShiftRun = match client.post("/v1/shifts", &request).await {
        Ok(shift) => shift,
        Err(error) => return Err(with_problems(error)?),
    };
    let (mut out, style) = (Out::stdout(), Style::stdout());
    if !args.wait {
        return if args.asked.json {
            out.json(&shift, true)
        } else {
            out.print(&render::shift::shift(&shift, style))
        };
    }
    let shift = follow(&client, shift, !args.asked.json).await?;
    if args.asked.json {
        out.json(&shift, true)?;
    } else {
        out.print(&render::shift::shift(&shift, style))?;
    }
    let why = shift.why.clone().unwrap_or_default();
    match shift.state {
        ShiftState::TakenBack => {
            Err(Failure::new(Exit::Failed, anyhow!("shift {} was taken back: {why}", shift.shift)))
        }
        ShiftState::Aborted => Err(Failure::new(Exit::TakenBack, anyhow!("shift {} was {why}", shift.shift))),
        _ => Ok(()),
    }
}

/// Shows how far it is until it is over.
async fn follow(client: &Client, mut shift: ShiftRun, shows: bool) -> Result<ShiftRun, Failure> {
    let mut interrupts = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    let (mut err, style) = (Out::stderr(), Style::stderr());
    let (mut away, mut last) = (0, None);
    while !shift.state.is_over() {
        let stands = (shift.step, shift.state);
        if shows && style.control {
            err.print(&format!("\r{}\x1b[K", render::shift::line(&shift, style)))?;
        } else if shows && last != Some(stands) {
            err.print(&format!("{}\n", render::shift::line(&shift, style)))?;
        }
        last = Some(stands);
        tokio::select! {
            _ = interrupts.recv() => {
                if shows && style.control {
                    err.print("\n")?;
                }
                let goes_on = anyhow!("the waiting is over, shift {} goes on", shift.shift);
                return Err(Failure::new(Exit::Interrupted, goes_on));
            }
            () = sleep(POLL) => {}
        }
        match client.get::<ShiftRun>(&format!("/v1/shifts/{}", shift.shift)).await {
            Ok(now) => (shift, away) = (now, 0),
            Err(error) if error.is_unreachable() && away < AWAY => away += 1,
            Err(error) => return Err(error.into()),
        }
    }
    if shows && style.control {
        err.print("\r\x1b[K")?;
    }
    Ok(shift)
}

async fn status(global: &Global, args: &StatusArgs) -> Result<(), Failure> {
    let client = global.client();
    let all = match args.shift {
        Some(number) => Shifts { shifts: vec![client.get(&format!("/v1/shifts/{number}")).await?] },
        None => client.get("/v1/shifts").await?,
    };
    let (mut out, style) = (Out::stdout(), Style::stdout());
    if args.json {
        return out.json(&all, true);
    }
    if all.shifts.is_empty() {
        return out.print("there was no shift yet\n");
    }
    let texts: Vec<String> = all.shifts.iter().map(|shift| render::shift::shift(shift, style)).collect();
    out.print(&texts.join("\n"))
}

async fn verb(global: &Global, args: &VerbArgs, verb: &str) -> Result<(), Failure> {
    let client = global.client();
    let number = match args.shift {
        Some(number) => number,
        None => only(&client).await?,
    };
    let body = RunRequest { reason: args.asked.reason.clone(), by: args.asked.by.clone() };
    let shift: ShiftRun = client.post(&format!("/v1/shifts/{number}/{verb}"), &body).await?;
    let (mut out, style) = (Out::stdout(), Style::stdout());
    if args.asked.json { out.json(&shift, true) } else { out.print(&render::shift::shift(&shift, style)) }
}

/// The shift that is meant where none is named.
async fn only(client: &Client) -> Result<u64, Failure> {
    let all: Shifts = client.get("/v1/shifts").await?;
    let under_way: Vec<u64> =
        all.shifts.iter().filter(|shift| !shift.state.is_over()).map(|shift| shift.shift).collect();
    match under_way.as_slice() {
        [number] => Ok(*number),
        [] => Err(Failure::new(Exit::NotFound, anyhow!("no shift is under way"))),
        several => {
            let numbers: Vec<String> = several.iter().map(u64::to_string).collect();
            let failure =
                Failure::new(Exit::Usage, anyhow!("several shifts are under way: {}", numbers.join(", ")));
            Err(failure.hint("say which one is meant"))
        }
    }
}
