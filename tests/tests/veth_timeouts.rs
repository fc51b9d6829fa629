//! The daemon comes back with other timeouts: a connection goes by those that it was last seen under until it speaks again, and
//! nothing breaks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice_tests::LIMIT;
use sluice_tests::site::{ECHO, Plan, Site, config};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{Connections, ConnectionsOptions, UdpFlows, UdpFlowsOptions};

const CONNECTIONS: u64 = 60;
/// A connection is silent for so long between two messages.
const SILENT: Duration = Duration::from_secs(30);
/// Idle timeouts of established connections, seconds: one that outlasts the silence, and one that does not.
const LONG: u32 = 45;
const SHORT: u32 = 5;
/// When a pin that the shorter timeout ends has been swept, with time to spare; the silence goes on.
const SWEPT: Duration = Duration::from_secs(12);

struct Run {
    site: Site,
    plan: Plan,
    tcp: Connections,
    /// When all had spoken last.
    spoke: Instant,
}

impl Run {
    /// Starts the daemon again with this timeout.
    fn restart(&mut self, established: u32) {
        self.plan.timeouts[1] = established;
        self.site.daemon.write_config(&config(&self.site.topology, &self.plan)).unwrap();
        assert!(self.site.daemon.terminate().unwrap().success());
        self.site.daemon.start_again().unwrap();
    }

    /// Waits until each connection has spoken `times`, and has its answer.
    fn speak(&mut self, times: u64) {
        let all = |sent: u64| sent >= times * CONNECTIONS;
        assert!(self.tcp.wait_for(LIMIT, |counts| all(counts.echoed)), "{:?}", self.tcp.counts());
        self.spoke = Instant::now();
    }

    /// Lets so much of the silence pass.
    fn be_silent(&self, time: Duration) {
        std::thread::sleep(time.saturating_sub(self.spoke.elapsed()));
    }

    /// Established connections that the balancer knows, of both hosts.
    fn live(&self) -> [u64; 2] {
        let status = self.site.daemon.cli_json(&["status", "--json"]).unwrap();
        [0, 1].map(|host| status["hosts"][host]["live_flows"]["established"].as_u64().unwrap())
    }

    /// Connections by host, as their clients know.
    fn open(&self) -> [u64; 2] {
        let counts = self.tcp.counts();
        ["h1", "h2"].map(|host| counts.hosts.get(host).map_or(0, |host| host.open))
    }
}

#[test]
fn connections_go_by_the_timeouts_that_they_were_last_seen_under() {
    let plan = Plan { timeouts: [4, LONG, 2, 6], ..Plan::new("l2", 2) };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let client = site.topology.client().ns.clone();
    let [v4, v6] = site.vips().map(|vip| SocketAddr::new(vip, ECHO));
    let interval = Duration::from_millis(200);
    let udp = UdpFlows::start(&client, &UdpFlowsOptions { flows: 40, interval, ..UdpFlowsOptions::new(v6) });
    let udp = udp.unwrap();
    let options = ConnectionsOptions {
        connections: CONNECTIONS as usize,
        interval: SILENT,
        in_chorus: true,
        ..ConnectionsOptions::new(v4)
    };
    let tcp = Connections::start(&client, &options).unwrap();
    let mut run = Run { site, plan, tcp, spoke: Instant::now() };
    run.speak(1);
    let open = run.open();
    assert!(open.iter().all(|&open| open > 10), "{open:?}");

    // Shorter: pins from before last as long as they were to. The drain makes them all that keeps their connections at the host.
    run.restart(SHORT);
    run.site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    run.be_silent(SWEPT);
    assert_eq!(run.live(), open);
    run.speak(2);
    assert_eq!(run.open(), open);
    run.site.daemon.cli_ok(&["undrain", "h1"]).unwrap();
    // Since they have spoken, they go by the timeouts of now.
    run.be_silent(SWEPT);
    assert_eq!(run.live(), [0, 0]);

    // They speak, and are known again; longer: but not those that are silent since before.
    run.speak(3);
    assert_eq!(run.live(), open);
    run.restart(LONG);
    run.be_silent(SWEPT);
    assert_eq!(run.live(), [0, 0]);
    run.speak(4);
    run.be_silent(SWEPT);
    assert_eq!(run.live(), open);

    let counts = run.tcp.finish().unwrap();
    assert_eq!((counts.broken, counts.missing, counts.renamed), (0, 0, 0), "{counts:?}");
    let counts = run.site.finish_udp(udp);
    assert_eq!(counts.moved, 0, "{counts:?}");
    assert_eq!(run.site.violations().unwrap(), "{}");
}
