//! The shape of a topology as text: what iproute2, sysctl and ethtool have to do in each namespace.

mod router;

use std::net::IpAddr;

use super::addressing::*;
use super::{Builder, Layout, Replies, VipRoutes};

/// Everything to do, in this order: namespaces, sysctls, links, then each namespace's own part.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Lines for `ip -batch` that make the veth pairs right where they belong.
    pub links: Vec<String>,
    pub nodes: Vec<Node>,
    /// Frames do not fit a page: XDP programs must take them in several pieces.
    pub has_jumbo: bool,
}

/// Bytes of the longest packet that native XDP of a veth takes in one piece (`veth_xdp_set` in drivers/net/veth.c).
const ONE_PIECE: u32 = 3506;

/// A namespace.
#[derive(Debug)]
pub(super) struct Node {
    pub name: String,
    /// Key below /proc/sys/net, and value; set before any interface exists, so that `default` counts.
    pub sysctls: Vec<(String, &'static str)>,
    /// Connections end here: each has all of its packets received by one CPU.
    pub is_end: bool,
    /// Lines for `ip -batch` inside.
    pub ip: Vec<String>,
    /// Interfaces that must put whole checksums into what they send.
    pub checksum_in_software: Vec<String>,
    /// Interfaces that need a native XDP program, because the far end sends by XDP_TX or XDP_REDIRECT.
    pub pass_program: Vec<String>,
}

/// Sysctls of every namespace. `tcp_congestion_control`: bbr, a common default, wants the fq scheduler, which need
/// not be there. DAD would hold IPv6 addresses back for a second.
const COMMON: &[(&str, &str)] = &[
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv4/tcp_congestion_control", "reno"),
    ("ipv4/ip_local_port_range", "1024 65535"),
    ("ipv4/tcp_tw_reuse", "1"),
    ("ipv4/tcp_fin_timeout", "5"),
    ("ipv4/tcp_max_syn_backlog", "65536"),
    ("ipv4/tcp_syncookies", "0"),
    ("ipv4/tcp_no_metrics_save", "1"),
    ("core/somaxconn", "65535"),
];

impl Node {
    pub fn new(name: String) -> Self {
        let sysctls = COMMON.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        Self {
            name,
            sysctls,
            is_end: false,
            ip: vec!["link set lo up".into()],
            checksum_in_software: Vec::new(),
            pass_program: Vec::new(),
        }
    }

    pub fn sysctl(&mut self, key: &str, value: &'static str) {
        self.sysctls.push((key.to_owned(), value));
    }

    /// Adds `address` without its network's route, so that [`on_link`](Self::on_link) can say the route's MTU.
    fn address(&mut self, address: impl Into<IpAddr>, length: u8, interface: &str) {
        let address = address.into();
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        self.ip.push(format!("addr add {address}/{length} dev {interface} noprefixroute{nodad}"));
    }

    /// Makes `network` reachable on `interface`, by packets of at most `mtu` bytes.
    fn on_link(&mut self, network: &str, interface: &str, mtu: u32) {
        self.ip.push(format!("route add {network} dev {interface} mtu {mtu}"));
    }

    fn route(&mut self, network: &str, via: impl Into<IpAddr>) {
        self.ip.push(format!("route add {network} via {}", via.into()));
    }

