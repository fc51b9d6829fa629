//! What is measured.

use std::net::SocketAddr;

use lb_common::reason::Reason;

use super::frames::Kind;
use super::subject::{EDGES, Mode, OPEN, OTHER, Vips};

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
    /// By the program that knows everything, and not only what these packets need.
    pub by_everything: bool,
}

impl Case {
    pub fn name(&self) -> String {
        format!("{}, {}", self.what, flows(self.flows))
    }

    /// Whether it is the plainest of all: the one that a reader compares with what others do.
    pub fn has_reference(&self) -> bool {
        self.kind == Kind::TcpAck
            && self.vip == Vips::of(false, false, Mode::L2)
            && !self.by_everything
            && self.flows >= 1000
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
            cases.extend(flows.iter().map(|&flows| established(kind, is_v6, Mode::L2, flows)));
        }
    }
    let some: Vec<u32> = flows.iter().copied().filter(|&flows| flows > 1).collect();
    for is_v6 in [false, true] {
        cases.extend(some.iter().map(|&flows| established(Kind::TcpAck, is_v6, Mode::Ipip, flows)));
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
    for mode in Mode::ALL {
        for is_v6 in [false, true] {
            cases.extend(
                some.iter().map(|&flows| by_everything(established(Kind::TcpAck, is_v6, mode, flows))),
            );
        }
    }
    cases.extend(some.iter().flat_map(|&flows| rare(flows)).map(by_everything));
    cases
}

/// The same by the program that knows everything.
fn by_everything(case: Case) -> Case {
    Case { what: format!("{}, everything on", case.what), by_everything: true, goal: None, ..case }
}

/// What takes the second program.
fn rare(flows: u32) -> [Case; 2] {
    let plain = established(Kind::TcpAck, false, Mode::L2, flows);
    [
        Case {
            what: "TCP/IPv4 l2 behind a VLAN tag, live flow".to_owned(),
            kind: Kind::TaggedAck,
            ..plain.clone()
        },
        Case {
            what: "TCP/IPv4 from 127/8, dropped".to_owned(),
            kind: Kind::MartianAck,
            before: Vec::new(),
            reason: Reason::DropMartian,
            ..plain
        },
    ]
}

fn vip(kind: Kind, is_v6: bool, mode: Mode) -> SocketAddr {
    Vips::of(kind == Kind::Udp, is_v6, mode)
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

fn established(kind: Kind, is_v6: bool, mode: Mode, flows: u32) -> Case {
    Case {
        what: format!("{} {}, live flow", title(kind, is_v6), mode.name()),
        kind,
        vip: vip(kind, is_v6, mode),
        flows,
        before: vec![kind],
        forget: false,
        reason: Reason::ForwardPin,
        goal: goal(is_v6, flows),
        by_everything: false,
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
        by_everything: false,
    }
}

fn new_flow(kind: Kind, is_v6: bool, flows: u32) -> Case {
    let first = if kind == Kind::Udp { "first datagram" } else { "SYN" };
    Case {
        what: format!("{} l2, {first} of a new flow", title(kind, is_v6)),
        kind,
        vip: vip(kind, is_v6, Mode::L2),
        flows,
        before: Vec::new(),
        forget: true,
        reason: Reason::ForwardNew,
        goal: Some((250.0, 200.0)),
        by_everything: false,
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
        by_everything: false,
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
        by_everything: false,
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
