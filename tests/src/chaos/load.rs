//! The traffic of a run, and what its clients notice.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::action::host_of;
use super::model::{PATIENCE, UDP_PATIENCE};
use super::noticed::{Event, Flow};
use crate::site::{ECHO, WEB};
use crate::topology::Node;
use crate::traffic::{
    Break, Connections, ConnectionsOptions, Opening, Outcome, Requests, RequestsOptions, UdpFlows,
    UdpFlowsOptions, UdpWrong,
};

/// At any time, over both families.
const CONNECTIONS: usize = 240;
const UDP_FLOWS: usize = 80;
/// A second, over both families.
const REQUESTS: u32 = 40;
/// How often a flow speaks.
const INTERVAL: Duration = Duration::from_millis(500);
const TCP_LIFE: std::ops::Range<Duration> = Duration::from_secs(6)..Duration::from_secs(40);
const UDP_LIFE: std::ops::Range<Duration> = Duration::from_secs(5)..Duration::from_secs(30);
/// What presses the flow table, to each VIP: with the pins of what they have closed more than the smallest table has.
const MORE: usize = 700;
const MORE_A_SECOND: u32 = 700;
const MORE_LIFE: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(5);

/// How many of each a run had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub connections: u64,
    pub finished: u64,
    pub messages: u64,
    pub udp_flows: u64,
    pub datagrams: u64,
    pub requests: u64,
}

/// What has been read of a client's logs.
#[derive(Debug, Default, Clone, Copy)]
struct Read {
    openings: usize,
    troubles: usize,
}

/// The running clients, one of each kind for each VIP.
pub struct Load {
    client: Node,
    vips: [IpAddr; 2],
    epoch: Instant,
    /// The first two are the lasting ones.
    connections: Vec<(Connections, Read)>,
    udp: Vec<(UdpFlows, Read)>,
    requests: Vec<(Requests, Read)>,
}

impl Load {
    pub fn start(client: &Node, vips: [IpAddr; 2]) -> Result<Self> {
        let mut load = Load {
            client: client.clone(),
            vips,
            epoch: Instant::now(),
            connections: Vec::new(),
            udp: Vec::new(),
            requests: Vec::new(),
        };
        for vip in vips {
            let connections = ConnectionsOptions {
                connections: CONNECTIONS / vips.len(),
                open_rate: 200,
                lifetime: Some(TCP_LIFE),
                replace: true,
                ..load.connections_to(vip)
            };
            let udp = UdpFlowsOptions {
                sources: load.sources(vip),
                flows: UDP_FLOWS / vips.len(),
                open_rate: 50,
                interval: INTERVAL,
                patience: UDP_PATIENCE,
                lifetime: Some(UDP_LIFE),
                replace: true,
                limit: Duration::MAX,
                ..UdpFlowsOptions::new(SocketAddr::new(vip, ECHO))
            };
            let requests = RequestsOptions {
                sources: load.sources(vip),
                rate: REQUESTS / vips.len() as u32,
                // One waits for as long as a host is stopped.
                concurrency: 64,
                patience: PATIENCE,
                limit: Duration::MAX,
                ..RequestsOptions::new(SocketAddr::new(vip, WEB))
            };
            load.connections.push((Connections::start(&client.ns, &connections)?, Read::default()));
            load.udp.push((UdpFlows::start(&client.ns, &udp)?, Read::default()));
            load.requests.push((Requests::start(&client.ns, &requests)?, Read::default()));
        }
        Ok(load)
    }

    /// Opens many connections more, which end by themselves after some seconds.
    pub fn press(&mut self) -> Result<()> {
        for vip in self.vips {
            let options = ConnectionsOptions {
                connections: MORE,
                open_rate: MORE_A_SECOND,
                lifetime: Some(MORE_LIFE),
                ..self.connections_to(vip)
            };
            self.connections.push((Connections::start(&self.client.ns, &options)?, Read::default()));
        }
        Ok(())
    }

    fn connections_to(&self, vip: IpAddr) -> ConnectionsOptions {
        ConnectionsOptions {
            sources: self.sources(vip),
            interval: INTERVAL,
            patience: PATIENCE,
            limit: Duration::MAX,
            ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
        }
    }

    fn sources(&self, vip: IpAddr) -> Vec<IpAddr> {
        match vip {
            IpAddr::V4(_) => self.client.ipv4.iter().map(|&address| address.into()).collect(),
            IpAddr::V6(_) => self.client.ipv6.iter().map(|&address| address.into()).collect(),
        }
    }

