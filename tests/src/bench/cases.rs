//! What is measured.

use std::net::SocketAddr;

use lb_common::reason::Reason;

use super::frames::Kind;
use super::subject::{EDGES, OPEN, OTHER, Vips};

/// One figure: a set of packets, and what came before it.
#[derive(Debug, Clone)]
pub struct Case {
    pub what: String,
    pub kind: Kind,
    pub vip: SocketAddr,
    pub flows: u32,
    /// Packets of the same flows that came before, once.
    pub before: Vec<Kind>,
    /// Pins of the flows are taken away before each pass.
    pub forget: bool,
    /// What each packet has to be counted as.
    pub reason: Reason,
    /// Nanoseconds that are good enough, and that are aimed at.
    pub goal: Option<(f64, f64)>,
}

impl Case {
    pub fn name(&self) -> String {
        format!("{}, {}", self.what, flows(self.flows))
    }

    /// Whether it is the plainest of all: the one that a reader compares with what others do.
    pub fn has_reference(&self) -> bool {
        self.kind == Kind::TcpAck && self.vip == Vips::of(false, false, false) && self.flows >= 1000
    }
}

/// `1`, `1 k`, `1 M`
pub fn flows(count: u32) -> String {
    let (number, unit) = match count {
        1 => return "1 flow".to_owned(),
        0..1000 => (count, ""),
        1000..1_000_000 => (count / 1000, " k"),
        _ => (count / 1_000_000, " M"),
    };
    format!("{number}{unit} flows")
}

/// Every case, for these numbers of flows.
pub fn all(flows: &[u32]) -> Vec<Case> {
    let mut cases = Vec::new();
    for is_v6 in [false, true] {
        for kind in [Kind::TcpAck, Kind::Udp] {
            cases.extend(flows.iter().map(|&flows| established(kind, is_v6, false, flows)));
        }
    }
    let some: Vec<u32> = flows.iter().copied().filter(|&flows| flows > 1).collect();
    for is_v6 in [false, true] {
        cases.extend(some.iter().map(|&flows| established(Kind::TcpAck, is_v6, true, flows)));
    }
    for is_v6 in [false, true] {
        cases.extend(some.iter().map(|&flows| edges(is_v6, flows)));
    }
    // Each pass over a set of new flows is a run of its own, and short ones measure how cold the caches were.
    let many: Vec<u32> = flows.iter().copied().filter(|&flows| flows >= 10_000).collect();
    for is_v6 in [false, true] {
        cases.extend(many.iter().map(|&flows| new_flow(Kind::TcpSyn, is_v6, flows)));
    }
    cases.extend(many.iter().map(|&flows| new_flow(Kind::Udp, false, flows)));
    cases.extend(some.iter().map(|&flows| handover(false, flows)));
    cases.extend(some.iter().map(|&flows| handover(true, flows)));
    cases.extend(not_ours());
    cases
}

fn vip(kind: Kind, is_v6: bool, ipip: bool) -> SocketAddr {
    Vips::of(kind == Kind::Udp, is_v6, ipip)
}

fn title(kind: Kind, is_v6: bool) -> String {
    let protocol = if kind == Kind::Udp { "UDP" } else { "TCP" };
    format!("{protocol}/IPv{}", if is_v6 { 6 } else { 4 })
}

/// Goals for packets of live flows, by number of flows.
fn goal(is_v6: bool, flows: u32) -> Option<(f64, f64)> {
    match flows {
        0..=1000 => Some((40.0, if is_v6 { 38.0 } else { 30.0 })),
        _ => Some((200.0, 100.0)),
    }
}

fn established(kind: Kind, is_v6: bool, ipip: bool, flows: u32) -> Case {
    Case {
        what: format!("{} {}, live flow", title(kind, is_v6), if ipip { "ipip" } else { "l2" }),
        kind,
        vip: vip(kind, is_v6, ipip),
        flows,
        before: vec![kind],
        forget: false,
        reason: Reason::ForwardPin,
        goal: goal(is_v6, flows),
    }
}

/// Of a service that tracks edges only: the number of flows must not matter.
fn edges(is_v6: bool, flows: u32) -> Case {
    Case {
        what: format!("{} l2, tracking edges, mid-flow", title(Kind::TcpAck, is_v6)),
        kind: Kind::TcpAck,
        vip: EDGES[usize::from(is_v6)].parse().expect("an address"),
        flows,
        before: Vec::new(),
        forget: false,
        reason: Reason::ForwardOwner,
        goal: Some((40.0, if is_v6 { 36.0 } else { 28.0 })),
    }
}

fn new_flow(kind: Kind, is_v6: bool, flows: u32) -> Case {
    let first = if kind == Kind::Udp { "first datagram" } else { "SYN" };
    Case {
        what: format!("{} l2, {first} of a new flow", title(kind, is_v6)),
        kind,
        vip: vip(kind, is_v6, false),
        flows,
        before: Vec::new(),
        forget: true,
        reason: Reason::ForwardNew,
        goal: Some((250.0, 200.0)),
    }
}

/// In a slot whose handover is open: flows from before the handover, or begun since, which are exceptions.
fn handover(since: bool, flows: u32) -> Case {
    let (which, before) = if since {
        ("begun since", vec![Kind::TcpSyn, Kind::TcpAck])
    } else {
        ("from before", vec![Kind::TcpAck])
    };
    Case {
        what: format!("TCP/IPv4 l2, slot in handover, flow {which}"),
        kind: Kind::TcpAck,
        vip: OPEN.parse().expect("an address"),
        flows,
        before,
        forget: false,
        reason: Reason::ForwardPin,
        goal: goal(false, flows),
    }
}

fn not_ours() -> Vec<Case> {
    let case = |what: &str, kind, vip: &str, flows, reason| Case {
        what: format!("{what}, not ours"),
        kind,
        vip: vip.parse().expect("an address"),
        flows,
        before: Vec::new(),
        forget: false,
        reason,
        goal: Some((12.0, 8.0)),
    };
    let [v4, v6] = OTHER;
    vec![
        case("TCP/IPv4 to another address", Kind::TcpAck, v4, 1000, Reason::PassNoService),
        case("TCP/IPv6 to another address", Kind::TcpAck, v6, 1000, Reason::PassNoService),
        case("UDP/IPv4 to another address", Kind::Udp, v4, 1000, Reason::PassNoService),
        case(
            "TCP/IPv4 to another port of a VIP",
            Kind::TcpAck,
            "203.0.113.1:81",
            1000,
            Reason::PassNoService,
        ),
        case("ARP", Kind::Arp, v4, 1, Reason::PassNotIp),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct() {
        let cases = all(&[1, 1000, 100_000, 1_000_000]);
        let names: BTreeSet<String> = cases.iter().map(Case::name).collect();
        assert_eq!(names.len(), cases.len());
        assert!(names.contains("TCP/IPv4 l2, live flow, 1 M flows"), "{names:?}");
    }
}
