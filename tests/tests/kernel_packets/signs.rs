//! What packets tell of the host that they are for: SYNs that come again, flows that nobody answered, clients that reset. By the
//! pair whose pin it is, wherever that lies, and no other packet counts.

use lb_common::flow::Phase;
use lb_common::layout::{HostId, HostState, Slot};
use sluice_tests::rig::{Setup, timeout};

use super::bench::{Bench, Flow};
use super::crowd::{OVERFLOW, PLACES, crowd, small_table};

/// Services of TCP.
const TCP: [u16; 2] = [0, 2];

/// Flows begun, answered and not, SYNs that came again, clients that reset.
#[track_caller]
fn signs(bench: &Bench, service: u16, host: HostId, expected: [u64; 5]) {
    let of = bench.rig.dataplane.pair_counters(Setup::stats(service, host)).expect("counters can be read");
    let found = [of.new_flows, of.answered, of.unanswered, of.syns_again, of.client_resets];
    assert_eq!(found, expected, "begun, answered, unanswered, again, reset, of service {service} on {host}");
}

#[test]
fn a_syn_that_comes_again_is_counted_and_so_is_what_ends_the_waiting() {
    let mut bench = Bench::new();
    for service in TCP {
        let flow = Flow::of(service, 1);
        bench.rig.run(&flow.syn(1000));
        signs(&bench, service, 1, [1, 0, 0, 0, 0]);
        bench.rig.run(&flow.syn(1000));
        // The counter is that of the pin's host, whoever owns the slot by now, and whatever becomes of the packet.
        bench.setup.state(1, HostState::Draining);
        bench.slots(Slot::open(2, 1));
        bench.rig.run(&flow.syn(1000));
        signs(&bench, service, 1, [1, 0, 0, 2, 0]);
        bench.rig.run(&flow.ack(1001));
        signs(&bench, service, 1, [1, 1, 0, 2, 0]);
        // The flow lives, and tells nothing more.
        for frame in [flow.ack(1001), flow.ack(1500), flow.syn(1000), flow.syn(7), flow.fin(2000, b"bye")] {
            bench.rig.run(&frame);
        }
        signs(&bench, service, 1, [1, 1, 0, 2, 0]);
        signs(&bench, service, 2, [0; 5]);
        bench.setup.state(1, HostState::Up);
        bench.slots(Slot::settled(1));
    }
    bench.ends_empty();
}

#[test]
fn a_flow_that_nobody_answered_is_counted_however_it_ends() {
    let mut bench = Bench::new();
    for service in TCP {
        let [replaced, aged, swept] = [1, 2, 3].map(|number| Flow::of(service, number));
        // Another SYN takes the place of the first.
        bench.rig.run(&replaced.syn(1000));
        bench.rig.run(&replaced.syn(5000));
        signs(&bench, service, 1, [2, 0, 1, 0, 0]);
        bench.rig.run(&replaced.ack(5001));
        signs(&bench, service, 1, [2, 1, 1, 0, 0]);
        // A pin that is dead when its flow's tuple comes again.
        bench.rig.run(&aged.syn(1000));
        bench.rig.pass(timeout::HALF_OPEN + 1);
        bench.rig.run(&aged.syn(1000));
        signs(&bench, service, 1, [4, 1, 2, 0, 0]);
        bench.rig.run(&aged.ack(1001));
        // The sweep.
        bench.rig.run(&swept.syn(1000));
        bench.rig.pass(timeout::HALF_OPEN + 1);
        bench.rig.sweep();
        bench.not_pinned(swept);
        signs(&bench, service, 1, [5, 2, 3, 0, 0]);
        // Flows that were answered end without being counted again.
        bench.rig.pass(2 * timeout::ESTABLISHED + 1);
        bench.rig.sweep();
        signs(&bench, service, 1, [5, 2, 3, 0, 0]);
    }
    bench.ends_empty();
}

#[test]
fn a_reset_of_a_client_is_counted_once_and_is_an_answer() {
    let mut bench = Bench::new();
    for service in TCP {
        let [half_open, established, closing] = [1, 2, 3].map(|number| Flow::of(service, number));
        bench.rig.run(&half_open.syn(1000));
        bench.rig.run(&half_open.rst(1001));
        bench.pinned(half_open, 1, Phase::Closing, 0);
        // Only who has been answered has something to refuse.
        signs(&bench, service, 1, [1, 1, 0, 0, 1]);
        bench.rig.run(&half_open.rst(1001));
        bench.rig.run(&established.syn(1));
        bench.rig.run(&established.ack(2));
        bench.rig.run(&established.rst(2));
        bench.rig.run(&established.rst(2));
        signs(&bench, service, 1, [2, 2, 0, 0, 2]);
        // Its client has said goodbye before.
        bench.rig.run(&closing.syn(1));
        bench.rig.run(&closing.fin(2, b""));
        bench.rig.run(&closing.rst(3));
        signs(&bench, service, 1, [3, 3, 0, 0, 2]);
        // Without a pin it tells nothing.
        bench.rig.run(&Flow::of(service, 4).rst(3));
        signs(&bench, service, 1, [3, 3, 0, 0, 2]);
    }
    bench.ends_empty();
}

#[test]
fn signs_are_those_of_the_pin_wherever_it_lies() {
    let mut bench = small_table();
    // In the home bucket, the second one and the overflow map, every other in other hands.
    let flows = crowd(0, PLACES + OVERFLOW);
    for (number, flow) in flows.iter().enumerate() {
        bench.slots(Slot::settled(1 + number as HostId % 2));
        bench.rig.run(&flow.syn(1000));
    }
    let half = flows.len() as u64 / 2;
    flows.iter().for_each(|flow| drop(bench.rig.run(&flow.syn(1000))));
    for host in [1, 2] {
        signs(&bench, 0, host, [half, 0, 0, half, 0]);
    }
    flows.iter().for_each(|flow| drop(bench.rig.run(&flow.rst(1001))));
    for host in [1, 2] {
        signs(&bench, 0, host, [half, half, 0, half, half]);
    }
    bench.ends_empty();
}
