//! Outer headers of either family around packets of either family: what a host without addresses of the VIP's family takes, and
//! what changes for flows that live when the family does.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use sluice_tests::LIMIT;
use sluice_tests::servers::BIG_FILE_BYTES;
use sluice_tests::site::{ECHO, Plan, Site, WEB, config};
use sluice_tests::topology::{Layout, Namespace, Topology};
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, Requests, RequestsOptions, UdpFlows, UdpFlowsOptions,
};

/// IP versions: the outer header's, and that of the packet inside.
type Pair = (u8, u8);

/// The VIPs' packets each in the other family.
const CROSSED: [Option<&str>; 2] = [Some("ipv6"), Some("ipv4")];

/// Hears all frames of a namespace.
struct Tap(OwnedFd);

impl Tap {
    fn open(ns: &Namespace) -> Tap {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap()
        };
        let socket = ns.enter(open).unwrap();
        setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).unwrap();
        Tap(socket)
    }

    /// Which tunnels there were since the last call; of a great many frames the first tell.
    fn pairs(&self) -> BTreeSet<Pair> {
        let mut pairs = BTreeSet::new();
        let mut frame = [0; 128];
        loop {
            match recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Err(Errno::EAGAIN) => return pairs,
                received => pairs.extend(pair(&frame[..received.unwrap()])),
            }
        }
    }
}

/// The tunnel that a frame is in.
fn pair(frame: &[u8]) -> Option<Pair> {
    const IPV4: u8 = 4;
    const IPV6: u8 = 41;
    const UDP: u8 = 17;
    const GUE: [u8; 2] = 6080u16.to_be_bytes();
    let ip = frame.get(14..)?;
    let (outer, protocol, payload) = match frame[12..14] {
        [0x08, 0x00] => (4, *ip.get(9)?, ip.get(20..)?),
        [0x86, 0xdd] => (6, *ip.get(6)?, ip.get(40..)?),
        _ => return None,
    };
    let inner = match protocol {
        IPV4 | IPV6 => payload,
        UDP if payload.get(2..4)? == GUE => payload.get(12..)?,
        _ => return None,
    };
    let inner = inner.first()? >> 4;
    // The number before the inner packet must be its own.
    assert!(protocol == UDP || protocol == if inner == 4 { IPV4 } else { IPV6 }, "{frame:02x?}");
    Some((outer, inner))
}

/// Small and big answers, connections and datagrams, none of which may be lost; the hosts that had connections.
fn talk(site: &Site, vip: IpAddr) -> BTreeSet<String> {
    let client = &site.topology.client().ns;
    let options = RequestsOptions { count: 100, rate: 0, ..RequestsOptions::new(SocketAddr::new(vip, WEB)) };
    let small = Requests::start(client, &options).unwrap();
    let big = RequestsOptions { path: "/big".into(), count: 4, ..options };
    let big = Requests::start(client, &big).unwrap();
    for (run, count) in [(small, 100), (big, 4)] {
        assert!(run.wait_for(LIMIT, |counts| counts.ok == count), "{vip}: {:?}", run.counts());
        assert!(run.log().iter().all(|request| [3, BIG_FILE_BYTES as u64].contains(&request.bytes)));
        run.finish().unwrap();
    }
    let interval = Duration::from_millis(50);
    let target = SocketAddr::new(vip, ECHO);
    let tcp = ConnectionsOptions {
        connections: 60,
        interval,
        message_bytes: 8000,
        ..ConnectionsOptions::new(target)
    };
    let udp = UdpFlowsOptions { flows: 60, interval, payload_bytes: 1400, ..UdpFlowsOptions::new(target) };
    let tcp = Connections::start(client, &tcp).unwrap();
    let udp = UdpFlows::start(client, &udp).unwrap();
    assert!(tcp.wait_for(LIMIT, |counts| counts.echoed > 600), "{vip}: {:?}", tcp.counts());
    assert!(udp.wait_for(LIMIT, |counts| counts.answered > 600), "{vip}: {:?}", udp.counts());
    let (tcp, udp) = (tcp.finish().unwrap(), site.finish_udp(udp));
    assert_eq!((tcp.finished, tcp.broken, tcp.missing), (60, 0, 0), "{vip}: {tcp:?}");
    assert!(udp.lost * 50 < udp.sent && udp.moved == 0, "{vip}: {udp:?}");
    tcp.hosts.into_keys().collect()
}

