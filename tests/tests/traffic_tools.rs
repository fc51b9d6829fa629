//! The traffic tools, tried against a host's own address without a balancer: nothing may break, and what is broken on
//! purpose must be noticed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::servers::Nginx;
use sluice_tests::topology::{Node, Topology, leftovers_of};
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, EchoServer, Requests, RequestsOptions, UdpEchoServer, UdpFlows,
    UdpFlowsOptions, UdpHost,
};

fn addresses(host: &Node, port: u16) -> [SocketAddr; 2] {
    [SocketAddr::new(host.ipv4[0].into(), port), SocketAddr::new(host.ipv6[0].into(), port)]
}

fn echo_on_all(topology: &Topology) -> Vec<EchoServer> {
    let start = |host: &Node| EchoServer::start(&host.ns, &host.name, &addresses(host, 7), 2).unwrap();
    topology.hosts().iter().map(start).collect()
}

#[test]
fn long_connections_lose_nothing() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let servers = echo_on_all(&topology);
    for target in addresses(topology.host(1), 7) {
        let client = topology.client();
        let options = ConnectionsOptions {
            connections: 500,
            interval: Duration::from_millis(100),
            message_bytes: 3000,
            sources: if target.is_ipv4() {
                client.ipv4.iter().map(|&a| IpAddr::from(a)).collect()
            } else {
                client.ipv6.iter().map(|&a| IpAddr::from(a)).collect()
            },
            ..ConnectionsOptions::new(target)
        };
        let connections = Connections::start(&client.ns, &options).unwrap();
        assert!(connections.wait_opened(500, LIMIT), "{:?}", connections.counts());
        assert!(connections.wait_for(LIMIT, |counts| counts.echoed > 2000), "{:?}", connections.counts());
        connections.close(0.5, Some("h1"));
        connections.close(1.0, Some("h2"));
        assert!(connections.wait_for(LIMIT, |counts| counts.finished == 250), "{:?}", connections.counts());
        assert_eq!(connections.counts().open, 250);
        let counts = connections.finish().unwrap();
        assert_eq!((counts.attempted, counts.opened, counts.finished), (500, 500, 500), "{counts:?}");
        assert_eq!(
            (counts.broken, counts.abandoned, counts.missing, counts.open),
            (0, 0, 0, 0),
            "{counts:?}"
        );
        assert_eq!((counts.sent, counts.missequenced, counts.renamed), (counts.echoed, 0, 0), "{counts:?}");
        assert_eq!(counts.hosts["h1"].finished, 500);
    }
    let counts = servers[0].counts();
    assert_eq!((counts.accepted, counts.open, counts.broken, counts.turned_away), (1000, 0, 0, 0));
}

#[test]
fn connections_end_by_themselves_and_are_replaced() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let _servers = echo_on_all(&topology);
    let options = ConnectionsOptions {
        connections: 50,
        interval: Duration::from_millis(50),
        lifetime: Some(Duration::from_millis(100)..Duration::from_millis(300)),
        replace: true,
        limit: Duration::from_secs(2),
        ..ConnectionsOptions::new(addresses(topology.host(1), 7)[0])
    };
    let connections = Connections::start(&topology.client().ns, &options).unwrap();
    assert!(connections.wait_for(LIMIT, |counts| counts.opened > 100));
    let later = Instant::now();
    assert!(connections.wait_for(LIMIT, |counts| counts.opened > 200));
    assert!(connections.opened_since(later)["h1"] > 50);
    assert!(connections.opened_since(Instant::now()).is_empty());
    assert!(connections.wait_for(LIMIT, |_| connections.is_done()));
    let counts = connections.finish().unwrap();
    assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
    assert_eq!(counts.finished + counts.abandoned, counts.attempted, "{counts:?}");
}

