//! What a service's policy changes: tracking by edges, affinity by client, UDP flows in a handover.

use lb_common::flow::Phase;
use lb_common::hash::FlowHash;
use lb_common::layout::{HostState, Policy, Slot};
use lb_userspace::dataplane::Options;
use sluice_tests::packets::Packet;
use sluice_tests::rig::{Delta, KEY, PairDelta, Rig, UDP_GAP, l2, stay_on, timeout};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Flow, NOTHING, phases};

const TCP: [u16; 2] = [0, 2];
const UDP: [u16; 2] = [1, 3];

fn bench(services: [u16; 2], policy: u8) -> Bench {
    let mut bench = Bench::new();
    for service in services {
        bench.setup.policy(service, policy);
    }
    bench.publish();
    bench
}

/// All slots go over from host 1 to host 2.
fn hand_over(bench: &mut Bench) {
    bench.setup.state(1, HostState::Draining);
    bench.slots(Slot::open(2, 1));
}

#[test]
fn in_a_settled_slot_edges_are_syns() {
    let mut bench = bench(TCP, Policy::EDGES);
    for service in TCP {
        let [flow, other] = [1, 2].map(|number| Flow::of(service, number));
        bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
        bench.sent(flow.syn(1), "forward_syn_again", 1, NOTHING);
        // Neither looked up nor refreshed, made or ended.
        bench.rig.pass(3);
        for packet in [flow.ack(2), flow.fin(2, b""), flow.rst(3), other.ack(7), other.fin(8, b"")] {
            bench.sent(packet, "forward_owner", 1, NOTHING);
        }
        bench.pinned(flow, 1, Phase::HalfOpen, 3);
        bench.not_pinned(other);
    }
    // UDP has no edges: the bit means nothing there.
    bench.setup.policy(1, Policy::EDGES);
    bench.publish();
    bench.sent(Flow::of(1, 1).datagram(), "forward_new", 1, BEGAN_UDP);
    bench.ends_empty();
}

#[test]
fn in_a_handover_edges_are_tracked_in_full() {
    let mut bench = bench(TCP, Policy::EDGES);
    for service in TCP {
        bench.setup.state(1, HostState::Up);
        bench.slots(Slot::settled(1));
        let [old, young, new] = [1, 2, 3].map(|number| Flow::of(service, number));
        bench.sent(old.ack(1), "forward_owner", 1, NOTHING);
        bench.sent(young.syn(1), "forward_new", 1, BEGAN);
        bench.sent(young.ack(2), "forward_owner", 1, NOTHING);
        hand_over(&mut bench);
        // C1: both stay, and are known from now on. C2: new flows go to the owner.
        bench.sent(old.ack(2), "forward_previous", 1, phases(0, 1, 0));
        bench.sent(young.syn(1), "forward_syn_again", 1, NOTHING);
        bench.sent(young.ack(2), "forward_pin", 1, phases(-1, 1, 0));
        bench.sent(new.syn(1), "forward_new", 2, BEGAN);
        bench.sent(new.ack(2), "forward_pin", 2, phases(-1, 1, 0));
        // A drain that is taken back: the slot is open still, and each flow is where it was.
        bench.setup.state(1, HostState::Up);
        bench.slots(Slot::open(1, 1));
        bench.sent(old.ack(3), "forward_pin", 1, NOTHING);
        bench.sent(new.ack(3), "forward_pin", 2, NOTHING);
        bench.sent(new.fin(4, b""), "forward_pin", 2, phases(0, -1, 1));
    }
    bench.ends_empty();
}

/// An owner that cannot be reached: its flows are tracked, as they go elsewhere only for now.
#[test]
fn edges_of_a_host_that_is_down_are_tracked_in_full() {
    let mut bench = bench(TCP, Policy::EDGES);
    bench.setup.state(1, HostState::Down);
    bench.publish();
    let flow = Flow::of(0, 1);
    bench.sent(flow.ack(1), "forward_around_down", 1, phases(0, 1, 0));
    bench.ends_empty();
}

#[test]
fn a_client_s_flows_have_one_slot() {
    let mut bench = bench(TCP, Policy::CLIENT);
    for service in TCP {
        let first = Flow::of(service, 0);
        let tuple = first.tuple();
        let size = bench.rig.dataplane.options.sizes.ring_size;
        let slot = FlowHash::of_client(&tuple, &tuple.destination, KEY).slot(size);
        // Host 2 owns that slot alone.
        bench.setup.ring(0, Slot::settled(1)).slot(0, slot, Slot::settled(2));
        bench.publish();
        for number in 0..200 {
            let flow = Flow::of(service, number);
            bench.sent(flow.syn(1), "forward_new", 2, BEGAN);
            assert_eq!(bench.pin(flow).unwrap().cold.slot, slot);
        }
        // Other clients have other slots, but for one in 251.
        let others = (1..40).filter(|client| {
            let flow = Flow::of(service, client * 50_000);
            let frame = Packet::tcp(flow.from, flow.to).syn(1).build();
            bench.rig.run(&frame);
            bench.pin(flow).unwrap().word.host() == 2
        });
        assert!(others.count() <= 2);
    }
    bench.ends_empty();
}

