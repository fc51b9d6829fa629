//! The server side of the API: HTTP + JSON on the instance's Unix socket.

mod connections;
mod events;
mod explain;
mod guard;
mod health;
mod itself;
mod limits;
mod listen;
mod maintain;
mod meter;
mod metrics;
mod peer;
mod routes;
mod shift;
mod stream;
#[cfg(test)]
mod tests;
mod trace;
pub mod ui;

use std::io;

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path as UrlPath, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use tokio::net::UnixListener;

use super::openapi::CODES;
use super::types::{
    ApiError, Applied, ApplyRequest, ConfirmRequest, Confirmed, Diff, DiffQuery, DrainPlan, DrainRequest,
    DrainStatus, Drains, FlowQuery, Flows, History, HistoryQuery, Kick, KickRequest, Kicks, PlanRequest,
    Receipt, ReceiptQuery, Receipts, RevisionDetail, Rings, RollbackRequest, Status, UndrainRequest,
};
use crate::engine::{self, Ask, Handle};
use guard::Refused;
pub use listen::listen;
pub use metrics::serve as serve_metrics;
pub use peer::Doors;
use peer::Peer;

/// Most flows on one page.
const MAX_PAGE: usize = 10_000;

/// Serves until `end` resolves, and then to the end of the answers that are under way, if their clients read them.
pub async fn serve(
    listener: UnixListener,
    doors: Doors,
    engine: Handle,
    end: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    connections::serve(listener, doors, router(engine), end).await
}

fn router(engine: Handle) -> Router {
    routes::router()
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(guard::at_the_door))
        .layer(middleware::from_fn(name_server))
        .with_state(engine)
}

/// An answer of 400 and above.
struct Failure(StatusCode, Box<ApiError>);

impl Failure {
    fn new(status: StatusCode, code: &str, message: impl Into<String>, hint: Option<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        let error = ApiError { code, message, hint, rules: Vec::new(), problems: Vec::new() };
        Failure(status, Box::new(error))
    }

    fn bad_request(message: impl Into<String>) -> Self {
        Failure::new(StatusCode::BAD_REQUEST, "bad_request", message, None)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let refused = Refused(self.1.message.clone());
        (self.0, Extension(refused), Json(self.1)).into_response()
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        // The first of a code is the engine's.
        let known = CODES.iter().find(|known| known.code == error.code());
        let status = known.and_then(|known| StatusCode::from_u16(known.status).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            log::error!("{error}");
        }
        let mut failure = Failure::new(status, error.code(), error.to_string(), error.hint());
        failure.1.problems = error.problems();
        failure.1.rules = error.rules();
        failure
    }
}

/// Asks the engine, and gives its answer or its error.
async fn ask<T: Send + 'static>(
    engine: &Handle,
    work: impl FnOnce(&mut engine::Engine) -> Result<T, engine::Error> + Send + 'static,
) -> Result<Json<T>, Failure> {
    match engine.ask(work).await {
        Ok(result) => Ok(Json(result?)),
        Err(ending) => {
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "internal", ending.to_string(), None))
        }
    }
}

async fn status(State(engine): State<Handle>) -> Result<Json<Status>, Failure> {
    ask(&engine, |engine| engine.status()).await
}

async fn rings(State(engine): State<Handle>) -> Result<Json<Rings>, Failure> {
    ask(&engine, |engine| Ok(engine.rings())).await
}

async fn drain(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<DrainRequest>, JsonRejection>,
) -> Result<Json<Drains>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    ask(&engine, move |engine| Ok(Drains { drains: engine.drain(&request, &by)? })).await
}

async fn undrain(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<UndrainRequest>, JsonRejection>,
) -> Result<Json<Drains>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    ask(&engine, move |engine| Ok(Drains { drains: engine.undrain(&request, &by)? })).await
}

async fn drains(State(engine): State<Handle>, request: Request<Body>) -> Result<Json<Drains>, Failure> {
    let Asked { hosts, service, clients, blockers, share } = Asked::of(&request)?;
    if share.is_some() {
        return Err(Failure::bad_request("there is no parameter share here"));
    }
    ask(&engine, move |engine| {
        Ok(Drains {
            drains: engine.drain_statuses(&hosts, service.as_deref(), clients.as_deref(), blockers)?,
        })
    })
    .await
}

async fn drain_of(
    State(engine): State<Handle>,
    host: Result<UrlPath<String>, PathRejection>,
    request: Request<Body>,
) -> Result<Json<DrainStatus>, Failure> {
    let UrlPath(host) = host.map_err(|error| Failure::bad_request(error.body_text()))?;
    let asked = Asked::of(&request)?;
    if !asked.hosts.is_empty() || asked.share.is_some() {
        return Err(Failure::bad_request(
            "the path names the host: there is no parameter but service, clients and blockers here",
        ));
    }
    let blockers = asked.blockers.unwrap_or(engine::BLOCKERS);
    ask(&engine, move |engine| {
        let Asked { service, clients, .. } = &asked;
        engine.drain_status(&host, service.as_deref(), clients.as_deref(), blockers)
    })
    .await
}

async fn plan_asked(
    State(engine): State<Handle>,
    request: Request<Body>,
) -> Result<Json<DrainPlan>, Failure> {
    let Asked { hosts, service, clients, blockers, share } = Asked::of(&request)?;
    if blockers.is_some() {
        return Err(Failure::bad_request("a plan has no blockers"));
    }
    let request = PlanRequest { hosts, service, clients, share };
    ask(&engine, move |engine| engine.plan_drain(&request)).await
}

async fn plan_drain(
    State(engine): State<Handle>,
    body: Result<Json<PlanRequest>, JsonRejection>,
) -> Result<Json<DrainPlan>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.plan_drain(&request)).await
}

