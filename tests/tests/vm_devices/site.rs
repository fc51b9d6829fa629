//! What the cases have in common: echo servers, the daemon, connections through both VIPs, and what must not have happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

pub use sluice_tests::LIMIT;
use sluice_tests::servers::SluiceDaemon;
use sluice_tests::site::Decap;
use sluice_tests::topology::{Namespace, Node, Topology};
use sluice_tests::traffic::{Connections, ConnectionsOptions, EchoServer};

pub const ECHO: u16 = 7;
/// The balancer's link, with the program in the driver: one that a kernel would have to run elsewhere is refused.
pub const NIC: &str = "{ name = \"eth0\", xdp_mode = \"native\" }";
/// Connections to each VIP.
pub const CONNECTIONS: usize = 12;
/// The longest idle timeout of the config, seconds.
const ESTABLISHED: u32 = 6;

/// Runs `ip` with each of these lines.
pub fn ip(ns: &Namespace, lines: &[&str]) {
    for line in lines {
        let mut command = Command::new("ip");
        command.args(line.split_whitespace());
        ns.run(command).unwrap();
    }
}

/// What `ip` shows of a device.
pub fn shown(ns: &Namespace, device: &str) -> serde_json::Value {
    let mut command = Command::new("ip");
    command.args(["-json", "-details", "link", "show", "dev", device]);
    serde_json::from_str::<serde_json::Value>(&ns.run(command).unwrap()).unwrap()[0].take()
}

pub fn mac(ns: &Namespace, device: &str) -> [u8; 6] {
    let shown = shown(ns, device);
    let bytes =
        shown["address"].as_str().unwrap().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
    bytes.collect::<Vec<_>>().try_into().unwrap()
}

pub fn ethtool(ns: &Namespace, line: &str) {
    let mut command = Command::new("ethtool");
    command.args(line.split_whitespace());
    ns.run(command).unwrap();
}

/// A network of the devices that a case makes, by its number: who has `last` in it has these addresses.
pub fn addresses(network: u8, last: u8) -> [IpAddr; 2] {
    [format!("10.{network}.0.{last}"), format!("fd{network}::{last}")].map(|text| text.parse().unwrap())
}

/// Gives `device` its addresses and sets it up.
pub fn join(ns: &Namespace, device: &str, network: u8, last: u8) {
    let [v4, v6] = addresses(network, last);
    ip(
        ns,
        &[
            &format!("addr add {v4}/24 dev {device}"),
            &format!("addr add {v6}/64 dev {device} nodad"),
            &format!("link set {device} up"),
        ],
    );
}

pub fn vips(topology: &Topology) -> [IpAddr; 2] {
    [topology.vip4().into(), topology.vip6().into()]
}

/// What the balancer is to do.
pub struct Plan<'a> {
    /// As in the config, between the brackets.
    pub interfaces: &'a str,
    pub forward: &'a str,
    /// Addresses that the balancer knows the hosts by.
    pub hosts: Vec<[IpAddr; 2]>,
    /// What takes outer headers off on hosts.
    pub decap: Vec<Decap>,
}

/// Everything runs; dropped in the order of the fields.
pub struct Site {
    pub daemon: SluiceDaemon,
    _decap: Vec<Decap>,
    _servers: Vec<EchoServer>,
    pub topology: Topology,
}

impl Site {
    /// Starts echo servers on all hosts, and the daemon with both VIPs over them.
    pub fn start(topology: Topology, plan: Plan<'_>) -> Site {
        let daemon = SluiceDaemon::start(&topology, &config(&topology, &plan)).unwrap();
        let server = |(host, own): (&Node, &[IpAddr; 2])| {
            let at = if plan.forward == "nat" { *own } else { vips(&topology) };
            EchoServer::start(&host.ns, &host.name, &at.map(|at| SocketAddr::new(at, ECHO)), 1).unwrap()
        };
        let servers = topology.hosts().iter().zip(&plan.hosts).map(server).collect();
        Site { daemon, _decap: plan.decap, _servers: servers, topology }
    }

    /// Packets of one reason.
    pub fn reason(&self, reason: &str) -> u64 {
        self.status()["reasons"][reason].as_u64().unwrap_or(0)
    }

    /// Packets by reason, of all whose names begin so.
    pub fn reasons(&self, begin: &str) -> BTreeMap<String, u64> {
        let status = self.status();
        let counts = status["reasons"].as_object().unwrap().iter();
        let found = counts.filter(|(name, count)| name.starts_with(begin) && **count != 0);
        found.map(|(name, count)| (name.clone(), count.as_u64().unwrap())).collect()
    }

    fn status(&self) -> serde_json::Value {
        self.daemon.cli_json(&["status", "--json"]).unwrap()
    }

