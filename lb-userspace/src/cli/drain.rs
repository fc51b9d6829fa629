//! `sluice drain`: take hosts out of service, and wait for it if asked to.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::api::client::target;
use crate::api::types::{AtDeadline, DrainRequest, Drains};

use super::asked::Asked;
use super::blockers::MANY;
use super::output::Out;
use super::render;
use super::terminal::Style;
use super::wait::{Event, Progress, Step, Waiter};
use super::{Exit, Failure, Global, after_help, duration_arg, itself};

/// Take hosts out of service: no new flows, live flows go on until they end
///
/// All of the hosts or, if anything is wrong with one, none. From the moment that this command returns, no
/// new flow reaches them; it does not wait for the live flows, unless --wait is given. Draining a host that
/// is out already joins its drain; a deadline, an action or a lease that is given then takes the place of the
/// one before.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct DrainArgs {
    /// Names of the hosts, as in the config, @GROUP or @zone:ZONE; or `self`: the balancer itself, which
    /// then forwards what comes, is not ready (GET /v1/ready) and does not announce its VIPs
    #[arg(required = true, value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub hosts: Vec<String>,
    /// Wait until no live flow is left on any of the hosts, show the progress and then the receipts
    #[arg(short, long)]
    pub wait: bool,
    /// Bounds the drain: after so long, --at-deadline is done with the flows that are left; 0s is at once.
    /// The kernel keeps to it, with or without a daemon. Default: no bound
    #[arg(long, value_name = "DURATION", value_parser = duration_arg)]
    pub deadline: Option<Duration>,
    /// What is done with flows that are left at the deadline. Default: keep
    #[arg(long, value_name = "ACTION", value_enum)]
    pub at_deadline: Option<AtDeadline>,
    /// Give up so much of the hosts' slots only, 1% to 99%: they stay in use for the rest. Default: all
    #[arg(long, value_name = "PERCENT", value_parser = percent_arg, conflicts_with_all = ["deadline", "at_deadline"])]
    pub share: Option<u8>,
    /// Drain the hosts for this service alone. Default: for all
    #[arg(long, value_name = "NAME", conflicts_with = "share", value_parser = NonEmptyStringValueParser::new())]
    pub service: Option<String>,
    /// Drain the hosts for these clients alone, an address or a prefix. Default: for all
    #[arg(long, value_name = "CIDR", conflicts_with = "share", value_parser = NonEmptyStringValueParser::new())]
    pub clients: Option<String>,
    /// Take the hosts back after so long, drained or not, unless another lease is given before. Default:
    /// they stay out until they are undrained
    #[arg(long, value_name = "DURATION", value_parser = duration_arg)]
    pub lease: Option<Duration>,
    /// Bounds the waiting, and only that: when it passes first, the exit code is 5 and the drain goes on.
    /// Default: no bound
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = duration_arg)]
    pub timeout: Option<Duration>,
    /// Of `self`: it is done when little traffic has come for so long. Default: 30s
    #[arg(long, value_name = "DURATION", value_parser = duration_arg)]
    pub quiet_for: Option<Duration>,
    /// Of `self`: little traffic is fewer packets a second than these. Default: 1
    #[arg(long, value_name = "PACKETS")]
    pub below: Option<f64>,
    /// Drain although rules of the config would be broken; `sluice plan drain` says which
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub asked: Asked,
}

const EXAMPLES: &str = "  \
  sluice drain web-3 web-4 --wait --timeout 10m --service api
  sluice drain web-3 --clients 10.0.0.0/8 --deadline 10m --at-deadline reset --wait --json
  sluice drain self --wait --quiet-for 1m --reason update";

/// Time between two looks at the drains.
const POLL: Duration = Duration::from_millis(250);
/// Bound of one look; a daemon that takes longer counts as away.
const LOOK: Duration = Duration::from_secs(5);
/// What the last look may take after the waiting's bound has passed.
const LAST_LOOK: Duration = Duration::from_secs(1);

