//! Drains that are bounded, over real sockets: a deadline that lets flows go on, and a lease that runs out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::health::events;
use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, Requests, RequestsOptions};

struct Run {
    site: Site,
    tcp: Connections,
    web: Requests,
}

impl Run {
    fn start() -> Run {
        let site = Site::start(Topology::builder(), &Plan::new("l2", 3)).unwrap();
        let client = site.topology.client().ns.clone();
        let vip = site.vips()[0];
        let interval = Duration::from_millis(300);
        let options = ConnectionsOptions {
            connections: 150,
            interval,
            ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
        };
        let tcp = Connections::start(&client, &options).unwrap();
        let options = RequestsOptions { rate: 150, ..RequestsOptions::new(SocketAddr::new(vip, WEB)) };
        let web = Requests::start(&client, &options).unwrap();
        assert!(tcp.wait_opened(150, LIMIT), "{:?}", tcp.counts());
        Run { site, tcp, web }
    }

    /// Exit code and the body's only drain.
    fn drain(&self, host: &str, more: &[&str]) -> (Option<i32>, Value) {
        let output = self.site.daemon.cli(&[&["drain", host, "--json"], more].concat()).unwrap();
        let body: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}\n{}", self.site.daemon.log()));
        (output.status.code(), body["drains"][0].clone())
    }

    /// The event of this kind, of which there is one, that tells of a drain.
    fn event(&self, kind: &str, drain: &Value) -> Value {
        let mut events = events(&self.site, kind);
        assert_eq!(events.len(), 1, "{kind}: {events:?}");
        let event = events.remove(0);
        assert_eq!((&event["drain"], &event["by"]), (&drain["id"], &drain["by"]), "{event}");
        event
    }

    fn host(&self, name: &str) -> Value {
        let status = self.site.daemon.cli_json(&["status", "--json"]).unwrap();
        let mut hosts = status["hosts"].as_array().unwrap().iter();
        hosts.find(|host| host["name"] == name).unwrap().clone()
    }

    /// Waits until the host has answered a request that was begun since then; whether it has.
    fn is_asked(&self, host: &str, since: Instant) -> bool {
        self.web.wait_for(LIMIT, |_| self.web.answered_since(since).contains_key(host))
    }

    fn finish(self) {
        let (counts, requests) = (self.tcp.finish().unwrap(), self.web.finish().unwrap());
        assert_eq!((counts.broken, counts.missing, requests.failed), (0, 0, 0), "{counts:?} {requests:?}");
        assert_eq!(self.site.violations().unwrap(), "{}");
    }
}

