//! Real connections through the site, long and short, TCP and UDP, none of which may break.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Site, WEB};
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, Requests, RequestsOptions, UdpFlows, UdpFlowsOptions,
};

pub struct Load {
    tcp: Connections,
    udp: Option<UdpFlows>,
    web: Requests,
}

impl Load {
    /// So many long connections, half as many UDP flows, and 100 requests a second.
    pub fn start(site: &Site, connections: u64) -> Self {
        let (client, vip) = (site.topology.client().ns.clone(), site.vips()[0]);
        let interval = Duration::from_millis(200);
        let connections = connections as usize;
        let options = ConnectionsOptions {
            connections,
            interval,
            ..ConnectionsOptions::new(SocketAddr::new(vip, ECHO))
        };
        let tcp = Connections::start(&client, &options).unwrap();
        let options = UdpFlowsOptions {
            flows: connections / 2,
            interval,
            ..UdpFlowsOptions::new(SocketAddr::new(vip, ECHO))
        };
        let udp = UdpFlows::start(&client, &options).unwrap();
        let options = RequestsOptions { rate: 100, ..RequestsOptions::new(SocketAddr::new(vip, WEB)) };
        let web = Requests::start(&client, &options).unwrap();
        assert!(tcp.wait_opened(connections as u64, LIMIT), "{:?}", tcp.counts());
        std::thread::sleep(Duration::from_secs(2));
        Load { tcp, udp: Some(udp), web }
    }

    pub fn assert_whole(&self) {
        let counts = self.tcp.counts();
        assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
        let web = self.web.counts();
        assert_eq!(web.failed, 0, "{web:?}");
    }

    /// Connections and requests that a host got since then.
    pub fn new_on(&self, host: &str, since: Instant) -> u64 {
        let requests = self.web.answered_since(since).get(host).copied().unwrap_or(0);
        self.tcp.opened_since(since).get(host).copied().unwrap_or(0) + requests
    }

    pub fn open_on(&self, host: &str) -> u64 {
        self.tcp.counts().hosts.get(host).map_or(0, |host| host.open)
    }

    /// The clients of a host's connections close them, and its UDP flows end with all others.
    pub fn close_on(&mut self, site: &Site, host: &str) {
        self.tcp.close(1.0, Some(host));
        self.end_udp(site);
    }

    fn end_udp(&mut self, site: &Site) {
        let Some(udp) = self.udp.take() else { return };
        let counts = site.finish_udp(udp);
        assert_eq!((counts.moved, counts.garbled), (0, 0), "{counts:?}");
    }

    /// To its end, with nothing broken, lost or garbled.
    pub fn finish(mut self, site: &Site) {
        self.end_udp(site);
        let counts = self.tcp.finish().unwrap();
        assert_eq!((counts.broken, counts.missing), (0, 0), "{counts:?}");
        let counts = self.web.finish().unwrap();
        assert_eq!(counts.failed, 0, "{counts:?}");
    }
}
