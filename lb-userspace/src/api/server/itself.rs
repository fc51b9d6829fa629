//! The balancer itself.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;

use super::peer::Peer;
use super::{Failure, ask};
use crate::api::types::{Ready, SelfDrainRequest, SelfStatus, SelfUndrainRequest};
use crate::engine::Handle;

pub(super) async fn ready(State(engine): State<Handle>) -> Result<Json<Ready>, Failure> {
    let Json(not_ready) = ask(&engine, |engine| Ok(engine.not_ready())).await?;
    match not_ready {
        None => Ok(Json(Ready { ready: true })),
        Some(why) => Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why, None)),
    }
}

pub(super) async fn status(State(engine): State<Handle>) -> Result<Json<SelfStatus>, Failure> {
    ask(&engine, |engine| Ok(engine.self_status())).await
}

pub(super) async fn drain(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<SelfDrainRequest>, JsonRejection>,
) -> Result<Json<SelfStatus>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    ask(&engine, move |engine| engine.drain_self(&request, &by)).await
}

pub(super) async fn undrain(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<SelfUndrainRequest>, JsonRejection>,
) -> Result<Json<SelfStatus>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    ask(&engine, move |engine| engine.undrain_self(&request, &by)).await
}
