//! Events of a real daemon: streamed during drains, given to hooks, lost by readers that are too slow; and its API held
//! against its OpenAPI document.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lb_userspace::api::client::{Client, EventStream};
use lb_userspace::api::types::{AtDeadline, Event, EventName, Happening, Kick, KickRequest, Outcome};
use serde_json::{Value, json};
use sluice_tests::LIMIT;
use sluice_tests::health::busy;
use sluice_tests::site::{ECHO, Plan, Site};
use sluice_tests::topology::{Process, Topology};
use sluice_tests::traffic::{Connections, ConnectionsOptions};
use tokio::runtime::Runtime;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn start(hooks: &str) -> Site {
    let mut plan = Plan::new("l2", 3);
    // The plan of a site is made of constants.
    plan.top = hooks.to_owned().leak();
    Site::start(Topology::builder(), &plan).unwrap()
}

fn client(site: &Site) -> Client {
    Client::new(site.daemon.socket())
}

/// Events up to the first of this kind.
async fn until(stream: &mut EventStream, name: EventName) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.happening.name() != name) {
        let next = tokio::time::timeout(LIMIT, stream.next()).await;
        let next = next.unwrap_or_else(|_| panic!("no {name:?} behind {events:?}"));
        events.push(next.unwrap().unwrap_or_else(|| panic!("the stream ended behind {events:?}")));
    }
    events
}

fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn file(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
}

