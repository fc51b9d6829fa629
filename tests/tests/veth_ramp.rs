//! A host comes back share by share: if it is well, its part of the new flows follows and nothing breaks; if it is not, few clients notice
//! before it is taken back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::health::busy;
use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, Requests, RequestsOptions};

/// Requests a second on each VIP.
const RATE: u32 = 150;

fn requests(site: &Site, patience: Duration) -> Vec<Requests> {
    let client = &site.topology.client().ns;
    let start = |vip| {
        let options = RequestsOptions {
            rate: RATE,
            patience,
            // All that hang at once, and room for others.
            concurrency: 128,
            ..RequestsOptions::new(SocketAddr::new(vip, WEB))
        };
        Requests::start(client, &options).unwrap()
    };
    site.vips().into_iter().map(start).collect()
}

fn host(site: &Site, name: &str) -> serde_json::Value {
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let hosts = status["hosts"].as_array().unwrap().clone();
    hosts.into_iter().find(|host| host["name"] == name).unwrap()
}

/// The part of the answers in this time that came from the host.
fn part(requests: &[Requests], host: &str, from: Instant, to: Instant) -> f64 {
    let (mut own, mut all) = (0, 0);
    for answers in requests.iter().map(|requests| requests.answered_between(from, to)) {
        own += answers.get(host).copied().unwrap_or(0);
        all += answers.values().sum::<u64>();
    }
    own as f64 / all as f64
}