/// `?host=a&host=b&service=c&blockers=5`: a list, which serde's form of a query does not have.
#[derive(Default)]
struct Asked {
    hosts: Vec<String>,
    service: Option<String>,
    clients: Option<String>,
    /// The oldest flows, so many of each host.
    blockers: Option<usize>,
    /// Of a plan: percent of the slots.
    share: Option<u8>,
}

impl Asked {
    fn of(request: &Request<Body>) -> Result<Self, Failure> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(request.uri())
            .map_err(|error| Failure::bad_request(error.body_text()))?;
        let mut asked = Asked::default();
        for (name, value) in pairs {
            match name.as_str() {
                "host" => asked.hosts.push(value),
                "service" => asked.service = Some(value),
                "clients" => asked.clients = Some(value),
                "blockers" => match value.parse() {
                    Ok(n) if n <= engine::MOST_BLOCKERS => asked.blockers = Some(n),
                    _ => {
                        let most = engine::MOST_BLOCKERS;
                        return Err(Failure::bad_request(format!("blockers is a number up to {most}")));
                    }
                },
                "share" => {
                    let share = value.parse().map_err(|_| Failure::bad_request("share is a percentage"))?;
                    asked.share = Some(share);
                }
                _ => return Err(Failure::bad_request(format!("there is no parameter {name} here"))),
            }
        }
        Ok(asked)
    }
}

async fn receipts(
    State(engine): State<Handle>,
    query: Result<Query<ReceiptQuery>, QueryRejection>,
) -> Result<Json<Receipts>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.receipts(&query)).await
}

async fn receipt(
    State(engine): State<Handle>,
    id: Result<UrlPath<u64>, PathRejection>,
) -> Result<Json<Receipt>, Failure> {
    let UrlPath(id) = id.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.receipt(id)).await
}

async fn flows(
    State(engine): State<Handle>,
    query: Result<Query<FlowQuery>, QueryRejection>,
) -> Result<Json<Flows>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    let limit = query.limit.unwrap_or(1000).clamp(1, MAX_PAGE);
    ask(&engine, move |engine| engine.flows(&query, limit)).await
}

async fn kick(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<KickRequest>, JsonRejection>,
) -> Result<Json<Kick>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    ask(&engine, move |engine| engine.kick(&request, &by)).await
}

async fn kicks(State(engine): State<Handle>) -> Result<Json<Kicks>, Failure> {
    ask(&engine, |engine| Ok(engine.kicks())).await
}

async fn kick_by_id(
    State(engine): State<Handle>,
    id: Result<UrlPath<u64>, PathRejection>,
) -> Result<Json<Kick>, Failure> {
    let UrlPath(id) = id.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.kick_by_id(id)).await
}

async fn history(
    State(engine): State<Handle>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<History>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.history(&query)).await
}

async fn revision(
    State(engine): State<Handle>,
    number: Result<UrlPath<u64>, PathRejection>,
) -> Result<Json<RevisionDetail>, Failure> {
    let UrlPath(number) = number.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.revision(number)).await
}

async fn diff(
    State(engine): State<Handle>,
    query: Result<Query<DiffQuery>, QueryRejection>,
) -> Result<Json<Diff>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.diff(&query)).await
}

async fn apply(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<ApplyRequest>, JsonRejection>,
) -> Result<Json<Applied>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    check_patience(request.confirm)?;
    let by = peer.author(request.by.as_deref());
    ask_for_config(&engine, |answer| Ask::Apply(request, by, answer)).await
}

async fn rollback(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<RollbackRequest>, JsonRejection>,
) -> Result<Json<Applied>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    check_patience(request.confirm)?;
    let by = peer.author(request.by.as_deref());
    ask_for_config(&engine, |answer| Ask::Rollback(request, by, answer)).await
}

async fn confirm(
    State(engine): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Json<ConfirmRequest>, JsonRejection>,
) -> Result<Json<Confirmed>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let by = peer.author(request.by.as_deref());
    ask_for_config(&engine, |answer| Ask::Confirm(request, by, answer)).await
}

/// Most seconds that a config may wait to be confirmed.
const LONGEST_PATIENCE: u64 = 86_400;

fn check_patience(confirm: Option<u64>) -> Result<(), Failure> {
    match confirm {
        Some(seconds) if !(1..=LONGEST_PATIENCE).contains(&seconds) => {
            Err(Failure::bad_request(format!("confirm is a number of seconds from 1 to {LONGEST_PATIENCE}")))
        }
        _ => Ok(()),
    }
}

async fn ask_for_config<T>(
    engine: &Handle,
    ask: impl FnOnce(tokio::sync::oneshot::Sender<Result<T, engine::Error>>) -> Ask,
) -> Result<Json<T>, Failure> {
    match engine.ask_for_config(ask).await {
        Ok(result) => Ok(Json(result?)),
        Err(ending) => {
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "internal", ending.to_string(), None))
        }
    }
}

async fn unknown(request: Request<Body>) -> Failure {
    let message = format!("there is nothing at {}", request.uri().path());
    Failure::new(StatusCode::NOT_FOUND, "not_found", message, Some("the paths begin with /v1/".to_owned()))
}

async fn wrong_method(request: Request<Body>) -> Failure {
    let message = format!("{} cannot be used with {}", request.uri().path(), request.method());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "bad_request", message, None)
}

/// Tells clients the version that answers them.
async fn name_server(request: Request<Body>, next: Next) -> Response {
    let mut response = next.run(request).await;
    let server = HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION")));
    response.headers_mut().insert(header::SERVER, server);
    response
}
