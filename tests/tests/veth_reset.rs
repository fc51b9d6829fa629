//! Flows that are ended, by a drain's deadline, over real kernels: both ends of each connection learn of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::health::busy;
use sluice_tests::site::{ECHO, Plan, Site};
use sluice_tests::topology::{Layout, Topology};

/// A client's connection to an echo server.
struct Connection {
    stream: TcpStream,
    host: String,
}

impl Connection {
    fn open(vip: IpAddr) -> Self {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(vip, ECHO), LIMIT).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).unwrap();
        let host = String::from_utf8(greeting[..2].to_vec()).unwrap();
        Connection { stream, host }
    }

    /// Sends a word, and has it back.
    fn echo(&mut self) -> std::io::Result<()> {
        let mut word = [0; 4];
        self.stream.write_all(b"word")?;
        self.stream.read_exact(&mut word)?;
        assert_eq!(&word, b"word");
        Ok(())
    }

    /// How the connection has ended, without anything that is said by this side.
    fn end(&mut self) -> ErrorKind {
        match self.stream.read(&mut [0; 1]) {
            Ok(len) => panic!("{len} bytes"),
            Err(error) => error.kind(),
        }
    }
}

/// Twenty connections to each VIP; those of h1, then the others.
fn connections(site: &Site) -> (Vec<Connection>, Vec<Connection>) {
    let vips = site.vips();
    let open = || vips.into_iter().flat_map(|vip| (0..20).map(move |_| Connection::open(vip))).collect();
    let all: Vec<Connection> = site.topology.client().ns.enter(open).unwrap();
    all.into_iter().partition(|connection| connection.host == "h1")
}

fn plan(forward: &'static str) -> Plan {
    Plan { timeouts: [10, 120, 20, 10], ..Plan::new(forward, 2) }
}

/// Sockets of a host's echo server that have a client.
fn sockets(site: &Site, host: usize) -> usize {
    let all = site.topology.host(host).ns.shell("ss -Htn state established").unwrap();
    all.lines().filter(|line| line.split_whitespace().nth(2).is_some_and(|end| end.ends_with(":7"))).count()
}

