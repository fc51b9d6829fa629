//! The page's server over TCP, with an engine that has ended: who gets through to it hears that (503), and who does not is refused before.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::service::Service;

use super::*;
use crate::model::TlsFiles;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Server {
    address: SocketAddr,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

fn start(open_to_look: bool) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    Tokens::open(file.clone()).unwrap();
    std::fs::write(&file, format!("alice {TOKEN}\n")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let names = vec!["lb1.example.net".to_owned()];
        let page = Page { listener, tls: None, tokens: Tokens::open(file).unwrap(), names, open_to_look };
        tokio::spawn(serve(page, Handle::detached()));
        address
    });
    Server { address, folder, _runtime: runtime }
}

/// Status, head in small letters, and body.
struct Answer(u16, String, String);

impl Server {
    /// Exactly these lines, after the request's first, and a body.
    fn say(&self, first: &str, lines: &[&str], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>();
        write!(
            stream,
            "{first} HTTP/1.1\r\n{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        // The end of a connection whose body nobody read may be told as a reset.
        let _ = stream.read_to_string(&mut text);
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{first} {lines:?}: {text:?}"));
        Answer(head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
    }

    /// As a browser on the page does it.
    fn ask(&self, first: &str, more: &[&str]) -> Answer {
        let host = format!("host: {}", self.address);
        let mut lines = vec![host.as_str(), "content-type: application/json", "sec-fetch-site: same-origin"];
        lines.extend(more);
        let body = if first.starts_with("POST") { "{\"hosts\": [\"web-1\"]}" } else { "" };
        self.say(first, &lines, body)
    }
}

fn bearer() -> String {
    format!("authorization: Bearer {TOKEN}")
}

#[test]
fn the_page_comes_whole_and_with_all_that_keeps_others_out() {
    let server = start(false);
    let Answer(status, head, body) = server.ask("GET /", &[]);
    assert_eq!(status, 200, "{head}");
    for header in [
        "content-type: text/html",
        "frame-ancestors 'none'",
        "default-src 'none'",
        "x-frame-options: deny",
        "x-content-type-options: nosniff",
        "cache-control: no-cache",
        "server: sluice/",
    ] {
        assert!(head.contains(header), "{header} in {head}");
    }
    assert!(!head.contains("unsafe") && !head.contains("access-control"), "{head}");
    // Whatever it names is there, and nothing is from elsewhere.
    let mut wanted: Vec<String> = Vec::new();
    for part in body.split(['"', '\'']).filter(|part| part.starts_with('/') && !part.starts_with("/>")) {
        wanted.push(part.to_owned());
    }
    assert!(wanted.len() >= 3, "{wanted:?}");
    assert!(
        !body.contains("http:")
            && !body.contains("https:")
            && !body.contains("<script>")
            && !body.contains("style=")
    );
    for path in wanted {
        let Answer(status, head, _) = server.ask(&format!("GET {path}"), &[]);
        assert_eq!(status, 200, "{path}");
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        let again = server.ask(&format!("GET {path}"), &[&format!("if-none-match: {tag}")]);
        assert_eq!((again.0, again.2.as_str()), (304, ""), "{path}");
    }
}

#[test]
fn modules_name_only_files_that_are_there() {
    for file in files::FILES.iter().filter(|file| file.path().ends_with(".js")) {
        let folder = PathBuf::from(file.path()).parent().unwrap().to_owned();
        for line in file.text().lines().filter(|line| line.starts_with("import ")) {
            let named = line.split('"').nth(1).unwrap();
            let mut path = folder.clone();
            for part in named.split('/') {
                match part {
                    "." => {}
                    ".." => assert!(path.pop()),
                    part => path.push(part),
                }
            }
            assert!(files::find(path.to_str().unwrap()).is_some(), "{}: {line}", file.path());
        }
        assert!(!file.text().contains("innerHTML") && !file.text().contains("http://127"), "{}", file.path());
    }
}

#[test]
fn who_shows_a_token_gets_through_and_others_do_not() {
    let (open, closed) = (start(true), start(false));
    let through = 503;
    let right = bearer();
    for (first, header, on_loopback, elsewhere) in [
        ("GET /v1/status", "x: y", through, 401),
        ("GET /v1/status", right.as_str(), through, through),
        ("GET /v1/history", "x: y", through, 401),
        ("GET /page/host/web-1", "x: y", through, 401),
        ("GET /page/who", "x: y", 200, 401),
        ("POST /v1/plan/drain", "x: y", through, 401),
        ("POST /v1/drain", "x: y", 401, 401),
        ("POST /v1/drain", right.as_str(), through, through),
        ("POST /v1/undrain", right.as_str(), through, through),
        ("POST /v1/drain", "authorization: Bearer 0123456789abcdef0123456789abcdee", 401, 401),
        ("POST /v1/drain", "authorization: Basic 0123456789abcdef0123456789abcdef", 401, 401),
        ("POST /v1/drain", "cookie: token=0123456789abcdef0123456789abcdef", 401, 401),
        ("POST /v1/apply", right.as_str(), 403, 403),
        ("POST /v1/kick", right.as_str(), 403, 403),
        ("GET /nothing", right.as_str(), 404, 404),
        ("PUT /v1/drain", right.as_str(), 405, 405),
    ] {
        for (server, expected) in [(&open, on_loopback), (&closed, elsewhere)] {
            let Answer(status, head, body) = server.ask(first, &[header]);
            assert_eq!(status, expected, "{first} {header}: {body}");
            assert!(head.contains("cache-control: no-store"), "{head}");
            if matches!(expected, 401 | 403) {
                assert!(body.contains("\"hint\":"), "it says what to do: {body}");
            }
        }
    }
    let who = open.ask("GET /page/who", &[&right]);
    assert_eq!(who.2, "{\"token\":\"alice\"}");
}

#[test]
fn other_sites_and_other_names_are_refused_over_the_wire() {
    let server = start(true);
    let (own, right) = (format!("host: {}", server.address), bearer());
    let json = "content-type: application/json";
    let drain = |lines: &[&str]| server.say("POST /v1/drain", lines, "{\"hosts\": []}").0;
    let through = 503;
    assert_eq!(drain(&[&own, json, &right]), through);
    assert_eq!(drain(&["host: lb1.example.net", json, &right]), through);
    // A name that was made to lead here.
    assert_eq!(drain(&["host: evil.example", json, &right]), 421);
    assert_eq!(server.say("GET /", &["host: evil.example"], "").0, 421);
    assert_eq!(server.say("GET /v1/status", &["host: evil.example"], "").0, 421);
    assert_eq!(server.say("GET http://evil.example/v1/status", &[&own], "").0, 421);
    assert_eq!(server.say("GET /v1/status", &[&own, "host: evil.example"], "").0 / 100, 4);
    // Another site's page, which even has the token.
    for line in [
        "sec-fetch-site: cross-site",
        "sec-fetch-site: same-site",
        "origin: http://evil.example",
        "origin: null",
    ] {
        assert_eq!(drain(&[&own, json, &right, line]), 403, "{line}");
        assert_eq!(server.say("GET /v1/status", &[&own, line], "").0, 403, "{line}");
    }
    let own_origin = format!("origin: http://{}", server.address);
    assert_eq!(drain(&[&own, json, &right, &own_origin]), through);
    assert_eq!(drain(&[&own, json, &right, &own_origin, "origin: http://evil.example"]), 403);
    // What a form can send without asking: no JSON.
    assert_eq!(drain(&[&own, "content-type: text/plain", &right]), 400);
    // Asked beforehand by a browser whether it may.
    let asked = server.say(
        "OPTIONS /v1/drain",
        &[&own, "origin: http://evil.example", "access-control-request-method: POST"],
        "",
    );
    assert_eq!(asked.0, 403);
    assert!(!asked.1.contains("access-control-allow"), "{}", asked.1);
}

#[test]
fn wrong_tokens_are_slowed_down_and_the_right_one_is_not() {
    let server = start(false);
    let wrong = "authorization: Bearer 00000000000000000000000000000000";
    let statuses: Vec<u16> = (0..8).map(|_| server.ask("GET /v1/status", &[wrong]).0).collect();
    assert_eq!(statuses[..5], [401; 5]);
    assert_eq!(statuses[5..], [429; 3]);
    let through = 503;
    assert_eq!(
        server.ask("GET /v1/status", &[&bearer()]).0,
        through,
        "somebody else behind the same address"
    );
    assert_eq!(server.ask("GET /v1/status", &[wrong]).0, 429, "and that forgives nothing");
    assert_eq!(server.ask("GET /", &[]).0, 200, "the page itself says so");
    std::fs::remove_file(server.folder.path().join("token")).unwrap();
}

/// Without the network, which may be slower than the rate.
#[tokio::test]
async fn the_page_itself_and_refusals_have_a_rate_too() {
    let folder = tempfile::tempdir().unwrap();
    for (method, path, usual) in [("GET", "/", 200), ("GET", "/v1/status", 401), ("POST", "/v1/kick", 403)] {
        let tokens = Tokens::open(folder.path().join("token")).unwrap();
        let gate = Gate { rules: Rules::default(), tokens, tries: Mutex::default(), meter: Meter::default() };
        let router = router(Arc::new(gate), Live::of(Handle::detached()), Handle::detached());
        let from = SocketAddr::from(([192, 0, 2, 1], 1));
        let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(from))));
        let mut statuses = Vec::new();
        for _ in 0..2000 {
            let request = Request::builder().method(method).uri(path).header("host", "192.0.2.7");
            let response = service.call(request.body(Body::empty()).unwrap()).await.unwrap();
            statuses.push(response.status().as_u16());
        }
        assert_eq!(statuses[..100], [usual; 100], "{path}");
        assert!(statuses.contains(&429), "{path}");
    }
}

