//! Netlink messages as the resolver needs them.
//!
//! Only the attributes in question are read, and anything else in a message is passed over whatever it looks like:
//! a newer kernel's attributes must not make an interface invisible. Sources: linux/rtnetlink.h, if_link.h,
//! if_addr.h, neighbour.h.

use std::net::IpAddr;

use rtnetlink::packet_core::NlasIterator;

/// An interface's state, from `RTM_NEWLINK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    /// `ARPHRD_*`.
    pub hardware: u16,
    /// `None` when it has no address of six bytes, or only zeros (a loopback).
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    pub carrier: bool,
    /// The driver's kind (`veth`, `bridge` …); `None` for hardware and the loopback.
    pub kind: Option<String>,
    /// What a VLAN device does to frames; `None` for all others.
    pub vlan: Option<Vlan>,
    /// Index of the bond that it belongs to.
    pub bond: Option<u32>,
}

/// A VLAN device (IEEE 802.1Q): its frames leave by another interface, with a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vlan {
    /// The interface beneath; `None` if it is in another network namespace.
    pub parent: Option<u32>,
    /// Ethertype of the tag: 0x8100, or 0x88a8 of an outer tag (802.1ad).
    pub protocol: u16,
    /// 0 to 4094
    pub id: u16,
}

impl Vlan {
    /// Its tag as it lies in a frame, with priority 0.
    pub fn tag(self) -> u32 {
        let ([a, b], [c, d]) = (self.protocol.to_be_bytes(), (self.id & 0x0fff).to_be_bytes());
        u32::from_ne_bytes([a, b, c, d])
    }
}

impl Link {
    pub fn is_ethernet(&self) -> bool {
        self.hardware == libc::ARPHRD_ETHER
    }
}

/// An entry of the ARP or neighbour-discovery table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub ifindex: u32,
    pub address: IpAddr,
    /// `NUD_*` bits.
    pub state: u16,
    /// The kernel gives it in the valid states only.
    pub mac: Option<[u8; 6]>,
}

impl Neighbour {
    pub fn is(&self, state: u16) -> bool {
        self.state & state != 0
    }

    /// The MAC when the kernel itself would send to it.
    pub fn usable_mac(&self) -> Option<[u8; 6]> {
        const VALID: u16 = libc::NUD_PERMANENT
            | libc::NUD_NOARP
            | libc::NUD_REACHABLE
            | libc::NUD_PROBE
            | libc::NUD_STALE
            | libc::NUD_DELAY;
        self.mac.filter(|_| self.is(VALID))
    }
}

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub ifindex: u32,
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
    /// `RT_SCOPE_*`
    pub scope: u8,
    /// `IFA_F_*`
    pub flags: u32,
}

impl Address {
    /// The addresses of its subnet.
    pub fn subnet(&self) -> Prefix {
        Prefix { address: self.address, length: self.prefix }
    }
}

/// The kernel's answer to "how do I reach that address".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// `RTN_*`.
    pub kind: u8,
    pub oif: Option<u32>,
    /// May be of the other family (RFC 8950).
    pub gateway: Option<IpAddr>,
    pub source: Option<IpAddr>,
    /// The route's own limit, or a learned path MTU.
    pub mtu: Option<u32>,
}

/// The destinations that a route message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    pub address: IpAddr,
    pub length: u8,
}

impl Prefix {
    /// First and last address. `length` beyond the family's width counts as the full width.
    pub fn bounds(self) -> (IpAddr, IpAddr) {
        match self.address {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(self.length.into()).unwrap_or(0);
                let first = u32::from(address) & !host;
                (IpAddr::V4(first.into()), IpAddr::V4((first | host).into()))
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(self.length.into()).unwrap_or(0);
                let first = u128::from(address) & !host;
                (IpAddr::V6(first.into()), IpAddr::V6((first | host).into()))
            }
        }
    }

    pub fn contains(self, address: IpAddr) -> bool {
        let (first, last) = self.bounds();
        // The order of `IpAddr` puts all of IPv4 before IPv6, so a family never falls between bounds of the other.
        (first..=last).contains(&address)
    }
}

