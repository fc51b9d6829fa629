//! The resolver's picture of the kernel's tables, and how it is kept true.
//!
//! Links and neighbours are dumped once and then follow the events; routes are asked for one address at a time and
//! only when an event could have changed the answer. So an event costs what it concerns, not the number of
//! backends.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use rtnetlink::packet_core::NLM_F_CREATE;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::decode::{self, Address, Link, Neighbour};
use super::interfaces::{links, own_addresses};
use super::judge::{Answer, Key, Memory, Need, egress, judge, trouble};
use super::own::{Own, own};
use super::wire::{Requests, messages};
use super::{Error, NextHopState};

/// linux/rtnetlink.h; libc has none of these.
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

pub(super) type States = BTreeMap<IpAddr, NextHopState>;

#[derive(Debug)]
pub(super) struct Engine {
    requests: Requests,
    /// The backends.
    addresses: BTreeSet<IpAddr>,
    links: HashMap<u32, Link>,
    neighbours: HashMap<Key, Neighbour>,
    /// This machine's.
    own: Vec<Address>,
    answers: BTreeMap<IpAddr, Answer>,
    /// The interface by which an address was last reached, to name it when the route has gone with it.
    egresses: HashMap<IpAddr, (u32, String)>,
    /// Of exactly the neighbours that next hops need.
    memories: HashMap<Key, Memory>,
    /// Events were lost, or none were heard yet.
    tables_stale: bool,
    /// An address of this machine came, went or changed.
    own_stale: bool,
    /// Any route may have changed.
    routes_stale: bool,
    /// The routes to these may have changed.
    suspects: BTreeSet<IpAddr>,
}

impl Engine {
    pub fn new(requests: Requests) -> Self {
        Self {
            requests,
            addresses: BTreeSet::new(),
            links: HashMap::new(),
            neighbours: HashMap::new(),
            own: Vec::new(),
            answers: BTreeMap::new(),
            egresses: HashMap::new(),
            memories: HashMap::new(),
            tables_stale: true,
            own_stale: true,
            routes_stale: true,
            suspects: BTreeSet::new(),
        }
    }