#[test]
fn a_deadline_that_keeps_flows_breaks_none_and_is_told() {
    let run = Run::start();
    let open = run.tcp.counts().hosts["h2"].open;
    assert!(open > 20, "{open}");
    let began = Instant::now();
    let (code, drain) = run.drain("h2", &["--deadline", "3s", "--wait", "--timeout", "15s"]);
    let waited = began.elapsed();
    assert_eq!((code, &drain["state"]), (Some(5), &"draining".into()), "{drain}");
    assert!((2..10).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!((&drain["order"]["at_deadline"], &drain["receipt"]), (&"keep".into(), &Value::Null));
    let deadline = drain["order"]["deadline"].as_u64().unwrap();
    assert_eq!(deadline, drain["started_at"].as_u64().unwrap() + 3);
    assert_eq!(run.host("h2")["drain"]["overdue_since"], deadline, "status says since when");
    let text = run.site.daemon.cli_ok(&["status"]).unwrap();
    assert!(text.contains("overdue for "), "{text}");
    std::thread::sleep(Duration::from_secs(2));
    assert!(run.site.live("h2").unwrap() >= open);
    let overdue = run.event("drain_overdue", &drain);
    assert_eq!((&overdue["host"], &overdue["deadline"]), (&"h2".into(), &deadline.into()), "{overdue}");
    assert!(overdue["left"].as_u64().unwrap() >= open, "{overdue}");

    // Joining the drain amends nothing, and a new deadline takes the place of the old one.
    let (code, joined) = run.drain("h2", &["--wait"]);
    assert_eq!((code, &joined["id"], &joined["order"]), (Some(5), &drain["id"], &drain["order"]));
    let (code, amended) = run.drain("h2", &["--deadline", "1h", "--lease", "2h"]);
    assert_eq!((code, &amended["id"], &amended["overdue_since"]), (Some(0), &drain["id"], &Value::Null));
    let refused = run.site.daemon.cli(&["drain", "h3", "--at-deadline", "reset"]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("host h3: the drain has no deadline") && words.contains("hint: give"), "{words}");
    assert_eq!(run.host("h3")["admin"], "active");

    run.tcp.close(1.0, Some("h2"));
    let (code, done) = run.drain("h2", &["--wait", "--timeout", "30s"]);
    assert_eq!(code, Some(0), "{done}\n{}", run.site.daemon.log());
    let receipt = &done["receipt"];
    assert_eq!(receipt["outcome"], "drained", "{receipt}");
    let number = |name: &str| receipt[name].as_u64().unwrap();
    let came_to = ["ended", "moved", "reset", "silent", "evicted", "left"].map(number);
    assert_eq!(number("flows_at_start") + number("appeared"), came_to.iter().sum::<u64>(), "{receipt}");
    assert!(number("ended") >= open && number("packets") > open && number("generation") > 0, "{receipt}");
    assert_eq!((number("new_flows"), &receipt["violations"]), (0, &serde_json::json!({})), "{receipt}");

    // The receipt is kept, and an operator may read it.
    let id = receipt["drain"].to_string();
    assert_eq!(run.site.daemon.cli_json(&["receipt", &id, "--json"]).unwrap(), *receipt);
    let list = run.site.daemon.cli_json(&["receipts", "--host", "h2", "--json"]).unwrap();
    assert_eq!(list["receipts"], Value::from(vec![receipt.clone()]));
    let text = run.site.daemon.cli_ok(&["receipt", &id]).unwrap();
    assert!(text.starts_with(&format!("drain {id} of h2: drained in ")), "{text}");
    let unknown = run.site.daemon.cli(&["receipt", "4711"]).unwrap();
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");
    run.finish();
}

#[test]
fn a_lease_brings_a_host_back_also_without_a_daemon_in_between() {
    let mut run = Run::start();
    let began = Instant::now();
    let (code, drain) = run.drain("h2", &["--lease", "4s", "--wait", "--timeout", "15s"]);
    assert_eq!(code, Some(8), "{drain}");
    let taken = began.elapsed();
    assert!((3..10).contains(&taken.as_secs()), "{taken:?}");
    // The waiting knows of it by the receipt.
    let host = run.host("h2");
    let receipt = &host["drain"]["receipt"];
    assert_eq!((&host["admin"], &receipt["outcome"]), (&"active".into(), &"lease_over".into()), "{host}");
    assert!(receipt["left"].as_u64().unwrap() > 0, "{receipt}");
    let over = run.event("lease_over", &drain);
    assert_eq!((&over["host"], &over["left"]), (&"h2".into(), &receipt["left"]), "{over}");
    let back = Instant::now();
    assert!(run.is_asked("h2", back), "{:?}", run.web.answered_since(back));

    // The daemon is away at the end of the lease; until it is back, the host stays out.
    let (code, drain) = run.drain("h3", &["--lease", "10s"]);
    assert_eq!(code, Some(0), "{drain}");
    let drained = Instant::now();
    run.site.daemon.sigkill();
    std::thread::sleep(Duration::from_secs(13));
    assert_eq!(run.web.answered_since(drained).get("h3"), None);
    run.site.daemon.start_again().unwrap();
    let deadline = Instant::now() + LIMIT;
    while run.host("h3")["admin"] != "active" {
        assert!(Instant::now() < deadline, "{}", run.host("h3"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let id = drain["id"].to_string();
    let receipt = run.site.daemon.cli_json(&["receipt", &id, "--json"]).unwrap();
    assert_eq!((&receipt["outcome"], &receipt["order"]), (&"lease_over".into(), &drain["order"]));
    let over = run.event("lease_over", &drain);
    assert_eq!((&over["host"], &over["left"]), (&"h3".into(), &receipt["left"]), "{over}");
    let back = Instant::now();
    assert!(run.is_asked("h3", back), "{:?}", run.web.answered_since(back));
    run.finish();
}
