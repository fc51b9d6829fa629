//! Hosts fail and come back, under traffic: new flows leave a sick host by themselves, and no flow of a well one breaks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::health::{
    FALL, INTERVAL, PACE, TCP, busy, events, health, is, lines, nginx, site, slots, until,
};
use sluice_tests::site::{ECHO, Plan, Site, WEB, config};
use sluice_tests::topology::{Layout, Topology};
use sluice_tests::traffic::{Connections, ConnectionsOptions, Outcome, Requests, RequestsOptions};

const HTTP: &str = "[[services.checks]]\ntype = \"http\"\nbody = \"h\"\n";

fn requests(site: &Site) -> Requests {
    requests_within(site, Duration::from_secs(10))
}

/// Of a patience that is short enough that those which hang leave threads for others.
fn requests_that_may_hang(site: &Site) -> Requests {
    requests_within(site, Duration::from_secs(2))
}

fn requests_within(site: &Site, patience: Duration) -> Requests {
    let options = RequestsOptions {
        rate: 200,
        concurrency: 128,
        patience,
        ..RequestsOptions::new(SocketAddr::new(site.vips()[0], WEB))
    };
    Requests::start(&site.topology.client().ns, &options).unwrap()
}

/// Connections to the echo service, which has no checks of its own.
fn connections(site: &Site) -> Connections {
    let echo = SocketAddr::new(site.vips()[0], ECHO);
    let options = ConnectionsOptions {
        connections: 60,
        interval: Duration::from_millis(300),
        ..ConnectionsOptions::new(echo)
    };
    let tcp = Connections::start(&site.topology.client().ns, &options).unwrap();
    assert!(tcp.wait_opened(60, LIMIT), "{:?}", tcp.counts());
    tcp
}

/// How long after `failure` the last request was begun that failed, of those that are begun until a second from now.
fn last_failure(web: &Requests, failure: Instant) -> Option<Duration> {
    std::thread::sleep(Duration::from_secs(1));
    // Requests that hang are known to have failed when their patience ends.
    assert!(web.wait_ended(LIMIT), "{:?}", web.counts());
    let log = web.log();
    let failed = log.iter().filter(|request| !matches!(request.outcome, Outcome::Ok(_)));
    failed.map(|request| request.begun).max().map(|last| last.saturating_duration_since(failure))
}

/// Who answers requests that are begun from now on: of so many, or a few more.
fn answers(web: &Requests, count: u64) -> BTreeMap<String, u64> {
    let from = Instant::now();
    let is_enough = || web.answered_since(from).values().sum::<u64>() >= count;
    assert!(web.wait_for(LIMIT, |_| is_enough()), "{:?}", web.counts());
    // Those of a host that is slow count, too.
    let to = Instant::now();
    assert!(web.wait_ended(LIMIT), "{:?}", web.counts());
    web.answered_between(from, to)
}

/// Whether there was such an event of a service.
fn is_told(site: &Site, kind: &str, service: &str) -> bool {
    events(site, kind).iter().any(|event| event["service"] == service)
}

#[test]
fn a_host_whose_server_is_killed_gets_no_new_flows_and_comes_back() {
    let mut site = site("l2", 3, &[("web", &[TCP, PACE])]);
    let (web, tcp) = (requests(&site), connections(&site));
    until(&site, "all are up", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    let killed = Instant::now();
    drop(site.nginx.remove(2));
    until(&site, "h3 is down", || events(&site, "host_down").len() == 2);
    let last = last_failure(&web, killed).expect("a third of all failed at first");
    println!("killed: the last new flow {last:?} after");
    assert!(last <= INTERVAL * FALL + Duration::from_secs(1) + busy(), "{last:?}");
    let down = events(&site, "host_down");
    assert_eq!(down.len(), 2, "one of each family's service: {down:?}");
    assert!(
        down.iter()
            .all(|event| event["host"] == "h3" && event["why"].as_str().unwrap().starts_with("tcp :80: "))
    );
    let status = site.daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("DOWN for 2") && status.contains("h3 is down for web-v4: tcp :80: "), "{status}");
    let report = site.daemon.cli_ok(&["health"]).unwrap();
    assert!(report.contains("web-v4: h3 get no new flows"), "{report}");
    let test = site.daemon.cli_ok(&["health", "test", "h3"]).unwrap();
    assert!(test.contains("connecting to 10.77.1.3:80") && test.contains("failed: connect: "), "{test}");

    let back = nginx(&site, 3);
    until(&site, "h3 is up", || is(&site, "h3", "up"));
    until(&site, "h3 has its slots", || slots(&site, "web-v4", "h3") > 0);
    let answers = answers(&web, 400);
    let own = answers.get("h3").copied().unwrap_or(0) as f64 / answers.values().sum::<u64>() as f64;
    assert!((own - 1.0 / 3.0).abs() < 0.1, "{answers:?}");
    assert_eq!(events(&site, "host_up").len(), 2);
    let counts = tcp.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "of a service that asks nothing: {counts:?}");
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
    drop(back);
}

