//! Whatever a client sends, it gets an answer in the API's form or none, in time, and others are served meanwhile.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::ConnectInfo;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::super::guard::Caller;
use super::super::meter::Meter;
use super::super::peer::{Access, tests::somebody};
use super::super::routes::ROUTES;
use super::super::{limits, router};
use super::Lonely;
use crate::api::openapi;
use crate::api::types::ApiError;
use crate::engine::Handle;

/// What the real router answers somebody.
fn answer(access: Access, request: axum::http::Request<Body>) -> (u16, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let peer = somebody(4711, access);
        let caller = Caller { peer: peer.clone(), meter: Meter::default() };
        let router = router(Handle::detached());
        let router = router.layer(axum::Extension(ConnectInfo(peer))).layer(axum::Extension(caller));
        let response = TowerToHyperService::new(router).call(request).await.unwrap();
        let status = response.status().as_u16();
        // Streams and the document are long, and no refusals.
        let body = match status {
            200 => Vec::new(),
            _ => response.into_body().collect().await.unwrap().to_bytes().to_vec(),
        };
        (status, body)
    })
}

/// Those of all fields of all bodies.
fn names() -> Vec<String> {
    let document = openapi::document(ROUTES.iter().map(|route| &route.operation));
    let mut names = BTreeSet::new();
    fields(&document["components"]["schemas"], &mut names);
    assert!(names.contains("abort_if") && names.contains("at_deadline"), "{names:?}");
    names.into_iter().collect()
}

fn fields(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(parts) => {
            if let Some(Value::Object(properties)) = parts.get("properties") {
                names.extend(properties.keys().cloned());
            }
            parts.values().for_each(|part| fields(part, names));
        }
        Value::Array(parts) => parts.iter().for_each(|part| fields(part, names)),
        _ => {}
    }
}

