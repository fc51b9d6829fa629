//! What follows from a host that is down: who else is taken out, where its flows go, and how it comes back.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::health::{PACE, TCP, events, is, nginx, service, site, slots, until, until_all};
use sluice_tests::site::{ECHO, Site, WEB};
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, Requests, RequestsOptions, UdpFlows, UdpFlowsOptions, UdpWrong,
};

const ALL: [&str; 3] = ["h1", "h2", "h3"];

/// Of nginx, which can be killed beside the servers whose flows go on.
const OF_NGINX: &str = "[[services.checks]]\ntype = \"tcp\"\nport = 80\n";

#[test]
fn flows_of_a_host_that_is_down_are_moved_after_their_time_of_grace() {
    // Longer than a thread of a busy machine may stand still.
    const GRACE: Duration = Duration::from_secs(12);
    let moves = "down_flows = \"move\"\ndown_after = \"12s\"\n";
    let sections: [(&str, &[&str]); 2] =
        [("echo", &[OF_NGINX, PACE, moves]), ("echo-udp", &[OF_NGINX, PACE, moves])];
    let mut site = site("l2", 3, &sections);
    until_all(&site, &ALL, "up");
    let client = &site.topology.client().ns;
    let echo = SocketAddr::new(site.vips()[0], ECHO);
    let interval = Duration::from_millis(200);
    let tcp = ConnectionsOptions { connections: 60, interval, ..ConnectionsOptions::new(echo) };
    let tcp = Connections::start(client, &tcp).unwrap();
    let udp = UdpFlowsOptions { flows: 60, interval, ..UdpFlowsOptions::new(echo) };
    let udp = UdpFlows::start(client, &udp).unwrap();
    assert!(tcp.wait_opened(60, LIMIT), "{:?}", tcp.counts());
    assert!(udp.wait_for(LIMIT, |counts| counts.hosts.values().map(|host| host.flows).sum::<u64>() == 60));
    let had = (tcp.counts().hosts["h3"].open, udp.counts().hosts["h3"].flows);
    assert!(had.0 > 5 && had.1 > 5, "{had:?}");
    assert!(!site.reasons().unwrap().contains_key("forward_moved"));

    // Before it is down for sure, whenever this thread hears of that.
    let killed = Instant::now();
    drop(site.nginx.remove(2));
    until(&site, "h3 is down", || is(&site, "h3", "down"));
    // Until then they stay, and its servers answer, which is more than the check could know.
    std::thread::sleep(GRACE / 4);
    let (so_far, moved) = (tcp.counts(), udp.counts().moved);
    assert_eq!((so_far.broken, moved), (0, 0), "{so_far:?}");
    // A datagram that is lost or late is no move.
    let moves = || -> Vec<_> {
        udp.troubles(0).into_iter().filter(|of| matches!(of.what, UdpWrong::Moved(_))).collect()
    };
    let moved = || moves().iter().filter(|of| of.host.as_deref() == Some("h3")).count() as u64;
    until(&site, "all of h3 have moved", || tcp.counts().hosts["h3"].open == 0 && moved() == had.1);
    let took = killed.elapsed();
    println!("moved {took:?} after it was killed");
    // Whole seconds of two clocks.
    assert!(took + Duration::from_secs(2) > GRACE, "{took:?}");

    let last = tcp.counts();
    assert_eq!(last.broken, had.0, "each TCP flow of h3, and no other: {last:?}");
    // The kernel of the host where they went has never heard of them.
    assert_eq!(last.reasons.keys().collect::<Vec<_>>(), ["connection reset"], "{last:?}");
    assert!(["h1", "h2"].iter().all(|host| last.hosts[*host].broken == 0), "{last:?}");
    let forwarded = site.reasons().unwrap()["forward_moved"];
    assert!(forwarded >= had.0 + had.1, "{forwarded} of {had:?}");
    until(&site, "h3 has no flow", || site.live("h3").unwrap() == 0);
    let metrics = site
        .topology
        .balancer()
        .ns
        .shell(&format!("curl -s --unix-socket {} http://sluice/metrics", site.daemon.socket().display()));
    let metrics = metrics.unwrap();
    let ended = metrics
        .lines()
        .find(|line| line.contains("ended_flows") && line.contains("\"h3\"") && line.contains("\"moved\""));
    let ended: f64 = ended.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect(&metrics);
    assert_eq!(ended, (had.0 + had.1) as f64);
    assert_eq!(moved(), moves().len() as u64, "each once, and no other: {:?}", udp.troubles(0));
    tcp.finish().unwrap();
    site.finish_udp(udp);
    assert_eq!(site.violations().unwrap(), "{}");
}

