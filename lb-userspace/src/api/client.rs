//! The client's side of the API: HTTP/1.1 and JSON over the daemon's Unix socket.
//!
//! Each call opens its own connection, so that a daemon that restarts between two calls is not noticed.

mod events;

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, SERVER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

use super::types::ApiError;
pub use events::{EventStream, MessageStream};

/// Bytes of the longest body that is read: far above a page of flows, below what would hurt the machine.
const MAX_BODY: usize = 64 << 20;

/// Bound of one call, for calls that publish (a grace period is some 20 ms) as well as for look-ups.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// This program's version, as the daemon gives its own in the `Server` header: `sluice/VERSION`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a call has no answer of the kind that was asked for.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error("cannot reach the daemon: there is no socket at {}", socket.display())]
    NoSocket { socket: PathBuf },
    #[error("cannot reach the daemon: nobody listens on {}, the socket of a daemon that has ended", socket.display())]
    Stale { socket: PathBuf },
    #[error("cannot reach the daemon: {} is not a socket", socket.display())]
    NotASocket { socket: PathBuf },
    #[error("cannot reach the daemon: no permission to connect to {}", socket.display())]
    Denied { socket: PathBuf },
    #[error("cannot reach the daemon: connecting to {} failed", socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    /// The connection was there and broke; whether the request was carried out is not known.
    #[error("the daemon on {} broke the connection off before it had answered {request}", socket.display())]
    Broken { socket: PathBuf, request: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the daemon on {} has not answered {request} within {} s", socket.display(), timeout.as_secs_f64())]
    Timeout { socket: PathBuf, request: String, timeout: Duration },
    #[error("the answer to {request} is longer than {MAX_BODY} bytes")]
    TooLong { request: String },
    /// The daemon refused, and said why.
    #[error("{}", .error.message)]
    Api { status: u16, error: Box<ApiError> },
    #[error(
        "the answer to {request} (status {status}) is not JSON, so it is not a Sluice daemon's: {excerpt:?}"
    )]
    NotJson { request: String, status: u16, excerpt: String },
    /// JSON, but not of the form that this program knows.
    #[error("this sluice ({VERSION}) does not understand the answer to {request} (status {status}) of {}", of_version(.daemon))]
    Mismatch { request: String, status: u16, daemon: Option<String>, source: serde_json::Error },
    #[error("cannot put the request {request} into words")]
    Request { request: String, source: Box<dyn std::error::Error + Send + Sync> },
}

fn of_version(daemon: &Option<String>) -> String {
    daemon.as_ref().map_or_else(|| "the daemon".to_owned(), |v| format!("the daemon ({v})"))
}

/// The `code` of an [`ApiError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    NotFound,
    BadRequest,
    Conflict,
    /// A rule of the config would be broken.
    Rule,
    /// A config has problems.
    Config,
    Internal,
    /// A code that this version does not know.
    Unknown,
}

impl From<&ApiError> for ErrorCode {
    fn from(error: &ApiError) -> Self {
        match error.code.as_str() {
            "not_found" => ErrorCode::NotFound,
            "bad_request" => ErrorCode::BadRequest,
            "conflict" => ErrorCode::Conflict,
            "rule" => ErrorCode::Rule,
            "config" => ErrorCode::Config,
            "internal" => ErrorCode::Internal,
            _ => ErrorCode::Unknown,
        }
    }
}

