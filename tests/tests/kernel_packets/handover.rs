//! Slots that change owner: what goes to the previous one, what to the new one, and for how long.

use lb_common::flow::Phase;
use lb_common::layout::{HostState, Slot};
use sluice_tests::rig::{Delta, PairDelta, timeout};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Flow, NOTHING, phases};

#[test]
fn mid_flow_without_a_pin_goes_to_the_previous_owner_and_stays() {
    let mut bench = Bench::new();
    bench.setup.state(1, HostState::Draining);
    bench.slots(Slot::open(2, 1));
    for service in [0, 2] {
        let [flow, fin] = [1, 2].map(|number| Flow::of(service, number));
        bench.sent(flow.ack(1), "forward_previous", 1, phases(0, 1, 0));
        bench.pinned(flow, 1, Phase::Established, 0);
        bench.sent(fin.fin(1, b""), "forward_previous", 1, phases(0, 0, 1));
        // What is no sign of a live flow goes there too, without a pin.
        bench.sent(Flow::of(service, 3).rst(1), "forward_previous", 1, NOTHING);
        bench.not_pinned(Flow::of(service, 3));
        // A datagram without a pin is new.
        bench.sent(Flow::of(service + 1, 1).datagram(), "forward_new", 2, BEGAN_UDP);
    }
    // The handover ends; pins outlive it.
    bench.slots(Slot::settled(2));
    for service in [0, 2] {
        bench.sent(Flow::of(service, 1).ack(2), "forward_pin", 1, NOTHING);
        bench.sent(Flow::of(service, 2).ack(2), "forward_pin", 1, NOTHING);
        bench.sent(Flow::of(service, 3).ack(2), "forward_owner", 2, phases(0, 1, 0));
    }
    bench.ends_empty();
}

#[test]
fn a_previous_owner_that_serves_no_more_is_none() {
    let mut bench = Bench::new();
    bench.setup.state(1, HostState::Drained);
    bench.slots(Slot::open(2, 1));
    bench.sent(Flow::of(0, 1).ack(1), "forward_owner", 2, phases(0, 1, 0));
    bench.sent(Flow::of(2, 1).rst(1), "forward_owner", 2, NOTHING);
    bench.setup.without(1);
    bench.publish();
    bench.sent(Flow::of(0, 2).ack(1), "forward_owner", 2, phases(0, 1, 0));
    bench.sent(Flow::of(2, 2).fin(1, b""), "forward_owner", 2, phases(0, 0, 1));
    bench.sent(Flow::of(0, 3).syn(1), "forward_new", 2, BEGAN);
    bench.ends_empty();
}

/// A pin that names a drained host is obeyed all the same.
#[test]
fn a_pin_outlives_the_drain() {
    let mut bench = Bench::new();
    let flow = Flow::of(0, 1);
    bench.sent(flow.ack(1), "forward_owner", 1, phases(0, 1, 0));
    for state in [HostState::Draining, HostState::Drained] {
        bench.setup.state(1, state);
        bench.slots(Slot::open(2, 1));
        bench.sent(flow.ack(1), "forward_pin", 1, NOTHING);
    }
    bench.slots(Slot::settled(2));
    bench.sent(flow.ack(1), "forward_pin", 1, NOTHING);
    bench.ends_empty();
}

/// A closing pin that only its word keeps at its host, as the stateless answer is another: a FIN or RST that the client
/// never sent must not be able to move its flow, so it stays for as long as an established one.
#[test]
fn a_closing_exception_stays_for_the_long_timeout() {
    for (number, end) in [Flow::of(0, 0).fin(5, b""), Flow::of(0, 1).rst(5)].into_iter().enumerate() {
        let mut bench = Bench::new();
        let flow = Flow::of(0, number as u32);
        // A flow that began at the new owner while the previous one is the stateless answer.
        bench.slots(Slot::open(2, 1));
        bench.sent(flow.syn(4), "forward_new", 2, BEGAN);
        bench.sent(flow.ack(5), "forward_pin", 2, phases(-1, 1, 0));
        bench.sent(end, "forward_pin", 2, phases(0, -1, 1));
        // The sweep knows it, too.
        bench.rig.pass(timeout::CLOSING + 1);
        assert_eq!((bench.rig.sweep().expired, bench.rig.sweep().counted(2)), (0, 1));
        bench.rig.pass(timeout::ESTABLISHED - timeout::CLOSING - 1);
        assert_eq!(bench.rig.sweep().expired, 0);
        bench.sent(flow.ack(77), "forward_pin", 2, phases(0, 1, -1));
        bench.sent(flow.rst(5), "forward_pin", 2, phases(0, -1, 1));
        bench.rig.pass(timeout::ESTABLISHED + 1);
        let leaves = Delta::default().pair(0, 2, phases(0, 0, -1));
        bench.sent_with(flow.ack(77), "forward_previous", 1, phases(0, 1, 0), leaves);
        bench.ends_empty();
    }
}

