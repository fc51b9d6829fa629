//! What the data path does with packets, as it does it.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event as Message, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::time::{Instant, timeout_at};

use super::*;
use crate::api::types::{TraceMessage, TraceRequest};
use crate::engine::NoTrace;
use crate::trace::Refused as Asked;

/// Time without a message after which a comment tells that somebody is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) async fn trace(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<TraceRequest>, JsonRejection>,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    let lasting = request.lasting;
    let messages = engine.tracers().join(&engine, request, by).await?;
    // Within bounds, or it had been refused.
    let end = lasting.map(|lasting| Instant::now() + Duration::from_secs(lasting));
    let told = unfold(messages, move |mut messages| async move {
        let message = match end {
            Some(end) => timeout_at(end, messages.recv()).await.ok().flatten()?,
            None => messages.recv().await?,
        };
        Some((Ok(in_words(&message)), messages))
    });
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn in_words(message: &TraceMessage) -> Message {
    let name = match message {
        TraceMessage::Packet(_) => "packet",
        TraceMessage::Counts(_) => "counts",
    };
    // There is nothing in a message that JSON does not have.
    Message::default().event(name).data(serde_json::to_string(message).unwrap_or_default())
}

impl From<NoTrace> for Failure {
    fn from(error: NoTrace) -> Self {
        let (status, code, hint) = match error {
            NoTrace::Engine(error) => return error.into(),
            NoTrace::Refused(Asked::Bad(_)) => (StatusCode::BAD_REQUEST, "bad_request", None),
            NoTrace::Refused(Asked::NoHost(_) | Asked::NoService(_)) => {
                let hint = "`sluice status` lists hosts and services";
                (StatusCode::NOT_FOUND, "not_found", Some(hint))
            }
            NoTrace::Full => (
                StatusCode::CONFLICT,
                "conflict",
                Some("`sluice events --event trace_began` tells who they are"),
            ),
            NoTrace::NoGround(_) | NoTrace::Replaced => (StatusCode::CONFLICT, "conflict", None),
            NoTrace::Ending(_) => (StatusCode::SERVICE_UNAVAILABLE, "internal", None),
            NoTrace::Dataplane(_) | NoTrace::Load(_) => {
                let hint = "tracing needs Linux 5.18; packets go on as before";
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", Some(hint))
            }
        };
        if status.is_server_error() {
            log::error!("tracing: {error}");
        }
        Failure::new(status, code, error.to_string(), hint.map(str::to_owned))
    }
}
