//! A whole site: topology, servers on every host, and the real daemon on the balancer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result};

use crate::servers::{Nginx, SluiceDaemon, sluice_binary};
use crate::topology::{Builder, Losses, Namespace, Node, Replies, Topology};
use crate::traffic::{EchoServer, UdpCounts, UdpEchoServer, UdpFlows};

/// TCP and UDP port of the echo servers.
pub const ECHO: u16 = 7;
/// TCP port of the service that nginx has.
pub const WEB: u16 = 80;

/// With `nat`, the port of nginx on the hosts.
const TRANSLATED: &str = "backend_port = 8080";
const TCP: &str = "\"tcp\"";

/// What the balancer is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `l2`, `ipip`, `gue` or `nat`; the latter takes the routed layout.
    pub forward: &'static str,
    /// Family of outer headers, `ipv4` or `ipv6`, of services on the IPv4 VIP and of those on the IPv6 VIP.
    pub outer: [Option<&'static str>; 2],
    /// Weight of each host, by its number from 1.
    pub weights: Vec<u16>,
    /// More lines of each host's section, by its number; hosts beyond have none.
    pub host_lines: Vec<&'static str>,
    /// Seconds: half-open, established, closing, UDP.
    pub timeouts: [u32; 4],
    pub pins: u32,
    /// `external` or `local`
    pub vip_mode: &'static str,
    /// Of the TCP services: `full` or `edges`
    pub tracking: &'static str,
    /// `native`, `generic` or `auto`, for each interface of the balancer; the last holds for the rest.
    pub xdp_modes: Vec<&'static str>,
    /// Lines before the first header of the config.
    pub top: &'static str,
    /// More lines of services by name, on both VIPs, behind their other fields: sections may stand here.
    pub sections: Vec<(&'static str, &'static str)>,
    /// On both VIPs, beside web and echo.
    pub services: Vec<Extra>,
}

/// A service more, on both VIPs.
#[derive(Debug, Clone)]
pub struct Extra {
    pub name: &'static str,
    /// As in the config: `"tcp"` in quotes, or a list.
    pub protocol: &'static str,
    pub port: &'static str,
    /// More lines.
    pub more: &'static str,
}

impl Plan {
    /// For `hosts` equal hosts, with timeouts that a test can wait for.
    pub fn new(forward: &'static str, hosts: usize) -> Self {
        Plan {
            forward,
            outer: [None; 2],
            weights: vec![100; hosts],
            host_lines: Vec::new(),
            timeouts: [4, 6, 2, 4],
            pins: 65_536,
            vip_mode: "external",
            tracking: "full",
            xdp_modes: vec!["native"],
            top: "",
            sections: Vec::new(),
            services: Vec::new(),
        }
    }
}

/// Everything runs; dropped in the order of the fields.
pub struct Site {
    pub daemon: SluiceDaemon,
    /// One for each host, with `ipip` and `gue`.
    pub decap: Vec<Decap>,
    pub nginx: Vec<Nginx>,
    _tcp: Vec<EchoServer>,
    _udp: Vec<UdpEchoServer>,
    /// What had been dropped when all was ready.
    dropped: Losses,
    pub topology: Topology,
}

impl Site {
    /// Builds the topology, starts nginx and echo servers on all hosts and the daemon on the balancer.
    pub fn start(builder: Builder, plan: &Plan) -> Result<Self> {
        Self::start_with(builder, plan, |_| Ok(String::new()))
    }

    /// As [`start`](Self::start), with more text behind the config; before the daemon starts, the topology is made ready for it.
    pub fn start_with(
        builder: Builder,
        plan: &Plan,
        more: impl FnOnce(&Topology) -> Result<String>,
    ) -> Result<Self> {
        let is_tunnelled = matches!(plan.forward, "ipip" | "gue");
        let mut builder = builder.hosts(plan.weights.len()).xdp_on_hosts(is_tunnelled);
        if plan.forward == "nat" {
            builder = builder.replies(Replies::ThroughBalancer).vips_on_hosts(false);
        }
        let topology = builder.build()?;
        let mut nginx = Vec::new();
        let (mut tcp, mut udp, mut decap) = (Vec::new(), Vec::new(), Vec::new());
        for host in topology.hosts() {
            let served = served(&topology, host, plan);
            let at: Vec<SocketAddr> = served.iter().map(|&address| SocketAddr::new(address, ECHO)).collect();
            nginx.push(Nginx::start(host, if plan.forward == "nat" { &[] } else { &served })?);
            tcp.push(EchoServer::start(&host.ns, &host.name, &at, 1)?);
            udp.push(UdpEchoServer::start(&host.ns, &host.name, &at)?);
            if is_tunnelled {
                decap.push(Decap::start(&topology, host, &[])?);
            }
        }
        let more = more(&topology)?;
        let daemon = SluiceDaemon::start(&topology, &(config(&topology, plan) + &more))?;
        let dropped = topology.losses()?;
        Ok(Site { daemon, decap, nginx, _tcp: tcp, _udp: udp, dropped, topology })
    }

