//! The server without an engine: what it routes, and what it says of itself.

mod hostile;
mod reference;

use serde_json::Value;

use super::routes::{ROUTES, described};
use super::*;
use crate::api::client::{Client, ClientError};
use crate::api::types::{Event, Happening};
use crate::events::Bus;

const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");

/// A server whose engine has ended, so each question that gets to it is answered with 503.
struct Lonely {
    _folder: tempfile::TempDir,
    client: Client,
    events: Bus,
}

impl Lonely {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = listen(&socket, Doors::default()).unwrap();
        let handle = Handle::detached();
        let events = handle.events().clone();
        tokio::spawn(serve(listener, Doors::default(), handle, std::future::pending()));
        Lonely { _folder: folder, client: Client::new(socket), events }
    }

    fn socket(&self) -> &std::path::Path {
        self.client.socket()
    }

    /// Status of the answer.
    async fn ask(&self, method: &str, path: &str) -> u16 {
        let path = path
            .replace("{id}", "1")
            .replace("{run}", "1")
            .replace("{shift}", "1")
            .replace("{revision}", "1")
            .replace("/v1/diff", "/v1/diff?from=1");
        let answer = match method {
            "get" => self.client.get::<Value>(&path).await,
            _ => self.client.post::<Value, Value>(&path, &body(&path)).await,
        };
        match answer {
            Ok(_) => 200,
            Err(ClientError::Api { status, .. }) => status,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }
}

/// That has what is required, and nothing that is not known.
fn body(path: &str) -> Value {
    match path {
        "/v1/apply" => serde_json::json!({"config": ""}),
        "/v1/confirm" | "/v1/rollback" => serde_json::json!({}),
        "/v1/explain" => serde_json::json!({"packets": [{"frame": "00".repeat(14)}]}),
        "/v1/kick" => serde_json::json!({"host": ""}),
        "/v1/maintain/plan" | "/v1/maintain/runs" => serde_json::json!({"plan": ""}),
        "/v1/shifts" => {
            serde_json::json!({"service": "", "from": [], "to": [], "steps": [], "every": 1})
        }
        path if path.starts_with("/v1/maintain/") || path.starts_with("/v1/shifts/") => serde_json::json!({}),
        _ => serde_json::json!({"hosts": []}),
    }
}

#[test]
fn the_document_in_docs_is_that_of_the_code() {
    let text = serde_json::to_string_pretty(&described()).unwrap() + "\n";
    crate::made::is_kept("openapi.json", &text);
}

#[tokio::test]
async fn the_router_has_what_the_document_in_docs_has_and_nothing_else() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let server = Lonely::start();
    let paths = document["paths"].as_object().unwrap();
    let mut count = 0;
    for (path, operations) in paths {
        for method in ["get", "post"] {
            // A stream would go on for ever.
            let path = if path == "/v1/events" { "/v1/events?follow=false&after=x" } else { path };
            let status = server.ask(method, path).await;
            let is_there = !matches!(status, 404 | 405);
            assert_eq!(is_there, operations.get(method).is_some(), "{method} {path}: {status}");
            count += usize::from(is_there);
        }
    }
    assert_eq!(count, ROUTES.len());
    for route in ROUTES {
        assert!(document["paths"][route.operation.path].get(route.operation.method).is_some());
    }
    assert_eq!(server.ask("get", "/v1/nothing").await, 404);
}

#[test]
fn all_that_the_document_refers_to_is_there() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(elements) => elements.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = described();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let place = document.pointer(reference.strip_prefix('#').unwrap());
        assert!(place.is_some_and(Value::is_object), "{reference}");
    }
}

