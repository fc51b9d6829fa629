//! `/metrics`: on the socket as everything else, and alone where `[metrics]` listens.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::stream::Patient;
use super::{Failure, limits, name_server, unknown, wrong_method};
use crate::engine::Handle;
use crate::metrics::CONTENT_TYPE;

/// Connections at once, over TCP.
const CONNECTIONS: usize = 16;
/// Pause after a connection could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn metrics(State(engine): State<Handle>) -> Result<impl IntoResponse, Failure> {
    let text = engine.scrape().await;
    let text =
        text.map_err(|why| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "internal", why.to_string(), None))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text))
}

/// Serves `/metrics` and nothing else, to whoever can connect, until it is dropped.
pub async fn serve(listener: TcpListener, engine: Handle) {
    let router: Router = Router::new()
        .route("/metrics", get(metrics))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn(name_server))
        .with_state(engine);
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // One more than there is room for waits in the socket's queue.
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    converse(stream, router).await;
                    drop(seat);
                });
            }
            Err(error) => {
                log::warn!("a connection for metrics could not be taken: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, router: Router) {
    let io = TokioIo::new(Patient::new(stream, limits::UNREAD));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD)
        .max_buf_size(limits::HEAD_BYTES)
        .max_headers(limits::HEADERS)
        .serve_connection(io, TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        log::debug!("a connection for metrics broke: {error}");
    }
}
