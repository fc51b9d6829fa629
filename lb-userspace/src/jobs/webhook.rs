//! A webhook: a POST with JSON over plain HTTP.

use std::error::Error;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::maintain::JobEnd;

/// Posts, and waits for the answer: one of 200 to 299 is success. The body has the fields of the environment, by their names there
/// without `SLUICE_` and in small letters.
pub(super) fn post(url: &str, id: &str, environment: &[(String, String)], timeout: u64) -> JobEnd {
    let field = |(name, value): &(String, String)| {
        let name = name.strip_prefix("SLUICE_").unwrap_or(name).to_ascii_lowercase();
        (name, Value::String(value.clone()))
    };
    let body = Value::Object(environment.iter().map(field).collect::<Map<_, _>>()).to_string();
    match exchange(url, id, &body, Duration::from_secs(timeout)) {
        Ok((status, output)) if (200..300).contains(&status) => JobEnd { failure: None, output },
        Ok((status, output)) => {
            JobEnd { failure: Some(format!("it was answered with status {status}")), output }
        }
        Err(error) => JobEnd { failure: Some(format!("no answer: {error}")), output: String::new() },
    }
}

/// Status and body, from the thread of the job.
fn exchange(url: &str, id: &str, body: &str, timeout: Duration) -> Result<(u16, String), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let end = Instant::now() + timeout;
        let answer = timeout_at(end, ask(url, id, body.to_owned())).await;
        let mut answer = answer.map_err(|_| format!("none within {} s", timeout.as_secs()))??;
        let status = answer.status().as_u16();
        // The status is what counts. As much of the body as is kept and comes in time.
        let mut bytes = Vec::new();
        while bytes.len() < super::OUTPUT {
            match timeout_at(end, answer.frame()).await {
                Ok(Some(Ok(frame))) => bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                _ => break,
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok((status, text[..text.floor_char_boundary(super::OUTPUT)].to_owned()))
    });
    // A name that is still being looked up is waited for by nobody.
    runtime.shutdown_background();
    answer
}

async fn ask(
    url: &str,
    id: &str,
    body: String,
) -> Result<hyper::Response<hyper::body::Incoming>, Box<dyn Error>> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or("the address names no host")?;
    let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, authority.port_u16().unwrap_or(80))).await?;
    // Some servers know headers by their usual letters alone.
    let mut client = http1::Builder::new();
    let (mut sender, connection) = client.title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    // It ends with the runtime.
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(HOST, authority.as_str())
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", id)
        .body(Full::new(Bytes::from(body)))?;
    Ok(sender.send_request(request).await?)
}