    /// The same, and a host is drained meanwhile.
    pub fn run_load_and_drain(&self, host: &str) {
        let load = Load::start(&self.topology);
        load.go_on(40);
        self.drain(load, host);
        self.assert_clean();
    }

    /// Drains a host under load, whose connections there end meanwhile: nothing breaks, and new ones go elsewhere.
    pub fn drain(&self, load: Load, host: &str) {
        assert!(load.open_at(host) > 0, "{host} has no connection");
        self.daemon.cli_ok(&["drain", host, "--reason", "test"]).unwrap();
        load.close(host);
        let waited = self.daemon.cli(&["drain", host, "--wait", "--timeout", "60s", "--json"]).unwrap();
        assert!(waited.status.success(), "{waited:?}\n{}", self.daemon.log());
        let answer: serde_json::Value = serde_json::from_slice(&waited.stdout).unwrap();
        let receipt = &answer["drains"][0]["receipt"];
        assert_eq!(receipt["outcome"], "drained", "{answer}");
        assert_eq!((&receipt["new_flows"], &receipt["misrouted"]), (&0.into(), &0.into()), "{answer}");
        let after = Load::start(&self.topology);
        assert_eq!(after.open_at(host), 0);
        after.finish();
        load.finish();
    }

    /// Connections that break neither themselves nor anything else.
    pub fn run_load(&self) {
        let load = Load::start(&self.topology);
        load.go_on(40);
        load.finish();
        self.assert_clean();
    }

    /// No packet was dropped by the daemon's program, and no promise broken.
    pub fn assert_clean(&self) {
        let status = self.status();
        assert_eq!(status["violations"], serde_json::json!({}), "{status:#}");
        let dropped = self.reasons("drop_");
        assert!(dropped.is_empty(), "{dropped:?}\n{}", self.daemon.log());
    }
}

fn config(topology: &Topology, plan: &Plan<'_>) -> String {
    let Plan { interfaces, forward, hosts, .. } = plan;
    let mut text = format!(
        "interfaces = [{interfaces}]\nring_size = 1009\n[timeouts]\nhalf_open = \"4s\"\nestablished = \"{ESTABLISHED}s\"\n\
         closing = \"2s\"\nudp = \"4s\"\n[flow_table]\npins = 4096\n"
    );
    for (number, [v4, v6]) in (1..).zip(hosts) {
        writeln!(text, "[hosts.h{number}]\naddresses = [\"{v4}\", \"{v6}\"]").unwrap();
    }
    for (family, vip) in ["v4", "v6"].iter().zip(vips(topology)) {
        writeln!(
            text,
            "[[services]]\nname = \"echo-{family}\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\nport = {ECHO}\nforward = \"{forward}\""
        )
        .unwrap();
    }
    text
}

/// Connections through both VIPs, with messages of several full segments.
pub struct Load(Vec<Connections>);

impl Load {
    /// Returns when all are open.
    pub fn start(topology: &Topology) -> Load {
        let start = |vip| {
            let options = ConnectionsOptions {
                connections: CONNECTIONS,
                interval: Duration::from_millis(300),
                message_bytes: 4000,
                patience: LIMIT / 2,
                ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
            };
            Connections::start(&topology.client().ns, &options).unwrap()
        };
        let load = Load(vips(topology).map(start).into());
        for tcp in &load.0 {
            tcp.wait_opened(CONNECTIONS as u64, LIMIT);
            let counts = tcp.counts();
            assert_eq!((counts.opened, counts.broken), (CONNECTIONS as u64, 0), "{counts:?}");
        }
        load
    }

    fn open_at(&self, host: &str) -> u64 {
        self.0.iter().filter_map(|tcp| Some(tcp.counts().hosts.get(host)?.open)).sum()
    }

    fn close(&self, host: &str) {
        self.0.iter().for_each(|tcp| tcp.close(1.0, Some(host)));
    }

    /// Waits until every VIP's connections have had so many more messages echoed.
    pub fn go_on(&self, messages: u64) {
        for tcp in &self.0 {
            let goal = tcp.counts().echoed + messages;
            assert!(tcp.wait_for(LIMIT, |counts| counts.echoed >= goal), "{:?}", tcp.counts());
        }
    }

    /// Every connection ends in order, with every byte echoed.
    pub fn finish(self) {
        for tcp in self.0 {
            let counts = tcp.finish().unwrap();
            let expected = (CONNECTIONS as u64, 0, 0, 0);
            assert_eq!(
                (counts.finished, counts.broken, counts.missing, counts.renamed),
                expected,
                "{counts:?}"
            );
            assert_eq!(counts.sent, counts.echoed, "{counts:?}");
        }
    }
}