    pub fn set_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.suspects.extend(addresses.difference(&self.addresses));
        self.answers.retain(|address, _| addresses.contains(address));
        self.egresses.retain(|address, _| addresses.contains(address));
        self.addresses = addresses;
    }

    /// Forgets what is known of the tables: the next pass reads all anew.
    pub fn distrust(&mut self) {
        self.tables_stale = true;
    }

    /// Takes in the events of a datagram; tells whether a next hop may have changed.
    pub fn hear(&mut self, datagram: &[u8]) -> bool {
        // Each message counts: no short circuit.
        messages(datagram).fold(false, |relevant, message| self.event(message.kind, message.body) | relevant)
    }

    fn event(&mut self, kind: u16, body: &[u8]) -> bool {
        match kind {
            libc::RTM_NEWLINK => match decode::link(body) {
                Some(link) if self.links.get(&link.index) != Some(&link) => {
                    self.links.insert(link.index, link);
                    self.suspect_all()
                }
                _ => false,
            },
            libc::RTM_DELLINK => match decode::link(body) {
                Some(link) => {
                    self.links.remove(&link.index);
                    self.neighbours.retain(|(ifindex, _), _| *ifindex != link.index);
                    self.suspect_all()
                }
                None => false,
            },
            libc::RTM_NEWADDR | libc::RTM_DELADDR => {
                self.own_stale = true;
                self.suspect_all()
            }
            libc::RTM_NEWRULE | libc::RTM_DELRULE | RTM_NEWNEXTHOP | RTM_DELNEXTHOP => self.suspect_all(),
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => match decode::route_prefix(body) {
                Some(prefix) => {
                    let (first, last) = prefix.bounds();
                    let before = self.suspects.len();
                    self.suspects.extend(self.addresses.range(first..=last));
                    self.suspects.len() > before
                }
                None => false,
            },
            libc::RTM_NEWNEIGH => match decode::neighbour(body) {
                Some(entry) => {
                    let key = (entry.ifindex, entry.address);
                    let after = (entry.usable_mac(), entry.is(libc::NUD_FAILED));
                    let before = self.neighbours.insert(key, entry);
                    let before = before.map(|entry| (entry.usable_mac(), entry.is(libc::NUD_FAILED)));
                    before != Some(after) && self.memories.contains_key(&key)
                }
                None => false,
            },
            libc::RTM_DELNEIGH => match decode::neighbour(body) {
                Some(entry) => {
                    let key = (entry.ifindex, entry.address);
                    self.neighbours.remove(&key).is_some() && self.memories.contains_key(&key)
                }
                None => false,
            },
            _ => false,
        }
    }

    fn suspect_all(&mut self) -> bool {
        self.routes_stale = true;
        true
    }

    /// Brings the picture up to date, has the kernel ask the neighbours that must be asked, and says where each
    /// address stands.
    ///
    /// # Errors
    /// The kernel could not be asked at all; nothing is lost, the next pass tries again.
    pub fn pass(&mut self, now: Instant) -> Result<States, Error> {
        self.refresh_tables()?;
        self.refresh_own()?;
        self.refresh_routes()?;
        self.ask_neighbours(now);

        let mut states = States::new();
        for (&address, answer) in &self.answers {
            let state = match egress(address, answer, &self.links) {
                Ok(egress) => match self.memories.get(&egress.neighbour) {
                    Some(memory) => judge(egress, memory),
                    None => judge(egress, &Memory::default()),
                },
                Err(state) => state,
            };
            states.insert(address, state);
        }
        Ok(states)
    }

    fn refresh_tables(&mut self) -> Result<(), Error> {
        if !self.tables_stale {
            return Ok(());
        }
        let found = links(&mut self.requests)?;
        self.links = found.into_iter().map(|link| (link.index, link)).collect();
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let found = self
            .requests
            .dump(&request, libc::RTM_NEWNEIGH, decode::neighbour)
            .map_err(|source| Error::List { what: "neighbours", source })?;
        self.neighbours = found.into_iter().map(|entry| ((entry.ifindex, entry.address), entry)).collect();
        self.tables_stale = false;
        self.own_stale = true;
        self.routes_stale = true;
        Ok(())
    }

    fn refresh_own(&mut self) -> Result<(), Error> {
        if self.own_stale {
            self.own = own_addresses(&mut self.requests)?;
            self.own_stale = false;
        }
        Ok(())
    }

    /// The addresses of this machine's interfaces, as of the last pass.
    pub fn own(&self) -> Own {
        own(self.links.values(), &self.own)
    }

    fn refresh_routes(&mut self) -> Result<(), Error> {
        let due = if self.routes_stale { self.addresses.clone() } else { self.suspects.clone() };
        let mut lost = Vec::new();
        for address in due {
            if !self.addresses.contains(&address) {
                continue;
            }
            match self.requests.get(route_request(address), libc::RTM_NEWROUTE, decode::route) {
                Ok(route) => {
                    self.answers.insert(address, Answer::Route(route));
                }
                Err(error) if error.raw_os_error().is_some() => {
                    lost.push((address, no_route(address, &error)))
                }
                Err(source) => return Err(Error::List { what: "routes", source }),
            }
        }
        if !lost.is_empty() {
            // Routes go with their interface: a down interface that would lead there is the better explanation.
            for (address, why) in lost {
                let remembered = self.egresses.get(&address).and_then(|(ifindex, name)| {
                    self.links.get(ifindex).map_or_else(|| Some(format!("{name} is gone")), trouble)
                });
                let leading = || {
                    self.own
                        .iter()
                        .filter(|own| own.subnet().contains(address))
                        .find_map(|own| trouble(self.links.get(&own.ifindex)?))
                };
                let why = match remembered.or_else(leading) {
                    Some(cause) => format!("{cause} ({why})"),
                    None => why,
                };
                self.answers.insert(address, Answer::None { why });
            }
        }
        self.routes_stale = false;
        self.suspects.clear();
        Ok(())
    }

    fn ask_neighbours(&mut self, now: Instant) {
        let mut needed = HashSet::new();
        for (&address, answer) in &self.answers {
            if let Ok(egress) = egress(address, answer, &self.links) {
                needed.insert(egress.neighbour);
                let known = self.egresses.entry(address).or_default();
                if known.0 != egress.link.index || known.1 != egress.link.name {
                    *known = (egress.link.index, egress.link.name.clone());
                }
            }
        }
        // What was known of a neighbour ends with the route to it or with its interface.
        self.memories.retain(|key, _| needed.contains(key));
        // So that a thousand neighbours are not verified in one burst.
        let mut verifications = needed.len().div_ceil(16).max(16);
        for key in needed {
            let entry = self.neighbours.get(&key);
            let memory = self.memories.entry(key).or_default();
            memory.learn(entry);
            let need = memory.need(entry, now);
            match need {
                Need::Nothing => continue,
                Need::Verify if verifications == 0 => continue,
                Need::Verify => verifications -= 1,
                Need::Ask => {}
            }
            memory.done(need, now);
            memory.trouble = ask(&mut self.requests, key).err().map(|error| {
                let (ifindex, address) = key;
                let interface = self.links.get(&ifindex).map_or("?", |link| link.name.as_str());
                let hint = match error.raw_os_error() {
                    Some(libc::ENOBUFS) => "; raise net.ipv4.neigh.default.gc_thresh3 (or net.ipv6…)",
                    Some(libc::EPERM) => "; CAP_NET_ADMIN is missing",
                    _ => "",
                };
                format!("the kernel will not ask for {address} on {interface}: {error}{hint}")
            });
        }
    }
}