impl ClientError {
    /// The daemon's own verdict, where there is one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Api { error, .. } => Some(error.as_ref().into()),
            _ => None,
        }
    }

    /// No daemon answered: a daemon that is being restarted looks like this, and trying again may help.
    pub fn is_unreachable(&self) -> bool {
        use ClientError::*;
        matches!(
            self,
            NoSocket { .. }
                | Stale { .. }
                | NotASocket { .. }
                | Denied { .. }
                | Connect { .. }
                | Broken { .. }
                | Timeout { .. }
        )
    }

    /// What to do about it, as a sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            ClientError::NoSocket { .. } => Some(
                "start the daemon with `systemctl start sluice` or `sluice run --config FILE`, or name the one that runs \
                 with --instance NAME or --socket PATH"
                    .to_owned(),
            ),
            ClientError::Stale { .. } => Some(
                "start the daemon again with `systemctl start sluice` or `sluice run --config FILE` (it replaces the \
                 socket); packets are forwarded meanwhile"
                    .to_owned(),
            ),
            ClientError::NotASocket { .. } => {
                Some("give the daemon's socket with --socket PATH or --instance NAME".to_owned())
            }
            ClientError::Denied { socket } => Some(format!(
                "run it as root, for example with sudo, or as a user who may write to the socket: ls -l {}",
                socket.display()
            )),
            ClientError::Broken { .. } => {
                Some("the daemon may have ended: read its log, then look with `sluice status`".to_owned())
            }
            ClientError::Timeout { .. } => {
                Some("the daemon runs but is stuck: read its log; packets are forwarded meanwhile".to_owned())
            }
            ClientError::Api { error, .. } => error.hint.clone(),
            ClientError::NotJson { .. } => {
                Some("another program listens on that socket: check --instance and --socket".to_owned())
            }
            ClientError::Mismatch { .. } => Some(
                "the daemon and this program are of different versions: restart the daemon, which keeps every \
                 flow, or use the program that it was started from"
                    .to_owned(),
            ),
            ClientError::Connect { .. } | ClientError::TooLong { .. } | ClientError::Request { .. } => None,
        }
    }
}

/// A daemon's API, named by its socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Client { socket: socket.into(), timeout: DEFAULT_TIMEOUT }
    }

    /// Bounds each call, from connecting to the last byte of the answer.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `target` is path and query, encoded already: see [`target`].
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.call(Method::GET, target, Bytes::new()).await
    }

    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        target: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body)
            .map_err(|e| ClientError::Request { request: format!("POST {target}"), source: e.into() })?;
        self.call(Method::POST, target, body.into()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let request = format!("{method} {target}");
        let exchange = async {
            let (response, _connection) = self.open(method, target, &request, None, body).await?;
            self.whole(&request, response).await
        };
        let answer = self.in_time(&request, exchange).await?;
        decode(&request, answer)
    }

    /// Bounds what is done for a request.
    async fn in_time<T>(
        &self,
        request: &str,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            Err(ClientError::Timeout {
                socket: self.socket.clone(),
                request: request.to_owned(),
                timeout: self.timeout,
            })
        })
    }

    /// Sends a request, and gives the answer as far as its head.
    async fn open(
        &self,
        method: Method,
        target: &str,
        request: &str,
        header: Option<(&str, &str)>,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.no_connection(e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(request, e.into()))?;
        // Its error is also given to the one request that it carries.
        let connection = Connection(tokio::spawn(async move {
            let _ = connection.await;
        }));

        let mut head = Request::builder().method(method).uri(target).header(HOST, "sluice");
        head = head.header(ACCEPT, "application/json, text/event-stream");
        if !body.is_empty() {
            head = head.header(CONTENT_TYPE, "application/json");
        }
        if let Some((name, value)) = header {
            head = head.header(name, value);
        }
        let message = head
            .body(Full::new(body))
            .map_err(|e| ClientError::Request { request: request.to_owned(), source: e.into() })?;
        let response = sender.send_request(message).await.map_err(|e| self.broken(request, e.into()))?;
        Ok((response, connection))
    }

    /// The rest of an answer.
    async fn whole(&self, request: &str, response: Response<Incoming>) -> Result<Answer, ClientError> {
        let status = response.status();
        let server = response.headers().get(SERVER).and_then(|v| v.to_str().ok());
        let daemon = server.and_then(|v| v.strip_prefix("sluice/")).map(str::to_owned);
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|e| {
            if e.is::<LengthLimitError>() {
                ClientError::TooLong { request: request.to_owned() }
            } else {
                self.broken(request, e)
            }
        })?;
        Ok(Answer { status, daemon, body: body.to_bytes() })
    }

    fn broken(&self, request: &str, source: Box<dyn std::error::Error + Send + Sync>) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), request: request.to_owned(), source }
    }

    fn no_connection(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound => ClientError::NoSocket { socket },
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket },
            // The kernel says "refused" for any file that is not a listening socket (unix(7)).
            io::ErrorKind::ConnectionRefused => match std::fs::metadata(&socket) {
                Ok(file) if !file.file_type().is_socket() => ClientError::NotASocket { socket },
                _ => ClientError::Stale { socket },
            },
            _ => ClientError::Connect { socket, source },
        }
    }
}

/// The task that carries a connection; it ends with this value.
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Answer {
    status: StatusCode,
    /// Version in the `Server` header, where the daemon gives one.
    daemon: Option<String>,
    body: Bytes,
}