/// A config that says no more than what is asked: a run each two seconds, and three that fail.
#[test]
fn by_the_defaults_a_host_that_dies_and_one_that_hangs_are_out_within_seven_seconds() {
    let mut site = site("l2", 5, &[("web", &[HTTP])]);
    let web = requests_that_may_hang(&site);
    let all = ["h1", "h2", "h3", "h4", "h5"];
    until(&site, "all are up", || all.iter().all(|host| is(&site, host, "up")));
    let failure = Instant::now();
    site.nginx[1].process().signal(Signal::SIGSTOP).unwrap();
    drop(site.nginx.remove(4));
    until(&site, "both are down", || events(&site, "host_down").len() == 4);
    let last = last_failure(&web, failure).expect("some failed at first");
    println!("by the defaults: the last new flow {last:?} after");
    assert!(last <= Duration::from_secs(7) + busy(), "{last:?}");
    site.nginx[1].process().signal(Signal::SIGCONT).unwrap();
    until(&site, "h2 is up", || is(&site, "h2", "up"));
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_host_whose_server_is_stopped_gets_no_new_flows_and_its_flows_go_on_when_it_does() {
    // A host that hangs is found by the timeout of a run, which is part of the second that is promised beside the runs.
    let pace = PACE.replace("timeout = \"500ms\"", "timeout = \"300ms\"");
    let site = site("l2", 3, &[("web", &[HTTP, &pace])]);
    let web = requests_that_may_hang(&site);
    // Downloads that are under way on all hosts.
    let slow = RequestsOptions {
        path: "/slow?rate=2m".to_owned(),
        count: 12,
        rate: 0,
        concurrency: 12,
        patience: Duration::from_secs(60),
        ..RequestsOptions::new(SocketAddr::new(site.vips()[0], WEB))
    };
    let slow = Requests::start(&site.topology.client().ns, &slow).unwrap();
    until(&site, "all are up", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    let stopped = Instant::now();
    site.nginx[2].process().signal(Signal::SIGSTOP).unwrap();
    until(&site, "h3 is down", || events(&site, "host_down").len() == 2);
    let last = last_failure(&web, stopped).expect("a third of all failed at first");
    println!("stopped: the last new flow {last:?} after");
    assert!(last <= INTERVAL * FALL + Duration::from_secs(1) + busy(), "{last:?}");
    assert!(is(&site, "h3", "down"));
    site.nginx[2].process().signal(Signal::SIGCONT).unwrap();
    until(&site, "h3 is up", || is(&site, "h3", "up"));
    let counts = slow.finish().unwrap();
    println!("{counts:?}");
    assert_eq!((counts.ok, counts.failed), (12, 0), "{counts:?}");
    assert!(counts.hosts.contains_key("h3"), "{counts:?}");
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn the_clients_of_a_host_that_is_down_are_reset_if_the_service_says_so() {
    let reset = "down_flows = \"reset\"\ndown_after = \"2s\"\n";
    let site = site("l2", 3, &[("web", &[HTTP, PACE, reset])]);
    let slow = RequestsOptions {
        path: "/slow?rate=2m".to_owned(),
        count: 12,
        rate: 0,
        concurrency: 12,
        patience: Duration::from_secs(60),
        ..RequestsOptions::new(SocketAddr::new(site.vips()[0], WEB))
    };
    let slow = Requests::start(&site.topology.client().ns, &slow).unwrap();
    until(&site, "all are up", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    // Deaf to requests, but its kernel still sends what is under way, so clients speak.
    let rules = "table inet fault { chain input { type filter hook input priority 0; tcp dport 80 tcp flags syn drop; }; }";
    site.topology.host(3).ns.shell(&format!("nft '{rules}'")).unwrap();
    let counts = slow.finish().unwrap();
    println!("{counts:?}");
    let of_others: u64 = counts.hosts.iter().filter(|(host, _)| *host != "h3").map(|(_, count)| count).sum();
    assert_eq!(counts.ok, of_others, "all on h3 were reset: {counts:?}");
    assert!(counts.failed > 0 && counts.failed + counts.ok == 12, "{counts:?}");
    assert!(site.reasons().unwrap().get("answer_reset").is_some_and(|count| *count > 0));
    assert_eq!(site.violations().unwrap(), "{}");
}

fn through_the_vip(forward: &'static str) {
    const TCP_VIP: &str = "[[services.checks]]\ntype = \"tcp\"\nthrough = \"vip\"\n";
    const UDP_VIP: &str =
        "[[services.checks]]\ntype = \"udp\"\nthrough = \"vip\"\nsend = \"are you there\"\n";
    let sections: [(&str, &[&str]); 2] = [("web", &[TCP, TCP_VIP, PACE]), ("echo-udp", &[UDP_VIP, PACE])];
    let mut site = site(forward, 3, &sections);
    until(&site, "all are up", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    let text = site.daemon.cli_ok(&["health", "test", "h2"]).unwrap();
    println!("{text}");
    assert_eq!(text.matches("SYN and ACK came from").count(), 2, "{text}");
    assert_eq!(text.matches("well: ").count(), 6, "{text}");
    let host = &site.topology.host(2).ns;
    if forward == "nat" {
        // It has no VIP that could be missing; a firewall that knows the balancer's checks and not clients is as good a fault. Ports of
        // the kernel's choice are others, as they are by default.
        let range = "sysctl -qw net.ipv4.ip_local_port_range='32768 60999'";
        site.topology.balancer().ns.shell(range).unwrap();
        let rules = "table inet fault { chain input { type filter hook input priority 0; \
                     tcp sport 61000-65000 tcp dport { 80, 8080 } drop; udp sport 61000-65000 drop; }; }";
        host.shell(&format!("nft '{rules}'")).unwrap();
    } else {
        for vip in site.vips() {
            let length = if vip.is_ipv4() { 32 } else { 128 };
            host.shell(&format!("ip addr del {vip}/{length} dev lo")).unwrap();
        }
    }
    is_down_through_the_vip_alone(&site, 2);
    for other in ["h1", "h3"] {
        assert!(is(&site, other, "up"), "{:?}", health(&site, other));
    }
    if matches!(forward, "ipip" | "gue") {
        // Nobody takes packets for the VIP out of their tunnel any more.
        drop(site.decap.remove(2));
        is_down_through_the_vip_alone(&site, 3);
        assert!(is(&site, "h1", "up"), "{:?}", health(&site, "h1"));
    }
    assert_eq!(site.violations().unwrap(), "{}");
}

/// Until all checks through the VIP say so of a host; those to its own address say otherwise.
fn is_down_through_the_vip_alone(site: &Site, number: usize) {
    until(site, &format!("h{number} is down"), || {
        let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
        let hosts = status["hosts"].as_array().unwrap();
        hosts[number - 1]["down_for"].as_array().is_some_and(|services| services.len() == 4)
    });
    for check in health(site, &format!("h{number}")) {
        let is_through = check["check"].as_str().unwrap().ends_with("through the VIP");
        assert_eq!(check["oper"], if is_through { "down" } else { "up" }, "{check}");
    }
}

#[test]
fn a_missing_vip_is_found_through_the_vip_l2() {
    through_the_vip("l2");
}

#[test]
fn a_missing_vip_is_found_through_the_vip_ipip() {
    through_the_vip("ipip");
}

#[test]
fn a_missing_vip_is_found_through_the_vip_gue() {
    through_the_vip("gue");
}

#[test]
fn a_deaf_host_is_found_through_the_vip_nat() {
    through_the_vip("nat");
}

#[test]
fn with_all_hosts_down_all_are_used_and_one_that_comes_back_has_all() {
    let mut site = site("l2", 3, &[("web", &[TCP, PACE])]);
    until(&site, "all are up", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    let before = ["h1", "h2", "h3"].map(|host| slots(&site, "web-v4", host));
    site.nginx.clear();
    until(&site, "all are down", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "down")));
    until(&site, "it is told that all are used", || {
        let status = site.daemon.cli_ok(&["status"]).unwrap();
        status.contains("so few hosts are up that those that are down are used, too")
    });
    let now = || ["h1", "h2", "h3"].map(|host| slots(&site, "web-v4", host));
    until(&site, "each has its slots", || now() == before);
    let back = nginx(&site, 2);
    until(&site, "h2 is up", || is(&site, "h2", "up"));
    until(&site, "h2 has all", || slots(&site, "web-v4", "h1") + slots(&site, "web-v4", "h3") == 0);
    // The echo service asks nothing, so nothing has changed for it.
    assert!(slots(&site, "echo-v4", "h1") > 0);
    drop(back);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_restart_in_the_middle_turns_nobody() {
    let mut site = site("l2", 3, &[("web", &[TCP, PACE])]);
    let web = requests(&site);
    until(&site, "all are up", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    drop(site.nginx.remove(2));
    until(&site, "h3 is down", || is(&site, "h3", "down") && slots(&site, "web-v4", "h3") == 0);
    let quiet = Instant::now();
    for _ in 0..3 {
        site.daemon.sigkill();
        site.daemon.start_again().unwrap();
        assert!(is(&site, "h3", "down"), "{:?}", health(&site, "h3"));
        assert!(is(&site, "h1", "up") && is(&site, "h2", "up"));
        assert_eq!(slots(&site, "web-v4", "h3"), 0);
        std::thread::sleep(Duration::from_millis(300));
    }
    std::thread::sleep(Duration::from_secs(1));
    assert!(web.wait_ended(LIMIT), "{:?}", web.counts());
    let late = web.log().into_iter().filter(|request| request.begun > quiet + Duration::from_millis(100));
    let failed: Vec<_> = late.filter(|request| !matches!(request.outcome, Outcome::Ok(_))).collect();
    assert!(failed.is_empty(), "no new flow reached the host that is down: {failed:?}, {quiet:?}");
    let told = events(&site, "host_down");
    assert!(told.iter().all(|event| event["host"] == "h3"), "{told:?}");
    assert_eq!(events(&site, "host_up").len(), 0);
    let back = nginx(&site, 3);
    until(&site, "h3 is up", || is(&site, "h3", "up"));
    drop(back);
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_drain_outranks_health() {
    let mut site = site("l2", 3, &[("web", &[TCP, PACE])]);
    until(&site, "all are up", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    drop(site.nginx.remove(2));
    until(&site, "h3 is down", || is(&site, "h3", "down"));
    until(&site, "h2 has all", || slots(&site, "web-v4", "h1") + slots(&site, "web-v4", "h3") == 0);
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    assert_ne!(status["hosts"][0]["admin"], "active");
    assert_eq!(status["hosts"][0]["oper"], "up", "a drained host is asked, too, and both axes are shown");
    let refused = site.daemon.cli(&["drain", "h2"]).unwrap();
    assert_eq!(refused.status.code(), Some(10), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(slots(&site, "web-v4", "h1"), 0, "what checks say brings nobody back");
    site.daemon.cli_ok(&["undrain", "h1"]).unwrap();
    assert!(slots(&site, "web-v4", "h1") > 0);

    // Clients that are treated apart have the health of their service, before and after it changes.
    let client = site.topology.client().ipv4[0].to_string();
    site.daemon.cli_ok(&["drain", "h1", "--clients", &client]).unwrap();
    let web = requests(&site);
    let found = answers(&web, 200);
    assert!(found.keys().all(|host| host == "h2"), "{found:?}");
    assert!(slots(&site, "web-v4", "h1") > 0, "others still go there");
    let back = nginx(&site, 3);
    until(&site, "h3 is up", || is(&site, "h3", "up") && slots(&site, "web-v4", "h3") > 0);
    let found = answers(&web, 200);
    assert!(found.contains_key("h3") && !found.contains_key("h1"), "{found:?}");
    let counts = web.finish().unwrap();
    assert_eq!(counts.failed, 0, "{counts:?}");
    drop(back);
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn checks_that_hang_hold_nobody_up_and_flapping_is_damped() {
    const HANGS: &str = "[[services.checks]]\ntype = \"command\"\ncommand = \"sleep 1000\"\n";
    let site = site("l2", 3, &[("web", &[TCP, PACE]), ("echo", &[HANGS, PACE])]);
    let (web, tcp) = (requests(&site), connections(&site));
    until(&site, "all are up for web", || {
        ["h1", "h2", "h3"].iter().all(|host| {
            health(&site, host).iter().all(|check| check["check"] != "tcp :80" || check["oper"] == "up")
        })
    });
    let host = &site.topology.host(3).ns;
    let cut = || {
        let rules = "table inet fault { chain input { type filter hook input priority 0; tcp dport 80 reject with tcp reset; }; }";
        host.shell(&format!("nft '{rules}'")).unwrap();
    };
    let mend = || host.shell("nft delete table inet fault").unwrap();
    let of_web = |oper: &str| {
        let checks = health(&site, "h3");
        checks.iter().filter(|check| check["check"] == "tcp :80").all(|check| check["oper"] == oper)
    };
    for time in 1..=3 {
        cut();
        until(&site, "h3 is down", || of_web("down"));
        mend();
        if time < 3 {
            until(&site, "h3 is up", || of_web("up"));
        }
    }
    // By now it is held, however well its checks go, and goes down no further time.
    for _ in 0..2 {
        std::thread::sleep(INTERVAL * 4);
        assert!(of_web("down"), "{:?}", health(&site, "h3"));
        cut();
        std::thread::sleep(INTERVAL * 3);
        mend();
    }
    let downs = events(&site, "host_down");
    let of_web = downs.iter().filter(|event| event["service"] == "web-v4").count();
    assert_eq!(of_web, 3, "{downs:?}");
    let held = health(&site, "h3").iter().any(|check| check["held_until"].is_u64());
    assert!(held, "{:?}", health(&site, "h3"));
    // All hosts hang for the echo service: panic, and nothing has changed for it.
    assert!(is_told(&site, "panic_began", "echo-v4"));
    let history = site.daemon.cli_ok(&["history"]).unwrap();
    assert!(history.contains("echo-v4 panics (less than"), "{history}");
    assert!(slots(&site, "echo-v4", "h1") > 0 && slots(&site, "echo-v4", "h2") > 0);
    let counts = tcp.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn a_checker_short_of_files_turns_nobody_down() {
    let mut site = site("l2", 3, &[("web", &[TCP, PACE])]);
    until(&site, "all are up", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    let pid = site.daemon.process().unwrap().pid();
    // The lowest number that is free between runs, whose sockets are not to be counted: there is none below it.
    let free = || {
        std::thread::sleep(Duration::from_millis(50));
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let files: Vec<u64> =
            files.map(|file| file.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        (0..).find(|number| !files.contains(number)).unwrap()
    };
    let free = (0..40).map(|_| free()).min().unwrap();
    let set = |soft: u64| {
        let shell = format!("prlimit --pid {pid} --nofile={soft}:");
        site.topology.balancer().ns.shell(&shell).unwrap();
    };
    set(free);
    std::thread::sleep(INTERVAL * 2 * FALL);
    set(1024);
    let status = site.daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("checks could not be made by this machine"), "{status}\n{}", site.daemon.log());
    assert_eq!(events(&site, "host_down").len(), 0, "{}", site.daemon.log());
    assert!(["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    // And it goes on asking.
    drop(site.nginx.remove(2));
    until(&site, "h3 is down", || is(&site, "h3", "down"));
}

#[test]
fn a_standby_host_joins_while_the_primary_is_down() {
    let standby = "standby = [\"h2\"]\n";
    let mut site = site("l2", 2, &[("web", &[standby, TCP, PACE])]);
    until(&site, "all are up", || ["h1", "h2"].iter().all(|host| is(&site, host, "up")));
    assert_eq!(slots(&site, "web-v4", "h2"), 0);
    let web = requests(&site);
    let killed = Instant::now();
    drop(site.nginx.remove(0));
    until(&site, "h1 is down", || is(&site, "h1", "down"));
    until(&site, "h2 has all", || slots(&site, "web-v4", "h1") == 0 && slots(&site, "web-v4", "h2") > 0);
    let last = last_failure(&web, killed).expect("all failed at first");
    assert!(is_told(&site, "standby_joined", "web-v4") && !is_told(&site, "standby_left", "web-v4"));
    assert!(last <= INTERVAL * FALL + Duration::from_secs(1) + busy(), "{last:?}");
    let back = nginx(&site, 1);
    until(&site, "h1 has all again", || slots(&site, "web-v4", "h2") == 0);
    until(&site, "the standby leaves", || is_told(&site, "standby_left", "web-v4"));
    // A planned change: who is drained is missing as well.
    site.daemon.cli_ok(&["drain", "h1", "--force"]).unwrap();
    until(&site, "h2 has joined", || slots(&site, "web-v4", "h2") > 0);
    drop(back);
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

/// All that the rings are: who owns how many slots, which generation last changed one, and handovers under way.
fn rings(site: &Site) -> Vec<String> {
    let rings = site.daemon.cli_json(&["rings", "--json"]).unwrap();
    let ring = |ring: &Value| format!("{} {} {}", ring["generation"], ring["open_slots"], ring["members"]);
    rings["rings"].as_array().unwrap().iter().map(ring).collect()
}

#[test]
fn while_the_balancers_own_link_is_cut_no_slot_moves_and_nobody_is_reset() {
    // The kernel tells of carriers once a second where many come and go, so the daemon may not hear of the first cut. It is too short
    // for checks to fail that often.
    let pace = PACE.replace("fall = 2", "fall = 4");
    let sections = vec![("web", lines(&[TCP, &pace]))];
    let plan = Plan { sections, timeouts: [4, 30, 2, 4], ..Plan::new("l2", 3) };
    let site = Site::start(Topology::builder().layout(Layout::Routed), &plan).unwrap();
    until(&site, "all are up", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    let tcp = connections(&site);
    // A SYN that is dropped is sent again after a second.
    let options = RequestsOptions {
        rate: 100,
        concurrency: 512,
        patience: Duration::from_secs(8),
        ..RequestsOptions::new(SocketAddr::new(site.vips()[0], WEB))
    };
    let web = Requests::start(&site.topology.client().ns, &options).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let before = rings(&site);
    let switch = site.topology.switch();
    // The last cut is longer than all checks take to fail.
    for length in [500, 3000] {
        switch.shell("ip link set p-lb down").unwrap();
        std::thread::sleep(Duration::from_millis(length));
        if length > 500 {
            let status = site.daemon.cli_ok(&["status"]).unwrap();
            assert!(status.contains("no host can be reached"), "{status}");
        }
        assert_eq!(rings(&site), before, "cut for {length} ms\n{}", site.daemon.log());
        switch.shell("ip link set p-lb up").unwrap();
        let since = Instant::now();
        let of_links = |kind| events(&site, kind).iter().filter(|event| event["service"].is_null()).count();
        let told = of_links("host_down");
        assert!(
            told % 3 == 0 && (length == 500 || told > 0),
            "{told}: all of them, and the daemon has noticed it"
        );
        until(&site, "all are found again", || of_links("host_up") == told);
        println!("found again after {:?}", since.elapsed());
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(rings(&site), before, "cut for {length} ms\n{}", site.daemon.log());
    }
    assert!(["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")), "{:?}", health(&site, "h1"));
    let reasons = site.reasons().unwrap();
    assert!(reasons.get("drop_no_next_hop").is_some_and(|count| *count > 50), "{reasons:?}");
    let answered = reasons.keys().filter(|reason| reason.starts_with("answer_re")).collect::<Vec<_>>();
    assert!(answered.is_empty(), "{reasons:?}");
    let counts = web.finish().unwrap();
    assert_eq!(counts.failed, 0, "{counts:?}");
    let counts = tcp.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn checks_come_and_go_with_configs() {
    let checked =
        Plan { sections: vec![("web", lines(&[TCP, PACE]))], timeouts: [4, 30, 2, 4], ..Plan::new("l2", 3) };
    let mut site = Site::start(Topology::builder(), &checked).unwrap();
    let apply = |site: &Site, plan: &Plan, more: &[&str]| -> Value {
        let path = site.daemon.config_path().with_file_name("other.toml");
        std::fs::write(&path, config(&site.topology, plan)).unwrap();
        let args = [&["apply", path.to_str().unwrap()], more, &["--json"]].concat();
        site.daemon.cli_json(&args).unwrap_or_else(|error| panic!("{error:#}\n{}", site.daemon.log()))
    };
    let results = |site: &Site| health(site, "h1")[0]["results"].as_array().unwrap().len();
    let tcp = connections(&site);
    until(&site, "all are up", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "up")));
    drop(site.nginx.remove(2));
    until(&site, "h3 is down", || is(&site, "h3", "down") && slots(&site, "web-v4", "h3") == 0);

    // What is only planned changes nothing, and what does not concern checks leaves what they know.
    let without = Plan { sections: Vec::new(), ..checked.clone() };
    let plan = apply(&site, &without, &["--dry-run"]);
    let changes = plan["plan"]["changes"].to_string();
    assert!(changes.contains("\"checks\"") && changes.contains("tcp :80"), "{plan}");
    assert!(is(&site, "h3", "down") && results(&site) > 2);
    apply(&site, &Plan { weights: vec![100, 50, 100], ..checked.clone() }, &[]);
    assert!(is(&site, "h3", "down") && results(&site) > 2, "{:?}", health(&site, "h3"));
    assert_eq!(slots(&site, "web-v4", "h3"), 0);

    // Without checks nobody is down; with those of before, who was so is so at once.
    apply(&site, &without, &["--confirm", "60s"]);
    assert!(health(&site, "h3").is_empty());
    assert!(slots(&site, "web-v4", "h3") > 0);
    site.daemon.cli_ok(&["rollback"]).unwrap();
    assert!(is(&site, "h3", "down"), "{:?}", health(&site, "h3"));
    assert_eq!(slots(&site, "web-v4", "h3"), 0);
    until(&site, "they are made again", || results(&site) > 1);

    // Another check of the same hosts; one that fails for all is no reason to use nobody.
    let http = "[[services.checks]]\ntype = \"http\"\npath = \"/none\"\nstatus = 200\n";
    apply(&site, &Plan { sections: vec![("web", lines(&[http, PACE]))], ..checked.clone() }, &[]);
    until(&site, "all are down", || ["h1", "h2", "h3"].iter().all(|host| is(&site, host, "down")));
    until(&site, "all are used", || slots(&site, "web-v4", "h1") > 0 && slots(&site, "web-v4", "h3") > 0);

    // What was found of who has left is forgotten: it is found anew, once for each family's service.
    apply(&site, &without, &[]);
    assert!(health(&site, "h3").is_empty());
    let downs = || events(&site, "host_down").iter().filter(|event| event["host"] == "h3").count();
    let before = downs();
    apply(&site, &checked, &[]);
    until(&site, "h3 is down again", || is(&site, "h3", "down") && slots(&site, "web-v4", "h3") == 0);
    until(&site, "it is told", || downs() >= before + 2);
    assert_eq!(downs(), before + 2);
    assert!(is(&site, "h1", "up") && is(&site, "h2", "up"));
    let counts = tcp.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}
