//! Hosts that are found by how clients fare, without a check; and what must not be taken for a host that fails. Losses are made by
//! netfilter, as not every kernel has netem. `SLUICE_PASSIVE_SECONDS` has false alarms looked for for so long, instead of some seconds.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use lb_userspace::speak::Speaker;
use nix::sys::signal::Signal;
use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::health::{busy, events, until};
use sluice_tests::packets::Packet;
use sluice_tests::servers::Nginx;
use sluice_tests::site::{ECHO, Plan, Site, WEB, served};
use sluice_tests::topology::{Builder, Layout, Namespace, Topology};
use sluice_tests::traffic::{Outcome, Requests, RequestsOptions};

/// From a dead backend to the last new flow that is sent to it.
const PROMISED: Duration = Duration::from_secs(3);
const EJECT: &str = "[services.health.passive]\naction = \"eject\"\nhold = \"4s\"\nlongest_hold = \"8s\"\n";
const WARN: &str = "[services.health.passive]\naction = \"warn\"\nwindow = \"2s\"\n";
/// After it a client gives up.
const PATIENCE: Duration = Duration::from_secs(2);

fn site_of(forward: &'static str, sections: &[(&'static str, &'static str)]) -> Site {
    let layout = if forward == "l2" { Layout::Flat } else { Layout::Routed };
    site_on(Topology::builder().layout(layout), forward, sections)
}

fn site_on(builder: Builder, forward: &'static str, sections: &[(&'static str, &'static str)]) -> Site {
    let plan = Plan { sections: sections.to_vec(), timeouts: [20, 30, 10, 4], ..Plan::new(forward, 3) };
    Site::start(builder, &plan).unwrap()
}

fn site(passive: &'static str) -> Site {
    site_of("l2", &[("web", passive)])
}

/// 200 a second, which is 67 a host.
fn requests(site: &Site) -> Requests {
    let options = RequestsOptions {
        rate: 200,
        concurrency: 192,
        patience: PATIENCE,
        ..RequestsOptions::new(SocketAddr::new(site.vips()[0], WEB))
    };
    Requests::start(&site.topology.client().ns, &options).unwrap()
}

/// What is known of a host of the IPv4 service.
fn passive(site: &Site, host: &str) -> Value {
    let report = site.daemon.cli_json(&["health", host, "--json"]).unwrap();
    let all = report["passive"].as_array().unwrap();
    all.iter().find(|of| of["service"] == "web-v4").expect("web is watched").clone()
}

/// A sample of the metrics of the IPv4 service, by its name and its other label.
fn metric(site: &Site, name: &str, label: &str) -> u64 {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--unix-socket"]).arg(site.daemon.socket()).arg("http://s/metrics");
    let text = String::from_utf8(curl.output().unwrap().stdout).unwrap();
    let sample = format!("sluice_{name}{{service=\"web-v4\",{label}}} ");
    let found = text.lines().find_map(|line| line.strip_prefix(&sample));
    found.unwrap_or_else(|| panic!("no {sample}: {text}")).parse().unwrap()
}

/// Until all hosts have flows enough, and all is well.
fn settle(site: &Site) {
    until(site, "all fare well", || {
        ["h1", "h2", "h3"].iter().all(|host| passive(site, host)["new_flows"].as_u64().unwrap() >= 20)
    });
}

/// That a host is out since the failure, and when the last new flow was that was sent to it before it is tried again.
fn is_found(site: &Site, web: &Requests, what: &str, host: &str, failure: Instant) -> Duration {
    until(site, &format!("{host} is down"), || {
        events(site, "host_down").last().is_some_and(|down| down["host"] == host)
    });
    let found = Instant::now();
    // Requests that hang are known to have failed when their patience ends. Until then it is not tried again.
    std::thread::sleep(PATIENCE + Duration::from_secs(1));
    let log = web.log();
    let failed = log.iter().filter(|request| !matches!(request.outcome, Outcome::Ok(_)));
    let begun =
        failed.map(|request| request.begun).filter(|begun| *begun < found + Duration::from_millis(2500));
    let last = begun.max().expect("a third of all failed at first").saturating_duration_since(failure);
    let down = events(site, "host_down");
    let down = down.iter().find(|down| down["host"] == host).unwrap();
    println!("{what}: the last new flow {last:?} after; {}", down["why"]);
    assert!(down["service"] == "web-v4", "{down:?}");
    assert!(down["why"].as_str().unwrap().starts_with("passive: "), "{down:?}");
    last
}

