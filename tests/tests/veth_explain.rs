//! `sluice explain` over a real site: what it says of packets is what then becomes of them, and asking changes nothing.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::packets::Packet;
use sluice_tests::site::{ECHO, Plan, Site};
use sluice_tests::topology::{Layout, Topology};
use socket2::{Domain, Socket, Type};

/// Source ports of new connections, one after the other.
const PORTS: std::ops::Range<u16> = 20_000..20_008;

/// Of the echo services: nginx is asked, so that a host can be down whose flows go on.
const CHECKS: &str = "[services.health]\ninterval = \"300ms\"\ntimeout = \"300ms\"\nfall = 2\n\
                      [[services.checks]]\ntype = \"tcp\"\nport = 80\n";

/// Connects from an address and port, and reads the name of the host that answers.
fn connect(from: SocketAddr, to: SocketAddr) -> (String, TcpStream) {
    let socket = Socket::new(Domain::for_address(from), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect_timeout(&to.into(), LIMIT).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut greeting = [0; 3];
    stream.read_exact(&mut greeting).unwrap();
    (String::from_utf8(greeting[..2].to_vec()).unwrap(), stream)
}

/// The answer about one packet.
fn explain(site: &Site, from: SocketAddr, to: SocketAddr, flags: &str) -> Value {
    let (from, to) = (from.to_string(), to.to_string());
    let body = site.daemon.cli_json(&["explain", "tcp", &from, &to, "--flags", flags, "--json"]).unwrap();
    body["packets"][0].clone()
}

fn in_words(site: &Site, from: SocketAddr, to: SocketAddr, flags: &str) -> String {
    let (from, to) = (from.to_string(), to.to_string());
    site.daemon.cli_ok(&["explain", "tcp", &from, &to, "--flags", flags]).unwrap()
}

#[test]
fn what_is_said_of_a_packet_is_what_becomes_of_it() {
    // No flow ends by its silence meanwhile.
    let plan = Plan { timeouts: [60, 120, 60, 60], sections: vec![("echo", CHECKS)], ..Plan::new("l2", 2) };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let client = site.topology.client();
    let (from, ns) = ([IpAddr::from(client.ipv4[0]), client.ipv6[0].into()], client.ns.clone());
    ns.enter(|| {
        let mut open = Vec::new();
        for (from, vip) in from.into_iter().zip(site.vips()) {
            let vip = SocketAddr::new(vip, ECHO);
            for port in PORTS {
                let from = SocketAddr::new(from, port);
                // Asked twice, as the first question would have left a pin if it left anything.
                let foreseen = [explain(&site, from, vip, "syn"), explain(&site, from, vip, "syn")];
                let (host, stream) = connect(from, vip);
                for told in foreseen {
                    assert_eq!(told["host"], host, "{told}");
                    assert_eq!(told["reason"], "forward_new", "{told}");
                    assert_eq!(
                        (&told["verdict"], &told["pin"]),
                        (&"transmit".into(), &Value::Null),
                        "{told}"
                    );
                }
                let told = explain(&site, from, vip, "ack");
                assert_eq!((&told["host"], &told["reason"]), (&host.clone().into(), &"forward_pin".into()));
                assert_eq!(told["pin"]["host"], host, "{told}");
                let service = if from.is_ipv4() { "echo-v4" } else { "echo-v6" };
                assert_eq!(told["service"], service, "{told}");
                open.push((from, vip, host, stream));
            }
        }
        let hosts: std::collections::BTreeSet<&str> =
            open.iter().map(|(_, _, host, _)| host.as_str()).collect();
        assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["h1", "h2"], "both were asked about");

        asking_changes_nothing(&site, &open);
        of_a_drained_host(&site, &mut open);
        of_a_host_that_is_down(&site, &open);
    })
    .unwrap();
    assert_eq!(site.violations().unwrap(), "{}");
}

fn asking_changes_nothing(site: &Site, open: &[(SocketAddr, SocketAddr, String, TcpStream)]) {
    let flows = || site.daemon.cli_json(&["flows", "--json"]).unwrap()["flows"].as_array().unwrap().len();
    let forwarded = |site: &Site| {
        let reasons = site.reasons().unwrap();
        let of_flows = reasons.into_iter().filter(|(reason, _)| reason.starts_with("forward_"));
        of_flows.collect::<Vec<_>>()
    };
    let before = (flows(), forwarded(site));
    for (from, vip, ..) in open.iter().step_by(5) {
        for flags in ["syn", "ack", "fin,ack", "rst"] {
            explain(site, *from, *vip, flags);
            explain(site, SocketAddr::new(from.ip(), from.port() + 1000), *vip, flags);
        }
    }
    assert_eq!((flows(), forwarded(site)), before);
}

