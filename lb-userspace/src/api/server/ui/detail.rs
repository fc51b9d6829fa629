//! One host or service with all that is known of it, of which the page's rows have only a glance.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path as UrlPath, State};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::{Failure, ask};
use super::gate::Pass;
use crate::api::types::{
    BackendStatus, CheckStatus, HostStatus, PassiveStatus, ServiceHealth, ServiceStatus,
};
use crate::engine::Handle;

/// Checks that are told of at once; of more only how many there are.
const CHECKS: usize = 300;

type Name = Result<UrlPath<String>, PathRejection>;

/// A host, and what it is for each of its services.
#[derive(Serialize)]
pub(super) struct HostDetail {
    host: HostStatus,
    backends: Vec<OfService>,
    checks: Vec<CheckStatus>,
}

#[derive(Serialize)]
struct OfService {
    service: String,
    vip: String,
    #[serde(flatten)]
    backend: BackendStatus,
}

/// What checks have found, but for those that are well.
#[derive(Serialize)]
pub(super) struct HealthDetail {
    services: Vec<ServiceHealth>,
    checks: Vec<CheckStatus>,
    /// How many checks there are, and how many of them are not up.
    all: usize,
    not_up: usize,
    passive: Vec<PassiveStatus>,
}

/// Who the page's user is.
pub(super) async fn who(Extension(pass): Extension<Pass>) -> Json<Value> {
    let token = match pass {
        Pass::Look(name) => name,
        Pass::Change(name) => Some(name),
        Pass::Page(_) => None,
    };
    Json(json!({ "token": token }))
}

pub(super) async fn service(
    State(engine): State<Handle>,
    name: Name,
) -> Result<Json<ServiceStatus>, Failure> {
    let UrlPath(name) = name.map_err(|error| Failure::bad_request(error.body_text()))?;
    let Json(status) = ask(&engine, |engine| engine.status()).await?;
    let found = status.services.into_iter().find(|service| service.name == name);
    found.map(Json).ok_or_else(|| missing(&format!("there is no service {name:?}")))
}

pub(super) async fn host(State(engine): State<Handle>, name: Name) -> Result<Json<HostDetail>, Failure> {
    let UrlPath(name) = name.map_err(|error| Failure::bad_request(error.body_text()))?;
    let of = name.clone();
    let asked = ask(&engine, move |engine| Ok((engine.status()?, engine.health_report(Some(&of))?))).await?;
    let (status, health) = asked.0;
    let found = status.hosts.into_iter().find(|host| host.name == name);
    let host = found.ok_or_else(|| missing(&format!("there is no host {name:?}")))?;
    let mut backends = Vec::new();
    for service in status.services {
        let vip = format!("{} {} {}", service.vip, service.protocols, service.ports);
        let of = service.backends.into_iter().filter(|backend| backend.host == name);
        backends.extend(of.map(|backend| OfService {
            service: service.name.clone(),
            vip: vip.clone(),
            backend,
        }));
    }
    Ok(Json(HostDetail { host, backends, checks: health.checks }))
}

pub(super) async fn health(State(engine): State<Handle>) -> Result<Json<HealthDetail>, Failure> {
    let Json(report) = ask(&engine, |engine| engine.health_report(None)).await?;
    let all = report.checks.len();
    let mut checks: Vec<CheckStatus> =
        report.checks.into_iter().filter(|check| check.oper != crate::health::Oper::Up).collect();
    let not_up = checks.len();
    checks.truncate(CHECKS);
    for check in &mut checks {
        check.results.truncate(1);
    }
    let passive = report.passive.into_iter();
    let passive = passive
        .filter(|of| of.oper != crate::health::Oper::Up || !of.suspected.is_empty() || of.doubt.is_some());
    Ok(Json(HealthDetail { services: report.services, checks, all, not_up, passive: passive.collect() }))
}

fn missing(message: &str) -> Failure {
    Failure::new(axum::http::StatusCode::NOT_FOUND, "not_found", message, None)
}
