//! What should exist, after the config file has been read and checked: the input of the planner.
//!
//! Nothing here knows of TOML, of BPF or of time; a value of [`Model`] is always whole and consistent.

mod endpoint;
mod health;
mod hooks;
mod reach;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use endpoint::{PortRange, Ports, Protocol, Protocols, Vip};
pub use health::{Check, DownFlows, Health, Passive, PassiveAction, Probe, Request, Through};
pub use hooks::Hooks;
pub use reach::{Family, Reach};
pub use rules::{Percent, Rules, WhenEmpty};

/// The resolved configuration of one balancer instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Interfaces that get the XDP program, in the order of the config.
    pub interfaces: Vec<Interface>,
    pub vip_mode: VipMode,
    pub ping: Ping,
    /// Maximum segment size that SYNs over IPv4 may announce, over IPv6 20 less; `None`: any.
    pub mss_clamp: Option<u16>,
    pub outer_source: OuterSource,
    /// UDP port of backends that unpack GUE.
    pub gue_port: u16,
    /// Slots of every ring: a prime, at least 100 × the members of the largest ring.
    pub ring_size: u32,
    /// Secret key of the flow hash and of the rings, 16 bytes; `None`: the journal makes one and keeps it.
    #[serde(skip)]
    pub hash_key: Option<[u8; 16]>,
    pub flow_table: FlowTable,
    /// Of services that have none of their own.
    pub timeouts: Timeouts,
    /// Of services that have none of their own.
    pub rules: Rules,
    /// Of services that have none of their own.
    pub health: Health,
    pub hooks: Hooks,
    pub journal: Retention,
    pub api: Api,
    pub metrics: Metrics,
    pub ui: Ui,
    /// Interface that has the VIPs as long as this machine wants their traffic; `None`: nobody is told.
    pub announce: Option<String>,
    /// By name; the name is the operator's handle for a drain.
    pub hosts: BTreeMap<String, Host>,
    pub services: Vec<Service>,
}

/// Who may use the API beside root and the daemon's user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Api {
    /// Group whose members may look.
    pub read_group: Option<String>,
    /// Group whose members may also change.
    pub change_group: Option<String>,
}

/// Where metrics are served beside the API's socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Address for TCP; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// The page for browsers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ui {
    /// Address for TCP; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Names by which browsers may call it, beside `localhost` and addresses.
    pub names: Vec<String>,
    /// Certificate chain and key; `None`: no TLS.
    pub tls: Option<TlsFiles>,
    /// Who may change something; `None`: the instance's own file.
    pub token_file: Option<PathBuf>,
    /// Nobody may look without a token, not even from this machine.
    pub token_to_look: bool,
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// An interface that gets the XDP program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    pub name: String,
    pub xdp_mode: XdpMode,
}

/// The sources of outer headers, by family; `None`: this machine's own address towards the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct OuterSource {
    pub ipv4: Option<Ipv4Net>,
    pub ipv6: Option<Ipv6Net>,
}

impl OuterSource {
    /// The prefix for outer headers to `backend`.
    pub fn towards(&self, backend: IpAddr) -> Option<IpNet> {
        match backend {
            IpAddr::V4(_) => self.ipv4.map(IpNet::V4),
            IpAddr::V6(_) => self.ipv6.map(IpNet::V6),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.ipv4.map(IpNet::V4).into_iter().chain(self.ipv6.map(IpNet::V6))
    }
}

/// Sizes of the flow table, and what may be put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FlowTable {
    /// Pins that the table is made for.
    pub pins: u32,
    /// Pins that find a place beside it, when their two buckets are full.
    pub overflow: u32,
    /// Pins that a CPU may make in a second for TCP flows that need none; 0: any number.
    pub flood_gate: u32,
}

/// How long the journal keeps revisions: those that are neither too old nor too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Retention {
    #[serde(with = "humantime_serde")]
    pub keep_for: Duration,
    pub keep_revisions: u32,
}