fn of_a_drained_host(site: &Site, open: &mut [(SocketAddr, SocketAddr, String, TcpStream)]) {
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    for (from, vip, host, stream) in open {
        let told = explain(site, *from, *vip, "ack");
        assert_eq!(told["host"], *host, "it stays where it is: {told}");
        stream.write_all(b".").unwrap();
        let new = SocketAddr::new(from.ip(), from.port());
        let told = explain(site, SocketAddr::new(new.ip(), new.port() + 2000), *vip, "syn");
        assert_eq!((&told["host"], &told["owner"]), (&"h2".into(), &"h2".into()), "{told}");
        if *host == "h1" {
            let text = in_words(site, *from, *vip, "ack");
            for part in ["It goes to h1 by l2", "belongs to h2, handed over from h1", "h1 is draining"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
}

/// Its next hop is there, and so are its flows.
fn of_a_host_that_is_down(site: &Site, open: &[(SocketAddr, SocketAddr, String, TcpStream)]) {
    site.daemon.cli_ok(&["undrain", "h1"]).unwrap();
    let (from, vip, ..) = open.iter().find(|(_, _, host, _)| host == "h1").unwrap();
    let told = explain(site, *from, *vip, "ack");
    assert_eq!((&told["host"], &told["host_state"]), (&"h1".into(), &"active".into()), "{told}");
    let rules = "table inet fault { chain input { type filter hook input priority 0; tcp dport 80 tcp flags syn drop; }; }";
    site.topology.host(1).ns.shell(&format!("nft '{rules}'")).unwrap();
    let begun = Instant::now();
    loop {
        let told = explain(site, *from, *vip, "ack");
        assert_eq!(told["host"], "h1", "it stays where it is: {told}");
        if told["host_state"] == "down" {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{told}");
    }
    assert!(in_words(site, *from, *vip, "ack").contains("h1 is down"));
}

/// Of a capture, with packets of which some are for nobody or damaged.
#[test]
fn the_packets_of_a_capture_are_told_each_and_summed_up() {
    let plan = Plan::new("ipip", 1);
    let site = Site::start(Topology::builder().layout(Layout::Routed), &plan).unwrap();
    let vip = SocketAddr::new(site.vips()[0], ECHO);
    let from: SocketAddr = "198.51.100.7:40000".parse().unwrap();
    let frames = [
        Packet::tcp(from, vip).syn(1).build(),
        Packet::udp(from, vip).payload(&[7; 100]).build(),
        Packet::tcp("127.0.0.1:9".parse().unwrap(), vip).syn(1).build(),
        Packet::tcp(from, "192.0.2.99:80".parse().unwrap()).syn(1).build(),
        vec![0; 4000],
        vec![0; 60],
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.pcap");
    std::fs::write(&path, pcap(&frames)).unwrap();
    let path = path.to_str().unwrap();

    let body = site.daemon.cli_json(&["explain", "--pcap", path, "--json"]).unwrap();
    let told = body["packets"].as_array().unwrap();
    let reasons: Vec<&str> = told.iter().map(|told| told["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["forward_new", "forward_new", "drop_martian", "pass_no_service", "pass_not_ip"]);
    let host = site.topology.host(1);
    assert_eq!(
        (&told[0]["forward"], &told[0]["verdict"]),
        (&"ipip".into(), &"redirect".into()),
        "{}",
        told[0]
    );
    assert_eq!(told[0]["destination"], host.ipv4[0].to_string(), "{}", told[0]);
    assert_ne!(told[0]["out"], body["interface"], "{}", told[0]);
    assert_eq!(told[0]["length_out"].as_u64().unwrap(), frames[0].len() as u64 + 20);

    let text = site.daemon.cli_ok(&["explain", "--pcap", path]).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(
        text.ends_with("5 packets: 1 drop_martian, 2 forward_new, 1 pass_no_service, 1 pass_not_ip\n"),
        "{text}"
    );
    let text = site.daemon.cli_ok(&["explain", "--pcap", path, "-n", "1", "--long"]).unwrap();
    assert!(text.contains("why       a new flow goes to the owner of its slot (forward_new)"), "{text}");

    // Of one that is damaged behind its second packet those before are told, and that it is not all.
    let cut = folder.path().join("cut.pcap");
    let whole = pcap(&frames[..3]);
    std::fs::write(&cut, &whole[..whole.len() - 10]).unwrap();
    for (more, said) in
        [(None, "2 packets: 2 forward_new\n"), (Some("--json"), "\"reason\": \"forward_new\"")]
    {
        let args: Vec<&str> = ["explain", "--pcap", cut.to_str().unwrap()].into_iter().chain(more).collect();
        let output = site.daemon.cli(&args).unwrap();
        let [out, errors] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert_eq!(output.status.code(), Some(1), "{out}{errors}");
        assert!(out.contains(said) && errors.contains(", behind packet 2"), "{out}{errors}");
    }

    // What makes no sense is refused with what is wrong.
    let refused = |args: &[&str], code: i32, what: &str| {
        let output = site.daemon.cli(&[&["explain"], args].concat()).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(code) && said.contains(what),
            "{args:?}: {:?} {said}",
            output.status
        );
    };
    let (v4, v6) = (from.to_string(), format!("[{}]:7", site.vips()[1]));
    refused(&["tcp", &v4, &v6], 1, "not of one family");
    refused(&["tcp", &v4, &v4, "--interface", "nosuch0"], 1, "nosuch0 is no interface of this balancer");
    refused(&["tcp", &v4], 2, "TO");
    refused(&["--pcap", "/nonexistent/x.pcap"], 1, "/nonexistent/x.pcap");
    assert_eq!(site.violations().unwrap(), "{}");
}

/// A capture file of the classical form (draft-ietf-opsawg-pcap).
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let header: [u32; 6] = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, 1];
    let mut file: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
    for frame in frames {
        let length = frame.len() as u32;
        file.extend([0, 0, length, length].into_iter().flat_map(u32::to_ne_bytes));
        file.extend(frame);
    }
    file
}
