//! Hosts that are down, and the counters of what must never happen.

use lb_common::flow::Phase;
use lb_common::layout::{HOST_NONE, HostState, Slot};
use sluice_tests::rig::{Delta, PairDelta, timeout};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Flow, NOTHING, phases};

/// A packet that goes to host 2 for now, while its pin at host 1 changes.
#[track_caller]
fn around(bench: &mut Bench, flow: Flow, frame: Vec<u8>, at_home: sluice_tests::rig::PairDelta) {
    let home = Delta::default().pair(flow.service(), 1, at_home);
    bench.sent_with(frame, "forward_around_down", 2, NOTHING, home);
}

#[test]
fn a_flow_of_a_host_that_is_down_goes_round_it_and_comes_back() {
    let mut bench = Bench::new();
    let [half_open, established, closing, unpinned, late] = [1, 2, 3, 4, 5].map(|number| Flow::of(0, number));
    let udp = Flow::of(3, 1);
    bench.sent(half_open.syn(1), "forward_new", 1, BEGAN);
    bench.sent(established.ack(1), "forward_owner", 1, phases(0, 1, 0));
    bench.sent(closing.fin(1, b""), "forward_owner", 1, phases(0, 0, 1));
    bench.sent(udp.datagram(), "forward_new", 1, BEGAN_UDP);

    bench.setup.state(1, HostState::Down);
    bench.slots(Slot::open(2, 1));
    bench.rig.pass(10);
    around(&mut bench, half_open, half_open.syn(1), NOTHING);
    bench.pinned(half_open, 1, Phase::HalfOpen, 0);
    around(&mut bench, half_open, half_open.ack(2), phases(-1, 1, 0));
    around(&mut bench, established, established.ack(1), NOTHING);
    bench.pinned(established, 1, Phase::Established, 0);
    // A SYN on an established pin changes nothing here either.
    bench.rig.pass(1);
    around(&mut bench, established, established.syn(9), NOTHING);
    bench.pinned(established, 1, Phase::Established, 1);
    around(&mut bench, closing, closing.ack(2), NOTHING);
    around(&mut bench, closing, closing.ack(9), phases(0, 1, -1));
    around(&mut bench, udp, udp.datagram(), NOTHING);
    bench.pinned(udp, 1, Phase::Udp, 0);
    // Its pin was lost: it is pinned to its home all the same.
    around(&mut bench, unpinned, unpinned.ack(1), phases(0, 1, 0));
    bench.pinned(unpinned, 1, Phase::Established, 0);
    around(&mut bench, late, late.rst(1), NOTHING);
    bench.not_pinned(late);
    // What begins now, begins at the owner.
    let new = Flow::of(2, 9);
    bench.sent(new.syn(1), "forward_new", 2, BEGAN);

    bench.setup.state(1, HostState::Up);
    bench.slots(Slot::open(1, 1));
    for flow in [half_open, established, closing, unpinned] {
        bench.sent(flow.ack(9), "forward_pin", 1, NOTHING);
        bench.pinned(flow, 1, Phase::Established, 0);
    }
    bench.sent(udp.datagram(), "forward_pin", 1, NOTHING);
    bench.sent(new.ack(2), "forward_pin", 2, phases(-1, 1, 0));
    bench.ends_empty();
}

/// The last host is down: its packets go to it all the same, as nobody could do better.
#[test]
fn an_owner_that_is_down_gets_its_packets() {
    let mut bench = Bench::new();
    let flow = Flow::of(0, 1);
    bench.sent(flow.ack(1), "forward_owner", 1, phases(0, 1, 0));
    bench.setup.state(1, HostState::Down);
    bench.publish();
    bench.sent(flow.ack(1), "forward_around_down", 1, NOTHING);
    bench.sent(Flow::of(0, 2).syn(1), "forward_new", 1, BEGAN);
    bench.sent(Flow::of(0, 3).ack(1), "forward_around_down", 1, phases(0, 1, 0));
    bench.ends_empty();
}