/// How long a pin may be idle before its flow counts as ended, by phase; whole seconds, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Timeouts {
    #[serde(with = "humantime_serde")]
    pub half_open: Duration,
    #[serde(with = "humantime_serde")]
    pub established: Duration,
    #[serde(with = "humantime_serde")]
    pub closing: Duration,
    #[serde(with = "humantime_serde")]
    pub udp: Duration,
    /// Not an idle timeout: see [`UdpHandover::Gap`].
    #[serde(with = "humantime_serde")]
    pub udp_gap: Duration,
}

impl Timeouts {
    /// Each with its name in the config.
    pub fn named(&self) -> [(&'static str, Duration); 5] {
        [
            ("half_open", self.half_open),
            ("established", self.established),
            ("closing", self.closing),
            ("udp", self.udp),
            ("udp_gap", self.udp_gap),
        ]
    }

    /// The longest time that a live flow may be silent: the `T` of the handover rules.
    pub fn longest(&self) -> Duration {
        self.half_open.max(self.established).max(self.closing).max(self.udp)
    }
}

impl Model {
    /// Whether the config takes a host out.
    pub fn is_disabled(&self, host: &str) -> bool {
        self.hosts.get(host).is_some_and(|host| host.disabled)
    }

    /// The distinct timeouts of instance and services.
    pub fn all_timeouts(&self) -> BTreeSet<Timeouts> {
        self.services.iter().map(|service| service.timeouts).chain([self.timeouts]).collect()
    }

    /// Where packets of a service reach a host.
    pub fn address(&self, service: &Service, host: &str) -> Option<IpAddr> {
        service.reach().address_of(self.hosts.get(host)?)
    }

    /// Where packets of a service reach its hosts.
    pub fn addresses(&self, service: &Service) -> impl Iterator<Item = IpAddr> {
        service.hosts.iter().filter_map(move |host| self.address(service, host))
    }
}

/// A machine behind the balancer: the unit of drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    pub name: String,
    /// Relative share of new flows, 1 to 65535.
    pub weight: u16,
    /// It gets no new flows, whatever operators say.
    pub disabled: bool,
    /// What fails together: a room, a power feed, a zone of a cloud.
    pub zone: Option<String>,
    /// Sets of hosts that commands can name, as `@NAME`.
    pub groups: BTreeSet<String>,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

impl Host {
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4 => self.ipv4.map(IpAddr::V4),
            Family::Ipv6 => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// A virtual address or a prefix of them, with protocols and ports, and the hosts that serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    pub name: String,
    pub vip: Vip,
    #[serde(flatten)]
    pub protocols: Protocols,
    #[serde(flatten)]
    pub ports: Ports,
    pub forward: Forward,
    /// Family of the outer headers of a tunnel; `None`: the VIP's for hosts that have an address of it, else the other.
    pub outer: Option<Family>,
    /// Port of the backends, of a service of one port that forwards by `nat`; `None`: that which clients use.
    pub backend_port: Option<u16>,
    pub fragments: Fragments,
    #[serde(flatten)]
    pub flows: FlowPolicy,
    /// Its own, or the instance's.
    pub timeouts: Timeouts,
    /// Its own, or the instance's.
    pub rules: Rules,
    pub when_empty: WhenEmpty,
    /// A host is up if all of them say so; none: nothing is asked.
    pub checks: Vec<Check>,
    /// Its own, or the instance's.
    pub health: Health,
    /// Names of members that get new flows only while too few of the others can, sorted.
    pub standby: Vec<String>,
    /// Names of the member hosts, sorted, without repetition; each has an address that the service reaches it by.
    pub hosts: Vec<String>,
}

impl Service {
    /// Whether checks, or who stands by, may leave members of it out.
    pub fn chooses(&self) -> bool {
        self.is_checked() || !self.standby.is_empty()
    }

    /// Whether its hosts may be down for it, by checks or by how clients fare.
    pub fn is_checked(&self) -> bool {
        !self.checks.is_empty() || self.ejects()
    }