/// Before anybody is asked, who is not there.
#[tokio::test]
async fn questions_about_packets_that_make_no_sense_are_refused() {
    let server = Lonely::start();
    let frame = |digits: &str| serde_json::json!({"frame": digits});
    let (fits, most) = (frame(&"00".repeat(14)), crate::explain::MOST_PACKETS);
    for (packets, status) in [
        (vec![fits.clone(); most], 503),
        (vec![fits.clone(); most + 1], 400),
        (vec![], 400),
        (vec![fits.clone(), frame("0x")], 400),
        (vec![frame(&"00".repeat(5000))], 400),
        (vec![serde_json::json!({"packet": {"protocol": "tcp", "from": "192.0.2.1:1"}})], 400),
        (
            vec![
                serde_json::json!({"packet": {"protocol": "tcp", "from": "192.0.2.1:1", "to": "192.0.2.2:2"}}),
            ],
            503,
        ),
    ] {
        let body = serde_json::json!({ "packets": packets });
        match server.client.post::<Value, Value>("/v1/explain", &body).await {
            Err(ClientError::Api { status: found, .. }) => assert_eq!(found, status, "{body}"),
            answer => panic!("{body}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn events_come_as_a_stream_and_resume() {
    let server = Lonely::start();
    for generation in 1..=3 {
        server.events.tell(100, Happening::Published { generation });
    }
    server.events.tell(100, Happening::HostUp { host: "a".to_owned(), service: None, why: String::new() });
    let read = async |target: &str, after: Option<u64>| {
        let mut stream = server.client.events(target, after).await.unwrap();
        let mut events: Vec<Event> = Vec::new();
        while let Some(event) = stream.next().await.unwrap() {
            events.push(event);
        }
        events
    };
    let all = read("/v1/events?follow=false", None).await;
    assert_eq!(all.len(), 4);
    let rest = read("/v1/events?follow=false", Some(all[1].seq)).await;
    assert_eq!(rest, all[2..]);
    let after = format!("/v1/events?follow=false&event=published&after={}", all[0].seq);
    assert_eq!(read(&after, Some(all[2].seq)).await, all[1..3], "the parameter outranks the header");
    assert_eq!(read("/v1/events?follow=false&host=a", None).await, all[3..]);
    assert_eq!(read("/v1/events?follow=false&host=b", None).await, []);

    // One that follows, and the end.
    let mut stream = server.client.events("/v1/events", None).await.unwrap();
    server.events.tell(101, Happening::DaemonStopping);
    server.events.close();
    assert_eq!(stream.next().await.unwrap().unwrap().happening, Happening::DaemonStopping);
    assert_eq!(stream.next().await.unwrap(), None);
    for wrong in ["follow=2", "after=x", "event=birthday", "color=red"] {
        let error = server.client.events(&format!("/v1/events?{wrong}"), None).await.err().unwrap();
        assert!(matches!(error, ClientError::Api { status: 400, .. }), "{wrong}: {error}");
    }
}

#[test]
fn what_the_types_write_is_valid_by_their_schemas() {
    use crate::cli::render::fixtures;
    let document = described();
    let check = |name: &str, body: Value| {
        let mut schema = document.clone();
        schema["$ref"] = format!("#/components/schemas/{name}").into();
        let validator = jsonschema::validator_for(&schema).unwrap();
        if let Err(error) = validator.validate(&body) {
            panic!("{name}: {error} at {} in {body}", error.instance_path());
        }
        // A schema that takes anything would say nothing.
        assert!(!validator.is_valid(&serde_json::json!({"x": 1})), "{name}");
    };
    let drain = fixtures::ended(7, "a", crate::api::types::Outcome::Moved, 1);
    check("Receipt", serde_json::to_value(drain.receipt.as_ref().unwrap()).unwrap());
    let drains = Drains { drains: vec![drain, fixtures::draining(8, "b", 3)] };
    check("Drains", serde_json::to_value(&drains).unwrap());
    let error = ApiError {
        code: "x".to_owned(),
        message: "y".to_owned(),
        hint: None,
        rules: Vec::new(),
        problems: Vec::new(),
    };
    check("ApiError", serde_json::to_value(&error).unwrap());
    for happening in [
        Happening::DaemonStopping,
        Happening::Lost { count: None },
        Happening::Published { generation: 3 },
        Happening::HostDown { host: "a".to_owned(), service: None, why: String::new() },
    ] {
        check("Event", serde_json::to_value(Event { seq: 1, at: 2, happening }).unwrap());
    }
}

#[tokio::test]
async fn a_dead_daemon_s_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let live = listen(&socket, Doors::default()).unwrap();
    assert_eq!(listen(&socket, Doors::default()).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok(), "it is still there");
    drop(live);
    listen(&socket, Doors::default()).unwrap();
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "text").unwrap();
    assert_eq!(listen(&socket, Doors::default()).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&socket).unwrap(), b"text");
}
