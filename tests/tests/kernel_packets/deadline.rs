//! What becomes of flows when the deadline of their host's drain has passed, by the program alone.

use lb_common::flow::Phase;
use lb_common::layout::{AtDeadline, Cold, Control, Deadline, HOST_NONE, HostId, HostState, Slot};
use lb_laws::wire::reset;
use sluice_tests::rig::{Delta, PairDelta, XDP_TX};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Fixture, Flow, NOTHING, phases};

/// Seconds until the deadline.
const LEFT: u32 = 10;

/// Host 1 drains towards host 2 and its deadline is [`LEFT`] seconds away.
fn draining(bench: &mut Bench, state: HostState, action: AtDeadline, spread: u16) {
    let deadline = Deadline { at: bench.rig.now() + LEFT, action, spread };
    bench.setup.control(1, Control::new(state).with_deadline(deadline));
    bench.slots(Slot::open(2, 1));
}

/// A packet of a TCP flow that is answered with a RST; what that changes at the host that it was pinned to.
#[track_caller]
fn answered(bench: &mut Bench, frame: Vec<u8>, host: HostId, flow: PairDelta) {
    let is_v6 = frame[12] == 0x86;
    let output = reset(&frame, if is_v6 { 40 } else { 20 });
    let counters = Delta::of(["answer_reset"]).pair(2 * u16::from(is_v6), host, flow);
    let description = "of a flow that has ended".to_owned();
    bench.check(&Fixture { description, input: frame, verdict: XDP_TX, output, counters });
}

/// Flows of host 1 in every phase, of both families: half-open, established, closing, UDP.
fn flows(bench: &mut Bench, family: u16) -> [Flow; 4] {
    let [half_open, established, closing] = [1, 2, 3].map(|number| Flow::of(2 * family, number));
    let udp = Flow::of(2 * family + 1, 1);
    bench.sent(half_open.syn(1000), "forward_new", 1, BEGAN);
    bench.sent(established.ack(1), "forward_owner", 1, phases(0, 1, 0));
    bench.sent(closing.fin(1, b""), "forward_owner", 1, phases(0, 0, 1));
    bench.sent(udp.datagram(), "forward_new", 1, BEGAN_UDP);
    [half_open, established, closing, udp]
}

#[test]
fn nothing_happens_before_the_deadline_nor_to_flows_that_are_kept() {
    for action in [AtDeadline::Keep, AtDeadline::Move, AtDeadline::Reset] {
        let mut bench = Bench::new();
        let [half_open, established, closing, udp] = flows(&mut bench, 0);
        draining(&mut bench, HostState::Draining, action, 0);
        bench.rig.pass(if action == AtDeadline::Keep { 2 * LEFT } else { LEFT - 1 });
        bench.sent(half_open.syn(1000), "forward_syn_again", 1, NOTHING);
        bench.sent(established.ack(2), "forward_pin", 1, NOTHING);
        bench.sent(closing.ack(2), "forward_pin", 1, NOTHING);
        bench.sent(udp.datagram(), "forward_pin", 1, NOTHING);
        // Without a pin: as in any handover (C3).
        bench.sent(Flow::of(0, 9).ack(1), "forward_previous", 1, phases(0, 1, 0));
        bench.ends_empty();
    }
}

#[test]
fn flows_move_to_the_owner_with_their_next_packet_and_stay_there() {
    for (family, state) in [(0, HostState::Draining), (1, HostState::Draining), (0, HostState::Down)] {
        let mut bench = Bench::new();
        let [half_open, established, closing, udp] = flows(&mut bench, family);
        draining(&mut bench, state, AtDeadline::Move, 0);
        bench.rig.pass(LEFT);
        let from = |service, change| Delta::default().pair(service, 1, PairDelta { moved: 1, ..change });
        let (tcp, datagrams) = (2 * family, 2 * family + 1);
        bench.sent_with(
            half_open.ack(1001),
            "forward_moved",
            2,
            phases(0, 1, 0),
            from(tcp, phases(-1, 0, 0)),
        );
        bench.sent_with(established.ack(2), "forward_moved", 2, phases(0, 1, 0), from(tcp, phases(0, -1, 0)));
        bench.sent_with(closing.ack(2), "forward_moved", 2, phases(0, 0, 1), from(tcp, phases(0, 0, -1)));
        let left = PairDelta { udp: -1, ..NOTHING };
        bench.sent_with(udp.datagram(), "forward_moved", 2, BEGAN_UDP, from(datagrams, left));
        for flow in [half_open, established] {
            bench.pinned(flow, 2, Phase::Established, 0);
            bench.sent(flow.ack(2), "forward_pin", 2, NOTHING);
        }
        // Not named without a pin either.
        bench.sent(Flow::of(tcp, 9).ack(1), "forward_owner", 2, phases(0, 1, 0));
        bench.ends_empty();
    }
}

#[test]
fn a_host_without_another_to_move_flows_to_keeps_them() {
    let mut bench = Bench::new();
    let [_, established, _, udp] = flows(&mut bench, 0);
    draining(&mut bench, HostState::Draining, AtDeadline::Move, 0);
    bench.slots(Slot::open(HOST_NONE, 1));
    bench.rig.pass(LEFT);
    bench.sent(established.ack(2), "forward_pin", 1, NOTHING);
    bench.sent(udp.datagram(), "forward_pin", 1, NOTHING);
    bench.slots(Slot::open(1, 1));
    bench.sent(established.ack(2), "forward_pin", 1, NOTHING);
    bench.ends_empty();
}

