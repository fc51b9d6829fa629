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
    /// When the kernel was last told to ask it, in vain so far.
    pub asked: Option<Instant>,
    /// When the kernel was last told to verify its entry.
    pub verified: Option<Instant>,
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
            self.asked = None;
            self.trouble = None;
        } else if entry.is(libc::NUD_FAILED) && !self.failed {
            self.failed = true;
            // It was asked by unicast at the MAC that it had: ask everybody, and at once.
            self.asked = None;
        }
    }

    pub fn need(&self, entry: Option<&Neighbour>, now: Instant) -> Need {
        let due = |last: Option<Instant>, after| last.is_none_or(|last| now.duration_since(last) >= after);
        match entry {
            Some(entry) if entry.is(libc::NUD_STALE) && due(self.verified, VERIFY) => Need::Verify,
            // Valid, or being asked at this moment.
            Some(entry) if entry.usable_mac().is_some() || entry.is(libc::NUD_INCOMPLETE) => Need::Nothing,
            _ if due(self.asked, RETRY) => Need::Ask,
            _ => Need::Nothing,
        }
    }

    /// Takes note that the kernel was told to do what was needed.
    pub fn done(&mut self, need: Need, now: Instant) {
        match need {
            Need::Nothing => {}
            Need::Ask => self.asked = Some(now),
            Need::Verify => self.verified = Some(now),
        }
    }
}

/// The way out of this machine, still without the neighbour's MAC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Egress<'a> {
    pub link: &'a Link,
    /// Index of the interface beneath it, or its own.
    ifindex: u32,
    tags: [u32; 2],
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
    if address.is_multicast() {
        return unresolved(format!("{address} is a multicast address"));
    }
    let route = match answer {
        Answer::Route(route) => route,
        Answer::None { why } => return unresolved(why.clone()),
    };
    match route.kind {
        libc::RTN_UNICAST => {}
        libc::RTN_LOCAL | libc::RTN_ANYCAST => return Err(NextHopState::Local),
        libc::RTN_BROADCAST => return unresolved(format!("{address} is a broadcast address")),
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
    let (lowest, tags) = match beneath(link, links) {
        Ok(beneath) => beneath,
        Err(why) => return unresolved(why),
    };
    let Some(src_mac) = link.mac.filter(|_| link.is_ethernet()) else {
        return Err(NextHopState::NoEthernet { interface: name.clone() });
    };
    let Some(source) = route.source else {
        return unresolved(format!("this machine has no address on {name} to send to {address} from"));
    };
    Ok(Egress {
        link,
        ifindex: lowest.index,
        tags,
        neighbour: (link.index, route.gateway.unwrap_or(address)),
        src_mac,
        source,
        mtu: route.mtu.unwrap_or(u32::MAX).min(link.mtu).min(room_beside(tags, lowest.mtu)),
        gateway: route.gateway,
    })
}

/// The interface by which frames of `link` leave, and the tags that they leave with, the outer one first.
fn beneath<'a>(link: &'a Link, links: &'a HashMap<u32, Link>) -> Result<(&'a Link, [u32; 2]), String> {
    let (mut lowest, mut tags) = (link, Vec::new());
    while let Some(vlan) = lowest.vlan {
        // From the top down the inner tags come first.
        tags.insert(0, vlan.tag());
        if tags.len() > MOST_TAGS {
            return Err(format!("frames by {} have more than {MOST_TAGS} VLAN tags", link.name));
        }
        let Some(parent) = vlan.parent.and_then(|parent| links.get(&parent)) else {
            return Err(format!("the interface beneath {} is not in this network namespace", lowest.name));
        };
        if let Some(trouble) = trouble(parent) {
            return Err(trouble);
        }
        lowest = parent;
    }
    tags.resize(MOST_TAGS, 0);
    Ok((lowest, [tags[0], tags[1]]))
}

/// Bytes that an IP packet may have in a frame with these tags, on an interface with this MTU. Links have room for one tag beside
/// their MTU; what is longer by a second one XDP drops without a word (`xdp_ok_fwd_dev`), though VLAN devices have the same MTU.
fn room_beside(tags: [u32; 2], mtu: u32) -> u32 {
    const TAG: u32 = 4;
    if tags[1] == 0 { mtu } else { mtu.saturating_sub(TAG) }
}

