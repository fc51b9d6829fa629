//! From what the kernel said to the state of one next hop. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::decode::{Link, Neighbour, Route};
use super::{NextHop, NextHopState};

/// A neighbour is asked again after this long, while it has not answered.
const RETRY: Duration = Duration::from_secs(5);

/// An entry that the kernel has not confirmed of late is verified at most this often. The kernel waits 5 s more and
/// then asks three times in 3 s, so a MAC that changed without a word is seen after some 40 s at the latest.
const VERIFY: Duration = Duration::from_secs(30);

/// A neighbour: interface and address.
pub(super) type Key = (u32, IpAddr);

/// What the kernel said about the route to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Route(Route),
    None { why: String },
}

/// What is remembered of a neighbour that a next hop needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Last known MAC.
    pub mac: Option<[u8; 6]>,
    /// Has not answered; stays until it does, also while it is being asked again.
    pub failed: bool,
    /// When the kernel was last told to ask it.
    pub asked: Option<Instant>,
    /// Why the kernel could not be told to.
    pub trouble: Option<String>,
}

/// What must be done about a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// Its MAC is unknown.
    Ask,
    /// Its MAC is known but was not confirmed for a while.
    Verify,
}

impl Memory {
    /// Takes note of the kernel's entry.
    pub fn learn(&mut self, entry: Option<&Neighbour>) {
        let Some(entry) = entry else { return };
        if let Some(mac) = entry.usable_mac() {
            self.mac = Some(mac);
            self.failed = false;
            self.trouble = None;
        } else if entry.is(libc::NUD_FAILED) && !self.failed {
            self.failed = true;
            // It was asked by unicast at the MAC that it had: ask everybody, and at once.
            self.asked = None;
        }
    }

    pub fn need(&self, entry: Option<&Neighbour>, now: Instant) -> Need {
        let due = |after| self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= after);
        match entry {
            Some(entry) if entry.is(libc::NUD_STALE) && due(VERIFY) => Need::Verify,
            // Valid, or being asked at this moment.
            Some(entry) if entry.usable_mac().is_some() || entry.is(libc::NUD_INCOMPLETE) => Need::Nothing,
            _ if due(RETRY) => Need::Ask,
            _ => Need::Nothing,
        }
    }
}

/// The way out of this machine, still without the neighbour's MAC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Egress<'a> {
    pub link: &'a Link,
    /// Whose MAC is needed: the gateway's or the backend's own.
    pub neighbour: Key,
    src_mac: [u8; 6],
    source: IpAddr,
    mtu: u32,
    gateway: Option<IpAddr>,
}

/// The way towards `address`, or the state that says why there is none.
pub(super) fn egress<'a>(
    address: IpAddr,
    answer: &Answer,
    links: &'a HashMap<u32, Link>,
) -> Result<Egress<'a>, NextHopState> {
    let unresolved = |why: String| Err(NextHopState::Unresolved { why });
    let route = match answer {
        Answer::Route(route) => route,
        Answer::None { why } => return unresolved(why.clone()),
    };
    match route.kind {
        libc::RTN_UNICAST => {}
        libc::RTN_LOCAL | libc::RTN_ANYCAST => return Err(NextHopState::Local),
        libc::RTN_BROADCAST => return unresolved(format!("{address} is a broadcast address")),
        libc::RTN_MULTICAST => return unresolved(format!("{address} is a multicast address")),
        other => {
            return unresolved(format!("the route to {address} is of type {other}, which sends nowhere"));
        }
    }
    let Some(link) = route.oif.and_then(|oif| links.get(&oif)) else {
        return unresolved(format!("the interface of the route to {address} is gone"));
    };
    let name = &link.name;
    if let Some(trouble) = trouble(link) {
        return unresolved(trouble);
    }
    let Some(src_mac) = link.mac.filter(|_| link.is_ethernet()) else {
        return Err(NextHopState::NoEthernet { interface: name.clone() });
    };
    let Some(source) = route.source else {
        return unresolved(format!("this machine has no address on {name} to send to {address} from"));
    };
    Ok(Egress {
        link,
        neighbour: (link.index, route.gateway.unwrap_or(address)),
        src_mac,
        source,
        mtu: route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu)),
        gateway: route.gateway,
    })
}

/// Why nothing can leave by an interface.
pub(super) fn trouble(link: &Link) -> Option<String> {
    match (link.up, link.carrier) {
        (false, _) => Some(format!("{} is down", link.name)),
        (true, false) => Some(format!("{} has no carrier", link.name)),
        (true, true) => None,
    }
}

/// Completes the way out with what is known of the neighbour.
pub(super) fn judge(egress: Egress<'_>, memory: &Memory) -> NextHopState {
    let (interface, neighbour) = (&egress.link.name, egress.neighbour.1);
    let protocol = if neighbour.is_ipv4() { "ARP" } else { "neighbour discovery" };
    let no_answer = || format!("no answer to {protocol} on {interface} for {neighbour}");
    let Some(dst_mac) = memory.mac else {
        let why = match &memory.trouble {
            Some(trouble) => trouble.clone(),
            None if memory.failed => no_answer(),
            None => format!("waiting for an answer to {protocol} on {interface} for {neighbour}"),
        };
        return NextHopState::Unresolved { why };
    };
    let next_hop = NextHop {
        ifindex: egress.link.index,
        interface: interface.clone(),
        src_mac: egress.src_mac,
        dst_mac,
        source: egress.source,
        mtu: egress.mtu,
        gateway: egress.gateway,
    };
    // An entry that the kernel has dropped for want of use is no bad sign: it is asked for again and mostly answers.
    if memory.failed {
        NextHopState::Kept { next_hop, why: no_answer() }
    } else {
        NextHopState::Resolved(next_hop)
    }
}