/// JSON of any form, near to what is asked for.
fn json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from)
    ];
    let text = prop_oneof![
        "[a-z0-9@:%./-]{0,12}",
        any::<String>(),
        select(vec!["keep", "move", "reset", "web-1"]).prop_map(str::to_owned)
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        text.prop_map(Value::from)
    ];
    let name = prop_oneof![select(names()), ".{0,8}",];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => json().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (json(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(value, at, byte)| {
            let mut bytes = value.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
    ]
}

/// A path of the table with anything for its parameters, or any path, and any query.
fn target() -> impl Strategy<Value = String> {
    let paths: Vec<&str> = ROUTES.iter().map(|route| route.operation.path).collect();
    let path = prop_oneof![8 => select(paths).prop_map(str::to_owned), 1 => "/[!-~]{0,40}"];
    let part = prop_oneof!["[a-zA-Z0-9%._~@:-]{0,20}", "[0-9]{1,2}"];
    let query = prop::option::of(
        "[a-z]{0,8}(=[!-~]{0,12})?(&(host|blockers|after|event|follow|limit)=[a-z0-9%-]{0,20}){0,3}",
    );
    (path, part, query).prop_map(|(path, part, query)| {
        // What stands in braces is every other piece.
        let pieces = path.split(['{', '}']).enumerate();
        let path: String = pieces.map(|(n, piece)| if n % 2 == 0 { piece } else { &part }).collect();
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{path}{query}")
    })
}

/// Whether what is posted there changes something.
fn is_change(path: &str) -> bool {
    let is_of = |template: &str| {
        let (pieces, own) = (path.split('/'), template.split('/'));
        pieces.clone().count() == own.clone().count()
            && own.zip(pieces).all(|(own, is)| own == is || own.starts_with('{'))
    };
    let mut operations = ROUTES.iter().map(|route| &route.operation);
    operations.any(|operation| operation.method == "post" && operation.changes() && is_of(operation.path))
}

/// A refusal has the API's form, and nothing that a client sends is the server's fault.
fn check(status: u16, body: &[u8]) -> Result<(), TestCaseError> {
    prop_assert!([200, 400, 403, 404, 405, 408, 413, 429, 503].contains(&status), "{status}");
    if status != 200 && !body.is_empty() {
        let error = serde_json::from_slice::<ApiError>(body);
        prop_assert!(error.is_ok(), "{status} {:?}", String::from_utf8_lossy(body));
        // The engine has ended, so what gets as far as it is refused with 503.
        prop_assert_eq!(status == 503, error.unwrap().message.contains("ending"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_body_at_any_path_is_answered_in_the_form_of_the_api(
        target in target(), body in body(), json in any::<bool>(), method in select(vec!["GET", "POST", "POST", "PUT", "HEAD", "X-ANY"]),
    ) {
        let Ok(request) = axum::http::Request::builder()
            .method(method)
            .uri(target)
            .header("content-type", if json { "application/json" } else { "text/plain" })
            .body(Body::from(body))
        else { return Ok(()) };
        let (status, body) = answer(Access::Own, request);
        check(status, &body)?;
    }

    #[test]
    fn who_may_not_gets_nothing_whatever_is_asked(target in target(), body in body(), post in any::<bool>()) {
        let request = |body: &[u8]| {
            let method = if post { "POST" } else { "GET" };
            let builder = axum::http::Request::builder().method(method).uri(&target).header("content-type", "application/json");
            builder.body(Body::from(body.to_vec()))
        };
        let Ok(of_a_stranger) = request(&body) else { return Ok(()) };
        prop_assert_eq!(answer(Access::None, of_a_stranger).0, 403);
        let path = target.split('?').next().unwrap_or_default();
        let (status, _) = answer(Access::Read, request(&body).unwrap());
        if post && is_change(path) {
            prop_assert_eq!(status, 403);
        } else {
            prop_assert_ne!(status, 403);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Over the socket, as no client would say it.
    #[test]
    fn any_bytes_are_answered_or_the_connection_ends(
        mut said in prop::collection::vec(prop_oneof![
            2 => prop::collection::vec(any::<u8>(), 0..200),
            1 => select(vec![
                "GET /v1/status HTTP/1.1\r\n", "POST /v1/drain HTTP/1.1\r\n", "host: x\r\n", "content-length: 5\r\n",
                "content-length: 99999999999999999999\r\n", "transfer-encoding: chunked\r\n", "\r\n", "ffffffffffffffff\r\n",
                "expect: 100-continue\r\n", "GET / HTTP/2.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0",
                "upgrade: h2c\r\nconnection: upgrade\r\n", "{\"hosts\":[\"a\"]}",
            ]).prop_map(|text| text.as_bytes().to_vec()),
        ], 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(async { Lonely::start() });
        let mut stream = UnixStream::connect(server.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        said.push(b"\r\n\r\n".to_vec());
        for bytes in said {
            // It may have had enough.
            if stream.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut heard = Vec::new();
        if stream.read_to_end(&mut heard).is_ok() {
            prop_assert!(heard.is_empty() || heard.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&heard));
        }
        // And it serves the next.
        prop_assert_eq!(runtime.block_on(server.ask("get", "/v1/status")), 503);
    }
}

/// What a request that was sent in these pieces is answered with, and after how long.
fn said(server: &Lonely, pieces: &[&[u8]]) -> (String, Duration) {
    let mut stream = UnixStream::connect(server.socket()).unwrap();
    let began = Instant::now();
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    (String::from_utf8_lossy(&heard).into_owned(), began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_have_bounds() {
    let server = Lonely::start();
    let head = |more: &str| format!("POST /v1/drain HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
    let ask = |pieces: &[&[u8]]| said(&server, pieces).0;
    let many: String = (0..limits::HEADERS).map(|n| format!("x{n}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(limits::HEAD_BYTES));
    for (more, status) in [(many.as_str(), " 431 "), (&long, " 431 "), ("content-length: 70000\r\n", " 413 ")]
    {
        let answer = ask(&[head(more).as_bytes(), &[b' '; 70_000]]);
        assert!(answer.contains(status), "{answer}");
    }
    // Its length is not said, so it is found out.
    let chunk = [b"3000\r\n".as_slice(), &[b' '; 0x3000], b"\r\n"].concat();
    let chunks: Vec<&[u8]> = std::iter::repeat_n(chunk.as_slice(), 6).collect();
    let head = head("transfer-encoding: chunked\r\ncontent-type: application/json\r\n");
    let answer = ask(&[&[head.as_bytes()], chunks.as_slice()].concat());
    assert!(answer.contains(" 413 "), "{answer}");
}

/// Half a head, half a body, and nothing at all after an answer: each ends by itself.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_is_sent_away_and_others_do_not_wait_for_it() {
    let server = Lonely::start();
    let slow: [(&[&[u8]], &str, Duration); 4] = [
        (&[b""], "", limits::HEAD),
        (&[b"GET /v1/status HTTP/1.1\r\nhost: "], "", limits::HEAD),
        (&[b"POST /v1/drain HTTP/1.1\r\nhost: x\r\ncontent-length: 30\r\n\r\n{"], " 408 ", limits::BODY),
        (&[b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n"], " 503 ", limits::HEAD),
    ];
    std::thread::scope(|scope| {
        let threads: Vec<_> = slow.iter().map(|(pieces, ..)| scope.spawn(|| said(&server, pieces))).collect();
        std::thread::sleep(Duration::from_millis(300));
        let (answer, took) =
            said(&server, &[b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"]);
        assert!(answer.contains(" 503 ") && took < Duration::from_secs(2), "{answer} {took:?}");
        for (thread, (_, expected, bound)) in threads.into_iter().zip(slow) {
            let (answer, took) = thread.join().unwrap();
            assert!(answer.contains(expected), "{answer:?}");
            // After the answer to half a body the rest of it is waited for as for a head.
            assert!(
                took > bound - Duration::from_secs(1) && took < bound * 2 + Duration::from_secs(5),
                "{took:?} {expected}"
            );
        }
    });
}

/// A stream that nobody reads is ended, and holds nobody up. The bound itself is the server's: here only that writes are waited for.
#[tokio::test]
async fn a_write_that_does_not_get_on_fails() {
    use tokio::io::AsyncWriteExt;
    let (near, far) = tokio::net::UnixStream::pair().unwrap();
    let patience = Duration::from_millis(200);
    let mut stream = super::super::stream::Patient::new(near, patience);
    let began = Instant::now();
    let error = loop {
        if let Err(error) = stream.write_all(&[0; 65_536]).await {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(began.elapsed() >= patience);
    drop(far);
}

#[tokio::test]
async fn the_socket_is_its_owners_and_replaces_a_dead_one() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/s.sock");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let first = super::super::listen(&path, super::super::Doors::default()).unwrap();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o755));
    drop(first);
    assert!(UnixStream::connect(&path).is_err(), "its file is left");
    let doors = super::super::Doors { read: Some(nix::unistd::Gid::from_raw(60)), change: None };
    let _second = super::super::listen(&path, doors).unwrap();
    assert_eq!(mode(&path), 0o666);
    assert!(UnixStream::connect(&path).is_ok());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}