#[test]
fn a_udp_flow_gives_way_after_a_gap() {
    let mut bench = bench(UDP, Policy::GAP);
    for service in UDP {
        bench.setup.state(1, HostState::Up);
        bench.slots(Slot::settled(1));
        let flow = Flow::of(service, 1);
        bench.sent(flow.datagram(), "forward_new", 1, BEGAN_UDP);
        hand_over(&mut bench);
        for _ in 0..5 {
            bench.rig.pass(UDP_GAP);
            bench.sent(flow.datagram(), "forward_pin", 1, NOTHING);
        }
        // Seconds are counted whole: one more, so that the gap has passed for certain.
        bench.rig.pass(UDP_GAP + 1);
        let leaves = Delta::default().pair(service, 1, PairDelta { udp: -1, ..NOTHING });
        bench.sent_with(flow.datagram(), "forward_new", 2, BEGAN_UDP, leaves);
        bench.pinned(flow, 2, Phase::Udp, 0);
        // A gap at the owner changes nothing.
        bench.rig.pass(UDP_GAP * 2);
        bench.sent(flow.datagram(), "forward_pin", 2, NOTHING);
    }
    bench.ends_empty();
}

#[test]
fn a_udp_flow_gives_way_at_once() {
    let mut bench = bench(UDP, Policy::IMMEDIATE);
    for service in UDP {
        bench.setup.state(1, HostState::Up);
        bench.slots(Slot::settled(1));
        let flow = Flow::of(service, 1);
        bench.sent(flow.datagram(), "forward_new", 1, BEGAN_UDP);
        bench.sent(flow.datagram(), "forward_pin", 1, NOTHING);
        hand_over(&mut bench);
        let leaves = Delta::default().pair(service, 1, PairDelta { udp: -1, ..NOTHING });
        bench.sent_with(flow.datagram(), "forward_new", 2, BEGAN_UDP, leaves);
        bench.sent(flow.datagram(), "forward_pin", 2, NOTHING);
    }
    bench.ends_empty();
}

/// Without the policy a flow stays until it is idle past its timeout, and then is a new one.
#[test]
fn a_udp_flow_stays_unless_it_is_told_to() {
    let mut bench = bench(UDP, 0);
    for service in UDP {
        bench.setup.state(1, HostState::Up);
        bench.slots(Slot::settled(1));
        let flow = Flow::of(service, 1);
        bench.sent(flow.datagram(), "forward_new", 1, BEGAN_UDP);
        hand_over(&mut bench);
        bench.rig.pass(timeout::UDP);
        bench.sent(flow.datagram(), "forward_pin", 1, NOTHING);
        bench.rig.pass(timeout::UDP + 1);
        let leaves = Delta::default().pair(service, 1, PairDelta { udp: -1, ..NOTHING });
        bench.sent_with(flow.datagram(), "forward_new", 2, BEGAN_UDP, leaves);
    }
    bench.ends_empty();
}

/// More new flows than the gate lets through: in a settled slot they go on without pins, in a handover nothing changes.
/// Each CPU has a gate of its own, so all packets are to come by one: on a thread that ends with that.
#[test]
fn a_flood_gate_holds_back_only_pins_that_are_not_needed() {
    std::thread::scope(|scope| {
        let test = scope.spawn(|| {
            stay_on(nix::sched::sched_getcpu().unwrap());
            holds_back_only_pins_that_are_not_needed();
        });
        test.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn holds_back_only_pins_that_are_not_needed() {
    let mut bench = Bench::on(Rig::open_with(Options { flood_gate: 3, ..Rig::options(Rig::small()) }), l2);
    let unpinned = || Delta::of(["note_unpinned", "note_flood_gate"]);
    for service in TCP {
        bench.setup.state(1, HostState::Up);
        bench.slots(Slot::settled(1));
        bench.rig.pass(1);
        for number in 0..3 {
            bench.sent(Flow::of(service, number).syn(1), "forward_new", 1, BEGAN);
        }
        let (held, late, udp) = (Flow::of(service, 3), Flow::of(service, 4), Flow::of(service + 1, 1));
        bench.sent_with(held.syn(1), "forward_new", 1, NOTHING, unpinned());
        bench.not_pinned(held);
        bench.sent_with(late.ack(1), "forward_owner", 1, NOTHING, unpinned());
        // Flows that have their pins are not held back, and UDP never is.
        bench.sent(Flow::of(service, 0).ack(2), "forward_pin", 1, phases(-1, 1, 0));
        bench.sent(udp.datagram(), "forward_new", 1, BEGAN_UDP);
        // In a handover each pin is needed.
        hand_over(&mut bench);
        bench.sent(held.ack(2), "forward_previous", 1, phases(0, 1, 0));
        bench.sent(Flow::of(service, 5).syn(1), "forward_new", 2, BEGAN);
        // The next second.
        bench.setup.state(1, HostState::Up);
        bench.slots(Slot::settled(1));
        bench.rig.pass(1);
        bench.sent(late.ack(2), "forward_owner", 1, phases(0, 1, 0));
    }
    bench.ends_empty();
}
