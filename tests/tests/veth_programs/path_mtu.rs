//! A client behind a narrow link: what its router says to the VIP about large answers reaches the host that sent them.

use std::net::IpAddr;

use sluice_tests::servers::{BIG_FILE_BYTES, pattern};
use sluice_tests::site::Site;
use sluice_tests::topology::Namespace;

use crate::site::{bracketed, finish, folder, in_each_mode, plan, start};

/// Bytes of the longest packet on the link.
const NARROW: &str = "1300";
/// The network behind the client, which is a router now.
const ROUTER: [&str; 2] = ["10.99.0.1", "fd99::1"];
const FAR: [&str; 2] = ["10.99.0.2", "fd99::2"];

/// Puts a namespace behind the client by a link that is narrow on its way out. The far end knows nothing of that, so what it
/// announces to hosts does not keep them from sending more than fits.
fn behind_the_client(site: &Site) -> Namespace {
    let topology = &site.topology;
    let (router, name) = (&topology.client().ns, format!("{}-far", topology.prefix()));
    router.shell(&format!("ip netns add {name}")).unwrap();
    let far = Namespace::open(&name, topology.prefix()).unwrap();
    router
        .shell(&format!(
            "ip link add name far mtu {NARROW} type veth peer name eth0 netns {name}; ip link set far up
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             ip addr add {}/24 dev far; ip -6 addr add {}/64 dev far nodad",
            ROUTER[0], ROUTER[1]
        ))
        .unwrap();
    far.shell(&format!(
        "sysctl -qw net.ipv4.tcp_congestion_control=reno net.ipv6.conf.eth0.accept_dad=0
         ip link set lo up; ip link set eth0 up mtu 1500
         ip addr add {}/24 dev eth0; ip -6 addr add {}/64 dev eth0 nodad
         ip route add default via {}; ip -6 route add default via {}",
        FAR[0], FAR[1], ROUTER[0], ROUTER[1]
    ))
    .unwrap();
    // Hosts answer by the way that they take to the client itself, or by their default gateway, which then takes it.
    let client = topology.client();
    let asked: [IpAddr; 2] = [client.ipv4[0].into(), client.ipv6[0].into()];
    let balancer = [topology.balancer()];
    for node in topology.hosts().iter().chain(balancer) {
        for (client, network) in asked.iter().zip(["10.99.0.0/24", "fd99::/64"]) {
            let way = node.ns.shell(&format!("ip route get {client}")).unwrap();
            let words: Vec<&str> = way.split_whitespace().collect();
            let after = |word| words.iter().position(|found| *found == word).map(|at| words[at + 1]);
            let via = after("via").map_or_else(|| client.to_string(), str::to_owned);
            node.ns.shell(&format!("ip route add {network} via {via} mtu 1500")).unwrap();
        }
    }
    far
}

fn a_narrow_link_beyond_the_client(forward: &'static str) {
    let site = start(&plan(forward));
    let far = behind_the_client(&site);
    let files = folder(&site, "mtu");
    let body = files.path().join("body");
    for (vip, far_address) in site.vips().into_iter().zip(FAR) {
        // As often as it takes for each host.
        let mut told = String::new();
        for _ in 0..6 {
            let line = format!(
                "curl -sSf -m 60 -o {} -w '%header{{x-host}} ' http://{}/big",
                body.display(),
                bracketed(vip)
            );
            told += &far.shell(&line).unwrap();
            assert!(std::fs::read(&body).unwrap() == pattern(BIG_FILE_BYTES), "{vip}");
        }
        for host in site.topology.hosts().iter().filter(|host| told.contains(&host.name)) {
            let way = host.ns.shell(&format!("ip route get {far_address}")).unwrap();
            assert!(way.contains(&format!("mtu {NARROW}")), "{}: {way}", host.name);
        }
    }
    let reasons = site.reasons().unwrap();
    assert!(reasons["forward_icmp"] >= 2, "{reasons:?}");
    drop(files);
    finish(site, &[]);
}

in_each_mode!(a_narrow_link_beyond_the_client);