#[test]
fn tcp_flows_are_reset_and_udp_flows_move() {
    for family in [0, 1] {
        let mut bench = Bench::new();
        let [half_open, established, closing, udp] = flows(&mut bench, family);
        draining(&mut bench, HostState::Draining, AtDeadline::Reset, 0);
        bench.rig.pass(LEFT);
        let ended = |change| PairDelta { reset: 1, ..change };
        answered(&mut bench, half_open.ack(1001), 1, ended(phases(-1, 0, 0)));
        answered(
            &mut bench,
            established.tcp().seq(7).ack(99).payload(b"request").build(),
            1,
            ended(phases(0, -1, 0)),
        );
        answered(&mut bench, closing.ack(2), 1, ended(phases(0, 0, -1)));
        for flow in [half_open, established, closing] {
            bench.pinned(flow, 1, Phase::Reset, 0);
        }
        let cold = bench.pin(established).unwrap().cold;
        assert_eq!((cold.sequence, cold.kind & Cold::ANSWERED), (14, Cold::ANSWERED));
        let moved = Delta::default().pair(2 * family + 1, 1, PairDelta { udp: -1, moved: 1, ..NOTHING });
        bench.sent_with(udp.datagram(), "forward_moved", 2, BEGAN_UDP, moved);
        // A client that goes on is told again, and is counted once.
        bench.rig.pass(2);
        answered(&mut bench, established.ack(14), 1, NOTHING);
        answered(&mut bench, established.fin(14, b""), 1, NOTHING);
        bench.pinned(established, 1, Phase::Reset, 0);
        // The client's answer to what the host still sends is the host's.
        bench.sent(established.rst(14), "forward_pin", 1, NOTHING);
        // A client that begins anew with the same port begins at the owner (C2).
        bench.sent(established.syn(5000), "forward_new", 2, BEGAN);
        bench.sent(established.ack(5001), "forward_pin", 2, phases(-1, 1, 0));
        // Without a pin the owner's kernel tells the client.
        bench.sent(Flow::of(2 * family, 9).ack(1), "forward_owner", 2, phases(0, 1, 0));
        bench.ends_empty();
    }
}

/// A RST is never answered: the client has ended the flow itself.
#[test]
fn what_a_client_says_last_reaches_the_host() {
    for action in [AtDeadline::Move, AtDeadline::Reset] {
        let mut bench = Bench::new();
        let [half_open, established, ..] = flows(&mut bench, 0);
        draining(&mut bench, HostState::Draining, action, 0);
        bench.rig.pass(LEFT);
        bench.sent(established.rst(2), "forward_pin", 1, phases(0, -1, 1));
        // A SYN that is repeated after the deadline begins at the owner, whose handshake it can still have.
        let left = Delta::default().pair(0, 1, phases(-1, 0, 0));
        bench.sent_with(half_open.syn(1000), "forward_new", 2, BEGAN, left);
        bench.ends_empty();
    }
}

/// An undrain lifts the deadline, but does not bring flows back to life that have been reset.
#[test]
fn an_undrain_ends_the_deadline() {
    let mut bench = Bench::new();
    let [_, established, closing, udp] = flows(&mut bench, 0);
    draining(&mut bench, HostState::Draining, AtDeadline::Reset, 0);
    bench.rig.pass(LEFT);
    answered(&mut bench, established.ack(2), 1, PairDelta { reset: 1, ..phases(0, -1, 0) });
    bench.setup.state(1, HostState::Up);
    bench.slots(Slot::open(1, 1));
    answered(&mut bench, established.ack(2), 1, NOTHING);
    bench.sent(closing.ack(2), "forward_pin", 1, NOTHING);
    bench.sent(udp.datagram(), "forward_pin", 1, NOTHING);
    bench.ends_empty();
}

/// Each flow has its second within the spread, none before its time, and all of them when it is over.
#[test]
fn resets_are_spread_over_time() {
    const FLOWS: usize = 400;
    const SPREAD: u16 = 40;
    let mut bench = Bench::new();
    let mut left: Vec<Flow> = (0..FLOWS as u32).map(|number| Flow::of(0, number)).collect();
    for flow in &left {
        bench.rig.run(&flow.ack(1));
    }
    draining(&mut bench, HostState::Draining, AtDeadline::Reset, SPREAD);
    bench.rig.pass(LEFT);
    let mut ended = Vec::new();
    for _ in 0..SPREAD {
        let before = left.len();
        left.retain(|flow| bench.rig.run(&flow.ack(2)).delta.reason("answer_reset") == 0);
        ended.push(before - left.len());
        bench.rig.pass(1);
    }
    assert!(left.is_empty(), "{} are left", left.len());
    // Ten a second on average; by chance 30 of them meet less than once in a million runs.
    assert!(ended.iter().all(|&n| n <= 30), "{ended:?}");
    bench.rig.audit();
    bench.ends_empty();
}
