//! All that can be asked, in one table: the router and the OpenAPI document are made from it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get, post};

use super::events::{document, events};
use super::health::{health, health_test};
use super::*;
use crate::api::openapi::{self, Operation};
use crate::api::types::{
    BlockersQuery, DrainsQuery, Event, EventQuery, HealthQuery, HealthReport, HealthTest, HealthTestRequest,
    PlanQuery, Ready, SelfDrainRequest, SelfStatus, SelfUndrainRequest,
};
use crate::config::limits as config_limits;

/// Bytes of a body with a config in it, which JSON may make twice as long.
const LONGEST_CONFIG: usize = 2 * config_limits::MAX_FILE as usize + 65_536;

pub(super) struct Route {
    pub operation: Operation,
    handler: fn() -> MethodRouter<Handle>,
}

pub(super) const ROUTES: &[Route] = &[
    Route {
        operation: Operation::get("/v1/status", "What the balancer is and does now").answers::<Status>(),
        handler: || get(status),
    },
    Route {
        operation: Operation::post("/v1/drain", "Take hosts out of service: all of them or none")
            .takes::<DrainRequest>()
            .answers::<Drains>(),
        handler: || post(drain),
    },
    Route {
        operation: Operation::post("/v1/undrain", "Bring hosts back: all of them or none")
            .takes::<UndrainRequest>()
            .answers::<Drains>(),
        handler: || post(undrain),
    },
    Route {
        operation: Operation::get("/v1/drains", "The drains of some hosts, or of all that have one")
            .asks::<DrainsQuery>()
            .answers::<Drains>(),
        handler: || get(drains),
    },
    Route {
        operation: Operation::get(
            "/v1/drains/{host}",
            "The drain of one host, with its progress and oldest flows",
        )
        .asks::<BlockersQuery>()
        .answers::<DrainStatus>(),
        handler: || get(drain_of),
    },
    Route {
        operation: Operation::get(
            "/v1/plan/drain",
            "What a drain of these hosts would do; nothing is changed",
        )
        .asks::<PlanQuery>()
        .answers::<DrainPlan>(),
        handler: || get(plan_asked),
    },
    Route {
        operation: Operation::post(
            "/v1/plan/drain",
            "What a drain of these hosts would do; nothing is changed",
        )
        .takes::<PlanRequest>()
        .reads_only()
        .answers::<DrainPlan>(),
        handler: || post(plan_drain),
    },
    Route {
        operation: Operation::get("/v1/receipts", "Receipts of drains that are over, the newest first")
            .asks::<ReceiptQuery>()
            .answers::<Receipts>(),
        handler: || get(receipts),
    },
    Route {
        operation: Operation::get("/v1/receipts/{id}", "The receipt of one drain").answers::<Receipt>(),
        handler: || get(receipt),
    },
    Route {
        operation: Operation::get("/v1/flows", "A page of live flows").asks::<FlowQuery>().answers::<Flows>(),
        handler: || get(flows),
    },
    Route {
        operation: Operation::post("/v1/kick", "End chosen flows of a host early")
            .takes::<KickRequest>()
            .answers::<Kick>(),
        handler: || post(kick),
    },
    Route {
        operation: Operation::get("/v1/kicks", "The last kicks since the daemon's start, the latest first")
            .answers::<Kicks>(),
        handler: || get(kicks),
    },
    Route {
        operation: Operation::get("/v1/kicks/{id}", "One kick").answers::<Kick>(),
        handler: || get(kick_by_id),
    },
    Route {
        operation: Operation::get(
            "/v1/history",
            "What was changed, by whom and why: the journal's revisions",
        )
        .asks::<HistoryQuery>()
        .answers::<History>(),
        handler: || get(history),
    },
    Route {
        operation: Operation::get("/v1/history/{revision}", "One revision").answers::<RevisionDetail>(),
        handler: || get(revision),
    },
    Route {
        operation: Operation::get("/v1/diff", "What differs between two revisions")
            .asks::<DiffQuery>()
            .answers::<Diff>(),
        handler: || get(diff),
    },
    Route {
        operation: Operation::post("/v1/apply", "Put another config in force, or say what it would do")
            .takes::<ApplyRequest>()
            .of_up_to(LONGEST_CONFIG)
            .answers::<Applied>(),
        handler: || post(apply).layer(DefaultBodyLimit::max(LONGEST_CONFIG)),
    },
    Route {
        operation: Operation::post("/v1/confirm", "Keep the config in force that waits to be confirmed")
            .takes::<ConfirmRequest>()
            .answers::<Confirmed>(),
        handler: || post(confirm),
    },
    Route {
        operation: Operation::post("/v1/rollback", "Put an earlier config in force again")
            .takes::<RollbackRequest>()
            .answers::<Applied>(),
        handler: || post(rollback),
    },
    Route {
        operation: Operation::get("/v1/rings", "The rings, and what a drain of each host would move")
            .answers::<Rings>(),
        handler: || get(rings),
    },
    Route {
        operation: Operation::get("/v1/health", "What checks found, and who is used therefore")
            .asks::<HealthQuery>()
            .answers::<HealthReport>(),
        handler: || get(health),
    },
    Route {
        operation: Operation::post("/v1/health/test", "Run the checks of a host now, and tell each step")
            .takes::<HealthTestRequest>()
            .answers::<HealthTest>(),
        handler: || post(health_test),
    },
    Route {
        operation: Operation::get("/v1/ready", "Whether traffic should be sent here: status 200, else 503")
            .answers::<Ready>(),
        handler: || get(itself::ready),
    },
    Route {
        operation: Operation::get("/v1/self", "The balancer itself: in use, draining or drained")
            .answers::<SelfStatus>(),
        handler: || get(itself::status),
    },
    Route {
        operation: Operation::post("/v1/self/drain", "Ask for no more traffic; what comes is forwarded")
            .takes::<SelfDrainRequest>()
            .answers::<SelfStatus>(),
        handler: || post(itself::drain),
    },
    Route {
        operation: Operation::post("/v1/self/undrain", "Ask for traffic again")
            .takes::<SelfUndrainRequest>()
            .answers::<SelfStatus>(),
        handler: || post(itself::undrain),
    },
    Route {
        operation: Operation::get("/v1/events", "What happens, as it happens, as server-sent events")
            .asks::<EventQuery>()
            .with_header("Last-Event-ID", "As the parameter `after`, which outranks it.")
            .streams::<Event>(),
        handler: || get(events),
    },
    Route {
        operation: Operation::get("/v1/openapi.json", "This document").answers::<serde_json::Value>(),
        handler: || get(document),
    },
];

pub(super) fn router() -> Router<Handle> {
    let add = |router: Router<Handle>, route: &Route| {
        let (changes, most) = (route.operation.changes(), route.operation.longest_body);
        let desk = middleware::from_fn(move |request, next| guard::at_the_desk(changes, most, request, next));
        router.route(route.operation.path, (route.handler)().layer(desk))
    };
    ROUTES.iter().fold(Router::new(), add)
}

/// The API in OpenAPI.
pub(super) fn described() -> serde_json::Value {
    openapi::document(ROUTES.iter().map(|route| &route.operation))
}
