//! All that can be asked, in one table: the router and the OpenAPI document are made from it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get, post};

use super::events::{document, events};
use super::health::{health, health_test};
use super::*;
use crate::api::openapi::{self, Operation};
use crate::api::types::{
    BlockersQuery, DrainsQuery, Event, EventQuery, ExplainRequest, Explained, HealthQuery, HealthReport,
    HealthTest, HealthTestRequest, MaintainPlan, MaintainRequest, MaintainRun, MaintainRuns, PlanQuery,
    Ready, RunRequest, SelfDrainRequest, SelfStatus, SelfUndrainRequest, ShiftRequest, ShiftRun, Shifts,
    TraceMessage, TraceRequest,
};
use crate::config::limits as config_limits;
use crate::dataplane::MOST_BYTES;
use crate::explain::MOST_PACKETS;

/// Bytes of a body with a config in it, which JSON may make twice as long.
const LONGEST_CONFIG: usize = 2 * config_limits::MAX_FILE as usize + 65_536;

/// Bytes of a body with the frames of packets that are asked about.
const LONGEST_QUESTION: usize = 2 * (MOST_PACKETS * MOST_BYTES) + 65_536;

const CONFIG: &str = r#"{"config": "interfaces = [\"eth0\"]\n", "dry_run": true}"#;
const PLAN: &str =
    r#"{"plan": "name = \"upgrade\"\nhosts = [\"web-3\"]\n[run]\ncommand = \"true\"\n", "reason": "CVE"}"#;

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
            .answers::<Drains>()
            .like(r#"{"hosts": ["web-2"], "reason": "kernel update", "deadline": 600, "at_deadline": "keep"}"#)
            .refuses(&["not_found", "conflict", "rule"]),
        handler: || post(drain),
    },
    Route {
        operation: Operation::post("/v1/undrain", "Bring hosts back: all of them or none")
            .takes::<UndrainRequest>()
            .answers::<Drains>()
            .like(r#"{"hosts": ["web-2"], "ramp": 60}"#)
            .refuses(&["not_found", "conflict"]),
        handler: || post(undrain),
    },
    Route {
        operation: Operation::get("/v1/drains", "The drains of some hosts, or of all that have one")
            .asks::<DrainsQuery>()
            .answers::<Drains>()
            .like("host=web-2&blockers=3")
            .refuses(&["not_found"]),
        handler: || get(drains),
    },
    Route {
        operation: Operation::get(
            "/v1/drains/{host}",
            "The drain of one host, with its progress and oldest flows",
        )
        .asks::<BlockersQuery>()
        .answers::<DrainStatus>()
            .like("blockers=3")
            .refuses(&["not_found"]),
        handler: || get(drain_of),
    },
    Route {
        operation: Operation::get(
            "/v1/plan/drain",
            "What a drain of these hosts would do; nothing is changed",
        )
        .asks::<PlanQuery>()
        .answers::<DrainPlan>()
            .like("host=web-2")
            .refuses(&["not_found"]),
        handler: || get(plan_asked),
    },
    Route {
        operation: Operation::post(
            "/v1/plan/drain",
            "What a drain of these hosts would do; nothing is changed",
        )
        .takes::<PlanRequest>()
        .reads_only()
        .answers::<DrainPlan>()
            .like(r#"{"hosts": ["web-2", "web-3"]}"#)
            .refuses(&["not_found"]),
        handler: || post(plan_drain),
    },
    Route {
        operation: Operation::get("/v1/receipts", "Receipts of drains that are over, the newest first")
            .asks::<ReceiptQuery>()
            .answers::<Receipts>()
            .like("host=web-2&limit=5")
            .refuses(&["not_found"]),
        handler: || get(receipts),
    },
    Route {
        operation: Operation::get("/v1/receipts/{id}", "The receipt of one drain").answers::<Receipt>()
            .refuses(&["not_found"]),
        handler: || get(receipt),
    },
    Route {
        operation: Operation::get("/v1/flows", "A page of live flows").asks::<FlowQuery>().answers::<Flows>()
            .like("host=web-2&min_idle=300&limit=100")
            .refuses(&["not_found"]),
        handler: || get(flows),
    },
    Route {
        operation: Operation::post("/v1/kick", "End chosen flows of a host early")
            .takes::<KickRequest>()
            .answers::<Kick>()
            .like(r#"{"host": "web-2", "idle": 300, "rate": 20}"#)
            .refuses(&["not_found", "conflict"]),
        handler: || post(kick),
    },
    Route {
        operation: Operation::get("/v1/kicks", "The last kicks since the daemon's start, the latest first")
            .answers::<Kicks>(),
        handler: || get(kicks),
    },
    Route {
        operation: Operation::get("/v1/kicks/{id}", "One kick").answers::<Kick>()
            .refuses(&["not_found"]),
        handler: || get(kick_by_id),
    },
    Route {
        operation: Operation::get(
            "/v1/history",
            "What was changed, by whom and why: the journal's revisions",
        )
        .asks::<HistoryQuery>()
        .answers::<History>()
            .like("host=web-2&limit=5"),
        handler: || get(history),
    },
    Route {
        operation: Operation::get("/v1/history/{revision}", "One revision").answers::<RevisionDetail>()
            .refuses(&["not_found"]),
        handler: || get(revision),
    },
    Route {
        operation: Operation::get("/v1/diff", "What differs between two revisions")
            .asks::<DiffQuery>()
            .answers::<Diff>()
            .like("from=5&to=7")
            .refuses(&["not_found", "config"]),
        handler: || get(diff),
    },
    Route {
        operation: Operation::post("/v1/apply", "Put another config in force, or say what it would do")
            .takes::<ApplyRequest>()
            .of_up_to(LONGEST_CONFIG)
            .answers::<Applied>()
            .like(CONFIG)
            .refuses(&["config", "conflict"]),
        handler: || post(apply).layer(DefaultBodyLimit::max(LONGEST_CONFIG)),
    },
    Route {
        operation: Operation::post("/v1/confirm", "Keep the config in force that waits to be confirmed")
            .takes::<ConfirmRequest>()
            .answers::<Confirmed>()
            .like(r#"{"reason": "looks well"}"#)
            .refuses(&["conflict"]),
        handler: || post(confirm),
    },
    Route {
        operation: Operation::post("/v1/rollback", "Put an earlier config in force again")
            .takes::<RollbackRequest>()
            .answers::<Applied>()
            .like(r#"{"dry_run": true}"#)
            .refuses(&["not_found", "config", "conflict"]),
        handler: || post(rollback),
    },
    Route {
        operation: Operation::post(
            "/v1/explain",
            "What would become of packets now, and why; nothing changes",
        )
        .takes::<ExplainRequest>()
        .of_up_to(LONGEST_QUESTION)
        .reads_only()
        .answers::<Explained>()
            .like(r#"{"packets": [{"packet": {"protocol": "tcp", "from": "198.51.100.7:40000", "to": "203.0.113.10:80", "flags": "syn"}}]}"#)
            .refuses(&["conflict"]),
        handler: || post(explain::explain).layer(DefaultBodyLimit::max(LONGEST_QUESTION)),
    },
    Route {
        operation: Operation::post("/v1/trace", "Show packets as they go by, as server-sent events")
            .takes::<TraceRequest>()
            .streams::<TraceMessage>()
            .like(r#"{"protocol": "tcp", "client": "198.51.100.7", "service": "web", "sample": 100, "lasting": 1}"#)
            .refuses(&["not_found", "conflict"]),
        handler: || post(trace::trace),
    },
    Route {
        operation: Operation::get("/v1/rings", "The rings, and what a drain of each host would move")
            .answers::<Rings>(),
        handler: || get(rings),
    },
    Route {
        operation: Operation::get("/v1/health", "What checks found, and who is used therefore")
            .asks::<HealthQuery>()
            .answers::<HealthReport>()
            .like("host=web-2")
            .refuses(&["not_found"]),
        handler: || get(health),
    },
    Route {
        operation: Operation::post("/v1/health/test", "Run the checks of a host now, and tell each step")
            .takes::<HealthTestRequest>()
            .answers::<HealthTest>()
            .like(r#"{"host": "web-2"}"#)
            .refuses(&["not_found"]),
        handler: || post(health_test),
    },
    Route {
        operation: Operation::get("/v1/ready", "Whether traffic should be sent here: status 200, else 503")
            .answers::<Ready>()
            .refuses(&["not_ready"]),
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
            .answers::<SelfStatus>()
            .like(r#"{"reason": "new kernel", "quiet_for": 60}"#),
        handler: || post(itself::drain),
    },
    Route {
        operation: Operation::post("/v1/self/undrain", "Ask for traffic again")
            .takes::<SelfUndrainRequest>()
            .answers::<SelfStatus>()
            .like(r#"{"reason": "new kernel is in"}"#),
        handler: || post(itself::undrain),
    },
    Route {
        operation: Operation::post("/v1/maintain/plan", "What a plan would do; nothing is begun")
            .takes::<MaintainRequest>()
            .of_up_to(LONGEST_CONFIG)
            .reads_only()
            .answers::<MaintainPlan>()
            .like(PLAN)
            .refuses(&["config"]),
        handler: || post(maintain::plan).layer(DefaultBodyLimit::max(LONGEST_CONFIG)),
    },
    Route {
        operation: Operation::post("/v1/maintain/runs", "Begin a maintenance run")
            .takes::<MaintainRequest>()
            .of_up_to(LONGEST_CONFIG)
            .answers::<MaintainRun>()
            .like(PLAN)
            .refuses(&["config"]),
        handler: || post(maintain::start).layer(DefaultBodyLimit::max(LONGEST_CONFIG)),
    },
    Route {
        operation: Operation::get(
            "/v1/maintain",
            "Maintenance runs: those under way, and the last that are over",
        )
        .answers::<MaintainRuns>(),
        handler: || get(maintain::runs),
    },
    Route {
        operation: Operation::get("/v1/maintain/{run}", "One run, with receipts and outputs")
            .answers::<MaintainRun>()
            .refuses(&["not_found"]),
        handler: || get(maintain::run),
    },
    Route {
        operation: Operation::post("/v1/maintain/{run}/pause", "Begin with no further host for now")
            .takes::<RunRequest>()
            .answers::<MaintainRun>()
            .like(r#"{"reason": "lunch"}"#)
            .refuses(&["not_found", "conflict"]),
        handler: || post(maintain::pause),
    },
    Route {
        operation: Operation::post("/v1/maintain/{run}/resume", "Begin with further hosts again")
            .takes::<RunRequest>()
            .answers::<MaintainRun>()
            .like(r#"{"reason": "lunch is over"}"#)
            .refuses(&["not_found", "conflict"]),
        handler: || post(maintain::resume),
    },
    Route {
        operation: Operation::post(
            "/v1/maintain/{run}/abort",
            "Begin with no further host, and take those in work back",
        )
        .takes::<RunRequest>()
        .answers::<MaintainRun>()
            .like(r#"{"reason": "not today"}"#)
            .refuses(&["not_found", "conflict"]),
        handler: || post(maintain::abort),
    },
    Route {
        operation: Operation::post(
            "/v1/shifts",
            "Shift a service's new flows from one group of hosts to another",
        )
        .takes::<ShiftRequest>()
        .answers::<ShiftRun>()
            .like(r#"{"service": "web", "from": ["blue"], "to": ["green"], "steps": ["1%", "10%", "100%"], "every": 300, "abort_if": ["errors > 1%"]}"#)
            .refuses(&["not_found", "config", "conflict"]),
        handler: || post(shift::start),
    },
    Route {
        operation: Operation::get("/v1/shifts", "The last shift of each service, whose split is in force")
            .answers::<Shifts>(),
        handler: || get(shift::shifts),
    },
    Route {
        operation: Operation::get("/v1/shifts/{shift}", "One shift").answers::<ShiftRun>()
            .refuses(&["not_found"]),
        handler: || get(shift::shift),
    },
    Route {
        operation: Operation::post("/v1/shifts/{shift}/pause", "Take no further step for now")
            .takes::<RunRequest>()
            .answers::<ShiftRun>()
            .like(r#"{"reason": "lunch"}"#)
            .refuses(&["not_found", "conflict"]),
        handler: || post(shift::pause),
    },
    Route {
        operation: Operation::post("/v1/shifts/{shift}/resume", "Take further steps again")
            .takes::<RunRequest>()
            .answers::<ShiftRun>()
            .like(r#"{"reason": "lunch is over"}"#)
            .refuses(&["not_found", "conflict"]),
        handler: || post(shift::resume),
    },
    Route {
        operation: Operation::post("/v1/shifts/{shift}/abort", "Put the split before it in force again")
            .takes::<RunRequest>()
            .answers::<ShiftRun>()
            .like(r#"{"reason": "not today"}"#)
            .refuses(&["not_found", "conflict"]),
        handler: || post(shift::abort),
    },
    Route {
        operation: Operation::get("/v1/events", "What happens, as it happens, as server-sent events")
            .asks::<EventQuery>()
            .with_header("Last-Event-ID", "As the parameter `after`, which outranks it.")
            .streams::<Event>()
            .like("event=drained&follow=false"),
        handler: || get(events),
    },
    Route {
        operation: Operation::get("/metrics", "Metrics for Prometheus, in OpenMetrics: see docs/metrics.md")
            .answers_in_text(crate::metrics::CONTENT_TYPE),
        handler: || get(metrics::metrics),
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
