//! What is asked of the daemon, beside the keyboard: a look about once a second and whenever something happened, the events
//! themselves, and the orders of whoever sits there. Each tells the core by [`News`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::api::client::{Client, ClientError, ErrorCode, target};
use crate::api::types::{Drains, HealthReport, MaintainRuns, Status};

use super::order::{Answer, Look, News, Order, Refusal, Wanted};

/// Bound of one call of a look; a daemon that takes longer counts as away.
const PATIENCE: Duration = Duration::from_secs(5);
/// What happens within this time of something else is seen by the same look.
const TOGETHER: Duration = Duration::from_millis(200);
/// Before a stream of events that broke off is opened again.
const AGAIN: Duration = Duration::from_secs(1);
/// Oldest flows of each drain that are asked for.
const BLOCKERS: usize = 5;

/// All of a look, or why there is none.
pub async fn look(client: &Client, wanted: &Wanted) -> Result<Look, ClientError> {
    let client = client.clone().with_timeout(PATIENCE);
    let status: Status = client.get("/v1/status").await?;
    let MaintainRuns { runs } = client.get("/v1/maintain").await?;
    let host = || wanted.host.iter().map(|host| ("host", host.clone()));
    let (mut drains, mut health) = (Vec::new(), None);
    if wanted.drains {
        let blockers = [("blockers", BLOCKERS.to_string())];
        let answer = client.get(&target("/v1/drains", host().chain(blockers))).await;
        drains = there(answer)?.map(|drains: Drains| drains.drains).unwrap_or_default();
        drains.retain(|drain| drain.state != "undrained");
    }
    if wanted.health {
        let answer = client.get::<HealthReport>(&target("/v1/health", host())).await;
        health = there(answer)?;
    }
    Ok(Look { wanted: wanted.clone(), status, runs, drains, health })
}

/// A host that has left the config is no trouble.
fn there<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == Some(ErrorCode::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks until nobody wants to know.
pub async fn looks(
    client: Client,
    every: Duration,
    mut wanted: watch::Receiver<Wanted>,
    happened: Arc<Notify>,
    news: UnboundedSender<News>,
) {
    loop {
        tokio::select! {
            () = sleep(every) => {}
            () = happened.notified() => sleep(TOGETHER).await,
            changed = wanted.changed() => if changed.is_err() { return },
        }
        let wants = wanted.borrow_and_update().clone();
        let told = match look(&client, &wants).await {
            Ok(look) => News::Look(Box::new(look)),
            Err(error) => News::Away(chain(error)),
        };
        if news.send(told).is_err() {
            return;
        }
    }
}

/// An error with its causes, in a line.
fn chain(error: ClientError) -> String {
    let error = anyhow::Error::from(error);
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Follows the events, over restarts of the daemon.
pub async fn events(client: Client, happened: Arc<Notify>, news: UnboundedSender<News>) {
    let mut seen = 0;
    loop {
        let after = [("after", u64::to_string(&seen))];
        if let Ok(mut stream) = client.events(&target("/v1/events", after), None).await {
            while let Ok(Some(event)) = stream.next().await {
                seen = event.seq;
                happened.notify_one();
                if news.send(News::Event(Box::new(event))).is_err() {
                    return;
                }
            }
            happened.notify_one();
        }
        sleep(AGAIN).await;
        if news.is_closed() {
            return;
        }
    }
}

/// Does what somebody wants.
pub async fn order(
    client: Client,
    number: u64,
    order: Order,
    happened: Arc<Notify>,
    news: UnboundedSender<News>,
) {
    let answer = match &order {
        Order::Plan(request) => client.post("/v1/plan/drain", request).await.map(Answer::Plan),
        Order::Drain(request) => {
            client.post("/v1/drain", request).await.map(|Drains { drains }| Answer::Drained(drains))
        }
        Order::Undrain(request) => {
            client.post("/v1/undrain", request).await.map(|Drains { drains }| Answer::Undrained(drains))
        }
    };
    happened.notify_one();
    // Nobody is there any more: nobody to tell.
    let _ = news.send(News::Answer(number, Box::new(answer.map_err(Refusal::from))));
}