/// A list of names of a service's health.
fn names(site: &Site, of: &str, list: &str) -> Vec<String> {
    let health = service(site, of);
    health[list].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn no_more_are_ejected_than_may_be() {
    let mut site = site("l2", 4, &[("web", &[TCP, PACE, "max_ejected = \"50%\"\n"])]);
    let hosts = ["h1", "h2", "h3", "h4"];
    until_all(&site, &hosts, "up");
    let before = slots(&site, "web-v4", "h4");
    // One after the other: who is down for longest is believed first.
    for number in [3, 4, 2] {
        drop(site.nginx.remove(if number == 2 { 1 } else { 2 }));
        let name = format!("h{number}");
        until(&site, &name, || is(&site, &name, "down"));
        std::thread::sleep(Duration::from_secs(1));
    }
    for web in ["web-v4", "web-v6"] {
        until(&site, "two are out", || names(&site, web, "ejected") == ["h3", "h4"]);
        assert_eq!(names(&site, web, "spared"), ["h2"]);
        assert_eq!(names(&site, web, "down"), ["h2", "h3", "h4"]);
        assert_eq!((slots(&site, web, "h3"), slots(&site, web, "h4")), (0, 0));
        assert!(slots(&site, web, "h2") > 0 && slots(&site, web, "h1") > 0);
    }
    let report = site.daemon.cli_ok(&["health"]).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let words = "h3, h4 get no new flows; h2 are down and used all the same (max_ejected)";
    assert!(report.contains(words), "{report}");
    let status = site.daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("h2 is down for web-v4, and used: max_ejected is reached"), "{status}");
    // With one of them back there is room for the other.
    let back = nginx(&site, 4);
    until(&site, "h2 is out instead of h4", || names(&site, "web-v4", "ejected") == ["h2", "h3"]);
    assert!(names(&site, "web-v4", "spared").is_empty());
    until(&site, "h4 has slots", || slots(&site, "web-v4", "h4") >= before);
    assert_eq!(slots(&site, "web-v4", "h2"), 0);
    drop(back);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_host_that_was_down_comes_back_share_by_share() {
    // So long that what this thread sees late is a small part of it.
    const RAMP: Duration = Duration::from_secs(24);
    let mut site = site("l2", 3, &[("web", &[TCP, PACE, "ramp = \"24s\"\n"])]);
    until_all(&site, &ALL, "up");
    let before = ALL.map(|host| slots(&site, "web-v4", host));
    assert!(before[2] > 0, "who is up for the first time has its share at once");
    drop(site.nginx.remove(2));
    until(&site, "h3 is out", || is(&site, "h3", "down") && slots(&site, "web-v4", "h3") == 0);
    let client = &site.topology.client().ns;
    let web = SocketAddr::new(site.vips()[0], WEB);
    // Downloads of some 40 s in slots of which some will be h3's again.
    let slow = RequestsOptions {
        path: "/slow?rate=500k".to_owned(),
        count: 20,
        rate: 0,
        concurrency: 20,
        patience: LIMIT,
        ..RequestsOptions::new(web)
    };
    let slow = Requests::start(client, &slow).unwrap();
    assert!(slow.wait_for(LIMIT, |counts| counts.begun == 20), "{:?}", slow.counts());
    // They count as begun before they are connected.
    std::thread::sleep(Duration::from_secs(3));
    let short = RequestsOptions { rate: 200, concurrency: 128, patience: LIMIT, ..RequestsOptions::new(web) };
    let short = Requests::start(client, &short).unwrap();

    // Its ramp begins later for sure, and before this thread sees that it is up.
    let begun = Instant::now();
    let back = nginx(&site, 3);
    until(&site, "h3 is up", || is(&site, "h3", "up"));
    let up = Instant::now();
    let share = || {
        let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
        let host = status["hosts"].as_array().unwrap().iter().find(|host| host["name"] == "h3");
        host.unwrap()["share"].as_f64().unwrap()
    };
    let (mut owned, mut shares) = (Vec::new(), Vec::new());
    let full = loop {
        owned.push(slots(&site, "web-v4", "h3"));
        shares.push(share());
        if owned.last() == Some(&before[2]) {
            break begun.elapsed();
        }
        assert!(up.elapsed() < RAMP + LIMIT, "{owned:?}\n{}", site.daemon.log());
        std::thread::sleep(Duration::from_millis(150));
    };
    println!("full after {full:?}: {owned:?}");
    assert!(owned.is_sorted() && shares.is_sorted(), "{owned:?} {shares:?}");
    let steps: BTreeSet<u64> = owned.iter().copied().filter(|slots| (1..before[2]).contains(slots)).collect();
    assert!(steps.len() >= 4, "{owned:?}");
    let least = *steps.first().unwrap();
    assert!(least * 4 < before[2], "the first step is a small one: {owned:?}");
    assert!(full + Duration::from_secs(2) > RAMP, "{full:?}");
    assert_eq!(ALL.map(|host| slots(&site, "web-v4", host)), before, "the very ring from before");

    let part = |from: Instant, to: Instant| {
        let answers = short.answered_between(from, to);
        answers.get("h3").copied().unwrap_or(0) as f64 / answers.values().sum::<u64>() as f64
    };
    let (first, last) = (part(up, up + RAMP / 4), part(up + RAMP * 3 / 4, up + RAMP));
    println!("{first:.3} of the new flows in its first quarter, {last:.3} in its last");
    assert!(first < 0.18 && last > first + 0.08, "{first} {last}");
    let counts = short.finish().unwrap();
    assert_eq!(counts.failed, 0, "{counts:?}");
    let counts = slow.finish().unwrap();
    assert_eq!((counts.ok, counts.failed), (20, 0), "{counts:?}");
    assert!(!counts.hosts.contains_key("h3"), "{counts:?}");
    assert_eq!(events(&site, "host_up").len(), 2, "of each family");
    drop(back);
    assert_eq!(site.violations().unwrap(), "{}");
}
