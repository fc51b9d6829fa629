//! The config file that the demo's balancer runs with.

use std::fmt::Write as _;

use crate::topology::{Node, Topology};

/// TCP and UDP port of the echo servers.
pub const ECHO: u16 = 7;
/// TCP port of nginx.
pub const WEB: u16 = 80;

/// Seconds of silence after which a flow counts as ended: far shorter than in earnest, so that the demo is short.
pub const ESTABLISHED: u64 = 10;
const HALF_OPEN: u64 = 5;
const CLOSING: u64 = 3;
const UDP: u64 = 5;

/// The hosts under the names that the balancer knows them by: `web-1` and so on.
pub fn named_hosts(topology: &Topology) -> Vec<Node> {
    let name = |(index, host): (usize, &Node)| Node { name: format!("web-{}", index + 1), ..host.clone() };
    topology.hosts().iter().enumerate().map(name).collect()
}

/// Web, TCP echo and UDP echo on both VIPs, over all hosts.
pub fn text(topology: &Topology, hosts: &[Node]) -> String {
    let mut text = format!(
        "interfaces = [\"{}\"]\n\
         xdp_mode = \"native\"\n\
         vip_mode = \"external\"\n\n\
         [flow_table]\n\
         pins = 65_536\n\n\
         [timeouts]\n\
         half_open = \"{HALF_OPEN}s\"\n\
         established = \"{ESTABLISHED}s\"\n\
         closing = \"{CLOSING}s\"\n\
         udp = \"{UDP}s\"\n",
        topology.balancer().interfaces[0]
    );
    // Writing to a String cannot fail.
    for host in hosts {
        let _ = writeln!(
            text,
            "\n[hosts.{}]\naddresses = [\"{}\", \"{}\"]",
            host.name, host.ipv4[0], host.ipv6[0]
        );
    }
    let vips = [("", topology.vip4().to_string()), ("-v6", topology.vip6().to_string())];
    for (end, vip) in vips {
        for (name, protocol, port) in [("web", "tcp", WEB), ("echo", "tcp", ECHO), ("echo-udp", "udp", ECHO)]
        {
            let _ = writeln!(
                text,
                "\n[[services]]\nname = \"{name}{end}\"\nvip = \"{vip}\"\nprotocol = \"{protocol}\"\nport = {port}"
            );
        }
    }
    text
}
