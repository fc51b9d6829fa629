//! Connections: taken one by one, each with its bounds, until the end.

use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::guard::Caller;
use super::limits;
use super::meter::{Meter, Seat};
use super::peer::{Doors, Peer};
use super::stream::Patient;

/// How long the end waits for clients to read their answers.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause after a connection could not be taken, as when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `end` resolves, and then to the end of the answers that are under way, if their clients read them.
pub async fn serve(
    listener: UnixListener,
    doors: Doors,
    router: Router,
    end: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let (meter, mut connections) = (Meter::default(), JoinSet::new());
    let ending = watch::Sender::new(false);
    let mut end = pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, doors, meter.clone(), router.clone(), ending.subscribe()));
                }
                Err(error) => {
                    log::warn!("a connection could not be taken: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    ending.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        log::warn!("some clients do not read their answers: they are left");
    }
    Ok(())
}

/// All of one connection.
async fn converse(
    stream: UnixStream,
    doors: Doors,
    meter: Meter,
    router: Router,
    mut ending: watch::Receiver<bool>,
) {
    let peer = match Peer::of(&stream, doors) {
        Ok(peer) => peer,
        Err(error) => return log::warn!("refused somebody, as the kernel does not say who it is: {error}"),
    };
    // Before its name is asked for, which may take long: so many may wait for theirs, and no more.
    let Some(_seat) = seat(&meter, &peer, &stream) else { return };
    let peer = peer.with_name().await;
    let caller = Caller { peer: peer.clone(), meter: meter.clone() };
    let service =
        TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer.clone()))).layer(Extension(caller)));
    let stream = Patient::new(stream, limits::UNREAD);
    let is_owed = stream.is_owed();
    let io = TokioIo::new(stream);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEAD)
            .max_buf_size(limits::HEAD_BYTES)
            .max_headers(limits::HEADERS)
            .serve_connection(io, service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        // It changes once. The sender lives as long as there are connections.
        _ = ending.changed() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match ended {
        Err(error) if error.is_parse() => {
            meter.log_refusal(&peer, &format!("what it says is not HTTP/1.1: {error}"))
        }
        Err(error) if error.is_timeout() && is_owed.load(Ordering::Relaxed) => {
            let what = format!("no whole request came from it within {} s", limits::HEAD.as_secs());
            meter.log_refusal(&peer, &what);
        }
        // One that has nothing to ask any more, also.
        Err(error) if error.is_timeout() => {
            log::debug!("{peer} said nothing for {} s", limits::HEAD.as_secs())
        }
        Err(error) => log::debug!("the connection of {peer} broke: {error}"),
        Ok(()) => {}
    }
}

/// A place for it, else it is told that there is none.
fn seat(meter: &Meter, peer: &Peer, stream: &UnixStream) -> Option<Seat> {
    match meter.seat(peer) {
        Ok(seat) => Some(seat),
        Err(why) => {
            let body =
                format!("{{\"code\":\"too_many\",\"message\":\"{why}\",\"hint\":\"close some of them\"}}");
            let answer = format!(
                "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            // A socket that has just been opened has room for it; and if not, it is only a courtesy.
            let _ = stream.try_write(answer.as_bytes());
            meter.log_refusal(peer, why);
            None
        }
    }
}