    /// Ends the flows, of which nothing is lost but what the machine counts as dropped, since the site is ready: see
    /// [`UdpFlows::finish_unlost`].
    pub fn finish_udp(&self, udp: UdpFlows) -> UdpCounts {
        udp.finish_unlost(&self.topology, &self.dropped)
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

    /// Packets by reason, as the balancer counted them since its start.
    pub fn reasons(&self) -> Result<BTreeMap<String, u64>> {
        let status = self.daemon.cli_json(&["status", "--json"])?;
        serde_json::from_value(status["reasons"].clone()).context("the status has no packets by reason")
    }

    /// The must-be-zero counters that are not zero; for the end of a test.
    pub fn violations(&self) -> Result<String> {
        let status = self.daemon.cli_json(&["status", "--json"])?;
        Ok(status["violations"].to_string())
    }

    /// Clients of the web service's flows that count as established and have been silent for two seconds.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn silent(&self) -> Result<Vec<String>> {
        let args = ["flows", "--service", "web-v4", "--phase", "established", "--idle", "2s", "--json"];
        let flows = self.daemon.cli_json(&args)?;
        let flows = flows["flows"].as_array().context("an answer has no flows")?;
        Ok(flows.iter().map(|flow| format!("{} {}", flow["client"], flow["host"])).collect())
    }
}

fn vips(topology: &Topology) -> [IpAddr; 2] {
    [IpAddr::from(topology.vip4()), IpAddr::from(topology.vip6())]
}

/// Addresses at which servers of a host get what clients send to the VIPs: IPv4, then IPv6.
pub fn served(topology: &Topology, host: &Node, plan: &Plan) -> [IpAddr; 2] {
    match plan.forward {
        "nat" => [host.ipv4[0].into(), host.ipv6[0].into()],
        _ => vips(topology),
    }
}

/// The balancer's config: web and echo services on both VIPs, over all hosts.
pub fn config(topology: &Topology, plan: &Plan) -> String {
    let [half_open, established, closing, udp] = plan.timeouts;
    let first = plan.xdp_modes[0];
    let modes = plan.xdp_modes.iter().chain(plan.xdp_modes.last().into_iter().cycle());
    let interfaces: Vec<String> = topology
        .balancer()
        .interfaces
        .iter()
        .zip(modes)
        .map(|(name, &mode)| match mode == first {
            true => format!("{name:?}"),
            false => format!("{{ name = {name:?}, xdp_mode = {mode:?} }}"),
        })
        .collect();
    let mut text = format!(
        "interfaces = [{}]\nxdp_mode = {first:?}\nvip_mode = \"{}\"\n{}\n[flow_table]\npins = {}\n[timeouts]\nhalf_open = \"{half_open}s\"\n\
         established = \"{established}s\"\nclosing = \"{closing}s\"\nudp = \"{udp}s\"\n",
        interfaces.join(", "),
        plan.vip_mode,
        plan.top,
        plan.pins
    );
    let more = plan.host_lines.iter().copied().chain(std::iter::repeat(""));
    for ((host, weight), more) in topology.hosts().iter().zip(&plan.weights).zip(more) {
        let _ = writeln!(
            text,
            "[hosts.{}]\naddresses = [\"{}\", \"{}\"]\nweight = {weight}\n{more}",
            host.name, host.ipv4[0], host.ipv6[0]
        );
    }
    let translated = if plan.forward == "nat" { TRANSLATED } else { "" };
    let services = [
        Extra { name: "web", protocol: TCP, port: "80", more: translated },
        Extra { name: "echo", protocol: TCP, port: "7", more: "" },
        Extra { name: "echo-udp", protocol: "\"udp\"", port: "7", more: "" },
    ];
    for ((family, vip), outer) in ["v4", "v6"].iter().zip(vips(topology)).zip(plan.outer) {
        let outer = outer.map(|family| format!("outer = \"{family}\"\n")).unwrap_or_default();
        for Extra { name, protocol, port, more } in services.iter().chain(&plan.services) {
            let _ = writeln!(
                text,
                "[[services]]\nname = \"{name}-{family}\"\nvip = \"{vip}\"\nprotocol = {protocol}\nport = {port}\n\
                 forward = \"{}\"\n{outer}{more}",
                plan.forward
            );
            if *protocol == TCP {
                let _ = writeln!(text, "tracking = \"{}\"", plan.tracking);
            }
            for (_, lines) in plan.sections.iter().filter(|(of, _)| of == name) {
                text += lines;
            }
        }
    }
    text
}

/// A config without the section of a host.
///
/// # Panics
/// Unless the host has one.
pub fn without(config: &str, host: &str) -> String {
    let (head, tail) = config.split_once(&format!("[hosts.{host}]")).expect("the host has a section");
    let next = tail.find("\n[").map_or(tail.len(), |at| at + 1);
    format!("{head}{}", &tail[next..])
}

/// `sluice decap` on a host; taken off at the end.
pub struct Decap {
    ns: Namespace,
    instance: String,
}

impl Decap {
    /// On `eth0`, for outer packets to these addresses; with none for those to the interface's own.
    pub fn start(topology: &Topology, host: &Node, addresses: &[IpAddr]) -> Result<Self> {
        let instance = format!("{}-{}", topology.prefix(), host.name);
        let decap = Decap { ns: host.ns.clone(), instance };
        let more: Vec<String> = addresses.iter().map(|address| format!("--address={address}")).collect();
        decap.ns.run(decap.command(&more)?)?;
        Ok(decap)
    }

    fn command(&self, more: &[String]) -> Result<Command> {
        let mut command = Command::new(sluice_binary()?);
        command.args(["--instance", &self.instance, "decap", "--interface", "eth0"]).args(more);
        Ok(command)
    }
}

impl Drop for Decap {
    fn drop(&mut self) {
        let detached = self.command(&["--detach".to_owned()]).and_then(|command| self.ns.run(command));
        if let Err(error) = detached {
            eprintln!("decap of {}: {error:#}", self.instance);
        }
    }
}
