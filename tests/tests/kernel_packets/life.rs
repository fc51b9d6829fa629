//! A flow's life, line by line, in a slot whose handover may be open.

use lb_common::flow::Phase;
use lb_common::layout::{HostState, Slot};
use sluice_tests::packets::Packet;
use sluice_tests::rig::{Delta, PairDelta, timeout};

use super::bench::{BEGAN, BEGAN_UDP, Bench, Flow, NOTHING, phases};

/// Services of TCP.
const TCP: [u16; 2] = [0, 2];

/// Host 1 drains: all slots go over to host 2.
fn drain_host_1(bench: &mut Bench) {
    bench.setup.state(1, HostState::Draining);
    bench.slots(Slot::open(2, 1));
}

#[test]
fn a_syn_makes_a_half_open_pin_to_the_owner() {
    let mut bench = Bench::new();
    for service in TCP {
        let flow = Flow::of(service, 1);
        bench.not_pinned(flow);
        bench.sent(flow.syn(0xdead_beef), "forward_new", 1, BEGAN);
        bench.pinned(flow, 1, Phase::HalfOpen, 0);
        let cold = bench.pin(flow).unwrap().cold;
        assert_eq!((cold.sequence, cold.start, cold.tuple()), (0xdead_beef, bench.rig.now(), flow.tuple()));
        // A payload in it (TCP Fast Open) and ECN's flags change nothing.
        let other = Flow::of(service, 2);
        let mut syn = other.tcp().syn(7).payload(b"fast open");
        syn = syn.tcp_header(|header| (header.ece, header.cwr) = (true, true));
        bench.sent(syn.build(), "forward_new", 1, BEGAN);
        assert_eq!(bench.pin(other).unwrap().cold.sequence, 7);
    }
    bench.ends_empty();
}

#[test]
fn a_syn_that_comes_again_keeps_its_host() {
    let mut bench = Bench::new();
    for service in TCP {
        let flow = Flow::of(service, 1);
        bench.slots(Slot::settled(1));
        bench.sent(flow.syn(1000), "forward_new", 1, BEGAN);
        for wait in [1, 2, 4, 8, 16, 32, timeout::HALF_OPEN] {
            bench.rig.pass(wait);
            drain_host_1(&mut bench);
            bench.sent(flow.syn(1000), "forward_syn_again", 1, NOTHING);
            bench.pinned(flow, 1, Phase::HalfOpen, 0);
        }
        // One bit of the sequence number is another's: a new flow.
        let leaves = Delta::default().pair(service, 1, phases(-1, 0, 0));
        bench.sent_with(flow.syn(1001), "forward_new", 2, BEGAN, leaves);
        bench.pinned(flow, 2, Phase::HalfOpen, 0);
        assert_eq!(bench.pin(flow).unwrap().cold.sequence, 1001);
        bench.setup.state(1, HostState::Up);
    }
    bench.ends_empty();
}

#[test]
fn a_syn_with_another_number_on_a_closing_pin_is_new() {
    let mut bench = Bench::new();
    for service in TCP {
        for (number, end) in
            [Flow::of(service, 0).fin(5, b""), Flow::of(service, 1).rst(5)].into_iter().enumerate()
        {
            let flow = Flow::of(service, number as u32);
            bench.slots(Slot::settled(1));
            bench.sent(flow.ack(5), "forward_owner", 1, phases(0, 1, 0));
            bench.sent(end, "forward_pin", 1, phases(0, -1, 1));
            drain_host_1(&mut bench);
            let leaves = Delta::default().pair(service, 1, phases(0, 0, -1));
            // Even with the very number that the FIN's sequence number was followed by.
            bench.sent_with(flow.syn(6), "forward_new", 2, BEGAN, leaves);
            bench.pinned(flow, 2, Phase::HalfOpen, 0);
            bench.setup.state(1, HostState::Up);
        }
    }
    bench.ends_empty();
}

