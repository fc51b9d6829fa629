//! Where clients reach a service: an address or a prefix, protocols and ports.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::Family;

/// A virtual address, or a prefix of them, whose bits beside the prefix are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip(IpNet);

impl Vip {
    /// Cuts the bits beside the prefix off.
    pub fn of(prefix: IpNet) -> Self {
        Vip(prefix.trunc())
    }

    /// The address, or the first one of the prefix.
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    pub fn prefix(self) -> IpNet {
        self.0
    }

    /// Whether it is one address alone.
    pub fn is_single(self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }

    pub fn is_ipv4(self) -> bool {
        self.address().is_ipv4()
    }

    pub fn family(self) -> Family {
        if self.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Bits of the prefix in an address of 128 bits: 96 more for IPv4 than it is written with.
    pub fn bits(self) -> u8 {
        self.0.prefix_len() + if self.is_ipv4() { 96 } else { 0 }
    }

    /// Whether all of the other's addresses are among its own.
    pub fn covers(self, other: Vip) -> bool {
        self.0.contains(&other.0)
    }

    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl From<IpAddr> for Vip {
    fn from(address: IpAddr) -> Self {
        Vip(address.into())
    }
}

impl fmt::Display for Vip {
    /// A single address without its length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() { self.address().fmt(f) } else { f.pad(&self.0.to_string()) }
    }
}

impl Serialize for Vip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// The protocols of a service: one at least, sorted, none twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "ProtocolsJson", from = "ProtocolsJson")]
pub struct Protocols(Vec<Protocol>);

impl Protocols {
    pub fn of(protocols: impl IntoIterator<Item = Protocol>) -> Self {
        let mut protocols: Vec<_> = protocols.into_iter().collect();
        protocols.sort();
        protocols.dedup();
        Protocols(protocols)
    }

    pub fn iter(&self) -> impl Iterator<Item = Protocol> {
        self.0.iter().copied()
    }

    pub fn has(&self, protocol: Protocol) -> bool {
        self.0.contains(&protocol)
    }

    /// The only one.
    pub fn single(&self) -> Option<Protocol> {
        single(&self.0)
    }
}

impl From<Protocol> for Protocols {
    fn from(protocol: Protocol) -> Self {
        Protocols(vec![protocol])
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, &self.0)
    }
}

/// Ports from the first to the last, neither of them 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PortRange {
    /// Its first port.
    pub first: u16,
    /// Its last port.
    pub last: u16,
}

impl PortRange {
    /// All ports there are.
    pub const ALL: PortRange = PortRange { first: 1, last: u16::MAX };

    pub const fn one(port: u16) -> Self {
        PortRange { first: port, last: port }
    }

    /// Whether it is one port alone.
    pub const fn is_single(self) -> bool {
        self.first == self.last
    }

    pub const fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PortRange::ALL => f.pad("all"),
            PortRange { first, last } if first == last => first.fmt(f),
            PortRange { first, last } => f.pad(&format!("{first}-{last}")),
        }
    }
}

/// The ports of a service: ranges and single ports, one at least, sorted, none in two of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "PortsJson", from = "PortsJson")]
pub struct Ports(Vec<PortRange>);

impl Ports {
    /// `ranges` do not overlap.
    pub fn of(ranges: impl IntoIterator<Item = PortRange>) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort();
        Ports(ranges)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = PortRange> + DoubleEndedIterator {
        self.0.iter().copied()
    }

    /// The only port.
    pub fn single(&self) -> Option<u16> {
        single(&self.0).filter(|range| range.is_single()).map(|range| range.first)
    }
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Ports(vec![PortRange::one(port)])
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, &self.0)
    }
}

fn single<T: Copy>(list: &[T]) -> Option<T> {
    match *list {
        [one] => Some(one),
        _ => None,
    }
}

/// With commas.
fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, list: &[T]) -> fmt::Result {
    f.pad(&list.iter().map(T::to_string).collect::<Vec<_>>().join(", "))
}

/// In JSON: all of them, and the only one, if it is the only one, for programs that know no more.
#[derive(Serialize, Deserialize, JsonSchema)]
struct ProtocolsJson {
    /// Null if there are two.
    protocol: Option<Protocol>,
    /// All of them.
    protocols: Vec<Protocol>,
}

impl From<Protocols> for ProtocolsJson {
    fn from(protocols: Protocols) -> Self {
        ProtocolsJson { protocol: protocols.single(), protocols: protocols.0 }
    }
}

impl From<ProtocolsJson> for Protocols {
    fn from(json: ProtocolsJson) -> Self {
        Protocols::of(json.protocols)
    }
}

/// As [`ProtocolsJson`].
#[derive(Serialize, Deserialize, JsonSchema)]
struct PortsJson {
    /// Null if there is more than one.
    port: Option<u16>,
    /// Ranges, one port alone as well.
    ports: Vec<PortRange>,
}

impl From<Ports> for PortsJson {
    fn from(ports: Ports) -> Self {
        PortsJson { port: ports.single(), ports: ports.0 }
    }
}

impl From<PortsJson> for Ports {
    fn from(json: PortsJson) -> Self {
        Ports::of(json.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vip(text: &str) -> Vip {
        Vip::of(text.parse().unwrap())
    }

    #[test]
    fn vips_are_written_as_in_the_config() {
        assert_eq!(vip("203.0.113.9/32").to_string(), "203.0.113.9");
        assert_eq!(vip("203.0.113.9/28").to_string(), "203.0.113.0/28");
        assert_eq!(vip("2001:db8::/64").to_string(), "2001:db8::/64");
        assert_eq!(vip("203.0.113.0/28").bits(), 124);
        assert_eq!(vip("2001:db8::/64").bits(), 64);
        assert!(vip("203.0.113.0/28").covers(vip("203.0.113.9/32")));
        assert!(!vip("203.0.113.9/32").covers(vip("203.0.113.0/28")));
    }

    #[test]
    fn ports_are_written_as_in_the_config_and_kept_in_order() {
        let range = |first, last| PortRange { first, last };
        let ports = Ports::of([range(8000, 8010), PortRange::one(80)]);
        assert_eq!(ports.to_string(), "80, 8000-8010");
        assert_eq!(Ports::of([PortRange::ALL]).to_string(), "all");
        assert_eq!((Ports::from(80).single(), ports.single()), (Some(80), None));
        assert_eq!(Ports::of([range(80, 81)]).single(), None);
        assert!(range(80, 90).overlaps(range(90, 91)) && !range(80, 90).overlaps(range(91, 92)));
    }

    #[test]
    fn json_has_the_only_one_by_itself() {
        let one = json!({"port": 80, "ports": [{"first": 80, "last": 80}]});
        assert_eq!(serde_json::to_value(Ports::from(80)).unwrap(), one);
        let many = json!({"port": null, "ports": [{"first": 80, "last": 80}, {"first": 90, "last": 99}]});
        let ports = Ports::of([PortRange { first: 90, last: 99 }, PortRange::one(80)]);
        assert_eq!(serde_json::to_value(&ports).unwrap(), many);
        assert_eq!(serde_json::from_value::<Ports>(many).unwrap(), ports);
        let both = Protocols::of([Protocol::Udp, Protocol::Tcp]);
        let json = json!({"protocol": null, "protocols": ["tcp", "udp"]});
        assert_eq!(serde_json::to_value(&both).unwrap(), json);
        assert_eq!(serde_json::from_value::<Protocols>(json).unwrap(), both);
    }
}
