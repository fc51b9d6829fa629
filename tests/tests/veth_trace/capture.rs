//! `sluice capture`: what a real tshark reads out of its file.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::{Layout, Topology};
use sluice_tests::traffic::{UdpFlows, UdpFlowsOptions};

use super::tools::Trace;
use super::{curl, host_of, site};

/// What tshark finds in a file: fields of each packet.
fn tshark(site: &Site, file: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r", file, "-T", "fields", "-E", "separator=/t"]);
    command.args(fields.iter().flat_map(|field| ["-e", *field]));
    let text = site.topology.client().ns.run(command).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

const INBOUND: &str = "0x00000001";
const OUTBOUND: &str = "0x00000002";

#[test]
fn tshark_reads_packets_in_and_out_with_their_decisions() {
    let site = site(2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.pcapng").to_str().unwrap().to_owned();
    for vip in site.vips() {
        let vip = SocketAddr::new(vip, WEB);
        let args = ["capture", "-w", &file, "tcp", "--vip", &vip.to_string(), "--snaplen", "2000"];
        let mut capture = Trace::start_verb(&site, &args);
        capture.wait_begun();
        let host = host_of(&curl(&site, vip));
        capture.end(&site);
        let fields = [
            "frame.interface_name",
            "frame.packet_flags",
            "frame.comment",
            "tcp.flags.syn",
            "tcp.len",
            "eth.dst",
        ];
        let packets = tshark(&site, &file, &fields);
        let (came, left): (Vec<_>, Vec<_>) = packets.iter().partition(|packet| packet[1] == INBOUND);
        assert!(came.len() >= 4 && came.len() == left.len(), "{packets:?}");
        assert!(left.iter().all(|packet| packet[1] == OUTBOUND), "{packets:?}");
        let interface = &site.topology.balancer().interfaces[0];
        assert!(packets.iter().all(|packet| packet[0] == *interface), "{packets:?}");
        let service = if vip.is_ipv4() { "web-v4" } else { "web-v6" };
        let begun = format!("forward_new to {host} by l2 (service {service}, slot ");
        assert!(came[0][2].starts_with(&begun) && came[0][3].contains(['1', 'T']), "{packets:?}");
        assert!(came[0][2].ends_with(", pin made, half-open)"), "{packets:?}");
        let later = format!("forward_pin to {host} by l2 (service {service}, slot ");
        assert!(came[1..].iter().all(|packet| packet[2].starts_with(&later)), "{packets:?}");
        // The request is in it, on both sides, and the frame that left has the host's address.
        assert_eq!(packets.iter().filter(|packet| packet[4] != "0").count(), 2, "{packets:?}");
        assert!(
            came.iter().zip(&left).all(|(came, left)| came[2] == left[2] && came[5] != left[5]),
            "{packets:?}"
        );
    }
}

#[test]
fn a_pipe_into_tshark_and_the_ends_of_a_file() {
    let plan = Plan::new("ipip", 1);
    let site = Site::start(Topology::builder().layout(Layout::Routed), &plan).unwrap();
    let vip = SocketAddr::new(site.vips()[0], WEB);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();

    // Cut off behind the headers, and ended by its count: what left is encapsulated, by another interface.
    let file = path("few.pcapng");
    let args = ["capture", "-w", &file, "tcp", "--service", "web-v4", "--snaplen", "100", "--count", "3"];
    let mut capture = Trace::start_verb(&site, &args);
    capture.wait_begun();
    curl(&site, vip);
    let (_, said) = capture.wait_text();
    assert!(said.contains("shown"), "{said}");
    let packets =
        tshark(&site, &file, &["frame.interface_name", "frame.packet_flags", "ip.dst", "frame.cap_len"]);
    assert_eq!(packets.len(), 6, "{packets:?}");
    let host = IpAddr::from(site.topology.host(1).ipv4[0]).to_string();
    for pair in packets.chunks(2) {
        assert_eq!((&pair[0][1][..], &pair[0][2]), (INBOUND, &vip.ip().to_string()), "{packets:?}");
        assert_eq!(
            (&pair[1][1][..], &pair[1][2]),
            (OUTBOUND, &format!("{host},{}", vip.ip())),
            "both headers"
        );
        assert_ne!(pair[0][0], pair[1][0], "by another interface");
        assert!(pair.iter().all(|packet| packet[3].parse::<u32>().unwrap() <= 100), "{packets:?}");
    }

    // As a pipe, of what is dropped.
    let comments = path("comments");
    let binary = site.daemon.binary().display();
    let (instance, at) = (site.daemon.instance(), &comments);
    let pipe = format!(
        "{binary} --instance {instance} capture -w - --verdict drop --count 1 --for 20s | tshark -n -l -r - -T fields -e frame.comment > {at}"
    );
    let mut piped = Command::new("sh");
    piped.args(["-c", &pipe]);
    let piped = site.topology.balancer().ns.spawn(piped).unwrap();
    super::wait_for("it traces", || super::is_traced(&site));
    super::wait_for("a packet is dropped", || {
        super::tools::send_from_port_zero(&site, SocketAddr::new(vip.ip(), ECHO));
        !piped.is_running()
    });
    let text = std::fs::read_to_string(&comments).unwrap();
    assert_eq!(text.trim(), "drop_zero_port", "{text:?}");

    // A file that may not be longer ends by itself.
    let small = path("small.pcapng");
    let mut capture =
        Trace::start_verb(&site, &["capture", "-w", &small, "--snaplen", "9216", "--max-size", "1"]);
    capture.wait_begun();
    let options = UdpFlowsOptions {
        flows: 50,
        interval: Duration::from_millis(20),
        payload_bytes: 1400,
        ..UdpFlowsOptions::new(SocketAddr::new(vip.ip(), ECHO))
    };
    let udp = UdpFlows::start(&site.topology.client().ns, &options).unwrap();
    assert_eq!(capture.wait_code(), Some(0));
    let counts = site.finish_udp(udp);
    assert_eq!(counts.moved, 0, "{counts:?}");
    assert!(std::fs::metadata(&small).unwrap().len() > 900 << 10);
    assert!(std::fs::metadata(&small).unwrap().len() <= 1 << 20);
    assert!(!tshark(&site, &small, &["frame.number"]).is_empty(), "it is whole");
}