/// Waits until the host has no connection any more.
fn wait_for_no_sockets(site: &Site, host: usize) {
    let start = Instant::now();
    while sockets(site, host) != 0 {
        assert!(
            start.elapsed() < LIMIT,
            "{} are left\n{}",
            sockets(site, host),
            site.topology.host(host).ns.shell("ss -tnoi state established").unwrap()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn reset_at_the_deadline(layout: Layout, forward: &'static str) {
    let site = Site::start(Topology::builder().layout(layout), &plan(forward)).unwrap();
    let (mut ours, mut others) = connections(&site);
    assert!(ours.len() >= 8, "{}", ours.len());
    assert_eq!(sockets(&site, 1), ours.len());
    let ordered = Instant::now();
    site.daemon.cli_ok(&["drain", "h1", "--deadline", "8s", "--at-deadline", "reset"]).unwrap();
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    // Until then nobody notices.
    for connection in &mut ours {
        connection.echo().unwrap();
    }
    std::thread::sleep(Duration::from_millis(9500).saturating_sub(start.elapsed()));
    // Every other client speaks, and is told at once; the others are told without a word.
    let (mut speakers, mut told) = (0, 0);
    for connection in ours.iter_mut().step_by(2) {
        let asked = Instant::now();
        let error = connection.echo().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(asked.elapsed() < Duration::from_secs(1) + busy(), "{:?}", asked.elapsed());
        speakers += 1;
        // Who has said nothing until five seconds after the deadline and its spread, of a second, is silent. Seconds are whole.
        told += u64::from(ordered.elapsed() < Duration::from_secs(7 + 1 + 5));
    }
    for connection in ours.iter_mut().skip(1).step_by(2) {
        assert_eq!(connection.end(), ErrorKind::ConnectionReset, "{}", site.daemon.log());
    }
    let output = site.daemon.cli(&["drain", "h1", "--wait", "--timeout", "30s", "--json"]).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let receipt = &answer["drains"][0]["receipt"];
    let count = |name: &str| receipt[name].as_u64().unwrap();
    assert_eq!(receipt["outcome"], "reset", "{answer}");
    assert_eq!(output.status.code(), Some(6), "{answer}");
    assert_eq!(count("flows_at_start"), ours.len() as u64, "{answer}");
    assert_eq!(count("reset") + count("silent"), ours.len() as u64, "{answer}");
    // A machine that is busy may have let some speak too late.
    assert!((told..=speakers).contains(&count("reset")), "{told} of {speakers} in time: {answer}");
    assert_eq!((count("new_flows"), count("misrouted")), (0, 0), "{answer}");
    wait_for_no_sockets(&site, 1);
    for connection in &mut others {
        connection.echo().unwrap();
    }
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn flat_l2() {
    reset_at_the_deadline(Layout::Flat, "l2");
}

#[test]
fn routed_l2() {
    reset_at_the_deadline(Layout::Routed, "l2");
}

#[test]
fn routed_ipip() {
    reset_at_the_deadline(Layout::Routed, "ipip");
}

#[test]
fn routed_gue() {
    reset_at_the_deadline(Layout::Routed, "gue");
}

#[test]
fn routed_nat() {
    reset_at_the_deadline(Layout::Routed, "nat");
}

/// The data path needs no daemon for it. The hosts learn of it from their clients' kernels, or when a daemon is there again.
#[test]
fn a_dead_daemon_s_deadline_is_kept() {
    let mut site = Site::start(Topology::builder(), &plan("l2")).unwrap();
    let (mut ours, mut others) = connections(&site);
    site.daemon.cli_ok(&["drain", "h1", "--deadline", "8s", "--at-deadline", "reset"]).unwrap();
    let start = Instant::now();
    site.daemon.sigkill();
    while start.elapsed() < Duration::from_secs(2) {
        for connection in ours.iter_mut().chain(&mut others) {
            connection.echo().unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_millis(9500).saturating_sub(start.elapsed()));
    for connection in &mut ours {
        assert_eq!(connection.echo().unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    for connection in &mut others {
        connection.echo().unwrap();
    }
    assert_eq!(sockets(&site, 1), ours.len(), "nobody has told the host");
    site.daemon.start_again().unwrap();
    wait_for_no_sockets(&site, 1);
    let waited = site.daemon.cli(&["drain", "h1", "--wait", "--timeout", "30s", "--json"]).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&waited.stdout).unwrap();
    assert_eq!(answer["drains"][0]["receipt"]["reset"], ours.len(), "{answer}");
    assert_eq!(site.violations().unwrap(), "{}");
}

/// Chosen flows of a host that stays in use, paced; the others notice nothing.
#[test]
fn a_kick_ends_the_chosen_flows_and_no_others() {
    // A drain ends only when what might have been silent since the start has had its time.
    let plan = Plan { timeouts: [10, 40, 10, 10], ..plan("l2") };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let (mut ours, mut others) = connections(&site);
    std::thread::sleep(Duration::from_millis(9200));
    let idle = ours.len() / 2;
    for connection in ours.iter_mut().skip(idle) {
        connection.echo().unwrap();
    }
    let start = Instant::now();
    let kick = site.daemon.cli_json(&["kick", "h1", "--idle", "8s", "--rate", "4/s", "--json"]).unwrap();
    // The first at once, then one each quarter of a second.
    assert!(start.elapsed() >= Duration::from_millis(250 * (idle as u64 - 1)), "{:?}", start.elapsed());
    assert_eq!((&kick["chosen"], &kick["kicked"]), (&idle.into(), &idle.into()), "{kick}");
    for connection in ours.iter_mut().take(idle) {
        assert_eq!(connection.end(), ErrorKind::ConnectionReset, "{}", site.daemon.log());
    }
    for connection in ours.iter_mut().skip(idle).chain(&mut others) {
        connection.echo().unwrap();
    }
    let (left, limit) = (ours.len() - idle, Instant::now() + LIMIT);
    while sockets(&site, 1) > left {
        assert!(Instant::now() < limit, "the host keeps {} sockets of {left}", sockets(&site, 1));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(sockets(&site, 1), left);
    let none = site.daemon.cli_ok(&["kick", "h1", "--older-than", "1h"]).unwrap();
    assert_eq!(none, "h1: no live flow is such\n");
    let refused = site.daemon.cli(&["kick", "h9"]).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    // All that are left, of a host that drains: so the drain ends. Where the client of one of them is nobody knows, so its host cannot be
    // told.
    let deaf = ours[idle].stream.local_addr().unwrap().port();
    let rule = format!("tcp sport {ECHO} tcp dport {deaf} drop");
    let chain = "chain input { type filter hook input priority 0";
    site.topology.client().ns.shell(&format!("nft 'table inet deaf {{ {chain}; {rule}; }}; }}'")).unwrap();
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    site.daemon.cli_ok(&["kick", "h1", "--rate", "1000/s"]).unwrap();
    let waited = site.daemon.cli(&["drain", "h1", "--wait", "--timeout", "120s", "--json"]).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&waited.stdout).unwrap();
    let receipt = &answer["drains"][0]["receipt"];
    assert_eq!((&receipt["outcome"], &receipt["kicked"]), (&"reset".into(), &left.into()), "{answer}");
    assert_eq!(waited.status.code(), Some(6), "not all ended by themselves");
    assert_eq!(receipt["unconfirmed"], 1, "{answer}");
    let id = receipt["drain"].to_string();
    let text = site.daemon.cli_ok(&["receipt", &id]).unwrap();
    assert!(text.contains("the host could not be told of 1 reset\n"), "{text}");
    assert_eq!(sockets(&site, 1), 1);
    assert_eq!(site.violations().unwrap(), "{}");
}