/// Has the kernel behave as if it had a packet for the neighbour (`NTF_USE`): an entry is made if there is none, and
/// an unknown or unconfirmed one is asked. Never for a permanent entry, which this would make an ordinary one.
fn ask(requests: &mut Requests, (ifindex, address): Key) -> io::Result<()> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = ifindex;
    message.header.flags = NeighbourFlags::Use;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(address)));
    requests.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
}

fn route_request(address: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(address.into()));
    RouteNetlinkMessage::GetRoute(message)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The kernel answers with an error number where a route says so (`fib_props` of net/ipv4/fib_semantics.c).
fn no_route(address: IpAddr, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH) => format!("no route to {address}"),
        Some(libc::EHOSTUNREACH) => format!("the route to {address} is of type unreachable"),
        Some(libc::EACCES) => format!("the route to {address} is of type prohibit"),
        Some(libc::EINVAL) => format!("the route to {address} is of type blackhole"),
        _ => format!("no route to {address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::NetlinkMessage;
    use rtnetlink::packet_route::address::AddressMessage;
    use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
    use rtnetlink::packet_route::neighbour::NeighbourState;
    use rtnetlink::packet_route::rule::RuleMessage;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn a(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    /// Knows one backend, 10.0.0.9 on interface 1, and that all is up to date.
    fn engine() -> Engine {
        let mut engine = Engine::new(Requests::open().unwrap());
        engine.set_addresses([a("10.0.0.9")].into());
        engine.memories.insert((1, a("10.0.0.9")), Memory::default());
        engine.hear(&link(1500));
        engine.routes_stale = false;
        engine.suspects.clear();
        engine
    }

    fn datagram(message: RouteNetlinkMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::from(message);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn link(mtu: u32) -> Vec<u8> {
        let mut message = LinkMessage::default();
        message.header.index = 1;
        message.attributes = vec![LinkAttribute::IfName("eth0".into()), LinkAttribute::Mtu(mtu)];
        datagram(RouteNetlinkMessage::NewLink(message))
    }

    fn neighbour(address: &str, state: NeighbourState, mac: [u8; 6]) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family(a(address));
        message.header.ifindex = 1;
        message.header.state = state;
        message.attributes = vec![
            NeighbourAttribute::Destination(a(address).into()),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        message
    }

    fn route(destination: &str, length: u8) -> Vec<u8> {
        let RouteNetlinkMessage::GetRoute(mut message) = route_request(a(destination)) else {
            unreachable!()
        };
        message.header.destination_prefix_length = length;
        datagram(RouteNetlinkMessage::NewRoute(message))
    }

    #[test]
    fn a_neighbour_counts_if_it_is_needed_and_its_mac_or_its_failure_changed() {
        use NeighbourState::{Failed, Reachable, Stale};
        let mut engine = engine();
        let mut hear = |address, state, mac| {
            engine.hear(&datagram(RouteNetlinkMessage::NewNeighbour(neighbour(address, state, mac))))
        };
        assert!(hear("10.0.0.9", Reachable, MAC));
        assert!(!hear("10.0.0.9", Stale, MAC), "the MAC is the same");
        assert!(hear("10.0.0.9", Stale, [2; 6]));
        assert!(hear("10.0.0.9", Failed, [2; 6]));
        assert!(!hear("10.0.0.8", Reachable, MAC), "nobody's next hop");
        let gone = datagram(RouteNetlinkMessage::DelNeighbour(neighbour("10.0.0.9", Failed, MAC)));
        assert!(engine.hear(&gone));
        assert!(!engine.hear(&gone), "gone already");
        assert!(!engine.routes_stale && engine.suspects.is_empty(), "no route is asked for");
    }

    #[test]
    fn a_route_counts_if_a_backend_is_among_its_destinations() {
        for (destination, length, relevant) in
            [("10.0.0.0", 24, true), ("10.0.0.9", 32, true), ("10.0.0.8", 32, false), ("fd00::", 8, false)]
        {
            let mut engine = engine();
            assert_eq!(engine.hear(&route(destination, length)), relevant, "{destination}/{length}");
            assert_eq!(engine.suspects.contains(&a("10.0.0.9")), relevant, "{destination}/{length}");
            assert!(!engine.routes_stale);
        }
    }

    #[test]
    fn links_addresses_and_rules_put_all_routes_in_doubt() {
        let doubts = |bytes: Vec<u8>| {
            let mut engine = engine();
            let relevant = engine.hear(&bytes);
            assert_eq!(relevant, engine.routes_stale);
            relevant
        };
        assert!(!doubts(link(1500)), "as it was");
        assert!(doubts(link(1400)));
        assert!(doubts(datagram(RouteNetlinkMessage::NewAddress(AddressMessage::default()))));
        assert!(doubts(datagram(RouteNetlinkMessage::NewRule(RuleMessage::default()))));
        assert!(doubts(datagram(RouteNetlinkMessage::DelRule(RuleMessage::default()))));
    }

    #[test]
    fn own_addresses_are_read_again_when_one_of_them_changed() {
        let mut engine = engine();
        engine.own_stale = false;
        engine.hear(&[link(1400), datagram(RouteNetlinkMessage::NewRule(RuleMessage::default()))].concat());
        assert!(!engine.own_stale);
        for message in [RouteNetlinkMessage::NewAddress, RouteNetlinkMessage::DelAddress] {
            engine.own_stale = false;
            engine.hear(&datagram(message(AddressMessage::default())));
            assert!(engine.own_stale);
        }
        let names: Vec<String> = engine.own().into_values().map(|own| own.name).collect();
        assert_eq!(names, ["eth0"]);
    }

    #[test]
    fn all_messages_of_a_datagram_are_taken_in() {
        let mut engine = engine();
        assert!(engine.hear(&[link(1400), route("10.0.0.0", 24)].concat()));
        assert!(engine.routes_stale && !engine.suspects.is_empty());
    }
}
