//! Hosts and a client around the machine itself, which is the balancer: its `eth0` is one of the switch's ports.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, EchoServer, UdpEchoServer, UdpFlows, UdpFlowsOptions,
};

/// Of both services.
pub const PORT: u16 = 7;
const FLOWS: usize = 100;
const CONNECTIONS: usize = 100;

pub struct Site {
    topology: Topology,
    _tcp: Vec<EchoServer>,
    _udp: Vec<UdpEchoServer>,
}

impl Site {
    pub fn build() -> Site {
        let topology = Topology::builder().hosts(2).build().unwrap();
        let vip = SocketAddr::new(topology.vip4().into(), PORT);
        let hosts = topology.hosts();
        let tcp = hosts.iter().map(|host| EchoServer::start(&host.ns, &host.name, &[vip], 1).unwrap());
        let tcp = tcp.collect();
        let udp = hosts.iter().map(|host| UdpEchoServer::start(&host.ns, &host.name, &[vip]).unwrap());
        let udp = udp.collect();
        let site = Site { topology, _tcp: tcp, _udp: udp };
        site.move_here();
        site
    }

    /// The balancer of a topology is a namespace; its interface comes to this machine's first process, with its addresses.
    fn move_here(&self) {
        let balancer = self.topology.balancer();
        let address = balancer.ipv4[0];
        balancer.ns.shell("ip link set eth0 netns 1").unwrap();
        let here = sluice_tests::topology::Namespace::current().unwrap();
        here.shell(&format!("ip link set eth0 up && ip address add {address}/16 dev eth0")).unwrap();
    }

    pub fn vip(&self) -> IpAddr {
        self.topology.vip4().into()
    }

    pub fn host(&self, number: usize) -> IpAddr {
        self.topology.host(number).ipv4[0].into()
    }

    pub fn start_traffic(&self) -> Traffic {
        let ns = &self.topology.client().ns;
        let target = SocketAddr::new(self.vip(), PORT);
        let options = UdpFlowsOptions {
            flows: FLOWS,
            interval: Duration::from_millis(20),
            patience: LIMIT / 2,
            ..UdpFlowsOptions::new(target)
        };
        let udp = UdpFlows::start(ns, &options).unwrap();
        let options = ConnectionsOptions {
            connections: CONNECTIONS,
            interval: Duration::from_millis(100),
            patience: LIMIT / 2,
            ..ConnectionsOptions::new(target)
        };
        let tcp = Connections::start(ns, &options).unwrap();
        let traffic = Traffic { udp, tcp, began: Instant::now() };
        let all = CONNECTIONS as u64;
        assert!(traffic.tcp.wait_for(LIMIT, |counts| counts.opened == all), "{:?}", traffic.tcp.counts());
        assert!(traffic.udp.wait_for(LIMIT, |counts| counts.answered > 1000), "{:?}", traffic.udp.counts());
        traffic
    }
}

/// Datagrams with numbers, and connections whose every byte comes back.
pub struct Traffic {
    udp: UdpFlows,
    tcp: Connections,
    began: Instant,
}

impl Traffic {
    /// Goes on for a while more.
    pub fn goes_on(&self) {
        let (udp, tcp) = (self.udp.counts().answered + 2000, self.tcp.counts().echoed + 500);
        assert!(self.udp.wait_for(LIMIT, |counts| counts.answered >= udp), "{:?}", self.udp.counts());
        assert!(self.tcp.wait_for(LIMIT, |counts| counts.echoed >= tcp), "{:?}", self.tcp.counts());
    }

    /// Whether a host has answered any of it; hosts are `h1` and `h2` here.
    pub fn reached(&self, host: &str) -> bool {
        self.udp.counts().hosts.contains_key(host) || self.tcp.counts().hosts.contains_key(host)
    }

    /// Ends it; nothing may be missing, and no flow may have changed its host.
    pub fn finish(self, what: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let (udp, tcp) = (self.udp.finish().unwrap(), self.tcp.finish().unwrap());
        println!(
            "==> {what}: {} datagrams in {seconds:.1} s, {} lost, {} from another host; {} connections, {} broken, {} messages, {} missing",
            udp.sent, udp.lost, udp.moved, tcp.opened, tcp.broken, tcp.sent, tcp.missing
        );
        assert_eq!((udp.lost, udp.moved, udp.garbled, udp.errors), (0, 0, 0, 0), "{what}: {udp:?}");
        assert_eq!(udp.sent, udp.answered, "{what}: {udp:?}");
        assert_eq!((tcp.broken, tcp.missing, tcp.renamed, tcp.missequenced), (0, 0, 0, 0), "{what}: {tcp:?}");
        assert_eq!(tcp.finished, CONNECTIONS as u64, "{what}: {tcp:?}");
    }
}
