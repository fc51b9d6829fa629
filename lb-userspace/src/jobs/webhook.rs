//! A webhook: a POST with JSON over plain HTTP.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use axum::http::Uri;
use serde_json::{Map, Value};

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

fn exchange(url: &str, id: &str, body: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let end = Instant::now() + timeout;
    let left = || {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let uri: Uri = url.parse().map_err(io::Error::other)?;
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = io::Error::other(format!("{bare} has no address"));
    let mut connected = None;
    for address in (bare, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left()?) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => last = error,
        }
    }
    let Some(mut stream) = connected else { return Err(last) };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let length = body.len();
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(
        format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Idempotency-Key: {id}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    )?;
    // The head and the first part of the answer; chunks are shown as they come.
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while answer.len() < 4 * super::OUTPUT {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            // The status may be there already.
            Err(_) if answer.windows(4).any(|four| four == b"\r\n\r\n") => break,
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, output) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status =
        head.lines().next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("what answered speaks no HTTP"))?;
    Ok((status, output[..output.floor_char_boundary(super::OUTPUT)].to_owned()))
}