#[test]
fn a_killed_server_is_noticed() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let mut servers = echo_on_all(&topology);
    let options = ConnectionsOptions {
        connections: 40,
        interval: Duration::from_millis(50),
        patience: Duration::from_secs(4),
        ..ConnectionsOptions::new(addresses(topology.host(1), 7)[0])
    };
    let killed = Connections::start(&topology.client().ns, &options).unwrap();
    let target = addresses(topology.host(2), 7)[0];
    let cut_off =
        Connections::start(&topology.client().ns, &ConnectionsOptions { target, ..options }).unwrap();
    for run in [&killed, &cut_off] {
        assert!(
            run.wait_for(LIMIT, |counts| counts.opened == 40 && counts.echoed > 100),
            "{:?}",
            run.counts()
        );
    }
    drop(servers.remove(0));
    topology.switch().shell("ip link set p-h2 down").unwrap();
    for run in [killed, cut_off] {
        assert!(run.wait_for(LIMIT, |counts| counts.broken == 40), "{:?}", run.counts());
        let counts = run.finish().unwrap();
        assert_eq!((counts.opened, counts.finished, counts.open), (40, 0, 0), "{counts:?}");
        assert_eq!(counts.sent, counts.echoed + counts.missing, "{counts:?}");
        assert_eq!(counts.reasons.values().sum::<u64>(), 40);
        println!("{:?}", counts.reasons);
    }
}

#[test]
fn datagrams_are_answered_and_their_loss_is_noticed() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let start = |host: &Node| UdpEchoServer::start(&host.ns, &host.name, &addresses(host, 7)).unwrap();
    let servers = topology.hosts().iter().map(start).collect::<Vec<_>>();
    for target in addresses(topology.host(1), 7) {
        let options = UdpFlowsOptions {
            flows: 300,
            interval: Duration::from_millis(100),
            ..UdpFlowsOptions::new(target)
        };
        let before = topology.losses().unwrap();
        let flows = UdpFlows::start(&topology.client().ns, &options).unwrap();
        let has_all =
            |hosts: &BTreeMap<String, UdpHost>| hosts.get("h1").is_some_and(|host| host.flows == 300);
        assert!(
            flows.wait_for(LIMIT, |counts| counts.answered > 1500 && has_all(&counts.hosts)),
            "{:?}",
            flows.counts()
        );
        let counts = flows.finish_unlost(&topology, &before);
        assert_eq!((counts.flows, counts.moved, counts.garbled), (300, 0, 0), "{counts:?}");
        assert_eq!(counts.sent, counts.answered + counts.lost, "{counts:?}");
        // None comes twice, but one that was given up may come yet.
        assert!(counts.superfluous <= counts.lost, "{counts:?}");
        assert_eq!(counts.hosts["h1"].flows, 300);
    }
    assert_eq!(servers[0].counts().received, servers[0].counts().answered);

    // The second host takes over the first one's address in the middle of all flows.
    let options = UdpFlowsOptions {
        flows: 20,
        interval: Duration::from_millis(50),
        patience: Duration::from_millis(300),
        ..UdpFlowsOptions::new(addresses(topology.host(1), 7)[0])
    };
    let flows = UdpFlows::start(&topology.client().ns, &options).unwrap();
    assert!(flows.wait_for(LIMIT, |counts| counts.hosts.get("h1").is_some_and(|host| host.flows == 20)));
    let address = topology.host(1).ipv4[0];
    topology.switch().shell("ip link set p-h1 down").unwrap();
    topology.host(2).ns.shell(&format!("ip addr add {address}/32 dev lo")).unwrap();
    let own = [SocketAddr::new(address.into(), 7)];
    let _usurper = UdpEchoServer::start(&topology.host(2).ns, "h2", &own).unwrap();
    topology
        .client()
        .ns
        .shell(&format!("ip route add {address}/32 via {}", topology.host(2).ipv4[0]))
        .unwrap();
    assert!(flows.wait_for(LIMIT, |counts| counts.moved > 100), "{:?}", flows.counts());
    let counts = flows.finish().unwrap();
    assert!(counts.lost > 0, "{counts:?}");
    assert_eq!(counts.sent, counts.answered + counts.lost, "{counts:?}");
}

