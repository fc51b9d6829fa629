//! Flows of datagrams whose host drains, by what their service wants of a handover, and at a deadline that moves.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sluice_tests::site::{Extra, Plan, Site};
use sluice_tests::topology::Topology;
use sluice_tests::traffic::{UdpEchoServer, UdpFlows, UdpFlowsOptions};

use super::tools::{LIMIT, drained, echoes, ends_well, reason, speak};

const ECHO: u16 = sluice_tests::site::ECHO;
/// Flows to each VIP.
const FLOWS: usize = 16;

/// One flow of datagrams.
struct Flow {
    socket: UdpSocket,
    host: String,
}

impl Flow {
    fn open(to: SocketAddr) -> Flow {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.connect(to).unwrap();
        let mut flow = Flow { socket, host: String::new() };
        flow.host = flow.ask();
        flow
    }

    /// The host that answers.
    fn ask(&mut self) -> String {
        let mut answer = [0; 16];
        self.socket.send(b"?").unwrap();
        let len = self.socket.recv(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
        answer.strip_suffix("\n?").unwrap().to_owned()
    }

    fn stays(&mut self) -> bool {
        self.ask() == self.host
    }
}

fn flows(site: &Site, port: u16) -> Vec<Flow> {
    let vips = site.vips();
    let targets = vips.into_iter().flat_map(|vip| (0..FLOWS).map(move |_| SocketAddr::new(vip, port)));
    let flows = site.topology.client().ns.enter(|| targets.map(Flow::open).collect::<Vec<_>>()).unwrap();
    assert!(flows.iter().any(|flow| flow.host == "h1") && flows.iter().any(|flow| flow.host == "h2"));
    flows
}

#[test]
fn each_handover_policy_moves_datagrams_when_it_should() {
    /// A pause of `udp_gap` by default, and the idle timeout.
    const GAP: Duration = Duration::from_secs(2);
    const IDLE: Duration = Duration::from_secs(8);
    let service = |name, port, more| Extra { name, protocol: "\"udp\"", port, more };
    let services = vec![
        service("pin", "1001", "udp_handover = \"pin\"\n"),
        service("gap", "1002", "udp_handover = \"gap\"\n"),
        service("immediate", "1003", "udp_handover = \"immediate\"\n"),
    ];
    let plan = Plan { timeouts: [4, 6, 2, 8], services, ..Plan::new("l2", 2) };
    let site = Site::start(Topology::builder(), &plan).unwrap();
    let _servers: Vec<UdpEchoServer> = site
        .topology
        .hosts()
        .iter()
        .map(|host| {
            let ports = site.vips().into_iter().flat_map(|vip| (1001..1004).map(move |port| (vip, port)));
            let at: Vec<SocketAddr> = ports.map(SocketAddr::from).collect();
            UdpEchoServer::start(&host.ns, &host.name, &at).unwrap()
        })
        .collect();
    let [mut pin, mut gap, mut immediate] = [1001, 1002, 1003].map(|port| flows(&site, port));
    site.daemon.cli_ok(&["drain", "h1"]).unwrap();
    let began = Instant::now();
    while began.elapsed() < 2 * GAP {
        assert!(pin.iter_mut().all(Flow::stays), "pins hold");
        assert!(gap.iter_mut().all(Flow::stays), "no pause was long enough");
        assert!(immediate.iter_mut().all(|flow| flow.ask() == "h2"), "with the next datagram");
        sleep(Duration::from_millis(200));
    }
    // Seconds are counted whole.
    sleep(GAP + Duration::from_secs(1));
    assert!(pin.iter_mut().all(Flow::stays), "pins hold");
    assert!(gap.iter_mut().all(|flow| flow.ask() == "h2"), "after the pause");
    sleep(IDLE + Duration::from_secs(2));
    assert!(pin.iter_mut().all(|flow| flow.ask() == "h2"), "after the idle timeout");
    let at_h1 = [&pin, &gap, &immediate].map(|all| all.iter().filter(|flow| flow.host == "h1").count());
    ends_well(&site, "h1", at_h1.iter().sum());
    // And back: flows that are to move at once do.
    site.daemon.cli_ok(&["undrain", "h1"]).unwrap();
    assert!(immediate.iter_mut().all(Flow::stays), "the very ring from before");
    assert!(pin.iter_mut().all(|flow| flow.ask() == "h2"), "pins hold");
    assert_eq!(site.violations().unwrap(), "{}");
}

/// What `move` is for: datagrams go on elsewhere. A TCP connection is unknown there, so the other host's kernel ends it.
#[test]
fn a_deadline_that_moves_flows_is_for_datagrams() {
    let site = super::tools::site(2, [10, 60, 10, 10]);
    let client = &site.topology.client().ns;
    let (mut ours, mut others) = echoes(&site, 12);
    let interval = Duration::from_millis(200);
    let udp = site.vips().map(|vip| {
        let options =
            UdpFlowsOptions { flows: 40, interval, ..UdpFlowsOptions::new(SocketAddr::new(vip, ECHO)) };
        UdpFlows::start(client, &options).unwrap()
    });
    sleep(Duration::from_secs(1));
    let at_h1: u64 = udp.iter().map(|udp| udp.counts().hosts["h1"].flows).sum();
    assert!(at_h1 > 20, "{at_h1}");
    site.daemon.cli_ok(&["drain", "h1", "--deadline", "5s", "--at-deadline", "move"]).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        speak(ours.iter_mut().chain(&mut others));
        sleep(Duration::from_millis(200));
    }
    assert!(udp.iter().all(|udp| udp.counts().moved == 0), "until then nobody notices");
    sleep(Duration::from_millis(6500).saturating_sub(began.elapsed()));
    let at_h2 = ours.len() as u64;
    for connection in &mut ours {
        assert_eq!(connection.echo().unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    speak(&mut others);
    let (code, receipt) = drained(&site, "h1");
    assert_eq!((code, &receipt["outcome"]), (Some(6), &"moved".into()), "{receipt}");
    let count = |field: &str| receipt[field].as_u64().unwrap();
    assert_eq!((count("moved"), count("reset"), count("silent")), (at_h1 + at_h2, 0, 0), "{receipt}");
    assert_eq!((count("new_flows"), count("misrouted")), (0, 0), "{receipt}");
    assert!(reason(&site, "forward_moved") >= at_h1 + at_h2);
    for udp in udp {
        let counts = site.finish_udp(udp);
        assert!(counts.moved > 0, "{counts:?}");
    }
    assert_eq!(site.violations().unwrap(), "{}");
}