    /// Whether its hosts may be down for it by how clients fare.
    pub fn ejects(&self) -> bool {
        self.is_watched() && self.health.passive.action == PassiveAction::Eject
    }

    /// Whether it is watched how clients fare. Only handshakes tell, and only where they are tracked to their end.
    pub fn is_watched(&self) -> bool {
        self.health.passive.action != PassiveAction::Off
            && self.protocols.has(Protocol::Tcp)
            && self.flows.tracking == Tracking::Full
    }

    /// By which of their addresses it reaches its hosts.
    pub fn reach(&self) -> Reach {
        Reach::of(self.vip, self.forward, self.outer)
    }
}

/// How the flows of a service are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct FlowPolicy {
    pub tracking: Tracking,
    pub affinity: Affinity,
    /// Of a UDP service.
    pub udp_handover: UdpHandover,
}

impl fmt::Display for FlowPolicy {
    /// What is not the default, in short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.tracking == Tracking::Edges).then_some("edges"),
            (self.affinity == Affinity::Client).then_some("client"),
            match self.udp_handover {
                UdpHandover::Pin => None,
                UdpHandover::Gap => Some("gap"),
                UdpHandover::Immediate => Some("immediate"),
            },
        ];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        f.pad(&if parts.is_empty() { "-".to_owned() } else { parts.join(", ") })
    }
}

/// What the flow table is told of a service's flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tracking {
    /// Every packet: gauges are exact at any moment.
    #[default]
    Full,
    /// In a settled slot only the first packet of a TCP connection, so that a packet costs the same however many flows there
    /// are. Gauges are unknown until the idle timeout after a drain began, so a drain takes at least that long.
    Edges,
}

/// What the slot of a flow comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// Addresses and ports: the flows of a client spread.
    #[default]
    None,
    /// The client's address: all its flows to the service go to one host, for as long as the slot's owner is the same.
    Client,
}

/// When a UDP flow of a slot in handover goes to the new owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UdpHandover {
    /// When it has been idle past its timeout.
    #[default]
    Pin,
    /// With its first datagram after a pause of `udp_gap`.
    Gap,
    /// With its next datagram.
    Immediate,
}

/// How a packet reaches its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Rewrite the MAC addresses; backends are one hop away and answer the client themselves.
    L2,
    /// Encapsulate IP in IP (RFC 2003, RFC 2473); backends decapsulate and answer the client themselves.
    Ipip,
    /// Encapsulate in UDP with a GUE header, variant 0 (draft-ietf-intarea-gue); backends decapsulate and answer the client
    /// themselves.
    Gue,
    /// Rewrite the destination; backends' answers come back through this machine, which sends them on in the VIP's name.
    Nat,
}

impl Forward {
    /// Whether packets get an outer header, from the balancer's own address.
    pub fn is_tunnel(self) -> bool {
        match self {
            Forward::L2 | Forward::Nat => false,
            Forward::Ipip | Forward::Gue => true,
        }
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Forward::L2 => "l2",
            Forward::Ipip => "ipip",
            Forward::Gue => "gue",
            Forward::Nat => "nat",
        })
    }
}

/// What becomes of a fragment whose packet's first fragment was not seen: it has no ports that would tell where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fragments {
    #[default]
    Drop,
    /// This kernel gets it.
    Pass,
}

/// Who answers echo requests to VIPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ping {
    /// This kernel, if it has the address.
    #[default]
    Pass,
    /// The XDP program.
    Answer,
}

/// Who answers ARP and neighbour discovery for the VIPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VipMode {
    /// Somebody else routes the VIPs to this machine; Sluice touches no address.
    External,
    /// Sluice puts the VIPs on the first interface, so that this kernel answers for them.
    Local,
}

/// The hook that the XDP program is attached to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native where the driver can, else generic, and say so.
    #[default]
    Auto,
    Native,
    Generic,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            XdpMode::Auto => "auto",
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        })
    }
}
