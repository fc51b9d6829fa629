//! By which of its addresses a host is reached.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Forward, Host, Vip};

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub fn other(self) -> Self {
        match self {
            Family::Ipv4 => Family::Ipv6,
            Family::Ipv6 => Family::Ipv4,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        })
    }
}

/// The families of addresses by which a service reaches its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Only(Family),
    /// By the other one where a host has none of this.
    Rather(Family),
}

impl Reach {
    /// A packet in an outer header may go to an address of either family, by which `outer` is; any other packet keeps its own.
    pub fn of(vip: Vip, forward: Forward, outer: Option<Family>) -> Self {
        match outer {
            _ if !forward.is_tunnel() => Reach::Only(vip.family()),
            Some(family) => Reach::Only(family),
            None => Reach::Rather(vip.family()),
        }
    }

    pub fn address_of(self, host: &Host) -> Option<IpAddr> {
        match self {
            Reach::Only(family) => host.address(family),
            Reach::Rather(family) => host.address(family).or_else(|| host.address(family.other())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_may_go_to_the_other_family_and_rather_go_to_the_vip_s() {
        let host = |ipv4: Option<&str>, ipv6: Option<&str>| Host {
            name: "h".to_owned(),
            weight: 1,
            disabled: false,
            zone: None,
            groups: Default::default(),
            ipv4: ipv4.map(|text| text.parse().unwrap()),
            ipv6: ipv6.map(|text| text.parse().unwrap()),
        };
        let (four, six) = ("10.0.0.1", "fd00::1");
        let hosts = [host(Some(four), None), host(None, Some(six)), host(Some(four), Some(six))];
        let reached = |vip: &str, forward, outer| {
            let reach = Reach::of(Vip::of(vip.parse().unwrap()), forward, outer);
            hosts.each_ref().map(|host| reach.address_of(host).map(|address| address.to_string()))
        };
        let expect = |addresses: [Option<&str>; 3]| addresses.map(|address| address.map(str::to_owned));
        let (only_4, only_6) = ([Some(four), None, Some(four)], [None, Some(six), Some(six)]);
        for forward in [Forward::L2, Forward::Ipip, Forward::Gue, Forward::Nat] {
            let is_tunnel = matches!(forward, Forward::Ipip | Forward::Gue);
            let rather = |only: [Option<&'static str>; 3], address| match is_tunnel {
                true => only.map(|own| own.or(Some(address))),
                false => only,
            };
            assert_eq!(reached("203.0.113.9/32", forward, None), expect(rather(only_4, six)));
            assert_eq!(reached("2001:db8::9/128", forward, None), expect(rather(only_6, four)));
            for vip in ["203.0.113.9/32", "2001:db8::9/128"].into_iter().filter(|_| is_tunnel) {
                assert_eq!(reached(vip, forward, Some(Family::Ipv4)), expect(only_4), "{vip}");
                assert_eq!(reached(vip, forward, Some(Family::Ipv6)), expect(only_6), "{vip}");
            }
        }
    }
}