/// VLAN tags of a frame at most.
const MOST_TAGS: usize = 2;

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
        ifindex: egress.ifindex,
        interface: interface.clone(),
        tags: egress.tags,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::decode::Vlan;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn entry(state: u16) -> Neighbour {
        let mac = (state & (libc::NUD_FAILED | libc::NUD_INCOMPLETE) == 0).then_some(MAC);
        Neighbour { ifindex: 1, address: "10.0.0.9".parse().unwrap(), state, mac }
    }

    /// Learns of an entry, says what is needed, and takes it as done.
    fn step(memory: &mut Memory, state: Option<u16>, now: Instant) -> Need {
        let entry = state.map(entry);
        memory.learn(entry.as_ref());
        let need = memory.need(entry.as_ref(), now);
        memory.done(need, now);
        need
    }

    #[test]
    fn an_unknown_neighbour_is_asked_at_once_and_then_every_five_seconds() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(step(&mut memory, None, at(0)), Need::Ask);
        assert_eq!(step(&mut memory, None, at(4)), Need::Nothing);
        assert_eq!(step(&mut memory, Some(libc::NUD_INCOMPLETE), at(6)), Need::Nothing, "it is being asked");
        // The kernel gave up: once at once, then at leisure.
        assert_eq!(step(&mut memory, Some(libc::NUD_FAILED), at(7)), Need::Ask);
        assert_eq!(step(&mut memory, Some(libc::NUD_FAILED), at(11)), Need::Nothing);
        assert_eq!(step(&mut memory, Some(libc::NUD_FAILED), at(12)), Need::Ask);
        assert!(memory.failed);
        assert_eq!(step(&mut memory, Some(libc::NUD_REACHABLE), at(13)), Need::Nothing);
        assert!(!memory.failed && memory.mac == Some(MAC));
        assert_eq!(step(&mut memory, None, at(14)), Need::Ask, "a dropped entry is wanted back");
    }

    #[test]
    fn a_stale_entry_is_verified_every_thirty_seconds_and_a_permanent_one_never() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(step(&mut memory, Some(libc::NUD_STALE), at(0)), Need::Verify);
        assert_eq!(step(&mut memory, Some(libc::NUD_DELAY), at(1)), Need::Nothing);
        assert_eq!(step(&mut memory, Some(libc::NUD_PROBE), at(6)), Need::Nothing);
        assert_eq!(step(&mut memory, Some(libc::NUD_STALE), at(29)), Need::Nothing);
        assert_eq!(step(&mut memory, Some(libc::NUD_STALE), at(30)), Need::Verify);
        for state in [libc::NUD_PERMANENT, libc::NUD_NOARP, libc::NUD_REACHABLE] {
            assert_eq!(step(&mut memory, Some(state), at(1000)), Need::Nothing, "state {state:#x}");
        }
    }

    fn eth0() -> Link {
        Link {
            index: 1,
            name: "eth0".into(),
            hardware: libc::ARPHRD_ETHER,
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
            carrier: true,
            kind: None,
            vlan: None,
            bond: None,
        }
    }

    /// A VLAN device over the interface with this index.
    fn vlan(index: u32, parent: Option<u32>, protocol: u16, id: u16) -> Link {
        Link {
            index,
            name: format!("vlan{id}"),
            mac: Some([2, 0, 0, 0, 0, index as u8]),
            mtu: 1496,
            kind: Some("vlan".into()),
            vlan: Some(Vlan { parent, protocol, id }),
            ..eth0()
        }
    }

    /// The way out by interface 5 and those beneath it.
    fn by(links: &[Link]) -> NextHopState {
        let links = links.iter().map(|link| (link.index, link.clone())).collect();
        let route = Route { oif: Some(5), mtu: Some(1480), ..route() };
        match egress("10.0.0.9".parse().unwrap(), &Answer::Route(route), &links) {
            Ok(egress) => judge(egress, &Memory { mac: Some(MAC), ..Memory::default() }),
            Err(state) => state,
        }
    }

    #[test]
    fn frames_to_a_vlan_leave_by_the_interface_beneath_with_its_tags() {
        let state = by(&[eth0(), vlan(5, Some(1), 0x8100, 100)]);
        let next_hop = state.next_hop().unwrap();
        assert_eq!((next_hop.ifindex, next_hop.interface.as_str(), next_hop.mtu), (1, "vlan100", 1480));
        assert_eq!(next_hop.src_mac, [2, 0, 0, 0, 0, 5], "the VLAN device's own");
        assert_eq!(next_hop.tags.map(u32::to_ne_bytes), [[0x81, 0, 0, 100], [0; 4]]);
        let state = by(&[eth0(), vlan(4, Some(1), 0x88a8, 7), vlan(5, Some(4), 0x8100, 0x234)]);
        let next_hop = state.next_hop().unwrap();
        assert_eq!((next_hop.ifindex, next_hop.interface.as_str()), (1, "vlan564"));
        assert_eq!(next_hop.tags.map(u32::to_ne_bytes), [[0x88, 0xa8, 0, 7], [0x81, 0, 2, 0x34]]);
        // Two tags take more room than a link has beside its MTU.
        let narrow = Link { mtu: 1482, ..eth0() };
        let state = by(&[narrow.clone(), vlan(4, Some(1), 0x88a8, 7), vlan(5, Some(4), 0x8100, 9)]);
        assert_eq!(state.next_hop().unwrap().mtu, 1478);
        assert_eq!(by(&[narrow, vlan(5, Some(1), 0x8100, 9)]).next_hop().unwrap().mtu, 1480);
        // Its neighbours are asked for on the VLAN device.
        let links = HashMap::from([(1, eth0()), (5, vlan(5, Some(1), 0x8100, 100))]);
        let answer = Answer::Route(Route { oif: Some(5), ..route() });
        assert_eq!(egress("10.0.0.9".parse().unwrap(), &answer, &links).unwrap().neighbour.0, 5);
    }

    #[test]
    fn a_vlan_that_leads_nowhere_says_why() {
        let words = |links: &[Link]| by(links).to_string();
        let device = vlan(5, Some(1), 0x8100, 100);
        let down = Link { up: false, ..eth0() };
        assert_eq!(words(&[down, device.clone()]), "eth0 is down");
        assert_eq!(words(&[Link { carrier: false, ..eth0() }, device.clone()]), "eth0 has no carrier");
        let gone = "the interface beneath vlan100 is not in this network namespace";
        assert_eq!(words(std::slice::from_ref(&device)), gone);
        assert_eq!(words(&[eth0(), vlan(5, None, 0x8100, 100)]), gone);
        let three =
            [eth0(), vlan(3, Some(1), 0x88a8, 1), vlan(4, Some(3), 0x88a8, 2), vlan(5, Some(4), 0x8100, 3)];
        assert_eq!(words(&three), "frames by vlan3 have more than 2 VLAN tags");
        // A loop, which the kernel does not let anybody make.
        assert_eq!(words(&[vlan(5, Some(5), 0x8100, 9)]), "frames by vlan9 have more than 2 VLAN tags");
    }

    fn route() -> Route {
        let source = Some("10.0.0.1".parse().unwrap());
        Route { kind: libc::RTN_UNICAST, oif: Some(1), gateway: None, source, mtu: None }
    }

    fn state(link: Link, route: Route, memory: &Memory) -> NextHopState {
        let links = HashMap::from([(link.index, link)]);
        match egress("10.0.0.9".parse().unwrap(), &Answer::Route(route), &links) {
            Ok(egress) => judge(egress, memory),
            Err(state) => state,
        }
    }

    #[test]
    fn each_obstacle_is_named() {
        let known = Memory { mac: Some(MAC), ..Memory::default() };
        let words = |link, route| state(link, route, &known).to_string();
        assert_eq!(words(eth0(), route()), "02:00:00:00:00:09 on eth0");
        assert_eq!(words(Link { up: false, ..eth0() }, route()), "eth0 is down");
        assert_eq!(words(Link { carrier: false, ..eth0() }, route()), "eth0 has no carrier");
        assert_eq!(words(Link { mac: None, ..eth0() }, route()), "eth0 is not an Ethernet interface");
        assert_eq!(words(Link { hardware: 768, ..eth0() }, route()), "eth0 is not an Ethernet interface");
        assert_eq!(
            words(Link { index: 2, ..eth0() }, route()),
            "the interface of the route to 10.0.0.9 is gone"
        );
        assert_eq!(
            words(eth0(), Route { source: None, ..route() }),
            "this machine has no address on eth0 to send to 10.0.0.9 from"
        );
        let of = |kind| words(eth0(), Route { kind, ..route() });
        assert_eq!(of(libc::RTN_LOCAL), "the address is this machine's own");
        assert_eq!(of(libc::RTN_BROADCAST), "10.0.0.9 is a broadcast address");
        assert!(of(libc::RTN_BLACKHOLE).contains("of type 6"));
    }

    #[test]
    fn the_lesser_mtu_counts() {
        let known = Memory { mac: Some(MAC), ..Memory::default() };
        for (own, route_mtu, expected) in
            [(1500, None, 1500), (1500, Some(1400), 1400), (1500, Some(9000), 1500)]
        {
            let state = state(Link { mtu: own, ..eth0() }, Route { mtu: route_mtu, ..route() }, &known);
            assert_eq!(state.next_hop().map(|next_hop| next_hop.mtu), Some(expected));
        }
    }

    #[test]
    fn a_failed_neighbour_is_kept_only_if_it_was_ever_known() {
        let failed = Memory { failed: true, ..Memory::default() };
        let state_of = |memory: &Memory| state(eth0(), route(), memory);
        let why = "no answer to ARP on eth0 for 10.0.0.9";
        assert_eq!(state_of(&failed), NextHopState::Unresolved { why: why.into() });
        let kept = state_of(&Memory { mac: Some(MAC), ..failed });
        assert_eq!(kept.to_string(), format!("02:00:00:00:00:09 on eth0, last known: {why}"));
        assert!(kept.next_hop().is_some());
        let trouble = Memory { trouble: Some("the kernel will not".into()), ..Memory::default() };
        assert_eq!(state_of(&trouble), NextHopState::Unresolved { why: "the kernel will not".into() });
    }
}
