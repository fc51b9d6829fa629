//! The API for other programs: a daemon's hosts, drained and taken back by calls with types.
//!
//! ```no_run
//! use lb_userspace::client::{Drained, Sluice};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let sluice = Sluice::of_instance("default");
//! sluice.drain("web-2").reason("kernel update").send().await?;
//! if let Drained::Done(receipt) = sluice.wait_drained("web-2").await? {
//!     println!("{} flows ended", receipt.ended);
//! }
//! sluice.undrain("web-2").await?;
//! # Ok(())
//! # }
//! ```
//!
//! The whole example, with a deadline and an exit status, is `examples/drain.rs`. What this has no method for can be asked by
//! [`Sluice::api`] with the types of [`crate::api::types`]; docs/openapi.json describes all of it.

use std::path::PathBuf;
use std::time::Duration;

use crate::api::client::{Client, encoded};
use crate::api::types::{
    AtDeadline, DrainPlan, DrainRequest, DrainStatus, Drains, PlanRequest, Ready, Receipt, Status,
    UndrainRequest,
};

pub use crate::api::client::{ClientError, ErrorCode};

/// Between two looks at a drain.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a daemon may be away, as for a restart, while a drain is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon.
#[derive(Debug, Clone)]
pub struct Sluice {
    client: Client,
}

/// How a drain that was waited for came to its end.
#[derive(Debug, Clone)]
pub enum Drained {
    /// No flow is left. The receipt says whether they ended by themselves, or were moved, reset or kicked.
    Done(Box<Receipt>),
    /// Somebody took the host back before, or its lease ran out.
    TakenBack,
}

/// A drain that is not asked for yet.
#[derive(Debug, Clone)]
#[must_use = "nothing happens before it is sent"]
pub struct Drain<'a> {
    sluice: &'a Sluice,
    request: DrainRequest,
}

impl Sluice {
    /// The daemon of an instance on this machine.
    pub fn of_instance(instance: &str) -> Self {
        Self::at(format!("/run/sluice/{instance}.sock"))
    }

    /// The daemon behind a socket.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Sluice { client: Client::new(socket) }
    }

    /// Bounds each call.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Sluice { client: self.client.with_timeout(timeout) }
    }

    /// For everything else.
    pub fn api(&self) -> &Client {
        &self.client
    }

    /// What the balancer is and does now.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.client.get("/v1/status").await
    }

    /// What a drain of these hosts would do, and which rules it would break; nothing is changed.
    pub async fn plan(&self, hosts: &[&str]) -> Result<DrainPlan, ClientError> {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        self.client
            .post("/v1/plan/drain", &PlanRequest { hosts, service: None, clients: None, share: None })
            .await
    }

    /// Takes a host out, once it is [sent](Drain::send).
    pub fn drain(&self, host: &str) -> Drain<'_> {
        Drain {
            sluice: self,
            request: DrainRequest { hosts: vec![host.to_owned()], ..DrainRequest::default() },
        }
    }

    /// Brings a host back, at once.
    pub async fn undrain(&self, host: &str) -> Result<DrainStatus, ClientError> {
        let request = UndrainRequest { hosts: vec![host.to_owned()], ..UndrainRequest::default() };
        self.client.post("/v1/undrain", &request).await.and_then(only)
    }

    /// The drain of a host that is under way or was the last, with its progress.
    pub async fn drain_of(&self, host: &str) -> Result<DrainStatus, ClientError> {
        self.client.get(&format!("/v1/drains/{}", encoded(host))).await
    }

    /// Waits until no live flow is left on a host that drains. A daemon that is restarted meanwhile is waited for.
    ///
    /// # Errors
    /// The host has never been drained, or no daemon answers for longer than half a minute.
    pub async fn wait_drained(&self, host: &str) -> Result<Drained, ClientError> {
        let mut away: Option<tokio::time::Instant> = None;
        loop {
            match self.drain_of(host).await {
                Ok(DrainStatus { receipt: Some(receipt), state, .. }) if state == "drained" => {
                    return Ok(Drained::Done(Box::new(receipt)));
                }
                Ok(drain) if drain.state == "draining" => away = None,
                Ok(_) => return Ok(Drained::TakenBack),
                Err(error) if error.is_unreachable() => {
                    if away.get_or_insert_with(tokio::time::Instant::now).elapsed() > PATIENCE {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether traffic should be sent to this balancer.
    pub async fn is_ready(&self) -> Result<bool, ClientError> {
        let ready: Result<Ready, ClientError> = self.client.get("/v1/ready").await;
        match ready {
            Ok(ready) => Ok(ready.ready),
            // Told by its status as well, for those who look at nothing else.
            Err(ClientError::Api { status: 503, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drain<'_> {
    /// For the journal, and for whoever wonders.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.request.reason = Some(reason.into());
        self
    }

    /// For one service alone. [`Sluice::wait_drained`] waits for drains of whole hosts.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.request.service = Some(service.into());
        self
    }

    /// For some clients alone: an address or a prefix. [`Sluice::wait_drained`] waits for drains of whole hosts.
    pub fn clients(mut self, clients: impl Into<String>) -> Self {
        self.request.clients = Some(clients.into());
        self
    }

    /// Flows that are left after so long, in whole seconds and rather more than less, meet this end. 0 is at once.
    pub fn deadline(mut self, after: Duration, end: AtDeadline) -> Self {
        self.request.deadline = Some(seconds(after));
        self.request.at_deadline = Some(end);
        self
    }

    /// After so long, in whole seconds and rather more than less, the host is taken back, whoever has forgotten it.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.request.lease = Some(seconds(lease));
        self
    }

    /// Also if it breaks rules.
    pub fn force(mut self) -> Self {
        self.request.force = true;
        self
    }

    /// When it returns, no new flow reaches the host any more.
    ///
    /// # Errors
    /// Among others [`ErrorCode::Rule`]: it would break a rule of the config, and nothing was changed.
    pub async fn send(self) -> Result<DrainStatus, ClientError> {
        self.sluice.client.post("/v1/drain", &self.request).await.and_then(only)
    }
}

/// Of one host there is one.
fn only(drains: Drains) -> Result<DrainStatus, ClientError> {
    drains.drains.into_iter().next().ok_or_else(|| ClientError::Request {
        request: "a drain".to_owned(),
        source: "the daemon's answer names no host".into(),
    })
}

/// As the API counts time. What is begun counts whole: half a second is not "at once".
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_not_shorter_than_they_were_asked_for() {
        let sluice = Sluice::at("/nowhere");
        let [half, more] = [Duration::from_millis(500), Duration::from_millis(60_001)];
        let asked = |time| sluice.drain("web-2").deadline(time, AtDeadline::Reset).lease(time).request;
        for (time, whole) in [(Duration::ZERO, 0), (half, 1), (Duration::from_secs(1), 1), (more, 61)] {
            assert_eq!((asked(time).deadline, asked(time).lease), (Some(whole), Some(whole)), "{time:?}");
        }
    }
}