#[test]
fn a_killed_server_is_found_and_tried_again() {
    let mut site = site(EJECT);
    let web = requests(&site);
    settle(&site);
    let killed = Instant::now();
    drop(site.nginx.remove(2));
    let last = is_found(&site, &web, "killed", "h3", killed);
    assert!(last <= PROMISED + busy(), "{last:?}");
    let ejections =
        ["by=\"passive\"", "by=\"checks\""].map(|by| metric(&site, "service_ejections_total", by));
    assert!(ejections[0] > 0 && ejections[1] == 0, "{ejections:?}");
    let history = site.daemon.cli_ok(&["history"]).unwrap();
    assert!(history.contains("passive"), "{history}");
    // It is tried again, is dead still, and out for longer.
    until(&site, "h3 is out once more", || events(&site, "host_down").len() == 2);
    let status = site.daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("h3 is down for web-v4: passive: "), "{status}");
    let report = site.daemon.cli_ok(&["health"]).unwrap();
    assert!(report.contains("web-v4: h3 get no new flows") && report.contains("DOWN for"), "{report}");
    let again = passive(&site, "h3");
    let (since, until_then) = (again["since"].as_u64().unwrap(), again["until"].as_u64().unwrap());
    assert!(until_then >= since + 8, "{again}");
    // A restart forgets neither.
    site.daemon.terminate().unwrap();
    site.daemon.start_again().unwrap();
    let after = passive(&site, "h3");
    // A restart may take as long as it is to be out; then it is tried again, and not before.
    if after["oper"] == "up" {
        assert!(after["since"].as_u64() >= Some(until_then), "{again} {after}");
    } else {
        assert_eq!((&after["oper"], &after["since"]), (&again["oper"], &again["since"]), "{after}");
    }
    let host = site.topology.host(3);
    let back = Nginx::start(host, &served(&site.topology, host, &Plan::new("l2", 3))).unwrap();
    until(&site, "h3 is back", || passive(&site, "h3")["oper"] == "up");
    let from = Instant::now();
    until(&site, "h3 answers", || web.answered_between(from, Instant::now()).contains_key("h3"));
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
    drop(back);
}

/// Its neighbours still find it: nothing but silence tells.
fn vanishes(site: &Site, web: &Requests, number: usize) {
    let vanished = Instant::now();
    drop_on(&site.topology.host(number).ns, "tcp dport 80 drop");
    let last = is_found(site, web, "vanished", &format!("h{number}"), vanished);
    assert!(last <= PROMISED + busy(), "{last:?}");
}

