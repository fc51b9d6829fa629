//! The traffic of the demo, and what the clients know about it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::config::{ECHO, WEB};
use crate::topology::Node;
use crate::traffic::{
    ConnectionCounts, Connections, ConnectionsOptions, RequestCounts, Requests, RequestsOptions, UdpCounts,
    UdpFlows, UdpFlowsOptions,
};

/// Long TCP connections at any time, over both families.
pub const CONNECTIONS: usize = 600;
/// UDP flows at any time, over both families.
pub const UDP_FLOWS: usize = 200;
/// Short requests a second, over both families.
pub const REQUESTS: u32 = 120;

/// How often connections and flows speak: well within their idle timeouts.
const INTERVAL: Duration = Duration::from_millis(500);
/// After this time without an answer something counts as broken. A lost packet is sent again by TCP after a second
/// at most.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long before its end a TCP connection lives: from the shortest to the longest.
const TCP_LIFE: std::ops::Range<Duration> = Duration::from_secs(15)..Duration::from_secs(36);
/// Shorter than TCP's by the difference of their idle timeouts.
const UDP_LIFE: std::ops::Range<Duration> = Duration::from_secs(13)..Duration::from_secs(32);

/// The running clients, one of each kind for each VIP.
pub struct Load {
    connections: Vec<Connections>,
    udp: Vec<UdpFlows>,
    requests: Vec<Requests>,
}

/// New flows of a time that a host answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewFlows {
    pub tcp: u64,
    pub udp: u64,
    pub http: u64,
}

impl NewFlows {
    pub fn total(self) -> u64 {
        self.tcp + self.udp + self.http
    }
}

impl std::iter::Sum for NewFlows {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, more| Self {
            tcp: sum.tcp + more.tcp,
            udp: sum.udp + more.udp,
            http: sum.http + more.http,
        })
    }
}

/// Counts of all clients together.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    pub connections: ConnectionCounts,
    pub udp: UdpCounts,
    pub requests: RequestCounts,
}

impl Load {
    /// Begins to send from `client` to all services of `vips`.
    pub fn start(client: &Node, vips: &[IpAddr]) -> Result<Self> {
        let mut load = Self { connections: Vec::new(), udp: Vec::new(), requests: Vec::new() };
        for &vip in vips {
            let sources: Vec<IpAddr> = match vip {
                IpAddr::V4(_) => client.ipv4.iter().map(|&address| address.into()).collect(),
                IpAddr::V6(_) => client.ipv6.iter().map(|&address| address.into()).collect(),
            };
            let connections = ConnectionsOptions {
                sources: sources.clone(),
                connections: CONNECTIONS / vips.len(),
                open_rate: 400,
                interval: INTERVAL,
                patience: PATIENCE,
                lifetime: Some(TCP_LIFE),
                replace: true,
                ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
            };
            let udp = UdpFlowsOptions {
                sources: sources.clone(),
                flows: UDP_FLOWS / vips.len(),
                open_rate: 100,
                interval: INTERVAL,
                patience: PATIENCE,
                lifetime: Some(UDP_LIFE),
                replace: true,
                ..UdpFlowsOptions::new(SocketAddr::new(vip, ECHO))
            };
            let requests = RequestsOptions {
                sources,
                rate: REQUESTS / vips.len() as u32,
                concurrency: 8,
                patience: PATIENCE,
                ..RequestsOptions::new(SocketAddr::new(vip, WEB))
            };
            load.connections.push(Connections::start(&client.ns, &connections)?);
            load.udp.push(UdpFlows::start(&client.ns, &udp)?);
            load.requests.push(Requests::start(&client.ns, &requests)?);
        }
        Ok(load)
    }

    /// The flows that began after `from` and not after `to`, by the host that answered them.
    pub fn new_flows(&self, from: Instant, to: Instant) -> BTreeMap<String, NewFlows> {
        let mut hosts = BTreeMap::<String, NewFlows>::new();
        for (host, count) in self.connections.iter().flat_map(|run| run.opened_between(from, to)) {
            hosts.entry(host).or_default().tcp += count;
        }
        for (host, count) in self.udp.iter().flat_map(|run| run.opened_between(from, to)) {
            hosts.entry(host).or_default().udp += count;
        }
        for (host, count) in self.requests.iter().flat_map(|run| run.answered_between(from, to)) {
            hosts.entry(host).or_default().http += count;
        }
        hosts
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.connections.iter().for_each(|run| totals.add_connections(&run.counts()));
        self.udp.iter().for_each(|run| totals.add_udp(&run.counts()));
        self.requests.iter().for_each(|run| totals.add_requests(&run.counts()));
        totals
    }

    /// Lets everything come to an orderly end and counts.
    pub fn finish(self) -> Result<Totals> {
        let mut totals = Totals::default();
        for run in self.requests {
            totals.add_requests(&run.finish()?);
        }
        for run in self.udp {
            totals.add_udp(&run.finish()?);
        }
        for run in self.connections {
            totals.add_connections(&run.finish()?);
        }
        Ok(totals)
    }
}

impl Totals {
    /// Whatever a user would have noticed.
    pub fn errors(&self) -> u64 {
        self.connections.broken + self.udp_errors() + self.requests.failed
    }

    /// Datagrams without their answer, or with another host's.
    pub fn udp_errors(&self) -> u64 {
        let udp = &self.udp;
        udp.lost + udp.moved + udp.garbled + udp.errors
    }

    /// What went wrong, in words, with how often.
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        let mut reasons = BTreeMap::new();
        let all = [
            ("TCP", &self.connections.reasons),
            ("UDP", &self.udp.reasons),
            ("HTTP", &self.requests.reasons),
        ];
        for (kind, counts) in all {
            counts.iter().for_each(|(reason, count)| {
                reasons.insert(format!("{kind}: {reason}"), *count);
            });
        }
        let udp = [("lost", self.udp.lost), ("moved", self.udp.moved), ("garbled", self.udp.garbled)];
        for (what, count) in udp.into_iter().filter(|(_, count)| *count > 0) {
            reasons.insert(format!("UDP: {what}"), count);
        }
        reasons
    }

    fn add_connections(&mut self, more: &ConnectionCounts) {
        let sum = &mut self.connections;
        sum.attempted += more.attempted;
        sum.opened += more.opened;
        sum.open += more.open;
        sum.finished += more.finished;
        sum.broken += more.broken;
        sum.abandoned += more.abandoned;
        sum.sent += more.sent;
        sum.echoed += more.echoed;
        sum.missing += more.missing;
        sum.missequenced += more.missequenced;
        sum.renamed += more.renamed;
        add_reasons(&mut sum.reasons, &more.reasons);
    }

    fn add_udp(&mut self, more: &UdpCounts) {
        let sum = &mut self.udp;
        sum.flows += more.flows;
        sum.ended += more.ended;
        sum.errors += more.errors;
        sum.sent += more.sent;
        sum.answered += more.answered;
        sum.lost += more.lost;
        sum.superfluous += more.superfluous;
        sum.garbled += more.garbled;
        sum.moved += more.moved;
        add_reasons(&mut sum.reasons, &more.reasons);
    }

    fn add_requests(&mut self, more: &RequestCounts) {
        let sum = &mut self.requests;
        sum.begun += more.begun;
        sum.ok += more.ok;
        sum.failed += more.failed;
        add_reasons(&mut sum.reasons, &more.reasons);
    }
}

fn add_reasons(sum: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (reason, count) in more {
        *sum.entry(reason.clone()).or_default() += count;
    }
}
