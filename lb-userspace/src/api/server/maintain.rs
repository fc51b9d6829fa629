//! Maintenance runs.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{ConnectInfo, Path as UrlPath, State};

use super::peer::Peer;
use super::{Failure, ask};
use crate::api::types::{MaintainPlan, MaintainRequest, MaintainRun, MaintainRuns, RunRequest};
use crate::engine::{Handle, RunVerb};

type Body<T> = Result<Json<T>, JsonRejection>;
type Number = Result<UrlPath<u64>, PathRejection>;

pub(super) async fn plan(
    State(engine): State<Handle>,
    body: Body<MaintainRequest>,
) -> Result<Json<MaintainPlan>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.plan_run(&request)).await
}

pub(super) async fn start(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Body<MaintainRequest>,
) -> Result<Json<MaintainRun>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    ask(&engine, move |engine| engine.start_run(&request, &by)).await
}

pub(super) async fn runs(State(engine): State<Handle>) -> Result<Json<MaintainRuns>, Failure> {
    ask(&engine, |engine| engine.run_reports()).await
}

pub(super) async fn run(State(engine): State<Handle>, number: Number) -> Result<Json<MaintainRun>, Failure> {
    let UrlPath(number) = number.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.run_report(number)).await
}

pub(super) async fn pause(
    engine: State<Handle>,
    peer: ConnectInfo<Peer>,
    number: Number,
    body: Body<RunRequest>,
) -> Result<Json<MaintainRun>, Failure> {
    ask_of_run(engine, peer, number, body, RunVerb::Pause).await
}

pub(super) async fn resume(
    engine: State<Handle>,
    peer: ConnectInfo<Peer>,
    number: Number,
    body: Body<RunRequest>,
) -> Result<Json<MaintainRun>, Failure> {
    ask_of_run(engine, peer, number, body, RunVerb::Resume).await
}

pub(super) async fn abort(
    engine: State<Handle>,
    peer: ConnectInfo<Peer>,
    number: Number,
    body: Body<RunRequest>,
) -> Result<Json<MaintainRun>, Failure> {
    ask_of_run(engine, peer, number, body, RunVerb::Abort).await
}

async fn ask_of_run(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    number: Number,
    body: Body<RunRequest>,
    verb: RunVerb,
) -> Result<Json<MaintainRun>, Failure> {
    let UrlPath(number) = number.map_err(|error| Failure::bad_request(error.body_text()))?;
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    ask(&engine, move |engine| engine.ask_of_run(number, verb, &request, &by)).await
}
