//! Datagrams that do not fit a packet: they reach a host whole, and so do its answers the client.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Site};

use crate::site::counted;

/// Sockets for each size.
const FLOWS: usize = 12;
/// The last one is the largest that, with the host's name before it, fits UDP over IPv4.
const SIZES: [usize; 5] = [1000, 1473, 6000, 30_000, 65_504];

/// Sends a datagram of each size from each of some sockets, and returns the names of the hosts that sent it back.
fn echo_all(vip: IpAddr) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    let any: IpAddr = if vip.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    for flow in 0..FLOWS {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).unwrap();
        socket.connect(SocketAddr::new(vip, ECHO)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut names = BTreeSet::new();
        for size in SIZES {
            let sent: Vec<u8> =
                (0..size).map(|position| (position * 7 + position / 256 + flow) as u8).collect();
            socket.send(&sent).unwrap();
            let mut answer = vec![0; 65_536];
            let length =
                socket.recv(&mut answer).unwrap_or_else(|error| panic!("{vip}, {size} bytes: {error}"));
            let (name, body) = answer[..length].split_at(3);
            assert!(body == sent, "{vip}: {} of {size} bytes came back, or others", body.len());
            names.insert(String::from_utf8_lossy(name).trim().to_owned());
        }
        assert_eq!(names.len(), 1, "{vip}: one flow, one host");
        hosts.append(&mut names);
    }
    hosts
}

/// Large datagrams arrive whole in both directions.
pub fn exchange(site: &Site) {
    for vip in site.vips() {
        let hosts = site.topology.client().ns.enter(|| echo_all(vip)).unwrap();
        assert_eq!(
            hosts,
            ["h1", "h2"].map(str::to_owned).into(),
            "{vip}: both hosts have some of {FLOWS} flows"
        );
    }
}

/// The same over links of 1500 bytes.
pub fn exchange_in_pieces(site: &Site) {
    let before = counted(site, "forward_fragment");
    exchange(site);
    // Each of them but the first is in 2, 5, 21 and 45 pieces at least.
    let pieces = counted(site, "forward_fragment") - before;
    assert!(pieces > (FLOWS * (1 + 4 + 20 + 44)) as u64, "{pieces}");
}
