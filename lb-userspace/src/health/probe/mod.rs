//! One run of a check: what is asked, of whom, and what came of it.

mod command;
mod http;
mod tcp;
mod tls;
mod udp;
mod vip;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::task::Means;
use super::{CheckId, Outcome};
use crate::model::{Check, Health, Probe, Through};

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub id: CheckId,
    pub check: Check,
    pub health: Arc<Health>,
    /// The host's, by which the service reaches it.
    pub address: IpAddr,
    pub vip: IpAddr,
    pub instance: String,
    /// Tells its runs' times from those of others.
    pub seed: u64,
    /// Whether a host that has the VIP, and nobody who listens at that port, is well: it is asked whether it has the VIP.
    pub is_rst_well: bool,
}

impl Target {
    fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.check.port.unwrap_or(0))
    }
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Result {
    Ok(String),
    Failed(String),
    /// This machine could not ask, which tells nothing of the host.
    NotRun(String),
}

impl Result {
    /// As a track takes it.
    pub fn outcome(&self) -> Outcome {
        match self {
            Result::Ok(why) => Outcome { is_ok: true, why: why.clone() },
            Result::Failed(why) | Result::NotRun(why) => Outcome { is_ok: false, why: why.clone() },
        }
    }
}

/// A run that is over.
#[derive(Debug, Clone)]
pub struct Run {
    pub result: Result,
    pub took: Duration,
    /// What was done, and when after the beginning; of a run that was asked for.
    pub steps: Vec<(Duration, String)>,
}

/// What a run does, told as it does it, if anybody wants to know.
pub struct Steps {
    began: Instant,
    steps: Option<Vec<(Duration, String)>>,
}

impl Steps {
    pub fn say(&mut self, step: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.steps {
            steps.push((self.began.elapsed(), step()));
        }
    }
}

/// Why a run ended before it came to its answer.
pub(super) enum Failure {
    /// The host's.
    Host(String),
    /// This machine's.
    Own(String),
}

/// Runs the check once. `is_told`: its steps are wanted.
pub async fn run(target: &Target, means: &Means, is_told: bool) -> Run {
    let began = Instant::now();
    let mut steps = Steps { began, steps: is_told.then(Vec::new) };
    let limit = target.health.timeout;
    let asked = tokio::time::timeout(limit, ask(target, means, &mut steps)).await;
    let result = match asked {
        Ok(Ok(answer)) => Result::Ok(answer),
        Ok(Err(Failure::Host(why))) => Result::Failed(why),
        Ok(Err(Failure::Own(why))) => Result::NotRun(why),
        Err(_) => Result::Failed(format!("no answer in {}", humantime::format_duration(limit))),
    };
    steps.say(|| match &result {
        Result::Ok(answer) => format!("well: {answer}"),
        Result::Failed(why) => format!("failed: {why}"),
        Result::NotRun(why) => format!("not asked: {why}"),
    });
    Run { result, took: began.elapsed(), steps: steps.steps.unwrap_or_default() }
}

async fn ask(target: &Target, means: &Means, steps: &mut Steps) -> std::result::Result<String, Failure> {
    match (&target.check.probe, target.check.through) {
        (Probe::Tcp, Through::Host) => tcp::ask(target, steps).await,
        (Probe::Http(request), _) => http::ask(target, request, false, steps).await,
        (Probe::Https(request), _) => http::ask(target, request, true, steps).await,
        (Probe::Udp { send, expect }, Through::Host) => {
            udp::ask(target, send, expect.as_deref(), steps).await
        }
        (Probe::Command { command }, _) => command::ask(target, command, steps).await,
        (Probe::Tcp, Through::Vip) => vip::tcp(target, means, steps).await,
        (Probe::Udp { send, expect }, Through::Vip) => {
            vip::udp(target, means, send, expect.as_deref(), steps).await
        }
    }
}

/// Tells a host that does not answer from a machine that cannot ask.
fn of_io(what: &str, error: &io::Error) -> Failure {
    let own = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRNOTAVAIL,
        libc::EAGAIN,
        libc::EPERM,
        libc::EACCES,
    ];
    match error.raw_os_error() {
        Some(code) if own.contains(&code) => Failure::Own(format!("{what}: {error}")),
        _ => Failure::Host(format!("{what}: {error}")),
    }
}