#[test]
fn a_syn_on_an_established_pin_changes_nothing() {
    let mut bench = Bench::new();
    for service in TCP {
        let flow = Flow::of(service, 1);
        bench.slots(Slot::settled(1));
        bench.sent(flow.syn(1000), "forward_new", 1, BEGAN);
        bench.sent(flow.ack(1001), "forward_pin", 1, phases(-1, 1, 0));
        drain_host_1(&mut bench);
        let before = bench.pin(flow).unwrap();
        for (wait, sequence) in [(0, 1000), (5, 1000), (100, 77_777)] {
            bench.rig.pass(wait);
            bench.sent(flow.syn(sequence), "forward_syn_established", 1, NOTHING);
            assert_eq!(bench.pin(flow), Some(before), "not even the time it was seen");
        }
        bench.setup.state(1, HostState::Up);
    }
    bench.ends_empty();
}

#[test]
fn an_ack_establishes() {
    let mut bench = Bench::new();
    for service in TCP {
        let flow = Flow::of(service, 1);
        bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
        bench.rig.pass(3);
        let ack = flow.tcp().seq(2).ack(9).psh().payload(b"request");
        bench.sent(ack.build(), "forward_pin", 1, phases(-1, 1, 0));
        bench.pinned(flow, 1, Phase::Established, 0);
        // Within the same second the word stays as it is; later it is seen anew.
        let before = bench.pin(flow);
        bench.sent(flow.ack(9), "forward_pin", 1, NOTHING);
        assert_eq!(bench.pin(flow), before);
        bench.rig.pass(timeout::ESTABLISHED);
        bench.sent(flow.ack(9), "forward_pin", 1, NOTHING);
        bench.pinned(flow, 1, Phase::Established, 0);
    }
    bench.ends_empty();
}

/// FIN and RST, from half-open and established pins.
#[test]
fn fin_and_rst_close() {
    let mut bench = Bench::new();
    for service in TCP {
        for number in 0..4 {
            let flow = Flow::of(service, number);
            bench.sent(flow.syn(1), "forward_new", 1, BEGAN);
            let mut leaves = phases(-1, 0, 1);
            if number >= 2 {
                bench.sent(flow.ack(2), "forward_pin", 1, phases(-1, 1, 0));
                leaves = phases(0, -1, 1);
            }
            let end = if number % 2 == 0 { flow.fin(2, b"bye") } else { flow.rst(2) };
            bench.sent(end.clone(), "forward_pin", 1, leaves);
            bench.pinned(flow, 1, Phase::Closing, 0);
            // Again, and a RST with every other flag: nothing more changes.
            bench.rig.pass(1);
            bench.sent(end, "forward_pin", 1, NOTHING);
            let rst = flow.tcp().seq(9).ack(9).syn(9).fin().rst().build();
            bench.sent(rst, "forward_pin", 1, NOTHING);
            bench.pinned(flow, 1, Phase::Closing, 0);
        }
    }
    bench.ends_empty();
}

#[test]
fn after_a_fin_only_its_own_acks_keep_it_closing() {
    let mut bench = Bench::new();
    for service in TCP {
        let flow = Flow::of(service, 1);
        bench.sent(flow.ack(10), "forward_owner", 1, phases(0, 1, 0));
        // Bytes 10 to 12 and the FIN: the client's next number is 14.
        bench.sent(flow.fin(10, b"bye"), "forward_pin", 1, phases(0, -1, 1));
        bench.rig.pass(2);
        bench.sent(flow.ack(14), "forward_pin", 1, NOTHING);
        bench.pinned(flow, 1, Phase::Closing, 0);
        bench.rig.pass(2);
        bench.sent(flow.ack(13), "forward_pin", 1, phases(0, 1, -1));
        bench.pinned(flow, 1, Phase::Established, 0);
        // The numbers wrap around.
        bench.sent(flow.fin(u32::MAX, b"b"), "forward_pin", 1, phases(0, -1, 1));
        bench.sent(flow.ack(1), "forward_pin", 1, NOTHING);
        // A FIN that nobody sent, by its number: the flow lives.
        bench.sent(flow.fin(500_000, b""), "forward_pin", 1, NOTHING);
        bench.sent(flow.ack(1), "forward_pin", 1, phases(0, 1, -1));
        // A forged RST: the next of the client's packets shows that it lives.
        bench.sent(flow.rst(5_000), "forward_pin", 1, phases(0, -1, 1));
        bench.sent(flow.ack(2), "forward_pin", 1, phases(0, 1, -1));
    }
    bench.ends_empty();
}