pub fn run(global: &Global, args: &DrainArgs) -> Result<(), Failure> {
    super::block_on(async {
        if itself::is_meant(&args.hosts)? {
            return itself::drain(global, args).await;
        }
        if args.quiet_for.is_some() || args.below.is_some() {
            return Err(Failure::new(
                Exit::Usage,
                anyhow!("--quiet-for and --below are for `sluice drain self`"),
            ));
        }
        let (mut out, style) = (Out::stdout(), Style::stdout());
        let began: Drains = global.client().post("/v1/drain", &DrainRequest::from(args)).await?;
        if args.wait {
            return wait(global, args, began, &mut out, style).await;
        }
        if args.asked.json {
            return out.json(&began, true);
        }
        began.drains.iter().try_for_each(|d| out.print(&render::drain::began(d, style)))
    })
}

/// `25%` or `25`.
pub(super) fn percent_arg(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|percent| (1..=99).contains(percent))
        .ok_or_else(|| "a part is from 1% to 99%; without --share the whole host is drained".to_owned())
}

/// A host that is named twice is asked for once.
pub(super) fn once(hosts: &[String]) -> Vec<String> {
    let mut once: Vec<String> = Vec::with_capacity(hosts.len());
    for host in hosts {
        if !once.contains(host) {
            once.push(host.clone());
        }
    }
    once
}

impl From<&DrainArgs> for DrainRequest {
    fn from(args: &DrainArgs) -> Self {
        DrainRequest {
            hosts: once(&args.hosts),
            reason: args.asked.reason.clone(),
            by: args.asked.by.clone(),
            // Not sooner than was said.
            deadline: args.deadline.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0)),
            at_deadline: args.at_deadline,
            lease: args.lease.map(|time| time.as_secs()),
            service: args.service.clone(),
            clients: args.clients.clone(),
            share: args.share,
            force: args.force,
        }
    }
}

async fn wait(
    global: &Global,
    args: &DrainArgs,
    began: Drains,
    out: &mut Out,
    style: Style,
) -> Result<(), Failure> {
    let mut interrupts = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    let start = Instant::now();
    let (mut err, err_style) = (Out::stderr(), Style::stderr());
    let progress = match (args.asked.json, err_style.control) {
        (true, _) => Progress::Quiet,
        (false, true) => Progress::Live,
        (false, false) => Progress::Plain,
    };
    if !args.asked.json {
        let under_way = began.drains.iter().filter(|d| d.state == "draining");
        under_way.into_iter().try_for_each(|d| out.print(&render::drain::began(d, style)))?;
    }
    let mut waiter = Waiter::new(&began, progress, err_style, args.timeout, global.command());
    let client = global.client().with_timeout(LOOK);
    let hosts = began.drains.iter().map(|d| ("host", d.host.clone()));
    let service = args.service.iter().map(|name| ("service", name.clone()));
    let clients = args.clients.iter().map(|prefix| ("clients", prefix.clone()));
    let asked: Vec<_> = hosts.chain(service).chain(clients).collect();
    let look = target("/v1/drains", asked.clone());
    let with_blockers = target("/v1/drains", asked.into_iter().chain([("blockers", MANY.to_string())]));

    let mut event = Event::Answer(began);
    let result = loop {
        match waiter.step(event, start.elapsed()) {
            // A terminal that is gone does not end the waiting: its exit code may still be read.
            Step::Wait(text) => err.print(&text)?,
            Step::End(text, result) => {
                err.print(&text)?;
                break result;
            }
        }
        let left = args.timeout.map_or(Duration::MAX, |t| t.saturating_sub(start.elapsed()));
        let look = if waiter.asks_for_blockers(start.elapsed()) { &with_blockers } else { &look };
        let answer = async {
            sleep(POLL.min(left)).await;
            client.get::<Drains>(look).await
        };
        event = tokio::select! {
            biased;
            _ = interrupts.recv() => Event::Interrupted,
            answer = answer => match answer {
                Ok(drains) => Event::Answer(drains),
                Err(e) if e.is_unreachable() => Event::Unreachable(e.to_string()),
                Err(e) => return Err(e.into()),
            },
            () = sleep(left.saturating_add(LAST_LOOK)) => Event::Deadline,
        };
    };
    if args.asked.json {
        out.json(waiter.last(), true)?;
    } else {
        let ended = waiter.last().drains.iter().filter(|d| d.receipt.is_some());
        ended.into_iter().try_for_each(|d| out.print(&render::drain::receipt(d, style)))?;
    }
    result
}
