//! The record of a decision says how it came about.

use lb_common::decide::PinAction;
use lb_common::flow::{Phase, Word};
use lb_common::layout::{DecisionRecord, HOST_NONE, HostState, Policy, Side, Slot, Way};
use lb_common::parse::{Signal, What};
use lb_common::reason::Reason;
use lb_userspace::dataplane::Options;
use sluice_tests::packets::Packet;
use sluice_tests::rig::{INGRESS, Rig, l2, tuple};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Flow, NOTHING, phases};

fn bench() -> Bench {
    Bench::on(Rig::open_with(Options { records: true, ..Rig::options(Rig::small()) }), l2)
}

/// What must be recorded of a packet of this flow, but for what the pin and the way decide.
fn about(bench: &Bench, flow: Flow, signal: Signal, slot: Slot, reason: Reason) -> DecisionRecord {
    let tuple = flow.tuple();
    DecisionRecord {
        hash: Rig::hash(&tuple).0,
        slot_number: bench.rig.slot(&tuple),
        slot: slot.0,
        reason: reason as u32,
        service: flow.service(),
        host: slot.owner(),
        signal: signal as u8,
        tuple,
        what: What::Flow as u8 + 1,
        side: Side::Client as u8,
        ..DecisionRecord::default()
    }
}

fn done(way: Way, action: PinAction, phase: Phase) -> DecisionRecord {
    DecisionRecord { way: way as u8, action: action as u8, phase: phase as u8, ..DecisionRecord::default() }
}

/// The record of the packet that was sent last must be `about` with the way, action and phase of `done`, and the word of
/// the pin that was there before it, if there was one.
#[track_caller]
fn recorded(bench: &Bench, about: DecisionRecord, done: DecisionRecord, word: Option<Word>) {
    let found = bench.rig.dataplane.decision();
    let expected = DecisionRecord {
        word: word.map_or(0, |word| word.0),
        is_live: u8::from(word.is_some()),
        index: found.index,
        ifindex: if about.host == HOST_NONE { 0 } else { INGRESS },
        way: done.way,
        action: done.action,
        phase: done.phase,
        ..about
    };
    assert_eq!(found, expected);
}

#[test]
fn each_decision_tells_of_itself() {
    let mut bench = bench();
    let settled = Slot::settled(1);
    bench.slots(settled);
    for service in [0, 2] {
        let flow = Flow::of(service, 1);
        bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
        let new = about(&bench, flow, Signal::Syn, settled, Reason::ForwardNew);
        recorded(&bench, new, done(Way::Exact, PinAction::Make, Phase::HalfOpen), None);

        let word = bench.pin(flow).map(|pin| pin.word);
        bench.sent(flow.ack(2), "forward_pin", 1, phases(-1, 1, 0));
        let live = about(&bench, flow, Signal::Ack, settled, Reason::ForwardPin);
        recorded(&bench, live, done(Way::Exact, PinAction::Refresh, Phase::Established), word);

        let word = bench.pin(flow).map(|pin| pin.word);
        bench.sent(flow.ack(2), "forward_pin", 1, NOTHING);
        recorded(&bench, live, done(Way::Exact, PinAction::Refresh, Phase::Established), word);

        bench.sent(flow.syn(9), "forward_syn_established", 1, NOTHING);
        let again = about(&bench, flow, Signal::Syn, settled, Reason::ForwardSynEstablished);
        recorded(&bench, again, done(Way::Exact, PinAction::Leave, Phase::Empty), word);

        let udp = Flow::of(service + 1, 1);
        bench.sent(udp.datagram(), "forward_new", 1, BEGAN_UDP);
        let new = about(&bench, udp, Signal::Datagram, settled, Reason::ForwardNew);
        recorded(&bench, new, done(Way::Exact, PinAction::Make, Phase::Udp), None);
    }
    bench.ends_empty();
}

#[test]
fn a_handover_shows_both_hosts() {
    let mut bench = bench();
    bench.setup.state(1, HostState::Draining);
    let slot = Slot::open(2, 1);
    bench.slots(slot);
    let flow = Flow::of(0, 1);
    bench.sent(flow.ack(2), "forward_previous", 1, phases(0, 1, 0));
    let made = about(&bench, flow, Signal::Ack, slot, Reason::ForwardPrevious);
    let made = DecisionRecord { host: 1, ..made };
    recorded(&bench, made, done(Way::Exact, PinAction::Make, Phase::Established), None);
    let record = bench.rig.dataplane.decision();
    assert_eq!((Slot(record.slot).owner(), Slot(record.slot).previous()), (2, 1));
    bench.ends_empty();
}

#[test]
fn edges_and_what_is_dropped_or_not_ours() {
    let mut bench = bench();
    bench.setup.policy(0, Policy::EDGES);
    bench.slots(Slot::settled(1));
    let flow = Flow::of(0, 1);
    bench.sent(flow.ack(2), "forward_owner", 1, NOTHING);
    let edge = about(&bench, flow, Signal::Ack, Slot::settled(1), Reason::ForwardOwner);
    let edge = DecisionRecord { policy: Policy::EDGES, ..edge };
    recorded(&bench, edge, done(Way::Edges, PinAction::Leave, Phase::Empty), None);

    let nobody = Slot::settled(HOST_NONE);
    bench.slots(nobody);
    bench.rig.run(&flow.syn(1));
    let dropped = about(&bench, flow, Signal::Syn, nobody, Reason::AnswerReject);
    let dropped = DecisionRecord { policy: Policy::EDGES, host: HOST_NONE, ..dropped };
    recorded(&bench, dropped, done(Way::Exact, PinAction::Leave, Phase::Empty), None);

    // Nothing of the packet before is left.
    let stranger = Packet::tcp(flow.from, "192.0.2.77:7".parse().unwrap()).syn(1).build();
    bench.rig.run(&stranger);
    let passed = DecisionRecord {
        reason: Reason::PassNoService as u32,
        tuple: tuple(flow.from, "192.0.2.77:7".parse().unwrap(), 6),
        what: What::Flow as u8 + 1,
        ..DecisionRecord::default()
    };
    assert_eq!(bench.rig.dataplane.decision(), passed);
    assert_eq!(Way::from_number(passed.way), Way::None);
}

#[test]
fn nothing_is_recorded_unless_it_is_asked_for() {
    let mut bench = Bench::new();
    bench.sent(Flow::of(0, 1).syn(1), "forward_new", 1, BEGAN);
    assert_eq!(bench.rig.dataplane.decision(), DecisionRecord::default());
}
