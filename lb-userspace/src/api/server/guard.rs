//! What stands before every handler: who may ask, how often, and how much is read of it. And what is logged of refusals.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::Failure;
use super::limits;
use super::meter::Meter;
use super::peer::{Access, Peer};

/// Letters of a target that are logged.
const LOGGED: usize = 120;

/// Who asks, of each request.
#[derive(Clone)]
pub struct Caller {
    pub peer: Peer,
    pub meter: Meter,
}

/// Of a request that its user's rate has been asked about already.
#[derive(Clone)]
pub struct Counted;

/// Left in an answer for the log.
#[derive(Clone)]
pub struct Refused(pub String);

/// Around everything, known paths or not.
pub async fn at_the_door(request: Request<Body>, next: Next) -> Response {
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "nobody asks", None)
            .into_response();
    };
    let method = request.method().clone();
    let asked = format!(
        "{} {:?}",
        request.method(),
        request.uri().to_string().chars().take(LOGGED).collect::<String>()
    );
    let is_counted = request.extensions().get::<Counted>().is_some();
    let response = if caller.peer.access < Access::Read {
        forbidden(&caller.peer, "neither look nor change anything").into_response()
    } else if !is_counted && !caller.meter.may_ask(&caller.peer) {
        too_fast().into_response()
    } else {
        next.run(request).await
    };
    let status = response.status();
    if is_told(&method, status) {
        let why = response.extensions().get::<Refused>().map_or("", |refused| refused.0.as_str());
        caller.meter.log_refusal(&caller.peer, &format!("{asked}: {status}: {why:?}"));
    }
    response
}

/// Whether the log says who has asked: of what is refused, and of changes that failed, as those that a journal does not take.
fn is_told(method: &Method, status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error() && !only_looks(method)
}

/// A request by which nothing changes, whatever its path is.
fn only_looks(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Before the handler of one path: a body of at most so many bytes is read whole, in time.
pub async fn at_the_desk(changes: bool, most: usize, request: Request<Body>, next: Next) -> Response {
    // One path may have operations of both kinds.
    let changes = changes && !only_looks(request.method());
    let peer = request.extensions().get::<Caller>().map(|caller| &caller.peer);
    if let Some(peer) = peer.filter(|peer| changes && peer.access < Access::Change) {
        return forbidden(peer, "look, but not change anything").into_response();
    }
    let (parts, body) = request.into_parts();
    match read(body, most).await {
        Ok(body) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(failure) => failure.into_response(),
    }
}

async fn read(body: Body, most: usize) -> Result<Bytes, Failure> {
    let whole = Limited::new(body, most).collect();
    match tokio::time::timeout(limits::BODY, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is longer than {most} bytes");
            Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_request", message, None))
        }
        Ok(Err(error)) => Err(Failure::bad_request(format!("the body could not be read: {error}"))),
        Err(_) => {
            let message = format!("the body did not come within {} s", limits::BODY.as_secs());
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "bad_request", message, None))
        }
    }
}

fn forbidden(peer: &Peer, may: &str) -> Failure {
    let hint = "ask as root, or as a member of the group that [api] names in the daemon's config: read_group, change_group";
    let message = format!("{} may {may} here", peer.name);
    Failure::new(StatusCode::FORBIDDEN, "forbidden", message, Some(hint.to_owned()))
}

pub fn too_fast() -> Failure {
    let message = format!("more than {} requests a second", limits::RATE.a_second);
    let hint = "ask less often; GET /v1/events tells what happens without being asked again";
    Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message, Some(hint.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_refused_or_could_not_change_something_is_told() {
        let told = |method, status| is_told(&method, status);
        assert!(told(Method::POST, StatusCode::INTERNAL_SERVER_ERROR), "the journal's disk is full");
        assert!(told(Method::POST, StatusCode::CONFLICT) && told(Method::GET, StatusCode::NOT_FOUND));
        assert!(
            !told(Method::GET, StatusCode::SERVICE_UNAVAILABLE),
            "whoever asks each second whether it is ready"
        );
        assert!(!told(Method::POST, StatusCode::OK));
    }
}
