//! Which address belongs to whom. Every topology uses the same ones: each has network namespaces of its own.
//!
//! | network | flat | routed |
//! |---|---|---|
//! | hosts `10.77.0.0/16`, `fd77::/64` | balancer `.0.1`, router `.0.2` and `.2.i`, host i `.1.i`, client c `.(10+c).1…` | balancer's `b0`, hosts, return leg of client c `.(10+c).254` |
//! | client c `10.78.c.0/24`, `fd78:0:0:c::/64` | – | client `.1…`, balancer's interface `c<c>` `.254` |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Hosts that a topology can have at most.
pub(super) const MOST_HOSTS: usize = 250;
/// Clients that a topology can have at most.
pub(super) const MOST_CLIENTS: usize = 16;
/// Source addresses of a family that a client can have at most.
pub(super) const MOST_SOURCES: usize = 200;

pub(super) const HOST_NET_V4: &str = "10.77.0.0/16";
pub(super) const HOST_NET_V6: &str = "fd77::/64";
pub(super) const BALANCER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(super) const BALANCER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);

/// RFC 5737 and RFC 3849: addresses for documentation.
pub(super) const VIP_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(super) const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 1);

/// Address of host `number`, which counts from 1.
pub(super) fn host_v4(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, number as u8)
}

pub(super) fn host_v6(number: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, number as u16)
}

/// The router's address among the hosts, if there is one.
pub(super) const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(super) const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

/// The router's address on its link to host `number`.
pub(super) fn router_link_v4(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 2, number as u8)
}

pub(super) fn router_link_v6(number: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 2, number as u16)
}

/// Address `source`, counted from 0, of client `client`, counted from 0, among the hosts.
pub(super) fn near_client_v4(client: usize, source: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 10 + client as u8, 1 + source as u8)
}

pub(super) fn near_client_v6(client: usize, source: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 10 + client as u16, 1 + source as u16)
}

/// The leg by which replies reach a client of the routed layout.
pub(super) fn return_leg_v4(client: usize) -> Ipv4Addr {
    near_client_v4(client, 253)
}

pub(super) fn return_leg_v6(client: usize) -> Ipv6Addr {
    near_client_v6(client, 253)
}

/// A client's network of its own.
pub(super) fn client_net_v4(client: usize) -> String {
    format!("10.78.{client}.0/24")
}

pub(super) fn client_net_v6(client: usize) -> String {
    format!("fd78:0:0:{client:x}::/64")
}

pub(super) fn far_client_v4(client: usize, source: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, client as u8, 1 + source as u8)
}

pub(super) fn far_client_v6(client: usize, source: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd78, 0, 0, client as u16, 0, 0, 0, 1 + source as u16)
}

/// The balancer's address in a client's network.
pub(super) fn gateway_v4(client: usize) -> Ipv4Addr {
    far_client_v4(client, 253)
}

pub(super) fn gateway_v6(client: usize) -> Ipv6Addr {
    far_client_v6(client, 253)
}

/// `address/length` with all bits of the family, as routes and lo want it.
pub(super) fn host_prefix(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}