    /// As [`route`](Self::route), by packets of at most `mtu` bytes.
    fn route_at_most(&mut self, network: &str, via: impl Into<IpAddr>, mtu: u32) {
        self.ip.push(format!("route add {network} via {} mtu {mtu}", via.into()));
    }
}

/// Interface of the switch that leads to the node `name`.
fn port_of(name: &str) -> String {
    format!("p-{name}")
}

/// The builder's wishes as a plan; `prefix` begins the names of all namespaces.
pub(super) fn plan(wish: &Builder, prefix: &str) -> Plan {
    let has_jumbo = wish.client_mtu.max(wish.backend_mtu) > ONE_PIECE;
    let mut plan = Plan { has_jumbo, ..Plan::default() };
    let mut switch = Node::new(format!("{prefix}-sw"));
    let mut balancer = Node::new(format!("{prefix}-lb"));
    switch.ip.push("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0".into());
    // The bridge only forwards; addresses of its own would only chatter.
    switch.sysctl("ipv6/conf/default/disable_ipv6", "1");

    let lan = if wish.layout == Layout::Flat { "eth0" } else { "b0" };
    let port = plug(&mut plan, wish, &balancer, lan, &mut switch, "lb", wish.backend_mtu);
    switch.checksum_in_software.push(port.clone());
    switch.pass_program.push(port);
    balancer.ip.push(format!("link set {lan} mtu {} up", wish.backend_mtu));
    balancer.address(BALANCER_V4, 16, lan);
    balancer.address(BALANCER_V6, 64, lan);
    balancer.on_link(HOST_NET_V4, lan, wish.backend_mtu);
    balancer.on_link(HOST_NET_V6, lan, wish.backend_mtu);
    // A VIP on the balancer itself is the source of replies that the balancer forwards.
    balancer.sysctl("ipv4/conf/all/accept_local", "1");
    if wish.layout == Layout::Routed {
        balancer.sysctl("ipv4/ip_forward", "1");
        balancer.sysctl("ipv6/conf/all/forwarding", "1");
    }

    let mut clients = Vec::new();
    for number in 0..wish.clients {
        let name = client_name(number);
        let mut client = Node { is_end: true, ..Node::new(format!("{prefix}-{name}")) };
        match wish.layout {
            Layout::Flat => flat_client(&mut plan, wish, number, &name, &mut client, &mut switch),
            Layout::Routed => {
                routed_client(&mut plan, wish, number, &name, &mut client, &mut balancer, &mut switch);
            }
        }
        clients.push(client);
    }
    let mut router = wish.router.map(|_| router::node(&mut plan, wish, prefix, &mut balancer, &mut switch));
    let mut hosts = Vec::new();
    for number in 1..=wish.hosts {
        let name = format!("h{number}");
        let mut host = Node { is_end: true, ..Node::new(format!("{prefix}-{name}")) };
        match (&mut router, wish.router) {
            (Some(router), Some(mtu)) => router::host(&mut plan, wish, number, mtu, &mut host, router),
            _ => host_node(&mut plan, wish, number, &name, &mut host, &mut switch),
        }
        hosts.push(host);
    }
    switch.ip.push("link set br0 up".into());
    plan.nodes = clients;
    plan.nodes.extend([balancer, switch]);
    plan.nodes.extend(router);
    plan.nodes.extend(hosts);
    plan
}

/// `client`, `client2`, `client3` …; `number` counts from 0.
pub(super) fn client_name(number: usize) -> String {
    if number == 0 { "client".into() } else { format!("client{}", number + 1) }
}

/// Makes the veth from `node`'s `interface` to a port of the switch and returns the port's name. Interface names have
/// at most 15 bytes.
fn plug(
    plan: &mut Plan,
    wish: &Builder,
    node: &Node,
    interface: &str,
    switch: &mut Node,
    name: &str,
    mtu: u32,
) -> String {
    let port = port_of(name);
    pair(plan, wish, (&node.name, interface), (&switch.name, &port));
    switch.ip.push(format!("link set {port} mtu {mtu} master br0 up"));
    port
}

/// Both ends have the same number of queues: native XDP refuses fewer receive than peer transmit queues (ENOSPC).
fn pair(plan: &mut Plan, wish: &Builder, near: (&str, &str), far: (&str, &str)) {
    let queues = format!("numtxqueues {0} numrxqueues {0}", wish.queues);
    plan.links.push(format!(
        "link add name {} netns {} {queues} type veth peer name {} netns {} {queues}",
        near.1, near.0, far.1, far.0
    ));
}

fn flat_client(
    plan: &mut Plan,
    wish: &Builder,
    number: usize,
    name: &str,
    client: &mut Node,
    switch: &mut Node,
) {
    plug(plan, wish, client, "eth0", switch, name, wish.client_mtu);
    client.ip.push(format!("link set eth0 mtu {} up", wish.client_mtu));
    for source in 0..wish.client_sources {
        client.address(near_client_v4(number, source), 16, "eth0");
        client.address(near_client_v6(number, source), 64, "eth0");
    }
    client.on_link(HOST_NET_V4, "eth0", wish.client_mtu);
    client.on_link(HOST_NET_V6, "eth0", wish.client_mtu);
    vip_routes(wish, client, BALANCER_V4.into(), BALANCER_V6.into());
}

fn routed_client(
    plan: &mut Plan,
    wish: &Builder,
    number: usize,
    name: &str,
    client: &mut Node,
    balancer: &mut Node,
    switch: &mut Node,
) {
    let (net_v4, net_v6) = (client_net_v4(number), client_net_v6(number));
    let far = format!("c{number}");
    pair(plan, wish, (&client.name, "eth0"), (&balancer.name, &far));
    client.checksum_in_software.push("eth0".into());
    client.pass_program.push("eth0".into());
    client.ip.push(format!("link set eth0 mtu {} up", wish.client_mtu));
    for source in 0..wish.client_sources {
        client.address(far_client_v4(number, source), 24, "eth0");
        client.address(far_client_v6(number, source), 64, "eth0");
    }
    client.on_link(&net_v4, "eth0", wish.client_mtu);
    client.on_link(&net_v6, "eth0", wish.client_mtu);

    balancer.ip.push(format!("link set {far} mtu {} up", wish.backend_mtu));
    balancer.address(gateway_v4(number), 24, &far);
    balancer.address(gateway_v6(number), 64, &far);
    balancer.on_link(&net_v4, &far, wish.client_mtu);
    balancer.on_link(&net_v6, &far, wish.client_mtu);

    if wish.replies == Replies::Direct {
        plug(plan, wish, client, "eth1", switch, name, wish.client_mtu);
        client.ip.push(format!("link set eth1 mtu {} up", wish.client_mtu));
        client.address(return_leg_v4(number), 16, "eth1");
        client.address(return_leg_v6(number), 64, "eth1");
        client.on_link(HOST_NET_V4, "eth1", wish.client_mtu);
        client.on_link(HOST_NET_V6, "eth1", wish.client_mtu);
    } else {
        client.route(HOST_NET_V4, gateway_v4(number));
        client.route(HOST_NET_V6, gateway_v6(number));
    }
    vip_routes(wish, client, gateway_v4(number).into(), gateway_v6(number).into());
}

fn vip_routes(wish: &Builder, client: &mut Node, via_v4: IpAddr, via_v6: IpAddr) {
    for &vip in &wish.vips {
        match wish.vip_routes {
            VipRoutes::ViaBalancer => {
                client.route(&host_prefix(vip), if vip.is_ipv4() { via_v4 } else { via_v6 });
            }
            VipRoutes::OnLink => client.on_link(&host_prefix(vip), "eth0", wish.client_mtu),
        }
    }
}

/// A host takes frames as long as the balancer's, which may be encapsulated, and sends none longer than a client takes.
fn host_node(plan: &mut Plan, wish: &Builder, number: usize, name: &str, host: &mut Node, switch: &mut Node) {
    let port = plug(plan, wish, host, "eth0", switch, name, wish.backend_mtu);
    if wish.xdp_on_hosts {
        switch.checksum_in_software.push(port.clone());
        switch.pass_program.push(port);
    }
    host.ip.push(format!("link set eth0 mtu {} up", wish.backend_mtu));
    host.address(host_v4(number), 16, "eth0");
    host.address(host_v6(number), 64, "eth0");
    host.on_link(HOST_NET_V4, "eth0", wish.client_mtu);
    host.on_link(HOST_NET_V6, "eth0", wish.client_mtu);
    if !wish.vips_on_hosts {
        host.route_at_most("default", BALANCER_V4, wish.client_mtu);
        host.route_at_most("default", BALANCER_V6, wish.client_mtu);
        return;
    }
    carry_vips(wish, host);
    if wish.layout == Layout::Routed {
        for client in 0..wish.clients {
            let (via_v4, via_v6) = match wish.replies {
                Replies::Direct => (return_leg_v4(client), return_leg_v6(client)),
                Replies::ThroughBalancer => (BALANCER_V4, BALANCER_V6),
            };
            host.route_at_most(&client_net_v4(client), via_v4, wish.client_mtu);
            host.route_at_most(&client_net_v6(client), via_v6, wish.client_mtu);
        }
    }
}

fn carry_vips(wish: &Builder, host: &mut Node) {
    for &vip in &wish.vips {
        let nodad = if vip.is_ipv6() { " nodad" } else { "" };
        host.ip.push(format!("addr add {} dev lo{nodad}", host_prefix(vip)));
    }
}
