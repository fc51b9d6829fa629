//! The real daemon on devices that not every kernel has: VLANs and bonds. `cargo xtask vm` runs it on a kernel that has them,
//! where a device that cannot be made fails the test. Everywhere else the tests are ignored, which `cargo test` says.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use sluice_tests::servers::SluiceDaemon;
use sluice_tests::topology::{Namespace, Topology};
use sluice_tests::traffic::{Connections, ConnectionsOptions, EchoServer};

const ECHO: u16 = 7;
const CONNECTIONS: usize = 20;
const LIMIT: Duration = Duration::from_secs(20);

fn ip(ns: &Namespace, line: &str) {
    let mut command = Command::new("ip");
    command.args(line.split_whitespace());
    ns.run(command).unwrap();
}

/// A counter of a device, as `ip` shows it: packets of a direction, `rx` or `tx`.
fn packets(ns: &Namespace, device: &str, direction: &str) -> u64 {
    let mut command = Command::new("ip");
    command.args(["-json", "-stats", "link", "show", "dev", device]);
    let shown: serde_json::Value = serde_json::from_str(&ns.run(command).unwrap()).unwrap();
    shown[0]["stats64"][direction]["packets"].as_u64().unwrap()
}

/// A TCP service over one host.
fn config(topology: &Topology, interfaces: &str, host: &str, forward: &str) -> String {
    format!(
        "interfaces = [{interfaces}]\n[hosts.h1]\naddresses = [\"{host}\"]\n[[services]]\nname = \"echo\"\n\
         vip = \"{}\"\nprotocol = \"tcp\"\nport = {ECHO}\nforward = \"{forward}\"\n",
        topology.vip4()
    )
}

/// Echo through the VIP, to the last byte, and no packet that the balancer dropped.
fn echo(topology: &Topology, daemon: &SluiceDaemon) {
    let vip = SocketAddr::new(topology.vip4().into(), ECHO);
    let options = ConnectionsOptions {
        connections: CONNECTIONS,
        interval: Duration::from_millis(100),
        ..ConnectionsOptions::new(vip)
    };
    let tcp = Connections::start(&topology.client().ns, &options).unwrap();
    let opened = tcp.wait_opened(CONNECTIONS as u64, LIMIT);
    std::thread::sleep(Duration::from_millis(500));
    let counts = tcp.finish().unwrap();
    let status = daemon.cli_json(&["status", "--json"]).unwrap();
    assert!(opened, "{counts:?}\n{status:#}\n{}", daemon.log());
    assert_eq!((counts.finished, counts.broken), (CONNECTIONS as u64, 0), "{counts:?}");
    eprintln!("{}", status["reasons"]);
}

#[test]
#[ignore = "needs VLAN devices: cargo xtask vm"]
fn hosts_behind_a_vlan_device() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let (lb, h1) = (&topology.balancer().ns, &topology.host(1).ns);
    for (ns, last) in [(lb, 1), (h1, 11)] {
        ip(ns, "link add link eth0 name eth0.20 type vlan id 20");
        ip(ns, &format!("addr add 10.20.0.{last}/24 dev eth0.20"));
        ip(ns, "link set eth0.20 up");
    }
    let vip = SocketAddr::new(topology.vip4().into(), ECHO);
    let _server = EchoServer::start(h1, "h1", &[vip], 1).unwrap();
    let daemon = SluiceDaemon::start(&topology, &config(&topology, "\"eth0\"", "10.20.0.11", "l2")).unwrap();
    echo(&topology, &daemon);
    eprintln!("{}", packets(h1, "eth0.20", "rx"));
    drop(daemon);
}
