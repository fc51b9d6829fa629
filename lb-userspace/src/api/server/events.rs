//! Events, and the document of the API.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event as Message, KeepAlive};
use axum::{Json, body::Body};
use futures_util::Stream;
use futures_util::stream::unfold;

use super::Failure;
use super::routes::described;
use crate::api::types::{Event, EventName, EventQuery};
use crate::engine::Handle;
use crate::events::{Filter, Reader};

/// Time without an event after which a comment tells that somebody is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) async fn document() -> Json<serde_json::Value> {
    Json(described())
}

pub(super) async fn events(
    State(engine): State<Handle>,
    request: Request<Body>,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Failure> {
    let query = asked(&request)?;
    let follow = query.follow.unwrap_or(true);
    // Without what comes there is nothing but what was.
    let after = query.after.or((!follow).then_some(0));
    let reader = engine.events().read(after);
    let told = unfold((reader, Filter::from(&query)), move |(mut reader, filter)| async move {
        let event = next(&mut reader, &filter, follow).await?;
        Some((Ok(message(&event)), (reader, filter)))
    });
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

async fn next(reader: &mut Reader, filter: &Filter, follow: bool) -> Option<std::sync::Arc<Event>> {
    loop {
        let event = if follow { reader.next().await? } else { reader.next_now()? };
        if filter.wants(&event) {
            return Some(event);
        }
    }
}

fn message(event: &Event) -> Message {
    let message = Message::default().id(event.seq.to_string()).event(event.happening.name().name());
    // There is nothing in an event that JSON does not have.
    message.data(serde_json::to_string(event).unwrap_or_default())
}

/// The query, with its lists, and the header that a browser resumes with.
fn asked(request: &Request<Body>) -> Result<EventQuery, Failure> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(request.uri())
        .map_err(|error| Failure::bad_request(error.body_text()))?;
    let mut query = EventQuery { after: last_seen(request.headers())?, ..EventQuery::default() };
    for (name, value) in pairs {
        match name.as_str() {
            "host" => query.host.push(value),
            "event" => query.event.push(EventName::from_name(&value).ok_or_else(|| no_event(&value))?),
            "after" => query.after = Some(number("after", &value)?),
            "follow" => query.follow = Some(value.parse().map_err(|_| no_flag(&value))?),
            _ => {
                let message = format!("there is no parameter {name}: use host, event, after, follow");
                return Err(Failure::bad_request(message));
            }
        }
    }
    Ok(query)
}

fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let value = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
    value.map(|value| number("Last-Event-ID", value)).transpose()
}

fn number(name: &str, value: &str) -> Result<u64, Failure> {
    value.parse().map_err(|_| Failure::bad_request(format!("{name} is no number: {value:?}")))
}

fn no_flag(value: &str) -> Failure {
    Failure::bad_request(format!("follow is true or false, not {value:?}"))
}

fn no_event(value: &str) -> Failure {
    let names: Vec<_> = EventName::ALL.iter().map(|event| event.name()).collect();
    Failure::bad_request(format!("there is no event {value:?}: it is one of {}", names.join(", ")))
}
