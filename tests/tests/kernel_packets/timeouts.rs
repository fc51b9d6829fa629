//! Timeouts that a service has of its own: set 1 of the rig is twice as long as the others.

use lb_common::flow::Phase;
use lb_common::layout::{HostState, Policy, Slot};
use sluice_tests::rig::{Delta, PairDelta, UDP_GAP, timeout};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Flow, NOTHING, phases};

/// Services 2 and 3 have set 1, services 0 and 1 the instance's.
fn bench(policy: u8) -> Bench {
    let mut bench = Bench::new();
    for (service, set) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        bench.setup.policy(service, Policy(policy).with_set(set).0);
    }
    bench.publish();
    bench
}

fn begin(bench: &mut Bench) -> [Flow; 4] {
    let flows = [0, 1, 2, 3].map(|service| Flow::of(service, 1));
    for flow in flows {
        let began = if flow.service() % 2 == 0 { BEGAN } else { BEGAN_UDP };
        bench.sent(flow.first(), "forward_new", 1, began);
    }
    for flow in [flows[0], flows[2]] {
        bench.sent(flow.ack(2), "forward_pin", 1, phases(-1, 1, 0));
    }
    flows
}

#[test]
fn a_flow_lives_as_long_as_its_service_says() {
    let mut bench = bench(0);
    let [tcp, udp, long_tcp, long_udp] = begin(&mut bench);
    bench.setup.state(1, HostState::Draining);
    bench.slots(Slot::open(2, 1));
    let leaves = |service| Delta::default().pair(service, 1, PairDelta { udp: -1, ..NOTHING });
    bench.rig.pass(timeout::UDP + 1);
    bench.sent_with(udp.datagram(), "forward_new", 2, BEGAN_UDP, leaves(1));
    bench.sent(long_udp.datagram(), "forward_pin", 1, NOTHING);
    bench.rig.pass(2 * timeout::UDP);
    bench.sent(long_udp.datagram(), "forward_pin", 1, NOTHING);
    bench.rig.pass(2 * timeout::UDP + 1);
    bench.sent_with(long_udp.datagram(), "forward_new", 2, BEGAN_UDP, leaves(3));
    // Both TCP flows are idle for longer than the instance's timeout now. Without its pin one makes it anew, by C3.
    bench.rig.pass(timeout::ESTABLISHED - 5 * timeout::UDP);
    bench.sent(tcp.ack(3), "forward_previous", 1, NOTHING);
    assert_eq!(bench.pin(tcp).unwrap().cold.start, bench.rig.now(), "made anew");
    bench.sent(long_tcp.ack(3), "forward_pin", 1, NOTHING);
    assert!(bench.pin(long_tcp).unwrap().cold.start < bench.rig.now(), "still the first pin");
    bench.ends_empty();
}

/// Also where nothing looks at it: in a settled slot the flow's next packet finds it, or does not.
#[test]
fn in_a_settled_slot_too() {
    let mut bench = bench(0);
    let [tcp, udp, long_tcp, long_udp] = begin(&mut bench);
    bench.rig.pass(timeout::UDP + 1);
    let leaves = Delta::default().pair(1, 1, PairDelta { udp: -1, ..NOTHING });
    bench.sent_with(udp.datagram(), "forward_new", 1, BEGAN_UDP, leaves);
    bench.sent(long_udp.datagram(), "forward_pin", 1, NOTHING);
    bench.rig.pass(timeout::ESTABLISHED);
    bench.sent(tcp.ack(3), "forward_owner", 1, NOTHING);
    bench.sent(long_tcp.ack(3), "forward_pin", 1, NOTHING);
    bench.ends_empty();
}

#[test]
fn the_sweep_knows_whose_time_is_over() {
    let mut bench = bench(0);
    let [tcp, udp, long_tcp, long_udp] = begin(&mut bench);
    for (wait, expired, left) in [
        (timeout::UDP + 1, 1, vec![tcp, long_tcp, long_udp]),
        (timeout::UDP, 1, vec![tcp, long_tcp]),
        (timeout::ESTABLISHED - 2 * timeout::UDP, 1, vec![long_tcp]),
        (timeout::ESTABLISHED - 1, 0, vec![long_tcp]),
        (1, 1, vec![]),
    ] {
        bench.rig.pass(wait);
        assert_eq!(bench.rig.sweep().expired, expired, "{wait} s later");
        let is_left = |flow: &Flow| bench.pin(*flow).is_some();
        assert_eq!([tcp, udp, long_tcp, long_udp].into_iter().filter(is_left).collect::<Vec<_>>(), left);
    }
    bench.ends_empty();
}

#[test]
fn a_gap_is_the_service_s_own() {
    let mut bench = bench(Policy::GAP);
    let [_, udp, _, long_udp] = begin(&mut bench);
    bench.setup.state(1, HostState::Draining);
    bench.slots(Slot::open(2, 1));
    bench.rig.pass(UDP_GAP + 1);
    let leaves = |service| Delta::default().pair(service, 1, PairDelta { udp: -1, ..NOTHING });
    bench.sent_with(udp.datagram(), "forward_new", 2, BEGAN_UDP, leaves(1));
    bench.sent(long_udp.datagram(), "forward_pin", 1, NOTHING);
    bench.rig.pass(2 * UDP_GAP + 1);
    bench.sent_with(long_udp.datagram(), "forward_new", 2, BEGAN_UDP, leaves(3));
    bench.ends_empty();
}

/// A service that got other timeouts: its flows go by them from their next packet on.
#[test]
fn a_flow_learns_of_other_timeouts() {
    let mut bench = bench(0);
    let flows @ [tcp, udp, ..] = begin(&mut bench);
    for service in [0, 1] {
        bench.setup.policy(service, Policy(0).with_set(1).0);
    }
    bench.publish();
    for flow in flows {
        assert_eq!(bench.pin(flow).unwrap().word.set(), u8::from(flow.service() >= 2));
    }
    for (flow, packet) in [(tcp, tcp.ack(3)), (udp, udp.datagram())] {
        bench.sent(packet, "forward_pin", 1, NOTHING);
        assert_eq!(bench.pin(flow).unwrap().word.set(), 1);
    }
    bench.rig.pass(2 * timeout::UDP);
    bench.sent(udp.datagram(), "forward_pin", 1, NOTHING);
    bench.pinned(udp, 1, Phase::Udp, 0);
    bench.rig.pass(2 * timeout::ESTABLISHED - 2 * timeout::UDP);
    bench.sent(tcp.ack(4), "forward_pin", 1, NOTHING);
    bench.ends_empty();
}