/// `struct ifinfomsg` and attributes. `None` for messages that are not about the link as such: a bridge tells of
/// its ports, and a wireless driver of its events, with the same message types.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    const LOWER_UP: u32 = libc::IFF_LOWER_UP as u32;
    if *body.first()? != libc::AF_UNSPEC as u8 {
        return None;
    }
    let flags = u32_at(body, 8)?;
    let mut link = Link {
        index: u32_at(body, 4)?,
        name: String::new(),
        hardware: u16::from_ne_bytes(body.get(2..4)?.try_into().ok()?),
        mac: None,
        mtu: 0,
        up: flags & libc::IFF_UP as u32 != 0,
        carrier: flags & LOWER_UP != 0,
        kind: None,
        vlan: None,
        bond: None,
    };
    let (mut parent, mut is_elsewhere, mut data) = (None, false, &[][..]);
    let (mut master, mut is_in_bond) = (None, false);
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_ADDRESS => link.mac = mac(value).filter(|mac| *mac != [0; 6]),
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
            libc::IFLA_LINK => parent = u32_at(value, 0),
            libc::IFLA_LINK_NETNSID => is_elsewhere = true,
            libc::IFLA_MASTER => master = u32_at(value, 0),
            libc::IFLA_LINKINFO => {
                for (kind, value) in attributes(value) {
                    match kind {
                        IFLA_INFO_KIND => link.kind = Some(text(value)),
                        IFLA_INFO_DATA => data = value,
                        IFLA_INFO_SLAVE_KIND => is_in_bond = text(value) == "bond",
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if link.kind.as_deref() == Some("vlan") {
        link.vlan = Some(vlan(data, parent.filter(|_| !is_elsewhere)));
    }
    link.bond = master.filter(|_| is_in_bond);
    (link.mtu != 0 && !link.name.is_empty()).then_some(link)
}

/// What a VLAN device says of itself. Linux before 3.10 does not name the tag's protocol.
fn vlan(data: &[u8], parent: Option<u32>) -> Vlan {
    let mut vlan = Vlan { parent, protocol: libc::ETH_P_8021Q as u16, id: 0 };
    for (kind, value) in attributes(data) {
        match (kind, value) {
            (IFLA_VLAN_ID, &[a, b]) => vlan.id = u16::from_ne_bytes([a, b]),
            (IFLA_VLAN_PROTOCOL, &[a, b]) => vlan.protocol = u16::from_be_bytes([a, b]),
            _ => {}
        }
    }
    vlan
}

/// `struct ndmsg` and attributes. `None` for a bridge's forwarding table and for proxy entries.
pub(super) fn neighbour(body: &[u8]) -> Option<Neighbour> {
    if *body.get(10)? & libc::NTF_PROXY != 0 {
        return None;
    }
    let family = *body.first()?;
    let (mut to, mut lladdr) = (None, None);
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            libc::NDA_DST => to = address_of(family, value),
            libc::NDA_LLADDR => lladdr = mac(value),
            _ => {}
        }
    }
    let state = u16::from_ne_bytes(body.get(8..10)?.try_into().ok()?);
    Some(Neighbour { ifindex: u32_at(body, 4)?, address: to?, state, mac: lladdr })
}

/// `struct ifaddrmsg` and attributes.
pub(super) fn address(body: &[u8]) -> Option<Address> {
    let family = *body.first()?;
    let (mut own, mut peer, mut flags) = (None, None, u32::from(*body.get(2)?));
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            libc::IFA_LOCAL => own = address_of(family, value),
            libc::IFA_ADDRESS => peer = address_of(family, value),
            // All of them; the header has room for eight.
            libc::IFA_FLAGS => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    // On a point-to-point interface IFA_ADDRESS is the other end; IPv6 mostly has IFA_ADDRESS alone.
    let (address, prefix, scope) = (own.or(peer)?, *body.get(1)?, *body.get(3)?);
    Some(Address { ifindex: u32_at(body, 4)?, address, prefix, scope, flags })
}

/// `struct rtmsg` and attributes, as a reply to a request for one destination.
pub(super) fn route(body: &[u8]) -> Option<Route> {
    let family = *body.first()?;
    let mut route = Route { kind: *body.get(7)?, oif: None, gateway: None, source: None, mtu: None };
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            libc::RTA_OIF => route.oif = u32_at(value, 0),
            libc::RTA_GATEWAY => route.gateway = address_of(family, value),
            // struct rtvia: the family in two bytes, then the address.
            libc::RTA_VIA => route.gateway = address_of(*value.first()?, value.get(2..)?),
            libc::RTA_PREFSRC => route.source = address_of(family, value),
            libc::RTA_METRICS => {
                route.mtu =
                    attributes(value).find(|(kind, _)| *kind == RTAX_MTU).and_then(|(_, v)| u32_at(v, 0));
            }
            _ => {}
        }
    }
    Some(route)
}

/// linux/rtnetlink.h.
const RTAX_MTU: u16 = 2;

/// linux/if_link.h.
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;

/// The destination of a route message; the default route has no attribute for it.
pub(super) fn route_prefix(body: &[u8]) -> Option<Prefix> {
    let family = *body.first()?;
    let address = attributes(body.get(12..)?)
        .find(|(kind, _)| *kind == libc::RTA_DST)
        .map_or_else(|| unspecified(family), |(_, value)| address_of(family, value))?;
    Some(Prefix { address, length: *body.get(1)? })
}

