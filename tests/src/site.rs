//! A whole site: topology, servers on every host, and the real daemon on the balancer.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::Result;

use crate::servers::{Nginx, SluiceDaemon, sluice_binary};
use crate::topology::{Builder, Topology};
use crate::traffic::{EchoServer, UdpEchoServer};

/// TCP and UDP port of the echo servers.
pub const ECHO: u16 = 7;
/// TCP port of nginx.
pub const WEB: u16 = 80;

/// What the balancer is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `l2`, `ipip` or `gue`
    pub forward: &'static str,
    /// Weight of each host, by its number from 1.
    pub weights: Vec<u16>,
    /// Seconds: half-open, established, closing, UDP.
    pub timeouts: [u32; 4],
    pub pins: u32,
    /// `external` or `local`
    pub vip_mode: &'static str,
    /// Of the TCP services: `full` or `edges`
    pub tracking: &'static str,
}

impl Plan {
    /// For `hosts` equal hosts, with timeouts that a test can wait for.
    pub fn new(forward: &'static str, hosts: usize) -> Self {
        Plan {
            forward,
            weights: vec![100; hosts],
            timeouts: [4, 6, 2, 4],
            pins: 65_536,
            vip_mode: "external",
            tracking: "full",
        }
    }
}

/// Everything runs; dropped in the order of the fields.
pub struct Site {
    pub daemon: SluiceDaemon,
    _decap: Vec<Decap>,
    _nginx: Vec<Nginx>,
    _tcp: Vec<EchoServer>,
    _udp: Vec<UdpEchoServer>,
    pub topology: Topology,
}

impl Site {
    /// Builds the topology, starts nginx and echo servers on all hosts and the daemon on the balancer.
    pub fn start(builder: Builder, plan: &Plan) -> Result<Self> {
        let is_tunnelled = ["ipip", "gue"].contains(&plan.forward);
        let topology = builder.hosts(plan.weights.len()).xdp_on_hosts(is_tunnelled).build()?;
        let vips = vips(&topology);
        let at: Vec<SocketAddr> = vips.iter().map(|&vip| SocketAddr::new(vip, ECHO)).collect();
        let nginx = Nginx::start_on_all(&topology)?;
        let (mut tcp, mut udp, mut decap) = (Vec::new(), Vec::new(), Vec::new());
        for host in topology.hosts() {
            tcp.push(EchoServer::start(&host.ns, &host.name, &at, 1)?);
            udp.push(UdpEchoServer::start(&host.ns, &host.name, &at)?);
            if is_tunnelled {
                decap.push(Decap::start(&topology, &host.ns, &host.name)?);
            }
        }
        let daemon = SluiceDaemon::start(&topology, &config(&topology, plan))?;
        Ok(Site { daemon, _decap: decap, _nginx: nginx, _tcp: tcp, _udp: udp, topology })
    }

    /// The VIPs: IPv4, then IPv6.
    pub fn vips(&self) -> [IpAddr; 2] {
        vips(&self.topology)
    }

    /// Live flows of a host, by the balancer's gauge.
    pub fn live(&self, host: &str) -> Result<u64> {
        let status = self.daemon.cli_json(&["status", "--json"])?;
        let hosts = status["hosts"].as_array().cloned().unwrap_or_default();
        let found = hosts.iter().find(|entry| entry["name"] == host);
        Ok(found.and_then(|entry| entry["live_flows"]["total"].as_u64()).unwrap_or(u64::MAX))
    }

    /// The must-be-zero counters that are not zero; for the end of a test.
    pub fn violations(&self) -> Result<String> {
        let status = self.daemon.cli_json(&["status", "--json"])?;
        Ok(status["violations"].to_string())
    }
}

fn vips(topology: &Topology) -> [IpAddr; 2] {
    [IpAddr::from(topology.vip4()), IpAddr::from(topology.vip6())]
}

/// The balancer's config: web and echo services on both VIPs, over all hosts.
pub fn config(topology: &Topology, plan: &Plan) -> String {
    let [half_open, established, closing, udp] = plan.timeouts;
    let interfaces: Vec<String> =
        topology.balancer().interfaces.iter().map(|name| format!("{name:?}")).collect();
    let mut text = format!(
        "interfaces = [{}]\nxdp_mode = \"native\"\nvip_mode = \"{}\"\n[flow_table]\npins = {}\n[timeouts]\nhalf_open = \"{half_open}s\"\n\
         established = \"{established}s\"\nclosing = \"{closing}s\"\nudp = \"{udp}s\"\n",
        interfaces.join(", "),
        plan.vip_mode,
        plan.pins
    );
    for (host, weight) in topology.hosts().iter().zip(&plan.weights) {
        let _ = writeln!(
            text,
            "[hosts.{}]\naddresses = [\"{}\", \"{}\"]\nweight = {weight}",
            host.name, host.ipv4[0], host.ipv6[0]
        );
    }
    for (family, vip) in ["v4", "v6"].iter().zip(vips(topology)) {
        for (name, protocol, port) in [("web", "tcp", WEB), ("echo", "tcp", ECHO), ("echo-udp", "udp", ECHO)]
        {
            let _ = writeln!(
                text,
                "[[services]]\nname = \"{name}-{family}\"\nvip = \"{vip}\"\nprotocol = \"{protocol}\"\nport = {port}\n\
                 forward = \"{}\"",
                plan.forward
            );
            if protocol == "tcp" {
                let _ = writeln!(text, "tracking = \"{}\"", plan.tracking);
            }
        }
    }
    text
}

/// `sluice decap` on a host; taken off at the end.
struct Decap {
    ns: crate::topology::Namespace,
    instance: String,
}

impl Decap {
    fn start(topology: &Topology, ns: &crate::topology::Namespace, host: &str) -> Result<Self> {
        let decap = Decap { ns: ns.clone(), instance: format!("{}-{host}", topology.prefix()) };
        ns.run(decap.command(&[])?)?;
        Ok(decap)
    }

    fn command(&self, more: &[&str]) -> Result<Command> {
        let mut command = Command::new(sluice_binary()?);
        command.args(["--instance", &self.instance, "decap", "--interface", "eth0"]).args(more);
        Ok(command)
    }
}

impl Drop for Decap {
    fn drop(&mut self) {
        let detached = self.command(&["--detach"]).and_then(|command| self.ns.run(command));
        if let Err(error) = detached {
            eprintln!("decap of {}: {error:#}", self.instance);
        }
    }
}