#[test]
fn a_healthy_host_comes_back_share_by_share() {
    let mut site = Site::start(Topology::builder(), &Plan::new("l2", 3)).unwrap();
    let client = site.topology.client().ns.clone();
    let echo = SocketAddr::new(site.vips()[0], ECHO);
    let interval = Duration::from_millis(300);
    let options = ConnectionsOptions { connections: 150, interval, ..ConnectionsOptions::new(echo) };
    let tcp = Connections::start(&client, &options).unwrap();
    assert!(tcp.wait_opened(150, LIMIT), "{:?}", tcp.counts());
    let web = requests(&site, Duration::from_secs(10));
    site.daemon.cli_ok(&["drain", "h3"]).unwrap();
    std::thread::sleep(Duration::from_secs(1));

    let asked = Instant::now();
    let text = site.daemon.cli_ok(&["undrain", "h3", "--ramp", "24s", "--reason", "patched"]).unwrap();
    let begun = Instant::now();
    // The first step, or the next one on a slow machine.
    assert!(
        text.contains("h3: takes new flows again, ramping up: ") && text.contains("%, full in 2"),
        "{text}"
    );
    let at = |seconds: u64| begun + Duration::from_secs(seconds);
    // The share by the clock, at least and at most: the ramp began while it was asked for. A step of it is a second.
    let share = |from: Instant, to: Instant| {
        [from - begun, to - asked].map(|gone| ((gone.as_secs_f64() + 0.5) / 25.0).min(1.0))
    };
    let mut resumed = begun;
    for quarter in 0..4u64 {
        // While there is no daemon it takes no step, and that may last for long on a slow machine.
        let from = at(6 * quarter).max(resumed);
        let until = at(6 * (quarter + 1)).max(from + Duration::from_secs(4));
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        let middle = from + (until - from) / 2;
        let (measured, due) = (part(&web, "h3", from, until), share(middle, middle).map(|share| share / 3.0));
        println!("{quarter}: {measured:.3} of the new flows, {due:.3?} by the clock");
        assert!(due[0] - 0.05 < measured && measured < due[1] + 0.05, "{quarter}: {measured}, {due:?}");
        if quarter == 1 {
            // It goes on where it should be by the clock.
            site.daemon.sigkill();
            site.daemon.start_again().unwrap();
            resumed = Instant::now();
            let ramp = host(&site, "h3")["ramp"].clone();
            let [least, most] = share(resumed, Instant::now());
            let found = ramp["share"].as_f64().unwrap_or_else(|| panic!("{ramp}"));
            // By whole seconds.
            assert!((least - 0.06..=most + 0.06).contains(&found), "{least} to {most}: {ramp}");
            assert_eq!((&ramp["reason"], &ramp["paused"]), (&"patched".into(), &serde_json::Value::Null));
        }
    }
    std::thread::sleep(at(36).saturating_duration_since(Instant::now()));
    while !host(&site, "h3")["ramp"].is_null() {
        assert!(begun.elapsed() < Duration::from_secs(36) + busy(), "{}", site.daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let full = part(&web, "h3", at(26), at(36));
    assert!((full - 1.0 / 3.0).abs() < 0.05, "{full}");
    let counts = tcp.finish().unwrap();
    assert_eq!((counts.broken, counts.missing, counts.open), (0, 0, 0), "{counts:?}");
    for web in web {
        let counts = web.finish().unwrap();
        assert_eq!(counts.failed, 0, "{counts:?}");
    }
    assert_eq!(site.violations().unwrap(), "{}");
}

/// What is wrong with the host that comes back.
#[derive(Clone, Copy)]
enum Fault {
    /// Nobody listens: clients are reset.
    Closed,
    /// SYNs vanish: clients wait.
    Dropped,
}

fn a_ramp_is_taken_back(fault: Fault) {
    let mut site = Site::start(Topology::builder(), &Plan::new("l2", 3)).unwrap();
    // A SYN that is dropped is sent again after 1, 3 and 7 s. At the last time its pin is over, and another host may answer.
    let web = requests(&site, Duration::from_secs(6));
    site.daemon.cli_ok(&["drain", "h3"]).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    match fault {
        Fault::Closed => drop(site.nginx.pop()),
        Fault::Dropped => {
            let rules = "table inet fault { chain input { type filter hook input priority 0; tcp dport 80 tcp flags syn drop; }; }";
            site.topology.host(3).ns.shell(&format!("nft '{rules}'")).unwrap();
        }
    }
    site.daemon.cli_ok(&["undrain", "h3", "--ramp", "120s"]).unwrap();
    let begun = Instant::now();
    let mut paused = None;
    loop {
        let host = host(&site, "h3");
        if host["admin"] != "active" {
            let reason = host["drain"]["reason"].as_str().unwrap();
            assert!(reason.starts_with("ramp taken back: "), "{host}");
            assert_eq!(
                (&host["drain"]["by"], &host["ramp"]),
                (&"sluice".into(), &serde_json::Value::Null),
                "{host}"
            );
            println!("{reason}");
            break;
        }
        if paused.is_none() && host["ramp"]["paused"].is_string() {
            paused = Some((begun.elapsed(), host["ramp"]["share"].as_f64().unwrap()));
            let text = site.daemon.cli_ok(&["status"]).unwrap();
            assert!(text.contains("h3: ramp paused: "), "{text}");
        }
        assert!(begun.elapsed() < LIMIT, "{host}\n{}", site.daemon.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let (taken_back, (after, share)) = (Instant::now(), paused.expect("it was paused before"));
    let log = site.daemon.log();
    assert!(
        log.contains("the ramp of h3 is paused") && log.contains("the ramp of h3 is taken back"),
        "{log}"
    );
    // Those under way may fail yet; then no new one does.
    std::thread::sleep(Duration::from_secs(1));
    let (mut failed, mut all) = (0, 0);
    for web in &web {
        assert!(web.wait_ended(LIMIT), "{:?}", web.counts());
        let log = web.log();
        all += log.len() as u64;
        let failures = log
            .into_iter()
            .filter(|request| !matches!(request.outcome, sluice_tests::traffic::Outcome::Ok(_)));
        let late = failures.clone().filter(|request| request.begun > taken_back).count();
        assert_eq!(late, 0, "a request that was begun after it failed");
        failed += failures.count() as u64;
    }
    println!(
        "paused after {after:.1?} at {share:.3} of its share, taken back after {:.1?}: {failed} of {all} requests failed",
        taken_back - begun
    );
    assert!(share < 0.2, "{share}");
    // A third of all would have been its own.
    assert!(failed > 0 && failed * 15 < all, "{failed} of {all}");
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_host_without_a_server_is_taken_back() {
    a_ramp_is_taken_back(Fault::Closed);
}

#[test]
fn a_host_that_does_not_answer_is_taken_back() {
    a_ramp_is_taken_back(Fault::Dropped);
}