/// Flows begin in outer headers of the VIP's family, and go on in those of the other.
fn every_pair(layout: Layout, forward: &'static str) {
    let straight = Plan::new(forward, 2);
    let mut site = Site::start(Topology::builder().layout(layout), &straight).unwrap();
    let tap = Tap::open(site.topology.switch());
    let both = BTreeSet::from(["h1".to_owned(), "h2".to_owned()]);
    for (vip, pair) in site.vips().into_iter().zip([(4, 4), (6, 6)]) {
        assert_eq!(talk(&site, vip), both);
        assert_eq!(tap.pairs(), [pair].into());
    }

    let interval = Duration::from_millis(50);
    let living = site.vips().map(|vip| {
        let target = SocketAddr::new(vip, ECHO);
        let options = ConnectionsOptions { connections: 60, interval, ..ConnectionsOptions::new(target) };
        let run = Connections::start(&site.topology.client().ns, &options).unwrap();
        assert!(run.wait_opened(60, LIMIT), "{:?}", run.counts());
        run
    });
    site.daemon.terminate().unwrap();
    let crossed = Plan { outer: CROSSED, ..straight };
    site.daemon.write_config(&config(&site.topology, &crossed)).unwrap();
    site.daemon.start_again().unwrap();
    // What was on its way is.
    std::thread::sleep(Duration::from_millis(500));
    tap.pairs();
    for (run, vip) in living.iter().zip(site.vips()) {
        let before = run.counts().echoed;
        assert!(run.wait_for(LIMIT, |counts| counts.echoed > before + 600), "{vip}: {:?}", run.counts());
    }
    for (run, vip) in living.into_iter().zip(site.vips()) {
        let counts = run.finish().unwrap();
        assert_eq!((counts.finished, counts.broken, counts.missing), (60, 0, 0), "{vip}: {counts:?}");
    }
    assert_eq!(tap.pairs(), [(6, 4), (4, 6)].into());
    for (vip, pair) in site.vips().into_iter().zip([(6, 4), (4, 6)]) {
        assert_eq!(talk(&site, vip), both);
        assert_eq!(tap.pairs(), [pair].into());
    }
    assert_eq!(site.violations().unwrap(), "{}");
}

#[test]
fn every_pair_of_families_is_carried_by_ipip() {
    every_pair(Layout::Flat, "ipip");
}

#[test]
fn every_pair_of_families_is_carried_by_ipip_to_hosts_on_the_other_side() {
    every_pair(Layout::Routed, "ipip");
}

#[test]
fn every_pair_of_families_is_carried_by_gue() {
    every_pair(Layout::Flat, "gue");
}

#[test]
fn every_pair_of_families_is_carried_by_gue_to_hosts_on_the_other_side() {
    every_pair(Layout::Routed, "gue");
}

/// Without a word about it.
#[test]
fn hosts_are_reached_by_the_addresses_that_they_have() {
    let plan = Plan::new("ipip", 3);
    let mut site = Site::start(Topology::builder(), &plan).unwrap();
    let [v4, v6] = [1, 2].map(|host| site.topology.host(host)).map(|node| (node.ipv4[0], node.ipv6[0]));
    let config = config(&site.topology, &plan)
        .replace(&format!("\"{}\", \"{}\"", v4.0, v4.1), &format!("\"{}\"", v4.0))
        .replace(&format!("\"{}\", \"{}\"", v6.0, v6.1), &format!("\"{}\"", v6.1));
    site.daemon.terminate().unwrap();
    site.daemon.write_config(&config).unwrap();
    site.daemon.start_again().unwrap();
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let addresses = |service: usize| {
        let backends = status["services"][service]["backends"].as_array().unwrap().clone();
        backends.into_iter().map(|backend| backend["address"].as_str().unwrap().parse::<IpAddr>().unwrap())
    };
    let h3 = site.topology.host(3);
    let shared = [IpAddr::from(v4.0), v6.1.into()];
    assert!(addresses(0).eq(shared.into_iter().chain([h3.ipv4[0].into()])), "{status}");
    assert!(addresses(3).eq(shared.into_iter().chain([h3.ipv6[0].into()])), "{status}");
    let tap = Tap::open(site.topology.switch());
    for (vip, pairs) in site.vips().into_iter().zip([[(4, 4), (6, 4)], [(6, 6), (4, 6)]]) {
        assert_eq!(talk(&site, vip), ["h1", "h2", "h3"].map(str::to_owned).into());
        assert_eq!(tap.pairs(), pairs.into());
    }
    assert_eq!(site.violations().unwrap(), "{}");
}
