//! The config of the balancers here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lb_common::layout::HostId;
use lb_userspace::model::{
    self, Affinity, FlowPolicy, Forward, Fragments, Host, Model, OuterSource, Ping, Protocol, Tracking,
    UdpHandover, VipMode,
};
use lb_userspace::ring::{Member, SHARE_FULL};

use crate::client::{Client, KEY, Service};
use crate::rules::{Moves, Policy, Timeouts};

/// Hosts are numbered from 1, by their names; what numbers the product gives them is its own affair.
pub const HOSTS: HostId = 5;
/// Hosts of the service that does not have all.
const HOSTS_OF_API: HostId = 3;
/// The longest of [`TIMEOUTS`].
pub const T: u32 = 30;
pub const TIMEOUTS: Timeouts = Timeouts { half_open: 12, established: T, closing: 6, udp: 20, reset: 6 };
/// Seconds of silence after which a UDP flow may move, where the service says so.
pub const GAP: u32 = 2;

/// What a config file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Slots of each ring.
    pub ring: u32,
    pub policies: BTreeMap<Service, Policy>,
    /// Hosts by number, with their weights.
    pub weights: BTreeMap<HostId, u16>,
    /// A service that the config does not name.
    pub without: Option<Service>,
}

pub fn name(host: HostId) -> String {
    format!("host-{host}")
}

pub fn number(name: &str) -> HostId {
    name.strip_prefix("host-").and_then(|number| number.parse().ok()).expect("a name of a host")
}

fn address(host: HostId) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, host as u8)
}

pub fn key() -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&KEY[0].to_le_bytes());
    key[8..].copy_from_slice(&KEY[1].to_le_bytes());
    key
}

/// The next hop's address of a host.
pub fn backend(host: HostId) -> IpAddr {
    address(host).into()
}

impl Setup {
    pub fn new(ring: u32, policies: BTreeMap<Service, Policy>) -> Setup {
        let weights = (1..=HOSTS).map(|host| (host, 1 + host % 2)).collect();
        Setup { ring, policies, weights, without: None }
    }

    pub fn policy(&self, service: Service) -> Policy {
        self.policies.get(&service).copied().unwrap_or_default()
    }

    pub fn slot_of(&self, client: &Client) -> u32 {
        if self.policy(client.service).client {
            client.slot_of_address(self.ring)
        } else {
            client.hash().slot(self.ring)
        }
    }

    /// Hosts that serve the service.
    pub fn hosts(&self, service: Service) -> Vec<HostId> {
        let serves = |host: &HostId| service != Service::Api || *host <= HOSTS_OF_API;
        self.weights.keys().copied().filter(serves).collect()
    }

    pub fn services(&self, host: HostId) -> impl Iterator<Item = Service> {
        Service::ALL.into_iter().filter(move |&service| self.hosts(service).contains(&host))
    }

    fn services_named(&self) -> impl Iterator<Item = Service> {
        Service::ALL.into_iter().filter(|service| self.without != Some(*service))
    }

    /// Whether some of the flows of a host of this config are not tracked while their slots are settled.
    pub fn has_edges(&self, host: HostId) -> bool {
        self.services(host).any(|service| self.policy(service).edges)
    }

    pub fn any_edges(&self) -> bool {
        Service::ALL.into_iter().any(|service| self.policy(service).edges)
    }

    /// Members of a service's ring, of which these are in use.
    pub fn members(&self, service: Service, is_used: impl Fn(HostId) -> bool) -> Vec<Member> {
        let member = |host| Member {
            id: host,
            name: name(host),
            weight: self.weights[&host],
            share: if is_used(host) { SHARE_FULL } else { 0 },
        };
        self.hosts(service).into_iter().map(member).collect()
    }

    pub fn model(&self) -> Model {
        let host = |(&host, &weight): (&HostId, &u16)| {
            (
                name(host),
                Host {
                    name: name(host),
                    weight,
                    disabled: false,
                    zone: None,
                    groups: Default::default(),
                    ipv4: Some(address(host)),
                    ipv6: None,
                },
            )
        };
        Model {
            interfaces: Vec::new(),
            vip_mode: VipMode::External,
            ping: Ping::Pass,
            mss_clamp: None,
            outer_source: OuterSource::default(),
            gue_port: 6080,
            ring_size: self.ring,
            hash_key: Some(key()),
            hooks: model::Hooks { commands: BTreeMap::new(), timeout: Duration::from_secs(30) },
            journal: model::Retention { keep_for: Duration::from_secs(3600), keep_revisions: 1000 },
            flow_table: model::FlowTable { pins: 64, overflow: 64, flood_gate: 0 },
            timeouts: timeouts(),
            rules: model::Rules::default(),
            health: model::Health::default(),
            api: model::Api::default(),
            metrics: model::Metrics::default(),
            ui: model::Ui::default(),
            announce: None,
            hosts: self.weights.iter().map(host).collect(),
            services: self.services_named().map(|service| self.service(service)).collect(),
        }
    }

    fn service(&self, service: Service) -> model::Service {
        let Policy { edges, client, moves } = self.policy(service);
        model::Service {
            name: service.name().to_owned(),
            vip: Service::vip().into(),
            protocols: if service.is_udp() { Protocol::Udp } else { Protocol::Tcp }.into(),
            ports: service.port().into(),
            forward: Forward::L2,
            outer: None,
            backend_port: None,
            fragments: Fragments::Drop,
            flows: FlowPolicy {
                tracking: if edges { Tracking::Edges } else { Tracking::Full },
                affinity: if client { Affinity::Client } else { Affinity::None },
                udp_handover: match moves {
                    Moves::Never => UdpHandover::Pin,
                    Moves::AfterSilenceOf(_) => UdpHandover::Gap,
                    Moves::AtOnce => UdpHandover::Immediate,
                },
            },
            timeouts: timeouts(),
            rules: model::Rules::default(),
            when_empty: model::WhenEmpty::Reject,
            checks: Vec::new(),
            health: model::Health::default(),
            standby: Vec::new(),
            hosts: self.hosts(service).into_iter().map(name).collect(),
        }
    }
}

fn timeouts() -> model::Timeouts {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    model::Timeouts {
        half_open: seconds(TIMEOUTS.half_open),
        established: seconds(TIMEOUTS.established),
        closing: seconds(TIMEOUTS.closing),
        udp: seconds(TIMEOUTS.udp),
        udp_gap: seconds(GAP),
    }
}
