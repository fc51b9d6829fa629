//! Services of several ports, both protocols and prefixes, and destination NAT, as clients see them.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use sluice_tests::LIMIT;
use sluice_tests::servers::SluiceDaemon;
use sluice_tests::site::{ECHO, Plan, Site, WEB};
use sluice_tests::topology::{Layout, Node, Replies, Topology};
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, EchoServer, Requests, RequestsOptions, UdpEchoServer, UdpFlows,
    UdpFlowsOptions,
};

/// Opens connections and UDP flows to an address, all of which must be answered; how many hosts did.
fn talk(client: &Node, target: SocketAddr) -> usize {
    let tcp = ConnectionsOptions { connections: 40, ..ConnectionsOptions::new(target) };
    let udp = UdpFlowsOptions { flows: 40, ..UdpFlowsOptions::new(target) };
    let tcp = Connections::start(&client.ns, &tcp).unwrap();
    let udp = UdpFlows::start(&client.ns, &udp).unwrap();
    assert!(tcp.wait_opened(40, LIMIT), "{target}: {:?}", tcp.counts());
    std::thread::sleep(Duration::from_secs(1));
    let (tcp, udp) = (tcp.finish().unwrap(), udp.finish().unwrap());
    assert_eq!((tcp.broken, tcp.missing), (0, 0), "{target}: {tcp:?}");
    assert!(udp.answered > 0 && udp.lost == 0 && udp.moved == 0, "{target}: {udp:?}");
    tcp.hosts.len()
}

#[test]
fn all_ports_of_a_prefix_belong_to_one_service_but_for_one_port() {
    let mut site = Site::start(Topology::builder(), &Plan::new("l2", 2)).unwrap();
    let mut text = std::fs::read_to_string(site.daemon.config_path()).unwrap();
    text.truncate(text.find("[[services]]").unwrap());
    for (family, prefix, vip) in
        [("v4", "198.51.100.0/28", site.vips()[0]), ("v6", "2001:db8:100::/64", site.vips()[1])]
    {
        let _ = writeln!(
            text,
            "[[services]]\nname = \"rest-{family}\"\nvip = \"{prefix}\"\nprotocol = [\"tcp\", \"udp\"]\nport = \"all\"\n\
             [[services]]\nname = \"web-{family}\"\nvip = \"{vip}\"\nprotocol = \"tcp\"\nport = {WEB}"
        );
    }
    // A data path that knew of neither ranges nor prefixes is taken over.
    site.daemon.terminate().unwrap();
    site.daemon.write_config(&text).unwrap();
    site.daemon.start_again().unwrap();
    assert!(site.daemon.log().contains("took over the data path"), "{}", site.daemon.log());
    let client = site.topology.client();
    for vip in site.vips() {
        assert_eq!(talk(client, SocketAddr::new(vip, ECHO)), 2, "both hosts");
        let options = RequestsOptions { count: 20, ..RequestsOptions::new(SocketAddr::new(vip, WEB)) };
        let run = Requests::start(&client.ns, &options).unwrap();
        assert!(run.wait_for(LIMIT, |counts| counts.ok + counts.failed == 20));
        assert_eq!(run.finish().unwrap().ok, 20);
    }
    let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
    let service = |name: &str| {
        let services = status["services"].as_array().unwrap();
        services.iter().find(|service| service["name"] == name).unwrap().clone()
    };
    let rest = service("rest-v4");
    assert_eq!((&rest["vip"], &rest["port"]), (&"198.51.100.0/28".into(), &serde_json::Value::Null));
    assert_eq!(rest["ports"], serde_json::json!([{"first": 1, "last": 65535}]));
    for family in ["v4", "v6"] {
        let new = |name: &str| service(&format!("{name}-{family}"))["traffic"]["new_flows"].as_u64().unwrap();
        assert_eq!((new("rest"), new("web")), (80, 20), "{family}");
    }
    let shown = site.daemon.cli(&["status"]).unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("198.51.100.0/28:all/tcp"), "{shown}");
    assert_eq!(site.violations().unwrap(), "{}");
}

/// Port of the echo servers on the hosts' own addresses.
const INSIDE: u16 = 7007;

fn nat_config(topology: &Topology) -> String {
    let interfaces = &topology.balancer().interfaces;
    let mut text =
        format!("interfaces = {interfaces:?}\nxdp_mode = \"native\"\n[flow_table]\npins = 65_536\n");
    for host in topology.hosts() {
        let _ =
            writeln!(text, "[hosts.{}]\naddresses = [\"{}\", \"{}\"]", host.name, host.ipv4[0], host.ipv6[0]);
    }
    for (family, vip) in [("v4", IpAddr::from(topology.vip4())), ("v6", topology.vip6().into())] {
        let _ = writeln!(
            text,
            "[[services]]\nname = \"echo-{family}\"\nvip = \"{vip}\"\nprotocol = [\"tcp\", \"udp\"]\nport = {ECHO}\n\
             forward = \"nat\"\nbackend_port = {INSIDE}"
        );
    }
    text
}

#[test]
fn hosts_without_the_vip_answer_by_nat_through_a_balancer_that_forwards() {
    let topology = Topology::builder()
        .layout(Layout::Routed)
        .replies(Replies::ThroughBalancer)
        .hosts(2)
        .build()
        .unwrap();
    let balancer = &topology.balancer().ns;
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for host in topology.hosts() {
        let at = [IpAddr::from(host.ipv4[0]), host.ipv6[0].into()].map(|own| SocketAddr::new(own, INSIDE));
        tcp.push(EchoServer::start(&host.ns, &host.name, &at, 1).unwrap());
        udp.push(UdpEchoServer::start(&host.ns, &host.name, &at).unwrap());
        for vip in topology.vips() {
            let mut command = Command::new("ip");
            let bits = if vip.is_ipv4() { 32 } else { 128 };
            command.args(["addr", "delete", &format!("{vip}/{bits}"), "dev", "lo"]);
            host.ns.run(command).unwrap();
        }
    }
    // A kernel that does not forward would drop all answers.
    let sysctl = |value: &str| {
        let mut command = Command::new("sysctl");
        command.args(["-qw", &format!("net.ipv4.ip_forward={value}")]);
        balancer.run(command).unwrap();
    };
    sysctl("0");
    let config = nat_config(&topology);
    let error = SluiceDaemon::start(&topology, &config).err().unwrap();
    let text = format!("{error:#}");
    assert!(text.contains("services[0].forward: with nat this machine forwards"), "{text}");
    assert!(text.contains("net.ipv4.conf.b0.forwarding=1"), "{text}");
    assert!(!text.contains("ipv6"), "{text}");
    sysctl("1");
    let daemon = SluiceDaemon::start(&topology, &config).unwrap();
    for &vip in topology.vips() {
        assert_eq!(talk(topology.client(), SocketAddr::new(vip, ECHO)), 2, "both hosts");
    }
    let status = daemon.cli_json(&["status", "--json"]).unwrap();
    assert!(status["reasons"]["forward_reply"].as_u64().unwrap() > 160, "{}", status["reasons"]);
    assert_eq!(status["violations"].to_string(), "{}");
}