    /// Time since the traffic began.
    pub fn time(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// What was noticed since the last call, in the order of time.
    pub fn events(&mut self) -> Vec<Event> {
        let epoch = self.epoch;
        let since = |time: Instant| time.saturating_duration_since(epoch);
        let mut events = Vec::new();
        for (run, read) in &mut self.connections {
            let (openings, breaks) = (run.openings(read.openings), run.breaks(read.troubles));
            (read.openings, read.troubles) = (read.openings + openings.len(), read.troubles + breaks.len());
            events.extend(openings.iter().filter_map(|opening| answered(opening, ECHO, since)));
            for Break { begun, at, host, why, from } in breaks {
                let (begun, at) = (since(begun), since(at));
                let host = host.and_then(|host| host_of(&host));
                let flow = from.map(|from| Flow { from, port: ECHO });
                events.extend(flow.map(|flow| Event::Gone { flow, at, host }));
                events.push(Event::Broken { begun, at, host, why });
            }
        }
        for (run, read) in &mut self.udp {
            let (openings, troubles) = (run.openings(read.openings), run.troubles(read.troubles));
            (read.openings, read.troubles) = (read.openings + openings.len(), read.troubles + troubles.len());
            events.extend(openings.iter().filter_map(|opening| answered(opening, ECHO, since)));
            events.extend(troubles.into_iter().map(|trouble| {
                let (begun, at) = (since(trouble.begun), since(trouble.at));
                let host = trouble.host.and_then(|host| host_of(&host));
                match trouble.what {
                    UdpWrong::Lost => Event::Lost { begun, at, host },
                    UdpWrong::Moved(_) => Event::Moved { begun, at, from: host },
                    UdpWrong::Error(why) => Event::Error { begun, at, host, why },
                }
            }));
        }
        for (run, read) in &mut self.requests {
            let log = run.log_from(read.openings);
            read.openings += log.len();
            for request in log {
                let (begun, at) = (since(request.begun), since(request.begun + request.took));
                let flow = request.from.map(|from| Flow { from, port: WEB });
                match request.outcome {
                    Outcome::Ok(host) => {
                        let answered = host_of(&host).map(|host| Event::Answered { begun, at, host, flow });
                        events.extend(answered);
                    }
                    Outcome::Failed(why) => {
                        events.extend(flow.map(|flow| Event::Gone { flow, at, host: None }));
                        events.push(Event::Failed { begun, at, why: why.to_string() });
                    }
                }
            }
        }
        // A flow that has gone is known before the next one with its addresses and ports is judged.
        events.sort_by_key(|event| !matches!(event, Event::Gone { .. }));
        events
    }

    /// What no host and no operator can be the cause of: bytes that are not those that were sent, answers under two names.
    pub fn impossible(&self) -> Option<String> {
        for (run, _) in &self.connections {
            let counts = run.counts();
            if counts.missequenced + counts.renamed > 0 {
                return Some(format!("connections got others' bytes: {:?}", counts.reasons));
            }
        }
        let garbled: u64 = self.udp.iter().map(|(run, _)| run.counts().garbled).sum();
        (garbled > 0).then(|| format!("{garbled} datagrams came back garbled"))
    }

    /// Lets everything come to an orderly end, from now on and for some seconds.
    pub fn begin_to_finish(&self) {
        self.requests.iter().for_each(|(run, _)| run.begin_to_finish());
        self.udp.iter().for_each(|(run, _)| run.begin_to_finish());
        self.connections.iter().for_each(|(run, _)| run.begin_to_finish());
    }

    /// Whether everything has come to its end.
    pub fn is_done(&self) -> bool {
        self.requests.iter().all(|(run, _)| run.is_done())
            && self.udp.iter().all(|(run, _)| run.is_done())
            && self.connections.iter().all(|(run, _)| run.is_done())
    }

    pub fn totals(&self) -> Totals {
        let requests = self.requests.iter().map(|(run, _)| run.counts().ok).sum();
        let mut totals = Totals { requests, ..Totals::default() };
        for counts in self.udp.iter().map(|(run, _)| run.counts()) {
            totals.udp_flows += counts.flows;
            totals.datagrams += counts.sent;
        }
        for counts in self.connections.iter().map(|(run, _)| run.counts()) {
            totals.connections += counts.opened;
            totals.finished += counts.finished;
            totals.messages += counts.sent;
        }
        totals
    }
}

fn answered(opening: &Opening, port: u16, since: impl Fn(Instant) -> Duration) -> Option<Event> {
    let host = host_of(&opening.host)?;
    let flow = opening.from.map(|from| Flow { from, port });
    Some(Event::Answered { begun: since(opening.begun), at: since(opening.answered), host, flow })
}
