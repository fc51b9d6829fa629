//! A router between the balancer and the hosts, whose links to them may be narrower than the rest.

use std::net::IpAddr;

use super::super::addressing::*;
use super::super::{Builder, Layout};
use super::{Node, Plan, carry_vips, pair, plug};

/// Interface that leads to host `number`.
fn link_to(number: usize) -> String {
    format!("h{number}")
}

/// The router, on the switch; the balancer reaches all hosts over it.
pub(super) fn node(
    plan: &mut Plan,
    wish: &Builder,
    prefix: &str,
    balancer: &mut Node,
    switch: &mut Node,
) -> Node {
    let mut router = Node::new(format!("{prefix}-rt"));
    router.sysctl("ipv4/ip_forward", "1");
    router.sysctl("ipv6/conf/all/forwarding", "1");
    plug(plan, wish, &router, "eth0", switch, "rt", wish.backend_mtu);
    router.ip.push(format!("link set eth0 mtu {} up", wish.backend_mtu));
    router.address(ROUTER_V4, 16, "eth0");
    router.address(ROUTER_V6, 64, "eth0");
    router.on_link(HOST_NET_V4, "eth0", wish.backend_mtu);
    router.on_link(HOST_NET_V6, "eth0", wish.backend_mtu);
    if wish.layout == Layout::Routed {
        for client in 0..wish.clients {
            router.route(&client_net_v4(client), return_leg_v4(client));
            router.route(&client_net_v6(client), return_leg_v6(client));
        }
    }
    for number in 1..=wish.hosts {
        balancer.route(&host_prefix(host_v4(number).into()), ROUTER_V4);
        balancer.route(&host_prefix(host_v6(number).into()), ROUTER_V6);
    }
    router
}

/// A host on a link of its own to the router. It sends what the link takes, but announces segments as long as the clients'
/// packets: nobody has told it what the path to it takes.
pub(super) fn host(
    plan: &mut Plan,
    wish: &Builder,
    number: usize,
    mtu: u32,
    host: &mut Node,
    router: &mut Node,
) {
    let link = link_to(number);
    pair(plan, wish, (&host.name, "eth0"), (&router.name, &link));
    if wish.xdp_on_hosts {
        router.checksum_in_software.push(link.clone());
        router.pass_program.push(link.clone());
    }
    router.ip.push(format!("link set {link} mtu {mtu} up"));
    host.ip.push(format!("link set eth0 mtu {} up", wish.backend_mtu));
    let ends: [(IpAddr, IpAddr, u32); 2] = [
        (host_v4(number).into(), router_link_v4(number).into(), wish.client_mtu - 40),
        (host_v6(number).into(), router_link_v6(number).into(), wish.client_mtu - 60),
    ];
    for (own, via, segment) in ends {
        let length = if own.is_ipv4() { 32 } else { 128 };
        router.address(via, length, &link);
        router.on_link(&host_prefix(own), &link, mtu);
        host.address(own, length, "eth0");
        host.on_link(&host_prefix(via), "eth0", mtu);
        host.ip.push(format!("route add default via {via} mtu {mtu} advmss {segment}"));
    }
    carry_vips(wish, host);
}
