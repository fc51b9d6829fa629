//! What the page follows: one task looks at the balancer for all that watch, and each is told what has changed since it was told last.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::Sse;
use axum::response::sse::{Event as Message, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::super::Failure;
use super::look::{Look, Seen};
use super::trail::{Trail, Trails};
use crate::api::types::{DrainStatus, Event, Status};
use crate::engine::{Engine, Error, Handle, RingShares};
use crate::events::Reader;

/// Between two looks while somebody watches.
const OFTEN: Duration = Duration::from_secs(1);
/// And while nobody does: for the trails of drains alone.
const SELDOM: Duration = Duration::from_secs(5);
/// What happens within this time of something else is seen by the same look.
const TOGETHER: Duration = Duration::from_millis(200);
/// Looks take at most a twentieth of the engine's time,
const TIMES: u32 = 20;
/// unless each takes so long that there would be none for longer than this: the page calls figures old after ten seconds.
const RARE: Duration = Duration::from_secs(5);
/// Time without a word after which a comment tells that somebody is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What there is to watch.
#[derive(Clone)]
pub struct Live {
    looks: watch::Sender<Option<Arc<Look>>>,
    /// Somebody begins to watch.
    came: Arc<Notify>,
    engine: Handle,
}

/// `GET /page/live?after=SEQ`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The last event that was seen; without it all that are remembered are told first.
    after: Option<u64>,
}

impl Live {
    pub fn of(engine: Handle) -> Self {
        Live { looks: watch::Sender::new(None), came: Arc::default(), engine }
    }

    /// Looks until the engine has ended.
    pub async fn follow(self) {
        let mut events = self.engine.events().read(None);
        let (mut trails, mut flows, mut rings) = (Trails::default(), Trail::default(), None);
        let mut is_blind = false;
        loop {
            let began = Instant::now();
            match self.look(&mut trails, &mut flows, &mut rings).await {
                // Told also when nothing has changed: it is by a look alone that the page knows its figures to be those of now.
                Ok(look) => {
                    is_blind = false;
                    self.looks.send_replace(Some(Arc::new(look)));
                }
                Err(Unseen::Failed(error)) if is_blind => log::debug!("the page sees nothing new: {error}"),
                Err(Unseen::Failed(error)) => {
                    is_blind = true;
                    log::warn!("the page sees nothing new, and says so: {error}");
                }
                Err(Unseen::Ending) => return,
            }
            // At least so long, whatever happens.
            sleep((began.elapsed() * TIMES).clamp(TOGETHER, RARE)).await;
            let is_watched = self.looks.receiver_count() > 0;
            tokio::select! {
                () = sleep(if is_watched { OFTEN } else { SELDOM }) => {}
                event = events.next(), if is_watched => if event.is_none() { return },
                () = self.came.notified() => {}
            }
            // Those that were seen by the next look.
            while events.next_now().is_some() {}
        }
    }

    async fn look(
        &self,
        trails: &mut Trails,
        flows: &mut Trail,
        known: &mut Option<(u64, Arc<Vec<RingShares>>)>,
    ) -> Result<Look, Unseen> {
        let published = known.as_ref().map(|(generation, _)| *generation);
        let asked =
            self.engine.ask(move |engine| sight(engine, published)).await.map_err(|_| Unseen::Ending)?;
        let Sight { status, drains, shares, as_of } = asked.map_err(Unseen::Failed)?;
        if let Some(shares) = shares {
            *known = Some((status.generation, Arc::new(shares)));
        }
        let rings = known.as_ref().map(|(_, shares)| shares.clone()).unwrap_or_default();
        let under_way = drains.iter().filter(|drain| drain.state == "draining");
        let figures = |drain: &DrainStatus| {
            (drain.id, (drain.started_at, drain.flows_at_start), drain.live_flows.total)
        };
        trails.take(as_of, under_way.map(figures));
        flows.push(as_of, status.hosts.iter().map(|host| host.live_flows.total).sum());
        let seen =
            Seen { as_of, status: &status, drains: &drains, rings: &rings, trails, flows: flows.points() };
        Ok(Look::of(&seen))
    }
}

enum Unseen {
    Failed(Error),
    Ending,
}

struct Sight {
    status: Status,
    drains: Vec<DrainStatus>,
    /// `None`: as they were published before.
    shares: Option<Vec<RingShares>>,
    as_of: u64,
}

fn sight(engine: &mut Engine, published: Option<u64>) -> Result<Sight, Error> {
    let status = engine.status()?;
    let mut drains = engine.drain_statuses(&[], None, None, None)?;
    drains.retain(|drain| drain.state != "undrained");
    let shares = (published != Some(status.generation)).then(|| engine.ring_shares());
    Ok(Sight { drains, shares, as_of: engine.clock().now(), status })
}

/// Looks, and events in between.
pub async fn live(
    Extension(live): Extension<Live>,
    query: Result<Query<Watch>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let events = live.engine.events().read(Some(query.after.unwrap_or(0)));
    let looks = live.looks.subscribe();
    live.came.notify_one();
    let watcher = Watcher { looks, events, told: None };
    let told = unfold(watcher, |mut watcher| async move {
        let message = watcher.next().await?;
        Some((Ok(message), watcher))
    });
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Somebody who watches.
struct Watcher {
    looks: watch::Receiver<Option<Arc<Look>>>,
    events: Reader,
    told: Option<Arc<Look>>,
}

impl Watcher {
    /// `None`: the daemon ends.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if self.told.is_none()
                && let Some(message) = self.look()
            {
                return Some(message);
            }
            tokio::select! {
                changed = self.looks.changed() => {
                    changed.ok()?;
                    if let Some(message) = self.look() {
                        return Some(message);
                    }
                }
                event = self.events.next() => return Some(message(&*event?)),
            }
        }
    }

    /// What has changed, if there was a look at all.
    fn look(&mut self) -> Option<Message> {
        let look = self.looks.borrow_and_update().clone()?;
        let told = look.since(self.told.as_deref());
        self.told = Some(look);
        Some(Message::default().event("look").data(told.to_string()))
    }
}

fn message(event: &Event) -> Message {
    // There is nothing in an event that JSON does not have.
    let data = serde_json::to_string(event).unwrap_or_default();
    Message::default().id(event.seq.to_string()).event("event").data(data)
}
