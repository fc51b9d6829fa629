//! Interfaces and addresses, as they are at the moment of the call.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};

use super::Error;
use super::decode::{self, Address, Link};
use super::wire::Requests;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    /// `None` for an interface without Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Bytes of an IP packet.
    pub mtu: u32,
    /// Administratively up; says nothing of a carrier.
    pub up: bool,
    /// The driver's kind as the kernel names it (`veth`, `bridge`, `bond` …); for others `ethernet`, `loopback` or
    /// `other`.
    pub kind: String,
    /// Index of the interface that a VLAN device lies over.
    pub beneath: Option<u32>,
    /// Index of the bond that it belongs to.
    pub bond: Option<u32>,
}

impl From<Link> for Interface {
    fn from(link: Link) -> Self {
        let mac = link.mac.filter(|_| link.is_ethernet());
        let kind = link.kind.unwrap_or_else(|| {
            String::from(match link.hardware {
                libc::ARPHRD_ETHER => "ethernet",
                libc::ARPHRD_LOOPBACK => "loopback",
                _ => "other",
            })
        });
        Self {
            name: link.name,
            index: link.index,
            mac,
            mtu: link.mtu,
            up: link.up,
            kind,
            beneath: link.vlan.and_then(|vlan| vlan.parent),
            bond: link.bond,
        }
    }
}

/// All interfaces, by index.
pub fn interfaces() -> Result<Vec<Interface>, Error> {
    let mut found: Vec<Interface> = links(&mut open()?)?.into_iter().map(Interface::from).collect();
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

/// All addresses of this machine with the name of their interface, loopback and link-local ones among them.
pub fn addresses() -> Result<Vec<(String, IpAddr)>, Error> {
    let mut requests = open()?;
    let names: HashMap<u32, String> =
        links(&mut requests)?.into_iter().map(|link| (link.index, link.name)).collect();
    // An interface that appeared between the two dumps has no name yet and is left out.
    let named = |own: Address| Some((names.get(&own.ifindex)?.clone(), own.address));
    Ok(own_addresses(&mut requests)?.into_iter().filter_map(named).collect())
}

/// The kernel's number of an interface.
pub fn index_of(name: &str) -> Result<u32, Error> {
    index_by(&mut open()?, name)
}

pub(super) fn open() -> Result<Requests, Error> {
    Requests::open().map_err(Error::Socket)
}

fn index_by(requests: &mut Requests, name: &str) -> Result<u32, Error> {
    let found = links(requests)?.into_iter().find(|link| link.name == name);
    found.map(|link| link.index).ok_or_else(|| Error::NoInterface { name: name.to_owned() })
}

pub(super) fn links(requests: &mut Requests) -> Result<Vec<Link>, Error> {
    list_links(requests).map_err(|source| Error::List { what: "interfaces", source })
}

pub(super) fn own_addresses(requests: &mut Requests) -> Result<Vec<Address>, Error> {
    list_addresses(requests).map_err(|source| Error::List { what: "addresses", source })
}

fn list_links(requests: &mut Requests) -> io::Result<Vec<Link>> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    requests.dump(&RouteNetlinkMessage::GetLink(request), libc::RTM_NEWLINK, decode::link)
}

fn list_addresses(requests: &mut Requests) -> io::Result<Vec<Address>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    requests.dump(&request, libc::RTM_NEWADDR, decode::address)
}
