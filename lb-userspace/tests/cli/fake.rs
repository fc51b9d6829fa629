//! A daemon made of one function from requests to answers, and the binary run against it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::Response;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// `(METHOD target, body)` to status and body; status 0 breaks the connection off.
type Answer = dyn Fn(&str, &str) -> (u16, String) + Send + Sync;

pub struct Fake {
    folder: tempfile::TempDir,
    server: Option<Runtime>,
    answer: Arc<Answer>,
    /// What was asked, in order.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub fn new(answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut fake = Fake { folder, server: None, answer: Arc::new(answer), asked: Arc::default() };
        fake.start();
        fake
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("fake.sock")
    }

    /// Listens, over the socket that a server before has left.
    pub fn start(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("an event loop");
        let listener = {
            let _context = runtime.enter();
            tokio::net::UnixListener::bind(self.socket()).expect("a socket")
        };
        let (answer, asked) = (self.answer.clone(), self.asked.clone());
        let router = axum::Router::new().fallback(move |request: Request| {
            let (answer, asked) = (answer.clone(), asked.clone());
            async move {
                let what = format!("{} {}", request.method(), request.uri());
                asked.lock().expect("no panic before").push(what.clone());
                let body = to_bytes(request.into_body(), 1 << 20).await.expect("a body");
                let (status, body) = answer(&what, &String::from_utf8_lossy(&body));
                let body = if status == 0 {
                    Body::from_stream(futures_util::stream::iter([Err::<String, _>(std::io::Error::other(
                        "gone",
                    ))]))
                } else {
                    Body::from(body)
                };
                let is_stream = status == 200
                    && ["GET /v1/events", "POST /v1/trace"].iter().any(|path| what.starts_with(path));
                let kind = if is_stream { "text/event-stream" } else { "application/json" };
                let head = Response::builder().header("content-type", kind);
                head.status(status.max(200)).body(body).expect("a response")
            }
        });
        runtime.spawn(async move { axum::serve(listener, router).await });
        self.server = Some(runtime);
    }

    /// Ends and leaves its socket behind, as a daemon that was killed does.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.server.take() {
            runtime.shutdown_background();
        }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = sluice(args);
        command.arg("--socket").arg(self.socket());
        command
    }

    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    }

    pub fn run(&self, args: &[&str]) -> Run {
        self.command(args).output().expect("the binary runs").into()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn sluice(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(args).env_remove("NO_COLOR").env("LANG", "C.UTF-8").env("TERM", "xterm");
    command
}

/// What a run of the binary left.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Run {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for text in [&self.out, &self.err] {
            assert!(text.is_ascii() && !text.contains('\x1b'), "off a terminal: {text:?}");
        }
        self
    }

    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.err.contains(words), "{words:?} in {}", self.err);
        self
    }

    #[track_caller]
    pub fn prints(self, words: &str) -> Self {
        assert!(self.out.contains(words), "{words:?} in {}", self.out);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

pub fn ok(body: Value) -> (u16, String) {
    (200, body.to_string())
}

pub fn refusal(status: u16, code: &str, message: &str) -> (u16, String) {
    (status, json!({"code": code, "message": message, "hint": "look at `sluice status`"}).to_string())
}

/// A drain, number 7, of 10 flows, with a receipt unless it goes on.
pub fn drain(host: &str, state: &str, live: u64) -> Value {
    let receipt = json!({"drain": 7, "host": host, "outcome": state, "by": "bob", "reason": null, "started_at": 100,
        "ended_at": 160, "flows_at_start": 10, "ended": 10 - live, "left": live, "evicted": 0, "new_flows": 0, "misrouted": 0});
    json!({"id": 7, "host": host, "state": state, "started_at": 100, "by": "bob", "reason": null, "flows_at_start": 10,
        "live_flows": {"half_open": 0, "established": live, "closing": 0, "udp": 0, "total": live},
        "waiting_for": if live > 0 { json!(format!("{live} live flows")) } else { Value::Null },
        "receipt": if state == "draining" { Value::Null } else { receipt }})
}

pub fn drains(drains: &[Value]) -> (u16, String) {
    ok(json!({ "drains": drains }))
}

/// A status with a violation, a problem, a name beyond ASCII, and nothing configured.
pub fn status() -> (u16, String) {
    let table = json!({"pins": 1000, "words": 2048, "live": 0, "overflow_used": 0, "overflow_size": 40, "memory": 65536, "sweep_us": 10});
    ok(
        json!({"instance": "default", "version": "0.1.0", "pid": 1, "started_at": 1, "generation": 1, "revision": 1,
        "config": "/c\u{e4}.toml", "vip_mode": "local", "interfaces": [], "services": [], "hosts": [], "flow_table": table,
        "reasons": {}, "violations": {"misrouted": 2}, "problems": ["the host \"x\" is down"]}),
    )
}
