//! The topology under XDP: a program of a few instructions sends every packet for a VIP to one host, by XDP_TX in the
//! flat layout and by XDP_REDIRECT in the routed one. Shows that no frame vanishes and no checksum is left half done.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use sluice_tests::LIMIT;
use sluice_tests::kernel::slowness;
use sluice_tests::servers::{BIG_FILE_BYTES, Nginx};
use sluice_tests::topology::{Layout, Namespace, Replies, Topology, XdpProgram};
use sluice_tests::traffic::{
    Connections, ConnectionsOptions, EchoServer, Requests, RequestsOptions, UdpEchoServer, UdpFlows,
    UdpFlowsOptions, UdpHost,
};

/// Index and MAC address of an interface.
fn link(ns: &Namespace, interface: &str) -> (u32, [u8; 6]) {
    let mut command = Command::new("ip");
    command.args(["-j", "link", "show", interface]);
    let links: serde_json::Value = serde_json::from_str(&ns.run(command).unwrap()).unwrap();
    let text = links[0]["address"].as_str().unwrap();
    let bytes = text.split(':').map(|part| u8::from_str_radix(part, 16).unwrap()).collect::<Vec<_>>();
    (links[0]["ifindex"].as_u64().unwrap() as u32, bytes.try_into().unwrap())
}

/// `struct bpf_insn`: operation, destination and source register, offset, immediate value.
fn op(code: u8, to: u8, from: u8, offset: i16, value: u32) -> u64 {
    u64::from(code) | u64::from(to | from << 4) << 8 | u64::from(offset as u16) << 16 | u64::from(value) << 32
}

/// Packets to either VIP (the last four bytes decide) get the MAC addresses of the host and go out by the interface with
/// the index `out`, or where they came in.
fn forwarder(topology: &Topology, host: [u8; 6], own: [u8; 6], out: Option<u32>) -> Vec<u64> {
    let four = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let two = |bytes: &[u8]| u32::from(u16::from_le_bytes(bytes.try_into().unwrap()));
    let vip4 = four(&topology.vip4().octets());
    let vip6 = four(&topology.vip6().octets()[12..]);
    let mut program = vec![
        op(0x61, 2, 1, 0, 0),       // r2 = data
        op(0x61, 3, 1, 4, 0),       // r3 = data_end
        op(0xbf, 4, 2, 0, 0),       // r4 = data
        op(0x07, 4, 0, 0, 54),      // r4 += Ethernet and IPv6 header
        op(0x2d, 4, 3, 13, 0),      // if r4 > r3 goto pass
        op(0x69, 5, 2, 12, 0),      // r5 = EtherType
        op(0x15, 5, 0, 4, 0x0008),  // if IPv4 goto four
        op(0x55, 5, 0, 10, 0xdd86), // if not IPv6 goto pass
        op(0x61, 5, 2, 50, 0),      // r5 = last word of the IPv6 destination
        op(0x16, 5, 0, 3, vip6),    // if it is the VIP's goto hit
        op(0x05, 0, 0, 7, 0),       // goto pass
        op(0x61, 5, 2, 30, 0),      // four: r5 = IPv4 destination
        op(0x56, 5, 0, 5, vip4),    // if it is not the VIP goto pass
        op(0x62, 2, 0, 0, four(&host[..4])),
        op(0x6a, 2, 0, 4, two(&host[4..])),
        op(0x62, 2, 0, 6, four(&own[..4])),
        op(0x6a, 2, 0, 10, two(&own[4..])),
        op(0x05, 0, 0, 2, 0), // goto out
        op(0xb7, 0, 0, 0, 2), // pass: XDP_PASS
        op(0x95, 0, 0, 0, 0), // exit
    ];
    match out {
        Some(index) => program.extend([
            op(0xb7, 1, 0, 0, index), // out: r1 = interface
            op(0xb7, 2, 0, 0, 0),     // r2 = flags
            op(0x85, 0, 0, 0, 23),    // call bpf_redirect
            op(0x95, 0, 0, 0, 0),
        ]),
        None => program.extend([op(0xb7, 0, 0, 0, 3), op(0x95, 0, 0, 0, 0)]), // out: XDP_TX
    }
    program
}

