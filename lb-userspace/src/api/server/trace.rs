//! What the data path does with packets, as it does it.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event as Message, KeepAlive};
use futures_util::Stream;
use futures_util::stream::unfold;

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
    let messages = engine.tracers().join(&engine, request, by).await?;
    let told = unfold(messages, async |mut messages| {
        let message = messages.next().await?;
        Some((Ok(in_words(&message)), messages))
    });
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn in_words(message: &TraceMessage) -> Message {
    let name = match message {
        TraceMessage::Packet(_) => "packet",
        TraceMessage::Counts(_) => "counts",
        TraceMessage::Ended(_) => "ended",
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
            NoTrace::Full => (StatusCode::CONFLICT, "conflict", Some("`sluice status` tells who they are")),
            NoTrace::NoGround(_) | NoTrace::Replaced => (StatusCode::CONFLICT, "conflict", None),
            NoTrace::Ending(_) => (StatusCode::SERVICE_UNAVAILABLE, "internal", None),
            NoTrace::Dataplane(_) | NoTrace::Load(_) => {
                let hint = match lacks_helper(&error.to_string()) {
                    true => "tracing needs Linux 5.18; packets go on as before",
                    false => "packets go on as before; the daemon's log has more",
                };
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", Some(hint))
            }
        };
        if status.is_server_error() {
            log::error!("tracing: {error}");
        }
        Failure::new(status, code, error.to_string(), hint.map(str::to_owned))
    }
}

/// Whether the kernel refuses the program for want of `bpf_xdp_load_bytes`, by what its verifier says: it may have it and be older, too.
fn lacks_helper(error: &str) -> bool {
    // Of those that it has never heard of it knows the number alone.
    const HELPER: &str = "#189";
    let refusals = ["invalid func", "unknown func", "cannot use helper"];
    error.lines().any(|line| line.contains(HELPER) && refusals.iter().any(|words| line.contains(words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_without_the_helper_is_too_old() {
        for said in [
            "the kernel refuses the XDP program: invalid argument\n12: (85) call unknown#189\ninvalid func unknown#189\n",
            "13: (85) call bpf_xdp_load_bytes#189\nunknown func bpf_xdp_load_bytes#189",
            "program of this type cannot use helper bpf_xdp_load_bytes#189",
        ] {
            assert!(lacks_helper(said), "{said}");
        }
        for said in [
            "13: (85) call bpf_xdp_load_bytes#189\nR4 min value is negative",
            "unknown func bpf_ringbuf_output#130",
            "cannot allocate memory",
        ] {
            assert!(!lacks_helper(said), "{said}");
        }
        let hint = |message: &str| {
            let path = std::path::PathBuf::from("/x");
            let refused = crate::dataplane::Error::Link { path, message: message.to_owned() };
            Failure::from(NoTrace::Dataplane(refused)).1.hint.unwrap_or_default()
        };
        assert!(hint("invalid func unknown#189").contains("needs Linux 5.18"));
        assert!(!hint("no room").contains("Linux"));
        assert!(Failure::from(NoTrace::Full).1.hint.unwrap_or_default().contains("sluice status"));
    }
}
