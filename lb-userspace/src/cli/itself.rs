//! `sluice drain self` and `sluice undrain self`: the balancer itself, as load balancers and routers before it see it.

use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::drain::DrainArgs;
use super::output::Out;
use super::render;
use super::terminal::Style;
use super::undrain::UndrainArgs;
use super::{Exit, Failure, Global};
use crate::api::client::{Client, ClientError};
use crate::api::types::{SelfDrainRequest, SelfState, SelfStatus, SelfUndrainRequest};
pub use crate::config::limits::SELF as NAME;

/// Time between two looks.
const POLL: Duration = Duration::from_millis(500);
/// Bound of one look; a daemon that takes longer counts as away.
const LOOK: Duration = Duration::from_secs(5);
/// For how long no daemon may answer: it may be restarted.
const AWAY: Duration = Duration::from_secs(30);
/// Time between two lines of progress where there is no terminal.
const TELL: Duration = Duration::from_secs(10);

/// Whether the balancer itself is meant, alone.
///
/// # Errors
/// Hosts and the balancer cannot be drained by one command.
pub fn is_meant(hosts: &[String]) -> Result<bool, Failure> {
    match (hosts.iter().any(|host| host == NAME), hosts) {
        (true, [_]) => Ok(true),
        (true, _) => {
            Err(Failure::new(Exit::Usage, anyhow!("{NAME:?} is the balancer itself, and is named alone")))
        }
        (false, _) => Ok(false),
    }
}

/// What only a drain of hosts has.
fn check(args: &DrainArgs) -> Result<(), Failure> {
    let given = [
        ("--deadline", args.deadline.is_some()),
        ("--at-deadline", args.at_deadline.is_some()),
        ("--share", args.share.is_some()),
        ("--lease", args.lease.is_some()),
        ("--force", args.force),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(Failure::new(
            Exit::Usage,
            anyhow!("{name} is for hosts: a drain of the balancer itself ends no flow"),
        )
        .hint("--quiet-for and --below say when it is done")),
        None => Ok(()),
    }
}

pub async fn drain(global: &Global, args: &DrainArgs) -> Result<(), Failure> {
    check(args)?;
    let (mut out, style) = (Out::stdout(), Style::stdout());
    let body = SelfDrainRequest {
        reason: args.asked.reason.clone(),
        by: args.asked.by.clone(),
        quiet_for: args.quiet_for.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0)),
        below: args.below,
    };
    let began: SelfStatus = global.client().post("/v1/self/drain", &body).await?;
    if !args.wait {
        return if args.asked.json {
            out.json(&began, true)
        } else {
            out.print(&render::itself::began(&began, style))
        };
    }
    if !args.asked.json {
        out.print(&render::itself::began(&began, style))?;
    }
    let (last, result) = wait(&global.client().with_timeout(LOOK), args, began).await?;
    if args.asked.json {
        out.json(&last, true)?;
    } else if result.is_ok() {
        out.print(&render::itself::ended(&last, style))?;
    }
    result
}

/// Waits for the end of the drain, and gives the last that was said.
async fn wait(
    client: &Client,
    args: &DrainArgs,
    began: SelfStatus,
) -> Result<(SelfStatus, Result<(), Failure>), Failure> {
    let mut interrupts = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    let (mut err, style) = (Out::stderr(), Style::stderr());
    let (start, mut last) = (Instant::now(), began);
    let (mut answered, mut told) = (start, None::<Instant>);
    let timeout = args.timeout.unwrap_or(Duration::MAX);
    let result = loop {
        match last.state {
            SelfState::Drained => break Ok(()),
            SelfState::Active => {
                break Err(Failure::new(
                    Exit::TakenBack,
                    anyhow!("the balancer is in use again: its drain was taken back"),
                ));
            }
            SelfState::Draining => {}
        }
        if start.elapsed() >= timeout {
            let error = anyhow!("traffic has not ebbed within {}", humantime::format_duration(timeout));
            break Err(
                Failure::new(Exit::Deadline, error).hint("the drain goes on: the same command waits again")
            );
        }
        if !args.asked.json && (style.control || told.is_none_or(|told| told.elapsed() >= TELL)) {
            told = Some(Instant::now());
            err.print(&render::itself::progress(&last, style))?;
        }
        let look = async {
            sleep(POLL.min(timeout.saturating_sub(start.elapsed()))).await;
            client.get::<SelfStatus>("/v1/self").await
        };
        tokio::select! {
            biased;
            _ = interrupts.recv() => {
                break Err(Failure::new(Exit::Interrupted, anyhow!("interrupted")).hint("the drain goes on"));
            }
            answer = look => match answer {
                Ok(status) => (last, answered) = (status, Instant::now()),
                Err(error) => given_up(error, answered)?,
            },
        }
    };
    if !args.asked.json && style.control && told.is_some() {
        err.print("\r\x1b[K")?;
    }
    Ok((last, result))
}

/// A daemon that does not answer may be on its way back.
fn given_up(error: ClientError, answered: Instant) -> Result<(), Failure> {
    if error.is_unreachable() && answered.elapsed() < AWAY { Ok(()) } else { Err(error.into()) }
}

pub async fn undrain(global: &Global, args: &UndrainArgs) -> Result<(), Failure> {
    if args.ramp.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            anyhow!("--ramp is for hosts: who sends to the balancer says how fast its traffic comes back"),
        ));
    }
    let (mut out, style) = (Out::stdout(), Style::stdout());
    let body = SelfUndrainRequest { reason: args.asked.reason.clone(), by: args.asked.by.clone() };
    let status: SelfStatus = global.client().post("/v1/self/undrain", &body).await?;
    if args.asked.json {
        out.json(&status, true)
    } else {
        out.print(&render::itself::undrained(&status, style))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn drain_args(line: &str) -> DrainArgs {
        let Command::Drain(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("{line}")
        };
        args
    }

    #[test]
    fn the_balancer_is_named_alone_and_without_what_is_for_hosts() {
        let meant = |line: &str| is_meant(&drain_args(line).hosts);
        assert!(meant("sluice drain self").unwrap());
        assert!(!meant("sluice drain web-1 selfie").unwrap());
        assert_eq!(meant("sluice drain self web-1").unwrap_err().exit, Exit::Usage);
        assert!(
            check(&drain_args("sluice drain self --wait --quiet-for 1m --below 5 --timeout 1h --reason x"))
                .is_ok()
        );
        for wrong in ["--deadline 1m", "--at-deadline move", "--share 5%", "--lease 1h", "--force"] {
            let failure = check(&drain_args(&format!("sluice drain self {wrong}"))).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.error.to_string().starts_with(wrong.split(' ').next().unwrap()), "{failure:?}");
        }
    }
}