fn decode<T: DeserializeOwned>(request: &str, answer: Answer) -> Result<T, ClientError> {
    let status = answer.status.as_u16();
    let mismatch = |source| ClientError::Mismatch {
        request: request.to_owned(),
        status,
        daemon: answer.daemon.clone(),
        source,
    };
    if let Err(e) = serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body) {
        // A daemon that does not know the path answers 404 without a body: another version, not another
        // program.
        if answer.daemon.is_some() && answer.status == StatusCode::NOT_FOUND {
            return Err(mismatch(e));
        }
        let excerpt = String::from_utf8_lossy(&answer.body).chars().take(60).collect();
        return Err(ClientError::NotJson { request: request.to_owned(), status, excerpt });
    }
    if answer.status.is_success() {
        serde_json::from_slice(&answer.body).map_err(mismatch)
    } else {
        let error = serde_json::from_slice(&answer.body).map_err(mismatch)?;
        Err(ClientError::Api { status, error: Box::new(error) })
    }
}

/// Path and query, names and values percent-encoded (RFC 3986: all but the unreserved characters).
pub fn target<'a>(path: &str, query: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut target = path.to_owned();
    let mut separator = '?';
    for (name, value) in query {
        target.push(separator);
        separator = '&';
        encode(&mut target, name);
        target.push('=');
        encode(&mut target, &value);
    }
    target
}

/// A name as one segment of a path.
pub fn encoded(name: &str) -> String {
    let mut segment = String::new();
    encode(&mut segment, name);
    segment
}

fn encode(target: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            target.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(target, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Drains;

    fn answer(status: u16, daemon: Option<&str>, body: &'static str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            daemon: daemon.map(str::to_owned),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn failures_to_connect_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let missing = Client::new(folder.path().join("missing"));
        let client = Client::new(&file);
        let error = missing.no_connection(io::ErrorKind::NotFound.into());
        assert!(matches!(error, ClientError::NoSocket { .. }), "{error}");
        let error = client.no_connection(io::ErrorKind::PermissionDenied.into());
        assert!(matches!(error, ClientError::Denied { .. }), "{error}");
        assert!(error.hint().unwrap().contains("ls -l"), "{error}");
        let error = client.no_connection(io::ErrorKind::ConnectionRefused.into());
        assert!(matches!(error, ClientError::NotASocket { .. }), "{error}");
        let error = missing.no_connection(io::ErrorKind::ConnectionRefused.into());
        assert!(matches!(error, ClientError::Stale { .. }), "{error}");
        let error = client.no_connection(io::Error::other("odd"));
        assert!(error.is_unreachable() && error.hint().is_none(), "{error}");
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(target("/v1/status", []), "/v1/status");
        assert_eq!(
            target("/v1/drains", [("host", "a&b=c/d ü".to_owned()), ("host", "web-1.x_y~".to_owned())]),
            "/v1/drains?host=a%26b%3Dc%2Fd%20%C3%BC&host=web-1.x_y~"
        );
    }

    #[test]
    fn refusal_keeps_code_and_hint() {
        let body = r#"{"code":"not_found","message":"no host \"x\"","hint":"look at status"}"#;
        let error = decode::<Drains>("POST /v1/drain", answer(404, None, body)).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::NotFound));
        assert_eq!(error.to_string(), "no host \"x\"");
        assert_eq!(error.hint().as_deref(), Some("look at status"));
        assert!(!error.is_unreachable());
    }

    #[test]
    fn foreign_bodies_are_named() {
        let error = decode::<Drains>("GET /v1/drains", answer(200, None, "<html>")).unwrap_err();
        assert!(matches!(error, ClientError::NotJson { .. }), "{error}");
        let error = decode::<Drains>("GET /v1/drains", answer(200, Some("9.9"), "{\"x\":1}")).unwrap_err();
        assert!(matches!(error, ClientError::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains("the daemon (9.9)"), "{error}");
        let error = decode::<Drains>("GET /v1/drains", answer(500, None, "{}")).unwrap_err();
        assert!(matches!(error, ClientError::Mismatch { status: 500, .. }), "{error}");
        let error = decode::<Drains>("GET /v9/x", answer(404, Some("0.0.1"), "")).unwrap_err();
        assert!(matches!(error, ClientError::Mismatch { status: 404, .. }), "{error}");
    }
}
