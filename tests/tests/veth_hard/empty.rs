//! All hosts of a service are out, by force: what its policy for that makes of new clients, and of those who are there already.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use sluice_tests::health::busy;
use sluice_tests::site::{ECHO, Extra, Plan, Site};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{EchoServer, UdpEchoServer};

use super::tools::{Connection, LIMIT, connect, echoes, host, live, speak, until};

/// Port of the services with `when_empty = "pass"`, and of those with `"last"`; the echo services' is `"reject"`.
const PASS: u16 = 1001;
const LAST: u16 = 1002;

/// Sends a datagram: who answers, or why nobody does.
fn ask(to: SocketAddr) -> io::Result<String> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.connect(to)?;
    socket.send(b"?")?;
    let mut answer = [0; 16];
    let len = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..len]).into_owned())
}

fn site() -> Site {
    let service = |name, protocol, port, more| Extra { name, protocol, port, more };
    let services = vec![
        service("pass", "\"tcp\"", "1001", "when_empty = \"pass\"\n"),
        service("pass-udp", "\"udp\"", "1001", "when_empty = \"pass\"\n"),
        service("last", "\"tcp\"", "1002", "when_empty = \"last\"\n"),
    ];
    let plan = Plan { timeouts: [4, 6, 2, 4], services, ..Plan::new("l2", 2) };
    Site::start(Topology::builder(), &plan).unwrap()
}

#[test]
fn with_all_hosts_out_each_policy_does_as_it_says() {
    let site = site();
    let both = |port| site.vips().map(|vip| SocketAddr::new(vip, port));
    let _hosts: Vec<_> = site
        .topology
        .hosts()
        .iter()
        .map(|host| {
            let tcp = [both(PASS), both(LAST)].concat();
            let tcp = EchoServer::start(&host.ns, &host.name, &tcp, 1).unwrap();
            (tcp, UdpEchoServer::start(&host.ns, &host.name, &both(PASS)).unwrap())
        })
        .collect();
    // What the balancer itself has to say when nobody else is there.
    let balancer = &site.topology.balancer().ns;
    for vip in site.vips() {
        let (length, nodad) = if vip.is_ipv4() { (32, "") } else { (128, " nodad") };
        balancer.shell(&format!("ip addr add {vip}/{length} dev lo{nodad}")).unwrap();
    }
    let _own = UdpEchoServer::start(balancer, "lb", &both(PASS)).unwrap();

    let (mut ours, mut others) = echoes(&site, 12);
    for port in [PASS, LAST] {
        let (more, rest) = connect(&site, port, 12);
        ours.extend(more);
        others.extend(rest);
    }
    let refused = site.daemon.cli(&["drain", "h1", "h2"]).unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(10), "{words}");
    assert!(words.contains("without a host") && words.contains("or give --force"), "{words}");
    assert_eq!([1, 2].map(|n| host(&site, &format!("h{n}"))["admin"].clone()), ["active", "active"]);
    site.daemon.cli_ok(&["drain", "h1", "h2", "--force"]).unwrap();

    let client = &site.topology.client().ns;
    client
        .enter(|| {
            for to in both(ECHO) {
                let asked = Instant::now();
                let told = Connection::open(to).err().map(|error| error.kind());
                assert_eq!(told, Some(ErrorKind::ConnectionRefused), "TCP, {to}");
                assert_eq!(ask(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "UDP, {to}");
                assert!(asked.elapsed() < Duration::from_secs(1) + busy(), "at once: {:?}", asked.elapsed());
            }
            for to in both(PASS) {
                assert_eq!(ask(to).unwrap(), "lb\n?", "this machine's own server, at {to}");
                // It has none for TCP: its kernel says so.
                let told = Connection::open(to).err().map(|error| error.kind());
                assert_eq!(told, Some(ErrorKind::ConnectionRefused), "TCP, {to}");
            }
            for to in both(LAST) {
                for _ in 0..8 {
                    let mut new = Connection::open(to).unwrap();
                    assert!(["h1", "h2"].contains(&&*new.host), "{}", new.host);
                    new.echo().unwrap();
                }
            }
        })
        .unwrap();
    let reasons = site.reasons().unwrap();
    assert_eq!((reasons["answer_reject"], reasons["pass_no_host"]), (4, 4), "{reasons:?}");
    speak(ours.iter_mut().chain(&mut others));
    until("what was begun and dropped has ended", || {
        live(&site, "h1")[1] + live(&site, "h2")[1] == (ours.len() + others.len()) as u64
    });

    site.daemon.cli_ok(&["undrain", "h1"]).unwrap();
    let names = client.enter(|| both(ECHO).map(|to| [Connection::open(to).unwrap().host, ask(to).unwrap()]));
    assert_eq!(names.unwrap(), [["h1", "h1\n?"]; 2]);
    speak(ours.iter_mut().chain(&mut others));
    assert_eq!(site.violations().unwrap(), "{}");
}
