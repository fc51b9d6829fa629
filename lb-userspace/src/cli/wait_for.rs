//! `sluice wait`: wait until hosts are in a state, whoever brings them there.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::api::types::{AdminState, BackendStatus, HostStatus, Status};
use crate::drain::{self, Target};

use super::drain::once;
use super::output::Out;
use super::render::text::clean;
use super::states::{Event, Step, Waiting, Wanted};
use super::terminal::Style;
use super::{Exit, Failure, Global, after_help, duration_arg};

/// Wait until all of some hosts are in a state
///
/// Whatever brings them there: a drain that was asked for elsewhere, an undrain, a lease that runs out, a cable. `sluice
/// drain --wait` waits for one drain instead, and ends when somebody takes it back.
#[derive(Debug, Clone, Args)]
#[command(after_help = after_help(EXAMPLES))]
pub struct WaitArgs {
    /// Names of the hosts, as in the config
    #[arg(required = true, value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub hosts: Vec<String>,
    /// As far as this service is concerned: out for it alone, or for all
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub service: Option<String>,
    /// As far as these clients are concerned, as their drain names them: out for them alone, or for all
    #[arg(long, value_name = "CIDR", value_parser = clients_arg)]
    pub clients: Option<IpNet>,
    /// The state
    #[arg(long = "for", value_name = "STATE")]
    pub wanted: Wanted,
    /// Bounds the waiting; default: no bound
    #[arg(long, value_name = "DURATION", value_parser = duration_arg)]
    pub timeout: Option<Duration>,
    /// Print JSON for programs: the hosts as in the status, at the end
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "  \
  sluice wait web-3 --for drained --timeout 10m
  sluice wait web-3 --service api --for drained
  sluice wait web-3 web-4 --for up --json";

/// Time between two looks.
const POLL: Duration = Duration::from_millis(500);
/// Bound of one look; a daemon that takes longer counts as away.
const LOOK: Duration = Duration::from_secs(5);

fn clients_arg(text: &str) -> Result<IpNet, String> {
    drain::clients(text).map_err(|unclear| format!("{unclear}; {}", unclear.mend()))
}

/// The hosts as they stand for a service, for some clients, or for all.
fn of(mut status: Status, service: Option<&str>, clients: Option<IpNet>) -> Result<Vec<HostStatus>, Failure> {
    let drains = std::mem::take(&mut status.drains_of_clients);
    let mut hosts = match service {
        Some(service) => of_service(status, service)?,
        None => status.hosts,
    };
    for host in hosts.iter_mut().filter(|host| clients.is_some() && host.admin == AdminState::Active) {
        let target = Target::of(&host.name, service).with_clients(clients);
        if let Some(drain) = drains.iter().find(|drain| drain.target() == target) {
            host.admin = if drain.state == "drained" { AdminState::Drained } else { AdminState::Draining };
            host.live_flows = drain.live_flows;
        }
    }
    Ok(hosts)
}

/// The hosts of a service, as they stand for it.
fn of_service(status: Status, service: &str) -> Result<Vec<HostStatus>, Failure> {
    let Status { mut services, hosts, .. } = status;
    let Some(at) = services.iter().position(|of| of.name == service) else {
        return Err(Failure::new(Exit::NotFound, anyhow!("there is no service named {service}")));
    };
    let mut of: HashMap<String, BackendStatus> = services
        .swap_remove(at)
        .backends
        .into_iter()
        .map(|backend| (backend.host.clone(), backend))
        .collect();
    let stands = |host: HostStatus| {
        let backend = of.remove(&host.name)?;
        let own = backend.drain.as_ref().map(|drain| drain.state.as_str());
        let admin = match (host.admin, own) {
            (AdminState::Active, Some("draining")) => AdminState::Draining,
            (AdminState::Active, Some("drained")) => AdminState::Drained,
            (admin, _) => admin,
        };
        Some(HostStatus { admin, live_flows: backend.live_flows, ..host })
    };
    Ok(hosts.into_iter().filter_map(stands).collect())
}

pub fn run(global: &Global, args: &WaitArgs) -> Result<(), Failure> {
    super::block_on(async {
        let mut interrupts = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
        let (mut out, mut err, style) = (Out::stdout(), Out::stderr(), Style::stderr());
        let client = global.client().with_timeout(LOOK);
        let mut waiting = Waiting::new(once(&args.hosts), args.wanted, args.timeout, global.command());
        waiting.service.clone_from(&args.service);
        waiting.clients = args.clients;
        let (start, mut pause) = (Instant::now(), Duration::ZERO);
        let result = loop {
            let left = args.timeout.map_or(Duration::MAX, |t| t.saturating_sub(start.elapsed()));
            let look = async {
                sleep(pause.min(left)).await;
                client.get::<Status>("/v1/status").await
            };
            let event = tokio::select! {
                biased;
                _ = interrupts.recv() => Event::Interrupted,
                answer = look => match answer {
                    Ok(status) => Event::Hosts(of(status, args.service.as_deref(), args.clients)?),
                    Err(e) if e.is_unreachable() => Event::Unreachable(e),
                    Err(e) => return Err(e.into()),
                },
            };
            pause = POLL;
            match waiting.step(event, start.elapsed()) {
                Step::Wait(text) if args.json || text.is_empty() => {}
                Step::Wait(text) => err.print(&(clean(&text, style.ascii) + "\n"))?,
                Step::End(result) => break result,
            }
        };
        if args.json {
            out.json(&serde_json::json!({ "hosts": waiting.last() }), true)?;
        } else if result.is_ok() {
            let style = Style::stdout();
            for host in waiting.last() {
                out.print(&(clean(&waiting.said(host), style.ascii) + "\n"))?;
            }
        }
        result
    })
}