#[tokio::test]
async fn what_is_refused_takes_nothing_from_who_works_behind_the_same_address() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let tokens = Tokens::open(file.clone()).unwrap();
    std::fs::write(&file, format!("ops {TOKEN}\n")).unwrap();
    let gate = Gate { rules: Rules::default(), tokens, tries: Mutex::default(), meter: Meter::default() };
    let router = router(Arc::new(gate), Live::of(Handle::detached()), Handle::detached());
    let from = SocketAddr::from(([192, 0, 2, 1], 1));
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(from))));
    let ask = async |path: &str, (name, value): (&str, &str)| {
        let request = Request::builder().uri(path).header("host", "192.0.2.7").header(name, value);
        service.call(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    };
    let another_site = ("sec-fetch-site", "cross-site");
    let wrong = ("authorization", "Bearer 00000000000000000000000000000000");
    for refused in [another_site, wrong] {
        let mut last = 0;
        for _ in 0..2000 {
            last = ask("/v1/status", refused).await;
        }
        assert_eq!(last, 429, "{refused:?}");
        let right = format!("Bearer {TOKEN}");
        // No engine is behind this page.
        assert_eq!(ask("/v1/status", ("authorization", &right)).await, 503, "{refused:?}");
        assert_eq!(ask("/", ("accept", "*/*")).await, 200, "{refused:?}");
    }
}