/// Where two processors receive packets of a flow, the client's acknowledgement of the host's FIN may come behind its own FIN, and its
/// last data as well. Taken for signs of life they would leave the flow to its idle timeout, and a SYN that takes the port again to
/// its old host, drained or not.
#[test]
fn what_a_fin_has_overtaken_says_nothing() {
    let mut bench = Bench::new();
    for service in TCP {
        for fin in [100_000, 3] {
            let flow = Flow::of(service, fin);
            bench.sent(flow.ack(1), "forward_owner", 1, phases(0, 1, 0));
            bench.sent(flow.fin(fin, b""), "forward_pin", 1, phases(0, -1, 1));
            bench.rig.pass(1);
            let after = fin.wrapping_add(1);
            for before in [1, 2, 1000, 1 << 16] {
                bench.sent(flow.ack(after.wrapping_sub(before)), "forward_pin", 1, NOTHING);
            }
            // They do not make it younger.
            bench.pinned(flow, 1, Phase::Closing, 1);
            bench.sent(flow.ack(after), "forward_pin", 1, NOTHING);
            bench.pinned(flow, 1, Phase::Closing, 0);
            // What is not before it or far before it says that the FIN was not the client's.
            for alive in [after.wrapping_add(1), after.wrapping_sub((1 << 16) + 1)] {
                bench.sent(flow.ack(alive), "forward_pin", 1, phases(0, 1, -1));
                bench.sent(flow.fin(fin, b""), "forward_pin", 1, phases(0, -1, 1));
            }
            // Nor was it if they come much later.
            bench.rig.pass(2);
            bench.sent(flow.ack(after.wrapping_sub(1)), "forward_pin", 1, phases(0, 1, -1));
            bench.sent(flow.fin(fin, b""), "forward_pin", 1, phases(0, -1, 1));
            // And a flow that has ended begins anew.
            bench.sent(flow.ack(fin), "forward_pin", 1, NOTHING);
            bench.sent(flow.syn(fin), "forward_new", 1, PairDelta { closing: -1, ..BEGAN });
        }
    }
    bench.ends_empty();
}

#[test]
fn stray_flags_make_no_pin_and_refresh_none() {
    let mut bench = Bench::new();
    let strays = |flow: Flow| {
        let with = |change: fn(&mut etherparse::TcpHeader)| flow.tcp().seq(3).tcp_header(change).build();
        [
            with(|header| (header.syn, header.ack) = (true, true)),
            with(|header| (header.syn, header.fin) = (true, true)),
            with(|header| (header.syn, header.fin, header.ack) = (true, true, true)),
            with(|_| ()),
            with(|header| header.psh = true),
            with(|header| (header.urg, header.ece, header.cwr, header.ns) = (true, true, true, true)),
        ]
    };
    for service in TCP {
        let flow = Flow::of(service, 1);
        for frame in strays(flow) {
            bench.sent(frame, "forward_owner", 1, NOTHING);
            bench.not_pinned(flow);
        }
        // A RST ends nothing that is known, so it makes no pin either.
        bench.sent(flow.rst(1), "forward_owner", 1, NOTHING);
        bench.not_pinned(flow);
        bench.sent(flow.ack(1), "forward_owner", 1, phases(0, 1, 0));
        bench.rig.pass(5);
        let before = bench.pin(flow);
        for frame in strays(flow) {
            bench.sent(frame, "forward_pin", 1, NOTHING);
            assert_eq!(bench.pin(flow), before);
        }
    }
    bench.ends_empty();
}

/// Mid-flow without a pin in a settled slot: the owner, pinned there. It is no new flow.
#[test]
fn mid_flow_without_a_pin_goes_to_the_owner() {
    let mut bench = Bench::new();
    for service in TCP {
        let [ack, fin] = [1, 2].map(|number| Flow::of(service, number));
        bench.sent(ack.ack(5), "forward_owner", 1, phases(0, 1, 0));
        bench.pinned(ack, 1, Phase::Established, 0);
        bench.sent(fin.fin(5, b"x"), "forward_owner", 1, phases(0, 0, 1));
        bench.pinned(fin, 1, Phase::Closing, 0);
        assert_eq!(bench.pin(fin).unwrap().cold.sequence, 7);
        bench.sent(fin.ack(7), "forward_pin", 1, NOTHING);
        bench.pinned(fin, 1, Phase::Closing, 0);
    }
    bench.ends_empty();
}

