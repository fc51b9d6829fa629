//! Shifts of traffic.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{ConnectInfo, Path as UrlPath, State};

use super::peer::Peer;
use super::{Failure, ask};
use crate::api::types::{RunRequest, ShiftRequest, ShiftRun, Shifts};
use crate::engine::{Handle, RunVerb};

type Body<T> = Result<Json<T>, JsonRejection>;
type Number = Result<UrlPath<u64>, PathRejection>;

pub(super) async fn start(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Body<ShiftRequest>,
) -> Result<Json<ShiftRun>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    ask(&engine, move |engine| engine.start_shift(&request, &by)).await
}

pub(super) async fn shifts(State(engine): State<Handle>) -> Result<Json<Shifts>, Failure> {
    ask(&engine, |engine| engine.shift_reports()).await
}

pub(super) async fn shift(State(engine): State<Handle>, number: Number) -> Result<Json<ShiftRun>, Failure> {
    let UrlPath(number) = number.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.shift_report(number)).await
}

pub(super) async fn pause(
    engine: State<Handle>,
    peer: ConnectInfo<Peer>,
    number: Number,
    body: Body<RunRequest>,
) -> Result<Json<ShiftRun>, Failure> {
    ask_of_shift(engine, peer, number, body, RunVerb::Pause).await
}

pub(super) async fn resume(
    engine: State<Handle>,
    peer: ConnectInfo<Peer>,
    number: Number,
    body: Body<RunRequest>,
) -> Result<Json<ShiftRun>, Failure> {
    ask_of_shift(engine, peer, number, body, RunVerb::Resume).await
}

pub(super) async fn abort(
    engine: State<Handle>,
    peer: ConnectInfo<Peer>,
    number: Number,
    body: Body<RunRequest>,
) -> Result<Json<ShiftRun>, Failure> {
    ask_of_shift(engine, peer, number, body, RunVerb::Abort).await
}

async fn ask_of_shift(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    number: Number,
    body: Body<RunRequest>,
    verb: RunVerb,
) -> Result<Json<ShiftRun>, Failure> {
    let UrlPath(number) = number.map_err(|error| Failure::bad_request(error.body_text()))?;
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    ask(&engine, move |engine| engine.ask_of_shift(number, verb, &request, &by)).await
}