/// Whether an answer without an end has ended within some time.
async fn ends(body: &mut Body, within: Duration) -> bool {
    tokio::time::timeout(within, body.frame()).await.is_ok_and(|frame| frame.is_none())
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let tokens = Tokens::open(file.clone()).unwrap();
    let other = "f".repeat(32);
    std::fs::write(&file, format!("alice {TOKEN}\nbob {other}\n")).unwrap();
    let rules = Rules { names: Vec::new(), open_to_look: false, has_tls: false };
    let gate = Arc::new(Gate { rules, tokens, tries: Mutex::default(), meter: Meter::default() });
    let endless = || Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
    let leased = |token: &str| lease::until_taken_away(endless(), gate.clone(), token.to_owned());
    let (mut alice, mut bob) = (leased(TOKEN), leased(&other));
    assert!(!ends(&mut alice, Duration::from_secs(3)).await && !ends(&mut bob, Duration::ZERO).await);
    // At once, or a look may come while half of it is written.
    let next = folder.path().join("next");
    std::fs::write(&next, format!("bob {other}\n")).unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&next, &file).unwrap();
    assert!(ends(&mut alice, Duration::from_secs(60)).await);
    assert!(!ends(&mut bob, Duration::from_secs(3)).await);
    // What is whole already is not cut.
    let mut whole = lease::until_taken_away(Body::from("all of it"), gate.clone(), TOKEN.to_owned());
    assert_eq!(whole.frame().await.unwrap().unwrap().data_ref().unwrap(), "all of it");
}

#[test]
fn certificates_are_loaded_and_what_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let files = TlsFiles { certificate: path("cert.pem"), key: path("key.pem") };
    let told = |files: &TlsFiles| format!("{:#}", tls::load(files).err().unwrap());
    assert!(told(&files).contains("cert.pem has no certificate in PEM that can be read"), "{}", told(&files));
    std::fs::write(&files.certificate, "nonsense").unwrap();
    assert!(told(&files).contains("has no certificate"), "{}", told(&files));
}