/// The slot settles on the exception's host: it is none any more, and its timeout is the short one again.
#[test]
fn an_exception_ends_with_its_handover() {
    let mut bench = Bench::new();
    bench.slots(Slot::open(2, 1));
    let [flow, other] = [1, 2].map(|number| Flow::of(0, number));
    for flow in [flow, other] {
        bench.sent(flow.syn(4), "forward_new", 2, BEGAN);
        bench.sent(flow.fin(5, b""), "forward_pin", 2, phases(-1, 0, 1));
    }
    bench.rig.pass(timeout::CLOSING + 1);
    bench.slots(Slot::settled(2));
    bench.sent(flow.syn(99), "forward_new", 2, PairDelta { closing: -1, ..BEGAN });
    assert_eq!(bench.rig.sweep().expired, 1);
    bench.not_pinned(other);
    bench.rig.audit();
    bench.ends_empty();
}

/// A closing pin of another host, idle past the short timeout, that a SYN of the same flow meets: begun anew.
#[test]
fn a_syn_takes_the_place_of_an_exception() {
    let mut bench = Bench::new();
    bench.slots(Slot::open(2, 1));
    let flow = Flow::of(2, 1);
    bench.sent(flow.syn(4), "forward_new", 2, BEGAN);
    bench.sent(flow.rst(5), "forward_pin", 2, phases(-1, 0, 1));
    bench.rig.pass(timeout::CLOSING + 1);
    bench.slots(Slot::open(3, 1));
    let leaves = Delta::default().pair(2, 2, phases(0, 0, -1));
    bench.sent_with(flow.syn(4), "forward_new", 3, BEGAN, leaves);
    bench.ends_empty();
}

#[test]
fn undrain_while_flows_are_under_way() {
    let mut bench = Bench::new();
    let [before, during, after, unpinned] = [1, 2, 3, 4].map(|number| Flow::of(0, number));
    let [udp_before, udp_during, udp_after] = [1, 2, 3].map(|number| Flow::of(1, number));
    bench.sent(before.syn(1), "forward_new", 1, BEGAN);
    bench.sent(before.ack(2), "forward_pin", 1, phases(-1, 1, 0));
    bench.sent(udp_before.datagram(), "forward_new", 1, BEGAN_UDP);

    bench.setup.state(1, HostState::Draining);
    bench.slots(Slot::open(2, 1));
    bench.sent(during.syn(1), "forward_new", 2, BEGAN);
    bench.sent(udp_during.datagram(), "forward_new", 2, BEGAN_UDP);
    bench.sent(before.ack(2), "forward_pin", 1, NOTHING);

    // The handover stays open, with the first previous owner, which is the owner again.
    bench.setup.state(1, HostState::Up);
    bench.slots(Slot::open(1, 1));
    bench.sent(during.syn(1), "forward_syn_again", 2, NOTHING);
    bench.sent(during.ack(2), "forward_pin", 2, phases(-1, 1, 0));
    bench.sent(udp_during.datagram(), "forward_pin", 2, NOTHING);
    bench.sent(before.ack(2), "forward_pin", 1, NOTHING);
    bench.sent(udp_before.datagram(), "forward_pin", 1, NOTHING);
    bench.sent(after.syn(1), "forward_new", 1, BEGAN);
    bench.sent(udp_after.datagram(), "forward_new", 1, BEGAN_UDP);
    bench.sent(unpinned.ack(1), "forward_owner", 1, phases(0, 1, 0));

    bench.slots(Slot::settled(1));
    bench.sent(during.ack(2), "forward_pin", 2, NOTHING);
    bench.sent(udp_during.datagram(), "forward_pin", 2, NOTHING);
    let swept = bench.rig.sweep();
    assert_eq!((swept.counted(1), swept.counted(2)), (5, 2));
    let mut foreign = swept.foreign;
    foreign.sort_unstable();
    let mut expected = [during, udp_during].map(|flow| (0, bench.rig.slot(&flow.tuple())));
    expected.sort_unstable();
    assert_eq!(foreign, expected);
    bench.ends_empty();
}

/// Each slot has its own handover: only packets of the one that changed go elsewhere.
#[test]
fn slots_change_one_by_one() {
    let mut bench = Bench::new();
    let flows: Vec<_> = (0..40).map(|number| Flow::of(0, number)).collect();
    let changed = bench.rig.slot(&flows[7].tuple());
    bench.setup.slot(0, changed, Slot::open(3, 1));
    bench.publish();
    for &flow in &flows {
        if bench.rig.slot(&flow.tuple()) == changed {
            bench.sent(flow.ack(1), "forward_previous", 1, phases(0, 1, 0));
            bench.sent(Flow::of(0, 7).syn(1), "forward_syn_established", 1, NOTHING);
        } else {
            bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
        }
    }
    bench.ends_empty();
}
