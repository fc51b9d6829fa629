//! Virtual addresses on an interface of this machine.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};

use super::Error;
use super::interfaces::{links, open, own_addresses};
use super::wire::Requests;

/// A lifetime without end, in seconds (`INFINITY_LIFE_TIME` of net/addrconf.h).
const FOREVER: u32 = u32::MAX;

/// Puts virtual addresses on the interface with this number, as /32 and /128 without a route for a prefix and without duplicate
/// address detection (several balancers may hold the same one).
///
/// Returns the addresses that were really added: those, and no others, are for [`remove_vips`]. An address that the
/// interface has already, with whatever prefix, is the operator's and is left alone. Needs `CAP_NET_ADMIN`.
///
/// # Errors
/// Changes nothing when it fails: what this call had added is removed again.
pub fn add_vips(index: u32, vips: &[IpAddr]) -> Result<Vec<IpAddr>, Error> {
    let mut requests = open()?;
    let present = own_addresses(&mut requests)?;
    let mut added = Vec::new();
    for &address in vips {
        if present.iter().any(|own| own.ifindex == index && own.address == address)
            || added.contains(&address)
        {
            continue;
        }
        match add(&mut requests, index, address) {
            Ok(()) => added.push(address),
            // Somebody else was faster, so it is theirs.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(source) => {
                let interface = name_of(&mut requests, index);
                for &address in &added {
                    if let Err(error) = remove(&mut requests, index, address) {
                        log::warn!("cannot remove {address} from {interface} again: {error}");
                    }
                }
                return Err(Error::AddVip { address, interface, source });
            }
        }
    }
    Ok(added)
}

/// Takes virtual addresses off that [`add_vips`] has added. One that is gone already is no error, nor is an
/// interface that is gone; an address with another prefix than /32 or /128 is not ours and stays.
///
/// # Errors
/// The first failure, after all addresses have been tried.
pub fn remove_vips(index: u32, vips: &[IpAddr]) -> Result<(), Error> {
    let mut requests = open()?;
    let present = own_addresses(&mut requests)?;
    let mut failure = Ok(());
    for own in present {
        if own.ifindex != index || own.prefix != width(own.address) || !vips.contains(&own.address) {
            continue;
        }
        let address = own.address;
        match remove(&mut requests, index, address) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
            Err(source) if failure.is_ok() => {
                let interface = name_of(&mut requests, index);
                failure = Err(Error::RemoveVip { address, interface, source });
            }
            _ => {}
        }
    }
    failure
}

/// The addresses that an interface has, of whatever kind.
pub fn addresses_on(index: u32) -> Result<BTreeSet<IpAddr>, Error> {
    let own = own_addresses(&mut open()?)?;
    Ok(own.into_iter().filter(|own| own.ifindex == index).map(|own| own.address).collect())
}

/// For people.
fn name_of(requests: &mut Requests, index: u32) -> String {
    let found = links(requests).ok().and_then(|links| links.into_iter().find(|link| link.index == index));
    found.map_or_else(|| format!("interface {index}"), |link| link.name)
}

fn add(requests: &mut Requests, index: u32, address: IpAddr) -> io::Result<()> {
    let mut message = message(index, address);
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute));
    if address.is_ipv6() {
        // Deprecated (RFC 4862), so that it is never chosen as the source of this machine's own connections, health
        // checks among them. Clients reach it all the same.
        let mut life = CacheInfo::default();
        life.ifa_preferred = 0;
        life.ifa_valid = FOREVER;
        message.attributes.push(AddressAttribute::CacheInfo(life));
    }
    requests.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

fn remove(requests: &mut Requests, index: u32, address: IpAddr) -> io::Result<()> {
    requests.change(RouteNetlinkMessage::DelAddress(message(index, address)), 0)
}

fn message(index: u32, address: IpAddr) -> AddressMessage {
    match address {
        IpAddr::V4(v4) => {
            AddressMessageBuilder::<std::net::Ipv4Addr>::new().address(v4, 32).index(index).build()
        }
        IpAddr::V6(v6) => {
            AddressMessageBuilder::<std::net::Ipv6Addr>::new().address(v6, 128).index(index).build()
        }
    }
}

/// Bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
