//! Configs that come while the daemon runs, and what becomes of them that cannot be put in force.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use lb_common::layout::{HOST_NONE, HostId};
use sluice_tests::packets::DESTINATION_MAC;

use super::balancer::Balancer;
use super::random::RING;
use super::setup::Setup;
use crate::client::{Client, Service};
use crate::rules::{Moves, Policy};

const START: u32 = 1_000_000;
const UNIX: u64 = 1_800_000_000;
/// Nobody has such an interface.
const NOWHERE: Option<&str> = Some("nowhere0");
/// The host that a config brings.
const NEW: HostId = 5;

fn setup(edges: bool) -> Setup {
    let policy = Policy { edges, client: false, moves: Moves::Never };
    Setup::new(RING, Service::ALL.into_iter().map(|service| (service, policy)).collect())
}

fn without(setup: &Setup, host: HostId) -> Setup {
    let mut setup = setup.clone();
    setup.weights.remove(&host);
    setup
}

/// Connections that begin while `work` is done, by the hosts that they began at.
fn while_flows_begin(balancer: &mut Balancer, work: impl FnOnce(&mut Balancer)) -> Vec<(Client, HostId)> {
    let pin = balancer.plane().paths.pins.join("program");
    balancer.plane().program().unwrap().pin(&pin).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flows = scope.spawn(|| {
            let program = Xdp::from_pin(&pin, XdpAttachType::Interface).unwrap();
            let begin = |number: u32| {
                let client = Client { address: 0x0a00_0000 + number, port: 4000, service: Service::Web };
                let packets = [client.packet().syn(1), client.packet().seq(2).ack(1)];
                let hosts = packets.map(|packet| host_of(&program, &packet.macs([2, 0, 0, 2, 0, 0], DESTINATION_MAC).build()));
                assert_eq!(hosts[0], hosts[1], "a handshake");
                (client, hosts[0])
            };
            let mut numbers = 0..4000;
            let mut flows = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                flows.extend(numbers.by_ref().take(4).map(begin));
                thread::sleep(Duration::from_micros(100));
            }
            flows
        });
        work(balancer);
        is_over.store(true, Ordering::SeqCst);
        std::fs::remove_file(&pin).unwrap();
        flows.join().unwrap()
    })
}

fn host_of(program: &Xdp, frame: &[u8]) -> HostId {
    let mut out = vec![0; frame.len() + 258];
    let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::new() };
    let result = program.test_run(options).unwrap();
    if result.return_value == 3 { u16::from_be_bytes([out[4], out[5]]) } else { HOST_NONE }
}

/// A config brings a host, is published, and cannot be put in force all the same: the flows that began meanwhile go on where they began,
/// at the new host and at those whose slots had moved (C1).
#[test]
fn flows_that_began_under_a_config_that_failed_go_on() {
    for edges in [false, true] {
        let mut balancer = Balancer::open(RING, 2048, false);
        let setup = setup(edges);
        let before = without(&setup, NEW);
        balancer.begin(&before, START, UNIX).expect("the engine starts");
        balancer.apply(&before, "before", None).expect("it can be put in force");
        let flows = while_flows_begin(&mut balancer, |balancer| {
            thread::sleep(Duration::from_millis(5));
            balancer.apply(&setup, "after", NOWHERE).expect_err("there is no such interface");
        });
        let mut hosts: BTreeMap<HostId, usize> = BTreeMap::new();
        for (client, host) in &flows {
            assert_ne!(*host, HOST_NONE);
            *hosts.entry(*host).or_default() += 1;
            let now = balancer.send(&client.packet().seq(2).ack(1));
            assert_eq!(now, *host, "edges: {edges}, {client:?}, one of {}", flows.len());
        }
        assert!(hosts.get(&NEW).is_some_and(|&flows| flows > 5), "{hosts:?}");
        // And after a round, in which nothing but what is over may close.
        balancer.pass(1);
        balancer.engine().round().expect("a round goes well");
        for (client, host) in &flows {
            assert_eq!(balancer.send(&client.packet().seq(2).ack(1)), *host, "edges: {edges}, {client:?}");
        }
        let leaving = balancer.status().leaving;
        assert!(leaving.iter().any(|left| left.host == "host-5" && left.live_flows > 0), "{leaving:?}");
        assert!(balancer.status().violations.is_empty());
    }
}