/// Nobody will ever answer at a host that left the config while it could not be reached: its flows are as good as without a pin, and
/// begin anew at the owner. The sweep ends the pins of those that are silent.
#[test]
fn pins_of_a_host_that_is_lost_are_none() {
    let mut bench = Bench::new();
    let [half_open, established, closing, unpinned, silent] =
        [1, 2, 3, 4, 5].map(|number| Flow::of(0, number));
    let udp = Flow::of(3, 1);
    bench.sent(half_open.syn(1), "forward_new", 1, BEGAN);
    for flow in [established, silent] {
        bench.sent(flow.ack(1), "forward_owner", 1, phases(0, 1, 0));
    }
    bench.sent(closing.fin(1, b""), "forward_owner", 1, phases(0, 0, 1));
    bench.sent(udp.datagram(), "forward_new", 1, BEGAN_UDP);

    bench.setup.state(1, HostState::Lost);
    bench.slots(Slot::open(2, 1));
    let from = |service, change| Delta::default().pair(service, 1, change);
    bench.sent_with(half_open.syn(1), "forward_new", 2, BEGAN, from(0, phases(-1, 0, 0)));
    bench.sent_with(established.ack(2), "forward_owner", 2, phases(0, 1, 0), from(0, phases(0, -1, 0)));
    bench.sent_with(closing.ack(2), "forward_owner", 2, phases(0, 1, 0), from(0, phases(0, 0, -1)));
    bench.sent_with(udp.datagram(), "forward_new", 2, BEGAN_UDP, from(3, PairDelta { udp: -1, ..NOTHING }));
    bench.sent(unpinned.ack(1), "forward_owner", 2, phases(0, 1, 0));
    bench.pinned(udp, 2, Phase::Udp, 0);
    bench.pinned(established, 2, Phase::Established, 0);
    let swept = bench.rig.sweep();
    assert_eq!((swept.expired, swept.counted(1), swept.counted(2)), (1, 0, 5));
    assert_eq!(swept.leaving, [((0, 1), 1)].into());
    bench.not_pinned(silent);
    bench.rig.audit();
    assert!(bench.rig.sweep().leaving.is_empty());
    bench.ends_empty();
}

#[test]
fn nobody_is_left_to_go_round_to() {
    let mut bench = Bench::new();
    let flow = Flow::of(0, 1);
    bench.sent(flow.ack(1), "forward_owner", 1, phases(0, 1, 0));
    bench.setup.state(1, HostState::Down);
    bench.slots(Slot::open(HOST_NONE, 1));
    bench.rig.pass(5);
    // The flow lives, though nobody has its packets: it is seen, and pinned to its home.
    bench.dropped(flow.ack(1), Delta::of(["drop_no_host"]));
    bench.pinned(flow, 1, Phase::Established, 0);
    bench.rig.pass(5);
    bench.dropped(flow.syn(9), Delta::of(["drop_no_host"]));
    bench.pinned(flow, 1, Phase::Established, 5);
    let unpinned = Flow::of(0, 2);
    bench.dropped(unpinned.rst(1), Delta::of(["drop_no_host"]));
    bench.not_pinned(unpinned);
    bench.dropped(unpinned.ack(1), Delta::of(["drop_no_host"]).pair(0, 1, phases(0, 1, 0)));
    bench.pinned(unpinned, 1, Phase::Established, 0);
    bench.ends_empty();
}

/// C2's counter: tables that no planner makes, a settled slot whose owner drains.
#[test]
fn a_new_flow_on_a_draining_host_is_counted() {
    let mut bench = Bench::new();
    bench.setup.state(1, HostState::Draining);
    bench.publish();
    let violation = || Delta::of(["violation_new_flow_on_draining"]);
    bench.sent_with(Flow::of(0, 1).syn(1), "forward_new", 1, BEGAN, violation());
    bench.sent_with(Flow::of(3, 1).datagram(), "forward_new", 1, BEGAN_UDP, violation());
    // What is not new is none of its business.
    bench.sent(Flow::of(0, 1).syn(1), "forward_syn_again", 1, NOTHING);
    bench.sent(Flow::of(0, 2).ack(1), "forward_owner", 1, phases(0, 1, 0));
    bench.ends_empty();
}

/// C5's and C1's counters: a slot or a pin that names a host without a backend, within the window of numbers or not.
#[test]
fn names_without_a_backend_are_counted() {
    let mut bench = Bench::new();
    for host in [9, 4094] {
        bench.slots(Slot::settled(host));
        for frame in [Flow::of(0, 1).syn(1), Flow::of(0, 1).ack(1), Flow::of(3, 1).datagram()] {
            bench.dropped(frame, Delta::of(["violation_slot_names_nobody", "drop_internal"]));
        }
    }
    assert_eq!(bench.rig.pins(), []);
    bench.slots(Slot::settled(2));
    let [flow, other] = [1, 2].map(|number| Flow::of(0, number));
    bench.sent(flow.ack(1), "forward_owner", 2, phases(0, 1, 0));
    bench.sent(other.syn(1), "forward_new", 2, BEGAN);
    bench.setup.without(2);
    bench.slots(Slot::settled(3));
    bench.rig.pass(5);
    let violation = || Delta::of(["violation_pin_names_nobody", "drop_internal"]);
    bench.dropped(flow.ack(1), violation());
    bench.dropped(flow.syn(1), violation());
    bench.dropped(other.syn(1), violation());
    bench.pinned(flow, 2, Phase::Established, 5);
    // A SYN of its own ends it.
    let leaves = Delta::default().pair(0, 2, phases(-1, 0, 0));
    bench.sent_with(other.syn(2), "forward_new", 3, BEGAN, leaves);
    bench.rig.pass(timeout::ESTABLISHED - 4);
    let leaves = Delta::default().pair(0, 2, phases(0, -1, 0));
    bench.sent_with(flow.ack(1), "forward_owner", 3, phases(0, 1, 0), leaves);
    bench.ends_empty();
}
