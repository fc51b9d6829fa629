//! What the cases have in common: single connections, looks at the status, and packets that get lost.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
pub use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Plan, Site};
use sluice_tests::topology::{Namespace, Topology};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// A site of `hosts` hosts in mode `l2`, with these timeouts: half-open, established, closing, UDP.
pub fn site(hosts: usize, timeouts: [u32; 4]) -> Site {
    Site::start(Topology::builder(), &Plan { timeouts, ..Plan::new("l2", hosts) }).unwrap()
}

/// A client's connection to a server that says its name first.
pub struct Connection {
    pub stream: TcpStream,
    pub host: String,
}

impl Connection {
    /// From any port, in the calling thread's namespace.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        Self::open_from(0, to)
    }

    pub fn open_from(port: u16, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if port != 0 {
            let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
            let from = SocketAddr::new(any.parse().unwrap(), port);
            socket.bind(&SockAddr::from(from))?;
        }
        socket.connect_timeout(&to.into(), LIMIT)?;
        socket.set_tcp_nodelay(true)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT))?;
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting)?;
        let host = String::from_utf8_lossy(&greeting[..2]).into_owned();
        Ok(Connection { stream, host })
    }

    /// Sends a word to an echo server, and has it back.
    pub fn echo(&mut self) -> io::Result<()> {
        let mut word = [0; 4];
        self.stream.write_all(b"word")?;
        self.stream.read_exact(&mut word)?;
        assert_eq!(&word, b"word");
        Ok(())
    }

    pub fn port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    /// Ends by a RST.
    pub fn abort(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Connections to the VIPs' `port`, as many to each; those of h1, then the others.
pub fn connect(site: &Site, port: u16, each: usize) -> (Vec<Connection>, Vec<Connection>) {
    let vips = site.vips();
    let open = || -> Vec<Connection> {
        let targets = vips.into_iter().flat_map(|vip| (0..each).map(move |_| SocketAddr::new(vip, port)));
        targets.map(|to| Connection::open(to).unwrap()).collect()
    };
    let all = site.topology.client().ns.enter(open).unwrap();
    let (ours, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|connection| connection.host == "h1");
    assert!(ours.len() >= 4 && others.len() >= 4, "{} of h1, {} of others", ours.len(), others.len());
    (ours, others)
}

/// As [`connect`], to the echo servers.
pub fn echoes(site: &Site, each: usize) -> (Vec<Connection>, Vec<Connection>) {
    connect(site, ECHO, each)
}

/// All have their answers.
pub fn speak<'a>(connections: impl IntoIterator<Item = &'a mut Connection>) {
    for connection in connections {
        connection.echo().unwrap_or_else(|error| panic!("{error}, at {}", connection.host));
    }
}

/// A host's entry in the status.
pub fn host(site: &Site, name: &str) -> Value {
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let mut hosts = status["hosts"].as_array().unwrap().iter();
    hosts.find(|host| host["name"] == name).unwrap_or_else(|| panic!("no {name}: {status}")).clone()
}

/// A host's live flows: half-open, established, closing.
pub fn live(site: &Site, name: &str) -> [u64; 3] {
    let host = host(site, name);
    ["half_open", "established", "closing"].map(|phase| host["live_flows"][phase].as_u64().unwrap())
}

/// Packets for this reason, since the daemon's start.
pub fn reason(site: &Site, name: &str) -> u64 {
    site.reasons().unwrap().get(name).copied().unwrap_or_default()
}

/// Live flows by their client's address and port: host and slot.
pub fn flows(site: &Site, more: &[&str]) -> BTreeMap<String, (String, u64)> {
    let list = site.daemon.cli_json(&[&["flows", "--json"], more].concat()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let flows = list["flows"].as_array().unwrap_or_else(|| panic!("{list}")).iter();
    flows.map(|flow| (text(&flow["client"]), (text(&flow["host"]), flow["slot"].as_u64().unwrap()))).collect()
}

/// Waits for the end of a host's drain; exit status and receipt.
pub fn drained(site: &Site, name: &str) -> (Option<i32>, Value) {
    let output = site.daemon.cli(&["drain", name, "--wait", "--timeout", "40s", "--json"]).unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}\n{}", site.daemon.log()));
    (output.status.code(), answer["drains"][0]["receipt"].clone())
}

/// The drain ends by itself, no flow was moved, reset or begun meanwhile, and at least so many ended.
pub fn ends_well(site: &Site, name: &str, at_least: usize) -> Value {
    let (code, receipt) = drained(site, name);
    assert_eq!((code, &receipt["outcome"]), (Some(0), &"drained".into()), "{receipt}\n{}", site.daemon.log());
    let count = |field: &str| receipt[field].as_u64().unwrap();
    assert_eq!(
        ["moved", "reset", "silent", "evicted", "new_flows", "misrouted"].map(count),
        [0; 6],
        "{receipt}"
    );
    assert!(count("ended") >= at_least as u64, "{at_least} ended: {receipt}");
    assert_eq!((&receipt["violations"], site.violations().unwrap().as_str()), (&serde_json::json!({}), "{}"));
    receipt
}

/// Waits until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Packets that match get lost in a namespace, until this is dropped.
pub struct Lost(Namespace);

impl Lost {
    /// `hook`: `input` or `output`; `what`: as nft(8) says it, after the VIPs' families.
    pub fn packets(ns: &Namespace, hook: &str, what: &str) -> Lost {
        let lines = [
            "add table inet hard".to_owned(),
            format!("add chain inet hard lost {{ type filter hook {hook} priority 0; }}"),
            format!("add rule inet hard lost {what} drop"),
        ];
        for line in lines {
            ns.shell(&format!("nft '{line}'")).unwrap();
        }
        Lost(ns.clone())
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        if let Err(error) = self.0.shell("nft 'delete table inet hard'") {
            eprintln!("{error:#}");
        }
    }
}