#[test]
fn an_idle_tcp_pin_is_none() {
    let mut bench = Bench::new();
    for service in TCP {
        bench.slots(Slot::settled(1));
        let [half_open, established] = [1, 2].map(|number| Flow::of(service, number));
        bench.sent(half_open.syn(1), "forward_new", 1, BEGAN);
        bench.sent(established.ack(1), "forward_owner", 1, phases(0, 1, 0));
        bench.slots(Slot::settled(2));
        bench.rig.pass(timeout::HALF_OPEN + 1);
        // The same SYN, but its pin is idle: a new flow.
        let leaves = Delta::default().pair(service, 1, phases(-1, 0, 0));
        bench.sent_with(half_open.syn(1), "forward_new", 2, BEGAN, leaves);
        bench.rig.pass(timeout::ESTABLISHED - timeout::HALF_OPEN - 1);
        bench.sent(established.ack(1), "forward_pin", 1, NOTHING);
        bench.rig.pass(timeout::ESTABLISHED + 1);
        let leaves = Delta::default().pair(service, 1, phases(0, -1, 0));
        bench.sent_with(established.ack(1), "forward_owner", 2, phases(0, 1, 0), leaves);
        bench.pinned(established, 2, Phase::Established, 0);
        // An idle established pin is none for a SYN either.
        bench.rig.pass(timeout::ESTABLISHED + 1);
        bench.sent(established.syn(9), "forward_new", 2, PairDelta { established: -1, ..BEGAN });
    }
    bench.ends_empty();
}

/// A closing pin whose word is idle past its timeout, but which the sweep has not met yet, stands in the way of nothing.
#[test]
fn an_idle_closing_pin_is_none() {
    let mut bench = Bench::new();
    for service in TCP {
        for (number, open) in [(1, false), (2, true), (3, false), (4, true)] {
            let flow = Flow::of(service, number);
            bench.slots(Slot::settled(1));
            bench.sent(flow.fin(1, b""), "forward_owner", 1, phases(0, 0, 1));
            bench.slots(if open { Slot::open(2, 1) } else { Slot::settled(1) });
            bench.rig.pass(timeout::CLOSING + 1);
            if number <= 2 {
                let reason = if open { "forward_previous" } else { "forward_owner" };
                bench.sent(flow.ack(2), reason, 1, phases(0, 1, -1));
                bench.pinned(flow, 1, Phase::Established, 0);
            } else if open {
                let leaves = Delta::default().pair(service, 1, phases(0, 0, -1));
                bench.sent_with(flow.syn(2), "forward_new", 2, BEGAN, leaves);
                bench.pinned(flow, 2, Phase::HalfOpen, 0);
            } else {
                bench.sent(flow.syn(2), "forward_new", 1, PairDelta { closing: -1, ..BEGAN });
                bench.pinned(flow, 1, Phase::HalfOpen, 0);
            }
        }
    }
    bench.ends_empty();
}

#[test]
fn datagrams_stay_together_until_they_are_idle() {
    let mut bench = Bench::new();
    for service in [1, 3] {
        let flow = Flow::of(service, 1);
        bench.slots(Slot::settled(1));
        bench.sent(flow.datagram(), "forward_new", 1, BEGAN_UDP);
        bench.pinned(flow, 1, Phase::Udp, 0);
        bench.sent(Packet::udp(flow.from, flow.to).build(), "forward_pin", 1, NOTHING);
        drain_host_1(&mut bench);
        for wait in [0, 1, timeout::UDP, timeout::UDP] {
            bench.rig.pass(wait);
            bench.sent(flow.datagram(), "forward_pin", 1, NOTHING);
            bench.pinned(flow, 1, Phase::Udp, 0);
        }
        // UDP has no way to tell an old flow from a new one: the owner.
        bench.rig.pass(timeout::UDP + 1);
        let leaves = Delta::default().pair(service, 1, PairDelta { udp: -1, ..NOTHING });
        bench.sent_with(flow.datagram(), "forward_new", 2, BEGAN_UDP, leaves);
        bench.sent(Flow::of(service, 2).datagram(), "forward_new", 2, BEGAN_UDP);
        bench.setup.state(1, HostState::Up);
    }
    bench.ends_empty();
}