#[test]
fn flows_fall_silent_and_are_replaced_by_others() {
    let topology = Topology::builder().hosts(1).build().unwrap();
    let host = topology.host(1);
    let _server = UdpEchoServer::start(&host.ns, &host.name, &addresses(host, 7)).unwrap();
    let options = UdpFlowsOptions {
        flows: 50,
        interval: Duration::from_millis(50),
        lifetime: Some(Duration::from_millis(100)..Duration::from_millis(300)),
        replace: true,
        ..UdpFlowsOptions::new(addresses(host, 7)[0])
    };
    let nothing = topology.losses().unwrap();
    let flows = UdpFlows::start(&topology.client().ns, &options).unwrap();
    assert!(flows.wait_for(LIMIT, |counts| counts.ended > 100), "{:?}", flows.counts());
    let (later, before) = (Instant::now(), flows.counts());
    assert!(flows.wait_for(LIMIT, |counts| counts.ended > before.ended + 100), "{:?}", flows.counts());
    // Flows end by their time, also those whose answers are late.
    assert!(
        flows.wait_for(LIMIT, |_| flows.opened_since(later).get("h1").is_some_and(|opened| *opened > 50))
    );
    let counts = flows.finish_unlost(&topology, &nothing);
    assert_eq!((counts.moved, counts.garbled), (0, 0), "{counts:?}");
    assert!(counts.superfluous <= counts.lost, "{counts:?}");
    assert!((counts.ended..=counts.ended + 50).contains(&counts.flows), "{counts:?}");

    let once = UdpFlowsOptions { replace: false, ..options };
    let flows = UdpFlows::start(&topology.client().ns, &once).unwrap();
    assert!(flows.wait_for(LIMIT, |counts| counts.ended == 50), "{:?}", flows.counts());
    let sent = flows.counts().sent;
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((flows.counts().sent, flows.counts().flows), (sent, 50), "silent flows say nothing");
}

#[test]
fn requests_tell_hosts_and_failures() {
    let topology = Topology::builder().hosts(2).build().unwrap();
    let prefix = topology.prefix().to_owned();
    let nginx = Nginx::start_on_all(&topology).unwrap();
    let target = addresses(topology.host(2), 80)[1];
    let options = RequestsOptions { rate: 500, count: 400, ..RequestsOptions::new(target) };
    let requests = Requests::start(&topology.client().ns, &options).unwrap();
    assert!(requests.wait_for(LIMIT, |counts| counts.ok > 100));
    let later = Instant::now();
    assert!(requests.wait_for(LIMIT, |_| requests.is_done()));
    let after = requests.answered_since(later)["h2"];
    assert!((1..=299).contains(&after), "{after}");
    let counts = requests.finish().unwrap();
    assert_eq!((counts.begun, counts.ok, counts.failed), (400, 400, 0), "{counts:?}");
    assert_eq!(counts.hosts["h2"], 400);

    let big = RequestsOptions {
        path: "/big".into(),
        rate: 0,
        count: 8,
        concurrency: 4,
        ..RequestsOptions::new(target)
    };
    let counts = Requests::start(&topology.client().ns, &big).unwrap();
    assert!(counts.wait_for(LIMIT, |counts| counts.ok == 8), "{:?}", counts.counts());
    assert_eq!(counts.finish().unwrap().hosts["h2"], 8);

    drop(nginx);
    let requests = Requests::start(&topology.client().ns, &RequestsOptions { count: 10, ..options }).unwrap();
    assert!(requests.wait_for(LIMIT, |counts| counts.failed == 10));
    assert_eq!(requests.finish().unwrap().reasons["connection refused"], 10);
    drop(topology);
    assert_eq!(leftovers_of(&prefix), [""; 0]);
}
