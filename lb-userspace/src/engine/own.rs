//! The addresses that the data path speaks from: those of the interfaces that it is attached to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::layout::{Own, Tuple};

use super::{Engine, Error};
use crate::model::Model;
use crate::netlink;

impl Engine {
    /// Tells the data path, if they changed.
    pub(super) fn follow_own(&mut self) -> Result<(), Error> {
        let attached: BTreeSet<u32> = self.attached.iter().map(|attached| attached.ifindex).collect();
        let own = own_of(&self.model, &attached, &self.own.borrow());
        if self.published_own.as_ref() != Some(&own) {
            self.dataplane.set_own(&own)?;
            self.published_own = Some(own);
        }
        Ok(())
    }
}

/// Every interface of the config that exists has an entry: the data path takes those for its own. So has each that belongs to a
/// bond among them, as that is where packets come in; it speaks from the bond's addresses.
fn own_of(model: &Model, attached: &BTreeSet<u32>, interfaces: &netlink::Own) -> BTreeMap<u32, Own> {
    let is_vip = |address: &IpAddr| model.services.iter().any(|service| service.vip.contains(*address));
    let named = interfaces
        .iter()
        // One that was renamed is among those that are attached.
        .filter(|(index, own)| {
            attached.contains(index) || model.interfaces.iter().any(|interface| interface.name == own.name)
        });
    let mut ours: BTreeMap<u32, Own> =
        named.map(|(&ifindex, own)| (ifindex, first_of_each_family(&own.addresses, is_vip))).collect();
    for (&ifindex, own) in interfaces {
        if let Some((&bond, addresses)) = own.bond.and_then(|bond| ours.get_key_value(&bond)) {
            let addresses = Own { bond, ..*addresses };
            ours.insert(ifindex, addresses);
        }
    }
    ours
}

/// The first address of each family that is no VIP, which another balancer may have too.
fn first_of_each_family(addresses: &[IpAddr], is_vip: impl Fn(&IpAddr) -> bool) -> Own {
    let mut own = Own::default();
    for address in addresses.iter().rev().filter(|address| !is_vip(address)) {
        match address {
            IpAddr::V4(address) => own.v4 = u32::from_ne_bytes(address.octets()),
            IpAddr::V6(address) => own.v6 = Tuple::words(address.octets()),
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(addresses: &[&str]) -> Own {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let vips = ["198.51.100.1", "2001:db8:ff::1"].map(|text| text.parse::<IpAddr>().unwrap());
        first_of_each_family(&addresses, |address| vips.contains(address))
    }

    #[test]
    fn the_first_of_each_family_that_is_no_vip_is_spoken_from() {
        let v4 = u32::from_ne_bytes([10, 0, 0, 1]);
        let v6 = Tuple::words("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(own(&["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"]), Own { v4, v6, bond: 0 });
        assert_eq!(own(&["198.51.100.1", "10.0.0.1", "10.0.0.2"]), Own { v4, ..Own::default() });
        assert_eq!(own(&["2001:db8:ff::1", "2001:db8::1"]), Own { v6, ..Own::default() });
        assert_eq!(own(&["198.51.100.1"]), Own::default());
    }

    #[test]
    fn interfaces_of_the_config_are_ours_even_without_an_address() {
        let toml = "interfaces = [\"eth0\", \"eth1\", \"eth9\"]\n[hosts.a]\naddresses = [\"10.0.0.9\"]\n\
                    [[services]]\nname = \"s\"\nvip = \"198.51.100.1\"\nprotocol = \"tcp\"\nport = 80\n";
        let model = crate::config::parse(toml, "f").unwrap().model;
        let interface = |name: &str, addresses: &[&str]| netlink::OwnInterface {
            name: name.to_owned(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..Default::default()
        };
        let in_bond = |name: &str, bond| netlink::OwnInterface { bond: Some(bond), ..interface(name, &[]) };
        let interfaces = netlink::Own::from([
            (1, interface("lo", &["10.0.0.3"])),
            (2, interface("eth0", &["198.51.100.1", "10.0.0.1"])),
            (3, interface("eth1", &[])),
            (4, in_bond("slave", 2)),
            (5, interface("bond1", &["10.0.0.5"])),
            (6, in_bond("another", 5)),
        ]);
        let v4 = u32::from_ne_bytes([10, 0, 0, 1]);
        let speaks = Own { v4, ..Own::default() };
        let expected = BTreeMap::from([(2, speaks), (3, Own::default()), (4, Own { bond: 2, ..speaks })]);
        assert_eq!(own_of(&model, &BTreeSet::new(), &interfaces), expected);
        let renamed = own_of(&model, &BTreeSet::from([1]), &interfaces);
        assert!(renamed.contains_key(&1) && renamed.len() == 4);
    }
}