#[test]
fn a_drain_is_told_from_its_beginning_to_its_end_and_hooks_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let site = start(&format!(
        "[hooks]\ntimeout = \"15s\"\n\
         on_drain_began = \"echo no such luck >&2; exit 3\"\n\
         on_drained = \"cat > {at}/event; env | grep ^SLUICE_ | sort > {at}/new; mv {at}/new {at}/environment\"\n\
         on_undrained = \"sleep 600 & echo $! > {at}/child; wait\"\n"
    ));
    let runtime = runtime();
    let mut stream = runtime.block_on(client(&site).events("/v1/events", None)).unwrap();
    let waiting = site.daemon.cli_start(&["wait", "h2", "--for", "drained", "--timeout", "30s"]).unwrap();
    site.daemon.cli_ok(&["drain", "h2", "--reason", "new kernel", "--by", "alice"]).unwrap();
    let events = runtime.block_on(until(&mut stream, EventName::Drained));
    let (first, last) = (&events[0], &events[events.len() - 1]);
    let Happening::DrainBegan { host, drain, by, reason, .. } = &first.happening else { panic!("{first:?}") };
    assert_eq!((host.as_str(), by.as_str(), reason.as_deref()), ("h2", "alice", Some("new kernel")));
    assert!(matches!(events[1].happening, Happening::Published { .. }), "{events:?}");
    let expected = Happening::Drained {
        service: None,
        clients: None,
        host: host.clone(),
        drain: *drain,
        by: by.clone(),
        reason: reason.clone(),
        outcome: Outcome::Drained,
    };
    assert_eq!(last.happening, expected);
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    let receipt = site.daemon.cli_json(&["receipt", &drain.to_string(), "--json"]).unwrap();
    assert_eq!((&receipt["host"], &receipt["outcome"]), (&"h2".into(), &"drained".into()));
    assert!(waiting.wait(LIMIT).unwrap().unwrap().success());

    // The hook saw what the stream told.
    let environment = wait_for("the hook of the end", || file(&folder.path().join("environment")));
    let expected = [
        format!("SLUICE_AT={}", last.at),
        "SLUICE_BY=alice".to_owned(),
        format!("SLUICE_DRAIN={drain}"),
        "SLUICE_EVENT=drained".to_owned(),
        "SLUICE_HOST=h2".to_owned(),
        format!("SLUICE_INSTANCE={}", site.daemon.instance()),
        "SLUICE_OUTCOME=drained".to_owned(),
        "SLUICE_REASON=new kernel".to_owned(),
        format!("SLUICE_SEQ={}", last.seq),
    ];
    assert_eq!(environment.lines().collect::<Vec<_>>(), expected);
    let given: Event = serde_json::from_str(&file(&folder.path().join("event")).unwrap()).unwrap();
    assert_eq!(given, *last);
    wait_for("the log of the failure", || {
        let log = site.daemon.log();
        let is_told = log.contains("on_drain_began: no such luck")
            && log.contains("on_drain_began failed: exit status: 3");
        is_told.then_some(())
    });

    // One that hangs is killed with what it started, and holds nobody up meanwhile.
    site.daemon.cli_ok(&["undrain", "h2", "--by", "bob"]).unwrap();
    let events = runtime.block_on(until(&mut stream, EventName::Undrained));
    let undrained = &events[events.len() - 1].happening;
    let is_bob = matches!(undrained, Happening::Undrained { by, left: None, .. } if by == "bob");
    assert!(is_bob, "{undrained:?}");
    let child = wait_for("the hook of the undrain", || file(&folder.path().join("child")));
    // Live connections, or the drain might be over before its deadline.
    let echo = SocketAddr::new(site.vips()[0], ECHO);
    let options = ConnectionsOptions {
        connections: 60,
        interval: Duration::from_millis(200),
        ..ConnectionsOptions::new(echo)
    };
    let held = Connections::start(&site.topology.client().ns, &options).unwrap();
    assert!(held.wait_opened(60, LIMIT), "{:?}", held.counts());
    site.daemon.cli_ok(&["drain", "h1", "--deadline", "1s", "--at-deadline", "reset"]).unwrap();
    let events = runtime.block_on(until(&mut stream, EventName::Drained));
    let is_deadline = |event: &&Event| event.happening.name() == EventName::Deadline;
    let Some(Event { happening: Happening::Deadline { host, at_deadline, .. }, .. }) =
        events.iter().find(is_deadline)
    else {
        panic!("{events:?}")
    };
    assert_eq!((host.as_str(), *at_deadline), ("h1", AtDeadline::Reset));
    wait_for("the end of the hook", || {
        site.daemon.log().contains("on_undrained was killed after 15 s").then_some(())
    });
    let process = Path::new("/proc").join(child.trim());
    wait_for("the end of what it started", || {
        let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z")).then_some(())
    });

    // People's words, of what is remembered.
    let text = site.daemon.cli_ok(&["events", "--host", "h2", "--event", "drained"]).unwrap();
    assert!(
        text.contains(&format!(" drained h2: drained (drain {drain}, by alice: new kernel)\n")),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_stream_ends_with_the_daemon_and_goes_on_with_the_next() {
    let mut site = start("");
    let runtime = runtime();
    let mut stream = runtime.block_on(client(&site).events("/v1/events?after=0", None)).unwrap();
    let first = runtime.block_on(until(&mut stream, EventName::Published));
    assert!(matches!(first[0].happening, Happening::DaemonStarted { adopted: false, .. }), "{first:?}");
    let follower = Follower::start(&site);
    // A reader that never reads does not keep the daemon from ending.
    let mut stalled = raw(&site, "/v1/events?after=0");
    read_head(&mut stalled);
    wait_for("the follower follows", || {
        site.daemon.cli_ok(&["kick", "h1"]).unwrap();
        (!follower.text().is_empty()).then_some(())
    });
    let began = Instant::now();
    assert!(site.daemon.terminate().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(10) + busy(), "{:?}", began.elapsed());
    let rest = runtime.block_on(until(&mut stream, EventName::DaemonStopping));
    assert_eq!(runtime.block_on(stream.next()).unwrap(), None, "behind {rest:?}");
    let seen = rest[rest.len() - 1].seq;

    site.daemon.start_again().unwrap();
    let target = format!("/v1/events?after={seen}");
    let mut stream = runtime.block_on(client(&site).events(&target, None)).unwrap();
    let events = runtime.block_on(until(&mut stream, EventName::Published));
    assert_eq!(events[0].happening, Happening::Lost { count: None });
    assert!(matches!(events[1].happening, Happening::DaemonStarted { adopted: true, .. }), "{events:?}");
    assert!(events[0].seq > seen);
    wait_for("the follower follows the next daemon", || {
        follower.text().contains("\"daemon_started\"").then_some(())
    });
    site.daemon.cli_ok(&["drain", "h2"]).unwrap();
    wait_for("the follower is told of the drain", || {
        follower.text().contains("\"drain_began\"").then_some(())
    });
    let text = follower.end();
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = told.iter().filter_map(|event| event["event"].as_str());
    let told: Vec<&str> = told.filter(|e| !["published", "kick_began", "kick_ended"].contains(e)).collect();
    assert_eq!(told, ["daemon_stopping", "daemon_started", "drain_began"]);
}

/// A CLI that follows events, whose lines are read on a thread.
struct Follower {
    process: Process,
    text: Arc<Mutex<Vec<u8>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Follower {
    fn start(site: &Site) -> Follower {
        let process = site.daemon.cli_start(&["events", "--new", "--json"]).unwrap();
        let (text, mut output) = (Arc::new(Mutex::new(Vec::new())), process.take_output().0.unwrap());
        let into = text.clone();
        let thread = std::thread::spawn(move || {
            let mut part = [0; 65_536];
            while let Ok(length @ 1..) = output.read(&mut part) {
                into.lock().unwrap().extend_from_slice(&part[..length]);
            }
        });
        Follower { process, text, thread }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    /// Ends it; all lines that it wrote.
    fn end(self) -> String {
        self.process.kill();
        self.thread.join().unwrap();
        let mut text = String::from_utf8(self.text.lock().unwrap().clone()).unwrap();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }
}

/// A connection over which something was asked for.
fn raw(site: &Site, target: &str) -> UnixStream {
    let mut stream = UnixStream::connect(site.daemon.socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nhost: sluice\r\n\r\n").unwrap();
    stream
}

/// Up to the answer's head: from then on the stream is there.
fn read_head(stream: &mut UnixStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

#[test]
fn a_reader_that_is_slow_loses_events_and_nobody_waits_for_it() {
    let site = start("");
    let mut slow = raw(&site, "/v1/events");
    read_head(&mut slow);
    let runtime = runtime();
    let client = client(&site);
    let request =
        KickRequest { host: "h1".to_owned(), reason: Some("x".repeat(4000)), ..KickRequest::default() };
    let mut longest = Duration::ZERO;
    let (mut text, mut chunk) = (String::new(), [0; 65536]);
    let (mut kicks, mut taken) = (800, Instant::now());
    // Two events each, of a kick of no flow.
    while kicks > 0 {
        kicks -= 1;
        let began = Instant::now();
        let kick: Kick = runtime.block_on(client.post("/v1/kick", &request)).unwrap();
        assert_eq!(kick.chosen, 0);
        longest = longest.max(began.elapsed());
        // Who takes nothing for 30 s is cut off. On a slow machine it takes a little, and as much more is told.
        if taken.elapsed() > Duration::from_secs(10) {
            slow.set_nonblocking(true).unwrap();
            for _ in 0..4 {
                match slow.read(&mut chunk) {
                    Ok(length) => text += &String::from_utf8_lossy(&chunk[..length]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            slow.set_nonblocking(false).unwrap();
            (kicks, taken) = (kicks + 64, Instant::now());
        }
    }
    assert!(longest < LIMIT, "{longest:?}");
    site.daemon.cli_ok(&["drain", "h3", "--reason", "the last"]).unwrap();
    while !text.contains("\"the last\"") {
        let length = slow.read(&mut chunk).unwrap();
        assert!(length > 0, "the stream ended");
        text += &String::from_utf8_lossy(&chunk[..length]);
    }
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Event> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
    let lost = events.iter().filter_map(|event| match event.happening {
        Happening::Lost { count } => Some(count.expect("they were this daemon's")),
        _ => None,
    });
    let lost: Vec<u64> = lost.collect();
    assert!(lost.iter().sum::<u64>() > 100, "{lost:?}");
    // What was told and what was lost is all that there was.
    let told = (events.len() - lost.len()) as u64 + lost.iter().sum::<u64>();
    assert_eq!(told, events[events.len() - 1].seq - events[0].seq + 1, "{lost:?}");
    assert!(told > 1600, "{told}");
}

/// A plan of which no process is left when the daemon ends in the midst of it.
const RUN: &str =
    "name = \"test\"\nhosts = [\"h3\"]\n[run]\ncommand = \"true\"\n[undrain]\nwatch = \"10m\"\n";

#[test]
fn what_the_daemon_answers_is_as_its_document_says() {
    let site = start("");
    site.daemon
        .cli_ok(&["drain", "h2", "--deadline", "1s", "--at-deadline", "move", "--reason", "test"])
        .unwrap();
    site.daemon.cli_ok(&["drain", "h2", "--wait", "--timeout", "30s"]).unwrap();
    let runtime = runtime();
    let client = client(&site);
    let get = |target: &str| -> Value {
        runtime.block_on(client.get(target)).unwrap_or_else(|error| panic!("{target}: {error}"))
    };
    let document = get("/v1/openapi.json");
    let validate = |what: &str, operation: &Value, answer: &Value| {
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        let name = schema["$ref"].as_str().unwrap_or_else(|| panic!("{what} has no schema: {operation}"));
        let mut root = document.clone();
        root["$ref"] = name.into();
        let validator = jsonschema::validator_for(&root).unwrap();
        if let Err(error) = validator.validate(answer) {
            panic!("{what}: {error} at {} in {answer}", error.instance_path());
        }
    };
    let kick = json!({"host": "h1", "reason": "test"});
    let config = std::fs::read_to_string(site.daemon.config_path()).unwrap();
    let posts = [
        ("/v1/kick", kick),
        ("/v1/drain", json!({"hosts": ["h3"], "lease": 600})),
        ("/v1/plan/drain", json!({"hosts": ["h1"]})),
        ("/v1/undrain", json!({"hosts": ["h2", "h3"]})),
        ("/v1/apply", json!({"config": config, "dry_run": true})),
        ("/v1/self/drain", json!({"quiet_for": 600})),
        ("/v1/self/undrain", json!({})),
        ("/v1/maintain/plan", json!({"plan": RUN})),
        ("/v1/maintain/runs", json!({"plan": RUN})),
        (
            "/v1/shifts",
            json!({"service": "web-v4", "from": ["h1"], "to": ["h2", "h3"], "steps": ["50%"], "every": 600}),
        ),
    ];
    let mut count = 0;
    for (path, body) in &posts {
        let answer: Value =
            runtime.block_on(client.post(path, body)).unwrap_or_else(|error| panic!("{path}: {error}"));
        validate(path, &document["paths"][path]["post"], &answer);
        count += 1;
    }
    let last = |path: &str, list: &str, number: &str| get(path)[list][0][number].to_string();
    let (run, shift) = (last("/v1/maintain", "runs", "run"), last("/v1/shifts", "shifts", "shift"));
    let from_last = format!("?from={}", get("/v1/history")["revisions"][0]["revision"]);
    let receipt = &get("/v1/receipts")["receipts"][0];
    for (path, operations) in document["paths"].as_object().unwrap() {
        let Some(operation) = operations.get("get") else { continue };
        // A stream, the document itself, and what is not JSON.
        if ["/v1/events", "/v1/openapi.json", "/metrics"].contains(&path.as_str()) {
            continue;
        }
        let id = if path.starts_with("/v1/kicks") { json!(1) } else { receipt["drain"].clone() };
        let mut target =
            path.replace("{id}", &id.to_string()).replace("{host}", "h2").replace("{revision}", "1");
        target = target.replace("{run}", &run).replace("{shift}", &shift);
        target += match path.as_str() {
            "/v1/plan/drain" => "?host=h1",
            "/v1/diff" => &from_last,
            _ => "",
        };
        validate(&target, operation, &get(&target));
        count += 1;
    }
    assert!(count >= 20, "{count}");
}
