//! iperf3 at full speed, with what cards do for the kernel (GRO) on.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sluice_tests::LIMIT;
use sluice_tests::site::{Extra, Plan, Site, served};
use sluice_tests::topology::{Node, Process};

use crate::site::{bracketed, folder, serve, until};

/// Of TCP segments, how many may be sent again: queues of veths are short.
const MOST_AGAIN: f64 = 0.02;
/// Of datagrams, how many may be lost, for the same reason.
const MOST_LOST: f64 = 0.1;

/// GRO on all interfaces of all namespaces. What a switch sends to XDP programs keeps its whole checksums.
fn aggregate(site: &Site) {
    let topology = &site.topology;
    let nodes = topology.hosts().iter().chain(topology.clients()).chain([topology.balancer()]);
    for ns in nodes.map(|node| &node.ns).chain([topology.switch()]) {
        ns.shell(
            "for path in /proc/sys/net/ipv4/conf/*; do name=${path##*/}; case $name in all|default|lo|br0) ;; \
             *) ethtool -K $name gro on;; esac; done",
        )
        .unwrap();
    }
}

/// A server for each family: over UDP the answers come from the address that it is bound to.
fn start_servers(site: &Site, plan: &Plan, host: &Node, folder: &Path) -> Vec<Process> {
    let log = folder.join(format!("{}.txt", host.name));
    let start = |address: IpAddr| {
        let mut command = Command::new("iperf3");
        command.args(["-s", "-p", "5201", "-B", &address.to_string()]);
        let server = serve(host, command, &log);
        let is_up = || host.ns.shell("ss -Hltn sport = :5201").unwrap().contains(&bracketed(address));
        until(LIMIT, is_up, || std::fs::read_to_string(&log));
        server
    };
    served(&site.topology, host, plan).into_iter().map(start).collect()
}

fn iperf(site: &Site, vip: IpAddr, args: &[&str]) -> Value {
    let mut command = Command::new("iperf3");
    command.args(["-J", "--connect-timeout", "30000", "-p", "5201", "-c", &vip.to_string()]).args(args);
    let output = site.topology.client().ns.output(command).unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && told["error"].is_null(), "{vip} {args:?}: {}", told["error"]);
    told
}

/// Runs all ways at full speed, in both directions; turns GRO on.
pub fn transfer(site: &Site, plan: &Plan, segment: f64) {
    aggregate(site);
    let folder = folder(site, "iperf");
    let hosts = site.topology.hosts();
    let servers: Vec<_> =
        hosts.iter().flat_map(|host| start_servers(site, plan, host, folder.path())).collect();
    for vip in site.vips() {
        // So many bytes, however long a busy machine takes for them. What the sender's and the receiver's buffers hold at the end is
        // not counted as received, so they are kept small: twice the window each.
        for way in [&["-w", "1M", "-n", "20M"][..], &["-w", "1M", "-n", "20M", "-R"]] {
            let before = site.topology.losses().unwrap();
            let told = iperf(site, vip, way);
            // What a busy machine's rings and backlogs had no room for.
            let dropped = site.topology.losses().unwrap().since(&before).total() as f64;
            let (sent, received) = (&told["end"]["sum_sent"], &told["end"]["sum_received"]);
            let bytes = received["bytes"].as_f64().unwrap();
            let again = sent["retransmits"].as_f64().unwrap();
            eprintln!(
                "{} {vip} {way:?}: {:.2} Gbit/s, {again} segments again",
                plan.forward,
                received["bits_per_second"].as_f64().unwrap() / 1e9
            );
            assert!(bytes > 1e7, "{vip} {way:?}: {bytes} bytes");
            assert!(
                again <= bytes / segment * MOST_AGAIN + 10.0 + dropped,
                "{vip} {way:?}: {again} segments of {bytes} bytes again, and {dropped} packets dropped"
            );
        }
        for way in [
            &["-u", "-w", "1M", "-b", "20M", "-n", "2M"][..],
            &["-u", "-w", "1M", "-b", "20M", "-n", "2M", "-R"],
        ] {
            let before = site.topology.losses().unwrap();
            let told = iperf(site, vip, way);
            let dropped = site.topology.losses().unwrap().since(&before).total() as f64;
            let sum = &told["end"]["sum"];
            let (packets, lost) = (sum["packets"].as_f64().unwrap(), sum["lost_packets"].as_f64().unwrap());
            eprintln!("{} {vip} {way:?}: {lost} of {packets}", plan.forward);
            assert!(
                packets > 200.0 && lost <= packets * MOST_LOST + dropped,
                "{vip} {way:?}: {lost} of {packets} lost, and {dropped} dropped"
            );
        }
    }
    drop(servers);
}

pub fn service() -> Extra {
    let more = "affinity = \"client\"";
    Extra { name: "iperf", protocol: "[\"tcp\", \"udp\"]", port: "5201", more }
}
