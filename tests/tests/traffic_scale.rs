//! More connections than a process may have open files (20 000 on many machines), from one process to one host.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, EchoServer};

const CONNECTIONS: usize = 30_000;

#[test]
fn tens_of_thousands_of_connections_lose_nothing() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let host = topology.host(1);
    let target = SocketAddr::new(host.ipv4[0].into(), 7);
    let server = EchoServer::start(&host.ns, &host.name, &[target], 4).unwrap();
    let options = ConnectionsOptions {
        connections: CONNECTIONS,
        open_rate: 10_000,
        interval: Duration::from_secs(5),
        sources: topology.client().ipv4.iter().map(|&address| IpAddr::from(address)).collect(),
        ..ConnectionsOptions::new(target)
    };
    let begin = Instant::now();
    let connections = Connections::start(&topology.client().ns, &options).unwrap();
    let limit = Duration::from_secs(60);
    assert!(connections.wait_opened(CONNECTIONS as u64, limit), "{:?}", connections.counts());
    println!("opened in {:?}", begin.elapsed());
    assert_eq!(server.counts().open, CONNECTIONS as u64);
    assert!(connections.wait_for(limit, |counts| counts.echoed > 2 * CONNECTIONS as u64));
    let counts = connections.finish().unwrap();
    println!("finished after {:?}", begin.elapsed());
    assert_eq!((counts.finished, counts.broken, counts.missing), (CONNECTIONS as u64, 0, 0), "{counts:?}");
    assert_eq!(server.counts().broken, 0);
}