/// Type (without the two flag bits) and value of each attribute; ends at the first that is malformed.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute| {
        // `struct nlattr` is four bytes; the iterator has checked that the length fits.
        let (kind, end) = (attribute.kind(), attribute.length().into());
        (kind, &attribute.into_inner()[4..end])
    })
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn mac(value: &[u8]) -> Option<[u8; 6]> {
    value.try_into().ok()
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn address_of(family: u8, value: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        libc::AF_INET6 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

fn unspecified(family: u8) -> Option<IpAddr> {
    address_of(family, if i32::from(family) == libc::AF_INET { &[0; 4] } else { &[0; 16] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link_header(family: u8, flags: u32) -> Vec<u8> {
        let mut bytes = vec![family, 0];
        bytes.extend(libc::ARPHRD_ETHER.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn a_link_is_read_in_spite_of_attributes_that_make_no_sense() {
        let mut body = link_header(0, 0x1_0001);
        body.extend(attribute(libc::IFLA_IFNAME, b"eth0\0"));
        body.extend(attribute(libc::IFLA_STATS, &[1, 2, 3]));
        body.extend(attribute(9999, &[]));
        body.extend(attribute(libc::IFLA_MTU, &1600u32.to_ne_bytes()));
        body.extend(attribute(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 9]));
        body.extend(attribute(libc::IFLA_LINKINFO | 0x8000, &attribute(IFLA_INFO_KIND, b"veth\0")));
        let expected = Link {
            index: 7,
            name: "eth0".into(),
            hardware: libc::ARPHRD_ETHER,
            mac: Some([2, 0, 0, 0, 0, 9]),
            mtu: 1600,
            up: true,
            carrier: true,
            kind: Some("veth".into()),
            vlan: None,
            bond: None,
        };
        assert_eq!(link(&body), Some(expected));
    }

    /// A port of a bridge has a master as well.
    #[test]
    fn a_slave_names_its_bond() {
        let bond_of = |kind: &[u8]| {
            let mut body = link_header(0, 0x1_0001);
            body.extend(attribute(libc::IFLA_IFNAME, b"eth0\0"));
            body.extend(attribute(libc::IFLA_MTU, &1500u32.to_ne_bytes()));
            body.extend(attribute(libc::IFLA_MASTER, &9u32.to_ne_bytes()));
            let info = [attribute(IFLA_INFO_KIND, b"veth\0"), attribute(IFLA_INFO_SLAVE_KIND, kind)].concat();
            body.extend(attribute(libc::IFLA_LINKINFO, &info));
            link(&body).unwrap().bond
        };
        assert_eq!(bond_of(b"bond\0"), Some(9));
        assert_eq!(bond_of(b"bridge\0"), None);
    }

    fn vlan_device(more: &[Vec<u8>], data: &[Vec<u8>]) -> Link {
        let mut body = link_header(0, 0x1_0001);
        body.extend(attribute(libc::IFLA_IFNAME, b"eth0.100\0"));
        body.extend(attribute(libc::IFLA_MTU, &1500u32.to_ne_bytes()));
        body.extend(attribute(libc::IFLA_LINK, &3u32.to_ne_bytes()));
        body.extend(more.concat());
        let info = [attribute(IFLA_INFO_KIND, b"vlan\0"), attribute(IFLA_INFO_DATA, &data.concat())].concat();
        body.extend(attribute(libc::IFLA_LINKINFO, &info));
        link(&body).expect("a link")
    }

    /// As `ip -d link show` has it: `vlan protocol 802.1ad id 100 <REORDER_HDR>`.
    #[test]
    fn a_vlan_device_has_a_parent_and_a_tag() {
        let id = attribute(IFLA_VLAN_ID, &100u16.to_ne_bytes());
        let flags = attribute(2, &[1, 0, 0, 0, 255, 255, 255, 255]);
        let protocol = |ethertype: u16| attribute(IFLA_VLAN_PROTOCOL, &ethertype.to_be_bytes());
        let service = vlan_device(&[], &[id.clone(), flags.clone(), protocol(0x88a8)]).vlan.unwrap();
        assert_eq!(service, Vlan { parent: Some(3), protocol: 0x88a8, id: 100 });
        assert_eq!(service.tag().to_ne_bytes(), [0x88, 0xa8, 0, 100]);
        let customer = vlan_device(&[], &[protocol(0x8100), id.clone()]).vlan.unwrap();
        assert_eq!(customer.tag().to_ne_bytes(), [0x81, 0, 0, 100]);
        // An old kernel, and a parent in another namespace.
        let netnsid = attribute(libc::IFLA_LINK_NETNSID, &0u32.to_ne_bytes());
        let old = vlan_device(&[netnsid], &[attribute(IFLA_VLAN_ID, &4094u16.to_ne_bytes())]).vlan.unwrap();
        assert_eq!(old, Vlan { parent: None, protocol: 0x8100, id: 4094 });
    }

    #[test]
    fn a_veth_names_its_peer_where_a_vlan_device_names_its_parent() {
        let mut body = link_header(0, 0x1_0001);
        body.extend(attribute(libc::IFLA_IFNAME, b"eth0\0"));
        body.extend(attribute(libc::IFLA_MTU, &1500u32.to_ne_bytes()));
        body.extend(attribute(libc::IFLA_LINK, &3u32.to_ne_bytes()));
        body.extend(attribute(libc::IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"veth\0")));
        assert_eq!(link(&body).unwrap().vlan, None);
    }

    #[test]
    fn a_bridges_word_about_its_port_is_not_about_the_link() {
        let mut body = link_header(libc::AF_BRIDGE as u8, 1);
        body.extend(attribute(libc::IFLA_IFNAME, b"eth0\0"));
        assert_eq!(link(&body), None);
    }

    #[test]
    fn a_neighbour_without_a_valid_state_has_no_usable_mac() {
        for (state, usable) in [(libc::NUD_STALE, true), (libc::NUD_FAILED, false), (libc::NUD_NONE, false)] {
            let mut body = vec![libc::AF_INET as u8, 0, 0, 0];
            body.extend(3u32.to_ne_bytes());
            body.extend(state.to_ne_bytes());
            body.extend([0, 1]);
            body.extend(attribute(libc::NDA_DST, &[10, 0, 0, 9]));
            body.extend(attribute(libc::NDA_LLADDR, &[2, 0, 0, 0, 0, 1]));
            let found = neighbour(&body).expect("a neighbour");
            assert_eq!((found.ifindex, found.address), (3, "10.0.0.9".parse().unwrap()));
            assert_eq!(found.usable_mac().is_some(), usable, "state {state:#x}");
            body[10] = libc::NTF_PROXY;
            assert_eq!(neighbour(&body), None);
        }
    }

    #[test]
    fn an_address_has_all_its_flags() {
        let mut body = vec![libc::AF_INET as u8, 24, 0x81, libc::RT_SCOPE_LINK];
        body.extend(3u32.to_ne_bytes());
        body.extend(attribute(libc::IFA_ADDRESS, &[10, 0, 0, 2]));
        body.extend(attribute(libc::IFA_LOCAL, &[10, 0, 0, 1]));
        let own = "10.0.0.1".parse().unwrap();
        let expected =
            Address { ifindex: 3, address: own, prefix: 24, scope: libc::RT_SCOPE_LINK, flags: 0x81 };
        assert_eq!(address(&body), Some(expected.clone()));
        body.extend(attribute(libc::IFA_FLAGS, &0x381u32.to_ne_bytes()));
        assert_eq!(address(&body), Some(Address { flags: 0x381, ..expected }));
    }

    #[test]
    fn a_route_may_have_a_gateway_of_the_other_family_and_an_mtu() {
        let gateway: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
        let mut via = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
        via.extend(gateway.octets());
        let mut body = vec![libc::AF_INET as u8, 32, 0, 0, 254, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        body.extend(attribute(libc::RTA_OIF, &5u32.to_ne_bytes()));
        body.extend(attribute(libc::RTA_VIA, &via));
        body.extend(attribute(libc::RTA_PREFSRC, &[10, 0, 0, 1]));
        body.extend(attribute(libc::RTA_METRICS, &attribute(RTAX_MTU, &1400u32.to_ne_bytes())));
        let expected = Route {
            kind: libc::RTN_UNICAST,
            oif: Some(5),
            gateway: Some(gateway.into()),
            source: Some("10.0.0.1".parse().unwrap()),
            mtu: Some(1400),
        };
        assert_eq!(route(&body), Some(expected));
    }

    #[test]
    fn prefixes_contain_what_they_should() {
        let contains = |prefix: &str, length, address: &str| {
            Prefix { address: prefix.parse().unwrap(), length }.contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0", 24, "10.0.0.255"));
        assert!(!contains("10.0.0.0", 24, "10.0.1.0"));
        assert!(contains("0.0.0.0", 0, "255.255.255.255"));
        assert!(!contains("0.0.0.0", 0, "::"));
        assert!(contains("10.0.0.9", 32, "10.0.0.9"));
        assert!(!contains("10.0.0.9", 32, "10.0.0.8"));
        assert!(contains("fd00::", 64, "fd00::ffff"));
        assert!(!contains("fd00::", 64, "fd00:0:0:1::"));
        assert!(contains("::", 0, "ffff::1"));
        assert!(!contains("::", 0, "10.0.0.1"));
        assert!(contains("fd00::9", 128, "fd00::9"));
    }
}
