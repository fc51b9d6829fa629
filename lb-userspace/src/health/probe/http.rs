//! A request is answered as it should be.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Failure, Steps, Target, tcp, tls};
use crate::model::Request;

/// Bytes of a body that are looked at.
const MOST: usize = 64 << 10;

pub(super) async fn ask(
    target: &Target,
    request: &Request,
    is_tls: bool,
    steps: &mut Steps,
) -> Result<String, Failure> {
    let stream = tcp::connect(target, steps).await?;
    if is_tls {
        let stream = tls::connect(stream, target, request.host.as_deref(), steps).await?;
        return exchange(stream, target, request, steps).await;
    }
    exchange(stream, target, request, steps).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    target: &Target,
    request: &Request,
    steps: &mut Steps,
) -> Result<String, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::Host(format!("{what}: {error}"));
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed("http", &error))?;
    let host = request.host.clone().unwrap_or_else(|| target.socket_address().to_string());
    let asked = hyper::Request::get(&request.path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::Own(format!("no request: {error}")))?;
    steps.say(|| format!("GET {}", request.path));
    let answer = async {
        let answer = sender.send_request(asked).await.map_err(|error| failed("http", &error))?;
        let status = answer.status().as_u16();
        steps.say(|| format!("status {status}"));
        if !request.status.iter().any(|range| range.contains(&status)) {
            return Err(Failure::Host(format!("status {status}")));
        }
        let Some(body) = &request.body else { return Ok(format!("status {status}")) };
        let mut limited = Limited::new(answer.into_body(), MOST);
        let mut bytes = Vec::new();
        // What is longer is looked at as far as it goes.
        while let Some(Ok(frame)) = limited.frame().await {
            bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        steps.say(|| format!("{} bytes of body", bytes.len()));
        let has_it = bytes.windows(body.len()).any(|window| window == body.as_bytes());
        if has_it {
            Ok(format!("status {status}, body as expected"))
        } else {
            Err(Failure::Host(format!("status {status}, but {body:?} is not in the body")))
        }
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    // The connection must be driven until the answer is there, and for as long as the body comes.
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        ended = &mut connection => {
            if let Err(error) = ended {
                return Err(failed("http", &error));
            }
        }
    }
    answer.await
}
