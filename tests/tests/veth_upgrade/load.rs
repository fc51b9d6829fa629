//! What the clients do meanwhile.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Site, WEB};
use sluice_tests::topology::Losses;
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, Requests, RequestsOptions, UdpFlows, UdpFlowsOptions,
};

/// Longer than twenty rounds of everything take on the slowest machine.
const MOST: Duration = Duration::from_secs(3600);
/// Datagrams a second that the test is worth nothing without: a fifth of what is wished for, which a busy machine still has.
const LEAST_RATE: f64 = 2000.0;

/// Long connections, ten thousand numbered datagrams a second, and flows that begin all the time.
pub struct Load {
    long: Connections,
    short: Connections,
    udp: UdpFlows,
    udp_began: Instant,
    /// What the machine had dropped before.
    dropped: Losses,
    web: Requests,
}

impl Load {
    pub fn start(site: &Site) -> Load {
        let client = &site.topology.client().ns;
        let [v4, v6] = site.vips();
        let options = ConnectionsOptions {
            connections: 1000,
            interval: Duration::from_secs(1),
            patience: Duration::from_secs(20),
            limit: MOST,
            ..ConnectionsOptions::new(SocketAddr::new(v4, ECHO))
        };
        let long = Connections::start(client, &options).unwrap();
        assert!(long.wait_opened(1000, LIMIT), "{:?}", long.counts());
        let options = ConnectionsOptions {
            connections: 200,
            interval: Duration::from_millis(50),
            lifetime: Some(Duration::from_millis(200)..Duration::from_secs(2)),
            replace: true,
            patience: Duration::from_secs(20),
            limit: MOST,
            ..ConnectionsOptions::new(SocketAddr::new(v6, ECHO))
        };
        let short = Connections::start(client, &options).unwrap();
        let options = UdpFlowsOptions {
            flows: 200,
            interval: Duration::from_millis(20),
            patience: Duration::from_secs(4),
            limit: MOST,
            ..UdpFlowsOptions::new(SocketAddr::new(v4, ECHO))
        };
        let dropped = site.topology.losses().unwrap();
        let udp_began = Instant::now();
        let udp = UdpFlows::start(client, &options).unwrap();
        let options =
            RequestsOptions { rate: 100, limit: MOST, ..RequestsOptions::new(SocketAddr::new(v4, WEB)) };
        let web = Requests::start(client, &options).unwrap();
        Load { long, short, udp, udp_began, dropped, web }
    }

    /// Nothing is broken so far.
    pub fn check(&self, site: &Site, after: &str) {
        std::thread::sleep(Duration::from_secs(1));
        for counts in [self.long.counts(), self.short.counts()] {
            assert_eq!(
                (counts.broken, counts.missequenced, counts.renamed),
                (0, 0, 0),
                "{after}: {counts:?}"
            );
        }
        let counts = self.udp.counts();
        assert_eq!((counts.moved, counts.garbled), (0, 0), "{after}: {counts:?}");
        self.none_is_lost(site, counts.lost, after);
    }

    /// But those that a busy machine's rings and buffers had no room for, which they count.
    fn none_is_lost(&self, site: &Site, lost: u64, after: &str) {
        let dropped = site.topology.losses().unwrap().since(&self.dropped);
        assert!(
            lost <= dropped.total(),
            "{after}: {lost} datagrams are lost, and these dropped: {dropped:?}"
        );
        if lost > 0 {
            println!("{after}: {lost} datagrams are lost, and these dropped: {dropped:?}");
        }
    }

    /// Ends it all. `drained` is since when h3 gets no new flows.
    pub fn end(self, site: &Site, drained: Instant) {
        assert_eq!(self.short.opened_since(drained).get("h3"), None);
        assert_eq!(self.web.answered_since(drained).get("h3"), None);
        let (sent, seconds) = (self.udp.counts().sent, self.udp_began.elapsed().as_secs_f64());
        let rate = sent as f64 / seconds;
        println!("{sent} datagrams in {seconds:.0} s, {rate:.0} a second");
        assert!(rate >= LEAST_RATE, "{rate:.0} datagrams a second");
        self.udp.begin_to_finish();
        assert!(self.udp.wait_for(LIMIT, |_| self.udp.is_done()));
        let udp = self.udp.counts();
        assert_eq!((udp.moved, udp.garbled, udp.errors), (0, 0, 0), "{udp:?}");
        self.none_is_lost(site, udp.lost, "at the end");
        let web = self.web.finish().unwrap();
        assert_eq!(web.failed, 0, "{web:?}");
        for counts in [self.long.finish().unwrap(), self.short.finish().unwrap()] {
            println!("{} connections, {} messages", counts.opened, counts.sent);
            assert_eq!((counts.broken, counts.missing, counts.missequenced), (0, 0, 0), "{counts:?}");
        }
    }
}
