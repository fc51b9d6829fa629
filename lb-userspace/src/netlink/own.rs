//! The addresses that this machine may speak from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::decode::{Address, Link};

/// By the interface's number.
pub type Own = BTreeMap<u32, OwnInterface>;

/// An interface and its addresses, those first that are for speaking first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnInterface {
    pub name: String,
    pub addresses: Vec<IpAddr>,
    /// Those and all others that it has.
    pub all: BTreeSet<IpAddr>,
    /// Index of the bond that it belongs to.
    pub bond: Option<u32>,
}

/// All interfaces, with their addresses, and apart those that others can answer to and that are to last: of global scope, neither tentative
/// nor deprecated, and temporary ones (RFC 8981) last. Else in the kernel's order.
pub(super) fn own<'a>(links: impl IntoIterator<Item = &'a Link>, addresses: &[Address]) -> Own {
    let interface =
        |link: &Link| OwnInterface { name: link.name.clone(), bond: link.bond, ..OwnInterface::default() };
    let mut own: Own = links.into_iter().map(|link| (link.index, interface(link))).collect();
    for found in addresses {
        if let Some(interface) = own.get_mut(&found.ifindex) {
            interface.all.insert(found.address);
        }
    }
    let (temporary, lasting): (Vec<&Address>, _) =
        addresses.iter().filter(|address| is_good(address)).partition(|address| is_temporary(address));
    for found in lasting.into_iter().chain(temporary) {
        if let Some(interface) = own.get_mut(&found.ifindex) {
            interface.addresses.push(found.address);
        }
    }
    own
}

fn is_good(address: &Address) -> bool {
    const BAD: u32 = libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED | libc::IFA_F_DEPRECATED;
    address.scope == libc::RT_SCOPE_UNIVERSE && address.flags & BAD == 0
}

/// The same bit says "secondary" of IPv4, and those come after the primary ones anyway.
fn is_temporary(address: &Address) -> bool {
    address.address.is_ipv6() && address.flags & libc::IFA_F_TEMPORARY != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            hardware: libc::ARPHRD_ETHER,
            mac: None,
            mtu: 1500,
            up: true,
            carrier: true,
            kind: None,
            vlan: None,
            bond: None,
        }
    }

    fn address(ifindex: u32, text: &str, scope: u8, flags: u32) -> Address {
        Address { ifindex, address: text.parse().unwrap(), prefix: 24, scope, flags }
    }

    #[test]
    fn interfaces_have_the_addresses_that_they_may_speak_from() {
        const GLOBAL: u8 = libc::RT_SCOPE_UNIVERSE;
        let links = [link(1, "lo"), link(2, "eth0"), link(3, "eth1")];
        let addresses = [
            address(1, "127.0.0.1", libc::RT_SCOPE_HOST, 0),
            address(2, "169.254.7.7", libc::RT_SCOPE_LINK, 0),
            address(2, "10.0.0.1", GLOBAL, libc::IFA_F_PERMANENT),
            address(2, "10.0.0.2", GLOBAL, libc::IFA_F_SECONDARY),
            address(2, "2001:db8::77", GLOBAL, libc::IFA_F_TEMPORARY),
            address(2, "2001:db8::1", GLOBAL, libc::IFA_F_DEPRECATED),
            address(2, "2001:db8::2", GLOBAL, libc::IFA_F_TENTATIVE),
            address(2, "2001:db8::3", GLOBAL, libc::IFA_F_DADFAILED),
            address(2, "2001:db8::4", GLOBAL, 0),
            address(2, "fe80::1", libc::RT_SCOPE_LINK, 0),
            // An interface that came between the two lists.
            address(9, "10.9.0.1", GLOBAL, 0),
        ];
        let texts = |own: &Own, index| -> Vec<String> {
            own[&index].addresses.iter().map(ToString::to_string).collect()
        };
        let own = own(&links, &addresses);
        assert_eq!(own.keys().collect::<Vec<_>>(), [&1, &2, &3]);
        assert_eq!((own[&2].name.as_str(), own[&3].name.as_str()), ("eth0", "eth1"));
        assert_eq!(texts(&own, 1), [""; 0]);
        assert_eq!(texts(&own, 2), ["10.0.0.1", "10.0.0.2", "2001:db8::4", "2001:db8::77"]);
        assert_eq!(texts(&own, 3), [""; 0]);
        assert_eq!([1, 2, 3].map(|index| own[&index].all.len()), [1, 9, 0]);
    }
}
