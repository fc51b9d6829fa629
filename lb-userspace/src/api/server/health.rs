//! What checks found, and checks that are run at once.

use super::*;
use crate::api::types::{HealthQuery, HealthReport, HealthTest, HealthTestRequest};
use crate::engine::tested;

pub(super) async fn health(
    State(engine): State<Handle>,
    query: Result<Query<HealthQuery>, QueryRejection>,
) -> Result<Json<HealthReport>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    ask(&engine, move |engine| engine.health_report(query.host.as_deref())).await
}

pub(super) async fn health_test(
    State(engine): State<Handle>,
    body: Result<Json<HealthTestRequest>, JsonRejection>,
) -> Result<Json<HealthTest>, Failure> {
    let Json(request) = body.map_err(|error| Failure::bad_request(error.body_text()))?;
    let Json((targets, clock)) = ask(&engine, move |engine| {
        let HealthTestRequest { host, vip } = request;
        let targets = if vip { engine.vip_targets(&host) } else { engine.health_targets(&host) };
        Ok((targets?, engine.clock()))
    })
    .await?;
    let Some(checkers) = engine.checkers() else {
        return Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "internal",
            "the daemon does not run checks yet",
            None,
        ));
    };
    // All at once; each has its own end in time.
    let runs = targets.into_iter().map(|target| async move {
        let run = checkers.test(target.clone()).await?;
        Some(tested(&target, clock.now(), &run))
    });
    let checks = futures_util::future::join_all(runs).await.into_iter().flatten().collect();
    Ok(Json(HealthTest { checks }))
}