/// Attaches the forwarder to where the clients come in.
fn forward_to(topology: &Topology, number: usize) -> OwnedFd {
    let balancer = topology.balancer();
    let (_, host) = link(&topology.host(number).ns, "eth0");
    let inside = balancer.interfaces.last().unwrap();
    let (index, own) = link(&balancer.ns, inside);
    let out = (topology.layout() == Layout::Routed).then_some(index);
    let program = XdpProgram::load(&forwarder(topology, host, own, out)).unwrap();
    balancer.ns.enter(|| program.attach(&balancer.interfaces[0])).unwrap().unwrap()
}

fn everything_reaches_the_host(topology: &Topology) {
    let vips = [IpAddr::from(topology.vip4()), IpAddr::from(topology.vip6())];
    let at = |port: u16| vips.map(|vip| SocketAddr::new(vip, port));
    let _nginx = Nginx::start_on_all(topology).unwrap();
    let _tcp =
        topology.hosts().iter().map(|host| EchoServer::start(&host.ns, &host.name, &at(7), 1).unwrap());
    let _tcp = _tcp.collect::<Vec<_>>();
    let _udp =
        topology.hosts().iter().map(|host| UdpEchoServer::start(&host.ns, &host.name, &at(7)).unwrap());
    let _udp = _udp.collect::<Vec<_>>();
    let _link = forward_to(topology, 2);
    let client = &topology.client().ns;
    let patience = Duration::from_secs(10) * slowness();
    for vip in vips {
        let options =
            RequestsOptions { count: 200, rate: 0, ..RequestsOptions::new(SocketAddr::new(vip, 80)) };
        let options = RequestsOptions { patience: options.patience * slowness(), ..options };
        let small = Requests::start(client, &options).unwrap();
        let big = RequestsOptions { path: "/big".into(), count: 4, ..options };
        let big = Requests::start(client, &big).unwrap();
        for (run, count) in [(small, 200), (big, 4)] {
            assert!(run.wait_for(LIMIT, |counts| counts.ok == count), "{vip}: {:?}", run.counts());
            assert!(run.log().iter().all(|request| [3, BIG_FILE_BYTES as u64].contains(&request.bytes)));
            assert_eq!(run.finish().unwrap().hosts["h2"], count);
        }
        let target = SocketAddr::new(vip, 7);
        let tcp = ConnectionsOptions {
            connections: 100,
            interval: Duration::from_millis(50) * slowness(),
            patience,
            message_bytes: 8000,
            ..ConnectionsOptions::new(target)
        };
        let udp = UdpFlowsOptions {
            flows: 100,
            interval: Duration::from_millis(50) * slowness(),
            patience,
            payload_bytes: 1400,
            ..UdpFlowsOptions::new(target)
        };
        let before = topology.losses().unwrap();
        let tcp = Connections::start(client, &tcp).unwrap();
        let udp = UdpFlows::start(client, &udp).unwrap();
        assert!(tcp.wait_for(LIMIT, |counts| counts.echoed > 1000), "{vip}: {:?}", tcp.counts());
        let is_enough = |host: &UdpHost, answered: u64| host.flows == 100 && answered > 1000;
        assert!(
            udp.wait_for(LIMIT, |counts| counts
                .hosts
                .get("h2")
                .is_some_and(|host| is_enough(host, counts.answered))),
            "{vip}: {:?}",
            udp.counts()
        );
        let (tcp, udp) = (tcp.finish().unwrap(), udp.finish_unlost(topology, &before));
        assert_eq!((tcp.finished, tcp.broken, tcp.hosts["h2"].finished), (100, 0, 100), "{vip}: {tcp:?}");
        assert_eq!((udp.moved, udp.hosts["h2"].flows), (0, 100), "{vip}: {udp:?}");
    }
}

#[test]
fn out_where_it_came_in() {
    everything_reaches_the_host(&Topology::builder().build().unwrap());
}

#[test]
fn out_on_the_other_side() {
    let build = || Topology::builder().layout(Layout::Routed);
    everything_reaches_the_host(&build().build().unwrap());
    everything_reaches_the_host(&build().replies(Replies::ThroughBalancer).build().unwrap());
}