#[test]
fn a_host_behind_a_tunnel_that_vanished_is_found() {
    let site = site_of("ipip", &[("web", EJECT)]);
    let web = requests(&site);
    settle(&site);
    vanishes(&site, &web, 3);
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

/// The kernel goes on shaking hands for a server that hangs until its accept queue is full. Before that, nothing that clients send is other
/// than it was.
fn stopped(site: &mut Site, backlog: u32) -> (Duration, Requests, Nginx) {
    let host = site.topology.host(3);
    drop(site.nginx.remove(2));
    host.ns.shell(&format!("sysctl -qw net.core.somaxconn={backlog}")).unwrap();
    let nginx = Nginx::start(host, &served(&site.topology, host, &Plan::new("l2", 3))).unwrap();
    let web = requests(site);
    settle(site);
    let stopped = Instant::now();
    nginx.process().signal(Signal::SIGSTOP).unwrap();
    let last = is_found(site, &web, &format!("stopped, a queue of {backlog}"), "h3", stopped);
    nginx.process().signal(Signal::SIGCONT).unwrap();
    (last, web, nginx)
}

#[test]
fn a_stopped_server_is_found_once_its_accept_queue_is_full_and_another_that_vanished() {
    let mut site = site(EJECT);
    let (last, web, _nginx) = stopped(&mut site, 16);
    assert!(last <= PROMISED + busy(), "{last:?}");
    until(&site, "h3 is back", || passive(&site, "h3")["oper"] == "up");
    settle(&site);
    vanishes(&site, &web, 1);
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
#[ignore = "a measurement: nginx's own queue of 511, which takes clients some time to fill"]
fn a_stopped_server_with_a_long_queue_is_found_late() {
    let mut site = site(EJECT);
    let (last, ..) = stopped(&mut site, 511);
    assert!(last > PROMISED, "{last:?}");
}

#[test]
fn a_warning_is_told_and_changes_nothing() {
    let mut site = site(WARN);
    let web = requests(&site);
    settle(&site);
    drop(site.nginx.remove(2));
    until(&site, "h3 is suspected", || !events(&site, "host_suspected").is_empty());
    let told = events(&site, "host_suspected");
    assert!(told[0]["why"].as_str().unwrap().contains("got no answer"), "{told:?}");
    let status = site.daemon.cli_ok(&["status"]).unwrap();
    assert!(status.contains("h3 seems to fail for web-v4: "), "{status}");
    assert!(site.daemon.cli_ok(&["health"]).unwrap().contains("SUSPECTED"));
    let suspected = ["handshakes", "resets"].map(|sign| format!("sign=\"{sign}\""));
    assert_eq!(suspected.map(|sign| metric(&site, "suspected_hosts", &sign)), [1, 0]);
    let host = site.topology.host(3);
    let back = Nginx::start(host, &served(&site.topology, host, &Plan::new("l2", 3))).unwrap();
    until(&site, "h3 is cleared", || !events(&site, "host_cleared").is_empty());
    assert_eq!(events(&site, "host_down"), [] as [Value; 0]);
    web.finish().unwrap();
    drop(back);
}

/// Until it is told of h3 for this service, in these words; nobody is taken out, and no other host is suspected.
fn is_told(site: &Site, service: &str, words: &str) {
    let of = |event: &Value| event["service"] == service && event["why"].as_str().unwrap().contains(words);
    until(site, &format!("{service}: {words}"), || events(site, "host_suspected").iter().any(of));
    let told = events(site, "host_suspected");
    assert!(told.iter().all(|event| event["host"] == "h3"), "{told:?}");
    assert_eq!(events(site, "host_down"), [] as [Value; 0]);
}

/// What clients say by a RST while all handshakes are well, and a kernel by ICMP errors when its tunnel is gone.
#[test]
fn a_host_whose_clients_reset_and_one_without_its_tunnel_are_suspected() {
    let routed = Topology::builder().layout(Layout::Routed);
    let mut site = site_on(routed, "ipip", &[("web", WARN), ("echo", WARN)]);
    let web = requests(&site);
    let vip = SocketAddr::new(site.vips()[0], ECHO);
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let resets = site.topology.client().ns.start("resets", move || -> std::io::Result<()> {
        while !told.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect_timeout(&vip, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            // All of it: the kernel resets whoever leaves something unread.
            let mut greeting = [0; 3];
            stream.read_exact(&mut greeting)?;
            let linger = greeting.starts_with(b"h3").then_some(Duration::ZERO);
            socket2::SockRef::from(&stream).set_linger(linger)?;
            std::thread::sleep(Duration::from_millis(4));
        }
        Ok(())
    });
    is_told(&site, "echo-v4", "clients reset");
    stop.store(true, Ordering::Relaxed);
    resets.unwrap().join().unwrap().unwrap().unwrap();

    settle(&site);
    // One error a second and receiver, if nothing is said.
    site.topology.host(3).ns.shell("sysctl -qw net.ipv4.icmp_ratelimit=0").unwrap();
    // Its kernel knows nothing of the tunnel, and says so to the balancer.
    drop(site.decap.remove(2));
    is_told(&site, "web-v4", "ICMP errors say that packets do not get there");
    assert!(passive(&site, "h3")["unreachables"].as_u64().unwrap() > 0);
    web.finish().unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

fn drop_on(ns: &Namespace, rule: &str) {
    let chain = "type filter hook input priority 0";
    ns.shell(&format!("nft 'table inet fault {{ chain input {{ {chain}; {rule}; }}; }}'")).unwrap();
}

/// How long false alarms are looked for.
fn watched_for() -> Duration {
    let seconds = std::env::var("SLUICE_PASSIVE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4))
}

/// Nobody was taken out, nor suspected.
fn no_alarm(site: &Site, what: &str, web: &Requests) {
    let counts = web.counts();
    println!("{what}: {:?} of {counts:?}", watched_for());
    for kind in ["host_down", "host_suspected"] {
        assert_eq!(events(site, kind), [] as [Value; 0], "{what}");
    }
    assert!(counts.ok > 100, "{counts:?}");
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn lossy_lines_are_no_host_s_fault() {
    let site = site(EJECT);
    let web = requests(&site);
    settle(&site);
    for percent in [1, 5] {
        let rule = format!("numgen random mod 100 < {percent} drop");
        let nodes = || site.topology.hosts().iter().chain(site.topology.clients());
        // Of what comes to hosts, and of what comes back from them.
        nodes().for_each(|node| drop_on(&node.ns, &rule));
        std::thread::sleep(watched_for());
        no_alarm(&site, &format!("{percent} % of all packets lost"), &web);
        nodes().for_each(|node| drop(node.ns.shell("nft delete table inet fault").unwrap()));
    }
    web.finish().unwrap();
}

/// SYNs that no client is behind, from a socket that sends frames as they are, until it is dropped.
struct Slander {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Result<()>>>>,
}

impl Slander {
    /// From these, in turns, so many a second.
    fn start(site: &Site, rate: f64, source: impl Fn(u64) -> (Ipv4Addr, u16) + Send + 'static) -> Self {
        let client = &site.topology.client().ns;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let vip = SocketAddr::new(site.vips()[0], WEB);
        let macs = [&client, &&site.topology.balancer().ns].map(|ns| mac(ns));
        let thread = client.start("slander", move || -> Result<()> {
            let speaker = Speaker::open()?;
            let index = nix::net::if_::if_nametoindex("eth0")?;
            let (begun, mut sent) = (Instant::now(), 0u64);
            while !told.load(Ordering::Relaxed) {
                while (sent as f64) < begun.elapsed().as_secs_f64() * rate {
                    let (address, port) = source(sent);
                    let from = SocketAddr::new(IpAddr::V4(address), port);
                    let frame = Packet::tcp(from, vip).macs(macs[0], macs[1]).syn(sent as u32 * 7919).build();
                    // A queue that is full is no failure of the test.
                    let _ = speaker.send_frame(index, &frame);
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        });
        Slander { stop, thread: Some(thread.unwrap()) }
    }
}

impl Drop for Slander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic").flatten().expect("frames can be sent");
        }
    }
}

fn mac(ns: &Namespace) -> [u8; 6] {
    let links: Value = serde_json::from_str(&ns.shell("ip -json link show dev eth0").unwrap()).unwrap();
    let text = links[0]["address"].as_str().unwrap().to_owned();
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// No flood takes a host out. Nor does somebody who has found out by which of his ports he reaches a host, and begins flows there alone: all
/// hosts fare well, and the many networks of honest clients, or here the one, say so.
#[test]
fn a_flood_is_no_host_s_fault_and_one_that_somebody_slanders_stays_in_use() {
    let site = site(EJECT);
    let web = requests(&site);
    settle(&site);
    flood(&site, &web);
    // What it began says nothing of the seconds that follow.
    slander(&site);
    web.finish().unwrap();
}

fn flood(site: &Site, web: &Requests) {
    // Ten times as many as clients begin, from anywhere.
    let flood = Slander::start(site, 2000.0, |n| {
        (Ipv4Addr::from(45 << 24 | (n as u32).wrapping_mul(2_654_435_761) >> 8), 1024 + (n % 60_000) as u16)
    });
    let begun = || site.reasons().unwrap()["forward_new"];
    let before = begun();
    std::thread::sleep(watched_for());
    // A machine with much else to do sends it more slowly.
    let came = || begun() - before;
    let what = "the flood has arrived";
    until(site, what, || came() > 1000 * watched_for().as_secs());
    println!("{what}: {} new flows", came());
    no_alarm(site, "a flood of 2000 SYNs a second", web);
    drop(flood);
}

fn slander(site: &Site) {
    let attacker = Ipv4Addr::new(45, 1, 1, 1);
    let search = Slander::start(site, 3000.0, move |n| (attacker, 1024 + (n % 1500) as u16));
    let begun = Instant::now();
    let ports = loop {
        std::thread::sleep(Duration::from_secs(1));
        let flows = site.daemon.cli_ok(&["flows", "--host", "h3", "--json"]).unwrap();
        let clients = flows.split("45.1.1.1:").skip(1).map(|rest| rest.split('"').next().unwrap());
        let ports: Vec<u16> = clients.map(|port| port.parse().unwrap()).collect();
        if ports.len() > 100 {
            break ports;
        }
        assert!(begun.elapsed() < LIMIT, "{flows}");
    };
    drop(search);
    let slander = Slander::start(site, 1000.0, move |n| (attacker, ports[n as usize % ports.len()]));
    until(site, "h3 is suspected", || !events(site, "host_suspected").is_empty());
    std::thread::sleep(Duration::from_secs(2));
    let told = events(site, "host_suspected");
    assert!(
        told[0]["host"] == "h3" && told[0]["why"].as_str().unwrap().contains("It stays in use"),
        "{told:?}"
    );
    println!("{}", told[0]["why"]);
    assert_eq!(events(site, "host_down"), [] as [Value; 0]);
    assert_eq!(passive(site, "h3")["oper"], "up");
    drop(slander);
}
